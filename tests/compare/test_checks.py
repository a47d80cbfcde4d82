"""Each finding is planted and found, with its count; clean data gives none; the shared data's known duplicates are recounted plainly."""

import random
from collections import Counter

import pytest

from weft.compare.checks import check_data, normalised
from weft.data.examples import Example, Splits, Table

WORDS = [f"w{i}" for i in range(400)]


def clean(count, seed, task="classification", pairs=False):
    generator = random.Random(seed)

    def text():
        return " ".join(generator.choices(WORDS, k=generator.randrange(6, 20)))

    def label(i):
        if task == "translation":
            return f"target {i}"
        return {"classification": "yes" if i % 2 else "no", "multi-label": ("a", "b")[: 1 + i % 2], "regression": float(i % 7)}[task]

    return Table([Example(text(), label(i), text() if pairs else None, i + 2) for i in range(count)], task, "made.csv")


def splits(**options):
    return Splits(clean(600, 1, **options), clean(300, 2, **options), clean(300, 3, **options))


def kinds(given):
    found = {finding["kind"]: finding for finding in check_data(given)}
    for finding in found.values():
        assert "\n" not in finding["message"]
        assert finding["count"] > 0
        assert len(finding["examples"]) <= 5
    return found


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("task", ["classification", "multi-label", "regression", "translation"])
def test_clean_data_gives_nothing(task, pairs):
    given = splits(task=task, pairs=pairs)
    assert check_data(given) == []
    assert check_data(Splits(given.train, given.dev, None)) == []


def test_normalised():
    assert normalised("It's  FINE!") == normalised("it s fine") == "it s fine"
    assert normalised("ﬁne") == "fine"
    assert normalised("!!") != normalised("??")
    assert normalised(" \n") == ""


def test_leakage():
    given = splits()
    train = given.train.examples
    given.test.examples[:3] = [Example(train[i].text, "no", None, i + 2) for i in range(3)]
    given.dev.examples[:2] = [Example(train[i].text.upper() + " !", "no") for i in range(2)]
    found = kinds(given)
    assert found["leakage-test"]["count"] == 3
    assert found["leakage-test"]["message"] == (
        "3 test texts (1 %) are also in the training data, word for word: what is remembered counts as known"
    )
    assert found["leakage-test"]["examples"][0] == f"line 2: {train[0].text}"
    assert found["leakage-dev"]["count"] == 2
    assert "case and punctuation" in found["leakage-dev"]["message"]
    assert found["leakage-dev-test"]["count"] == 2
    assert {finding["level"] for finding in found.values()} == {"warning"}
    assert set(found) == {"leakage-test", "leakage-dev", "leakage-dev-test"}


def test_one_text_of_a_pair_alone_is_no_leak():
    given = splits(pairs=True)
    first = given.train.examples[0]
    given.test.examples[0] = Example(first.text, "no", "another second text")
    assert kinds(given) == {}
    given.test.examples[0] = Example(first.text, "no", first.pair)
    assert kinds(given)["leakage-test"]["count"] == 1
    assert "1 test text (0.33 %) is also" in kinds(given)["leakage-test"]["message"]


def test_duplicates_and_conflicts():
    given = splits()
    train = given.train.examples
    train[10] = Example(train[0].text, train[0].label)
    train[12] = Example(train[0].text, train[0].label)
    train[13] = Example(train[1].text.upper(), train[1].label)
    train[20] = Example(train[3].text + "!", "no")  # was "yes"
    found = kinds(given)
    assert found["duplicates"]["count"] == 2
    assert found["near-duplicates"]["count"] == 2
    assert found["conflicts"]["count"] == 1
    assert "(2 rows)" in found["conflicts"]["message"]
    assert found["conflicts"]["examples"] == [f"line 5: {train[3].text} [no / yes]"]
    assert next(f["kind"] for f in check_data(given)) == "conflicts"  # warnings first


def test_conflicting_numbers_differ_by_more_than_a_tenth():
    given = splits(task="regression")
    train = given.train.examples
    train[1] = Example(train[0].text, train[0].label + 0.5)
    assert set(kinds(given)) == {"duplicates"}
    train[1] = Example(train[0].text, train[0].label + 0.7)
    assert set(kinds(given)) == {"duplicates", "conflicts"}


def test_several_targets_are_right_and_copies_are_said():
    given = splits(task="translation")
    train = given.train.examples
    train[1] = Example(train[0].text, "another target")
    train[2] = Example(train[0].text, train[0].label)
    train[3] = Example(train[0].text + "!", train[0].label)
    train[4] = Example(train[4].text, train[4].text)
    given.test.examples[0] = Example(train[9].text, "target 9")
    found = kinds(given)
    assert set(found) == {"several-targets", "duplicates", "near-duplicates", "copied", "leakage-test"}
    assert [found[kind]["count"] for kind in ("several-targets", "duplicates", "near-duplicates", "copied")] == [1] * 4
    assert "(4 rows)" in found["several-targets"]["message"]
    train[:] = [Example(example.text, example.text) for example in train[10:]]  # an autoencoder's: copies are what is wanted
    assert "copied" not in kinds(given)
    assert kinds(Splits(given.train, given.dev.subset(range(9))))["small-dev"]["message"].endswith("has a wide interval")


def test_empty_texts_are_neither_duplicates_nor_leaks():
    given = splits()
    for i in (4, 5, 6):
        given.train.examples[i] = Example(" \t" * i, "yes", None, i + 2)
    given.test.examples[0] = Example("", "no", None, 2)
    found = kinds(given)
    assert set(found) == {"empty"}
    assert found["empty"]["count"] == 4
    assert "4 texts are empty (3 training, 1 test)" in found["empty"]["message"]
    assert found["empty"]["examples"] == ["training, line 6", "training, line 7", "training, line 8", "test, line 2"]


def test_labels():
    given = splits()
    given.test.examples[0] = Example("some unseen words here", "maybe")
    given.dev.examples[0] = Example("other unseen words here", "maybe")
    given.train.examples[:4] = [Example(f"rare words {i} " + "x" * i, "rare") for i in range(4)]
    found = kinds(given)
    assert found["unseen-labels"]["count"] == 1
    assert found["unseen-labels"]["examples"] == ["maybe (2)"]
    assert "2 examples to be predicted must be got wrong" in found["unseen-labels"]["message"]
    assert found["rare-classes"]["examples"] == ["rare (4)"]
    assert "1 class has fewer" in found["rare-classes"]["message"]
    given.train.examples.append(Example("a fifth of these", "rare"))
    assert "rare-classes" not in kinds(given)


def test_imbalance():
    given = splits()
    given.train.examples = [Example(e.text, "ham" if i % 10 else "spam", None, e.line) for i, e in enumerate(given.train.examples)]
    given.dev = given.test = Table([Example(f"unique {i}", "ham") for i in range(300)], "classification", "x")
    given.test = None
    found = kinds(given)
    assert set(found) == {"imbalance"}
    assert found["imbalance"]["message"].startswith("90 % of the training texts are 'ham'")
    assert found["imbalance"]["count"] == 540


def test_small_sets_say_how_far_they_reach():
    given = splits()
    given.test.examples = given.test.examples[:96]
    found = kinds(given)
    assert set(found) == {"small-test"}
    assert "about ±10 points" in found["small-test"]["message"]


def test_lengths():
    given = splits()
    given.train.examples[7] = Example("long " * 1001 + "end", "yes", None, 9)
    found = kinds(given)
    assert set(found) == {"long"}
    assert "the longest 1,002" in found["long"]["message"]
    given = splits()
    given.train.examples = [
        Example((e.text + " tail" * 30)[:128] if i % 20 == 0 else e.text, e.label) for i, e in enumerate(given.train.examples)
    ]
    found = kinds(given)
    assert set(found) == {"cut-off"}
    assert found["cut-off"]["count"] == 30
    assert "exactly 128 characters long" in found["cut-off"]["message"]


def test_damaged_characters():
    given = splits()
    given.train.examples[0] = Example("caf\ufffd au lait", "yes", None, 2)
    assert kinds(given)["damaged"]["count"] == 1
    assert kinds(given)["damaged"]["message"].startswith("1 text holds '\ufffd'")


def test_counts_against_a_plain_recount():
    generator = random.Random(0)
    rows = [(" ".join(generator.choices(WORDS[:6], k=3)), generator.choice(["a", "b"])) for _ in range(700)]
    tables = [Table([Example(*row) for row in part], "classification", "x") for part in (rows[:400], rows[400:550], rows[550:])]
    found = kinds(Splits(*tables))
    train = Counter(text for text, _ in rows[:400])
    assert found["duplicates"]["count"] == sum(count - 1 for count in train.values())
    assert found["conflicts"]["count"] == sum(len({label for text, label in rows[:400] if text == each}) == 2 for each in train)
    assert found["leakage-test"]["count"] == sum(text in train for text, _ in rows[550:])
    assert found["leakage-dev"]["count"] == sum(text in train for text, _ in rows[400:550])
