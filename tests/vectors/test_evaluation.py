"""Evaluation against scipy's Spearman, loops over all words, and clusters counted by hand."""

from __future__ import annotations

import itertools
import json
import logging

import numpy as np
import pytest
from scipy.stats import spearmanr

from weft.errors import InputError
from weft.vectors import evaluation_sets
from weft.vectors.evaluation import analogy_accuracy, categorisation, evaluate, purity, spearman, word_similarity
from weft.vectors.evaluation_sets import Member, Pair, Question, find, read_classes, read_pairs, read_questions
from weft.vectors.keyed import KeyedVectors

QUESTIONS = ": capitals\nAthens Greece Paris France\nathens greece rome italy\n: family\n\nking queen man woman\nking queen uncle aunt\n"


class Half:
    """Subwords that answer every word by its length, but for those with an x."""

    def vector(self, word: str) -> np.ndarray:
        if "x" in word:
            raise InputError("none of its character n-grams was seen")
        return np.array([1.0, len(word), 0.0], np.float32)


@pytest.fixture
def random_vectors() -> KeyedVectors:
    words = ["athens", "greece", "paris", "france", "rome", "italy", "king", "queen", "man", "woman", "Paris"]
    return KeyedVectors(words, np.random.default_rng(3).normal(size=(len(words), 3)))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of data with the three sets of the mean, and one of each other kind."""
    monkeypatch.setenv("WEFT_DATA", str(tmp_path))
    here = tmp_path / evaluation_sets.FOLDER
    here.mkdir()
    for name, scores in (("ws353", "531"), ("simlex999", "135"), ("men", "513")):
        pairs = zip(("king\tqueen", "man\twoman", "Rome\titaly"), scores, strict=True)
        (here / f"sim_{name}.tsv").write_text("".join(f"{pair}\t{score}.5\n" for pair, score in pairs))
    (here / "analogy_google_questions-words.txt").write_text(QUESTIONS)
    (here / "categorization_ap.csv").write_text(",category,word\n0,person,king\n1,person,queen\n2,person,\n3,place,rome\n4,place,nowhere\n")
    return here


def test_spearman_is_scipys_with_ties_too():
    rng = np.random.default_rng(0)
    for values in (3, 10, 1000):
        first, second = rng.integers(values, size=40).astype(float), rng.integers(values, size=40).astype(float)
        assert spearman(first, second) == pytest.approx(spearmanr(first, second).statistic, abs=1e-12)
    assert spearman([1, 2, 2, 4], [10, 30, 30, 20]) == pytest.approx(spearmanr([1, 2, 2, 4], [10, 30, 30, 20]).statistic, abs=1e-12)
    assert spearman([1, 2, 3], [3, 50, 60]) == pytest.approx(1) and spearman([1, 2, 3], [3, 2, -9]) == pytest.approx(-1)
    assert spearman([1], [1]) is None and spearman([1, 2], [3, 3]) is None
    with pytest.raises(ValueError, match="2 and 1"):
        spearman([1, 2], [1])


def test_word_similarity_ranks_cosines_of_known_pairs_and_counts(random_vectors):
    pairs = [
        Pair("king", "Queen", 5),
        Pair("man", "woman", 4),
        Pair("Paris", "PARIS", 3),
        Pair("rome", "king", 2),
        Pair("king", "nowhere", 9),
    ]
    kv = random_vectors
    asked = [("king", "queen"), ("man", "woman"), ("Paris", "paris"), ("rome", "king")]  # "Paris" as it stands, "PARIS" lower-cased
    rows = [(kv[first].astype(float), kv[second].astype(float)) for first, second in asked]
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in rows]
    expected = spearmanr(cosines, [5, 4, 3, 2]).statistic
    found = word_similarity(kv, pairs)
    assert found == {**dict.fromkeys(("spearman", "spearman_known"), pytest.approx(expected)), "pairs": 5, "known": 4, "scored": 4}


def test_with_subwords_every_pair_is_scored_and_the_known_are_counted_apart(random_vectors):
    kv = KeyedVectors(random_vectors.words, random_vectors.vectors, subwords=Half())
    known = [Pair("king", "queen", 5), Pair("man", "woman", 7), Pair("rome", "king", 1)]
    pairs = [*known, Pair("man", "nowhere", 4), Pair("some", "thing", 3), Pair("king", "xylophone", 9)]
    cosines = [kv.similarity(pair.first, pair.second) for pair in pairs[:5]]
    assert word_similarity(kv, pairs) == {
        "spearman": pytest.approx(spearmanr(cosines, [5, 7, 1, 4, 3]).statistic),
        "spearman_known": pytest.approx(spearmanr(cosines[:3], [5, 7, 1]).statistic),
        "pairs": 6,
        "known": 3,
        "scored": 5,
    }
    assert categorisation(kv, [Member("king", "a"), Member("nowhere", "b")])["scored"] == 2


@pytest.mark.parametrize("method", ["add", "multiply"])
def test_analogies_are_those_of_a_loop_over_all_words(random_vectors, method):
    kv = random_vectors
    small = ["athens", "greece", "rome", "italy", "king", "queen"]
    questions = [Question(words[0], words) for words in itertools.permutations(small, 4)] + [
        Question("new", ("king", "queen", "x", "rome"))
    ]
    right = {}
    for section, (a, b, c, answer) in questions[:-1]:
        right.setdefault(section, []).append(kv.analogy(a, b, c, method, topn=1)[0][0] == answer)
    found = analogy_accuracy(kv, questions, method=method)
    every = [each for section in right.values() for each in section]
    assert 0 < sum(every) < len(every)
    assert (found["accuracy"], found["questions"], found["known"]) == (pytest.approx(np.mean(every)), 361, 360)
    assert {name: part["accuracy"] for name, part in found["sections"].items()} == {
        **{name: pytest.approx(np.mean(part)) for name, part in right.items()},
        "new": None,
    }


def test_analogies_among_the_first_words_are_those_of_the_shorter_vectors(random_vectors):
    kv = random_vectors
    short = KeyedVectors(kv.words[:6], kv.vectors[:6])
    questions = [Question("all", words) for words in itertools.permutations(kv.words[:8], 4)]
    assert analogy_accuracy(kv, questions, among=6) == analogy_accuracy(short, questions)


def test_purity_by_hand():
    # cluster 0: a a b (2), cluster 1: b b (2), cluster 2: c (1): 5 of 6
    assert purity([0, 0, 0, 1, 1, 2], list("aabbbc")) == pytest.approx(5 / 6)
    assert purity([0, 0, 0, 0], list("aabb")) == 0.5 and purity([0, 1], ["a", "a"]) == 1 and purity([], []) is None


def test_clusters_of_two_directions_are_the_classes_whatever_the_lengths():
    vectors = [[1, 0, 0], [90, 1, 0], [1, 0.02, 0.01], [0, 1, 0], [0, 50, 2], [0, 3, 0.1], [0, 0, 0]]
    kv = KeyedVectors(["a", "b", "c", "d", "e", "f", "zero"], vectors)
    members = [Member(word, "first" if word in "abc" else "second") for word in "abcdef"]
    assert categorisation(kv, [*members, Member("unknown", "third")]) == {
        "purity": 1.0,
        "words": 7,
        "known": 6,
        "scored": 6,
        "classes": 2,
    }
    mixed = [Member(word, "first" if word in "abd" else "second") for word in "abcdef"]
    assert categorisation(kv, mixed)["purity"] == pytest.approx(4 / 6)
    assert categorisation(kv, [Member("unknown", "third")])["purity"] is None
    assert categorisation(kv, [Member("a", "x"), Member("a", "y"), Member("zero", "z")])["purity"] == pytest.approx(2 / 3)


def test_evaluate_gathers_the_sets_that_are_here(folder, random_vectors, caplog):
    with caplog.at_level(logging.INFO, "weft"):
        found = evaluate(random_vectors)
    json.dumps(found, allow_nan=False)
    assert list(found["similarity"]) == ["ws353", "simlex999", "men"] and list(found["analogy"]) == ["google"]
    assert found["mean_similarity"] == pytest.approx(np.mean([part["spearman"] for part in found["similarity"].values()]))
    assert {name: (part["questions"], part["known"]) for name, part in found["analogy"]["google"]["sections"].items()} == {
        "capitals": (2, 2),
        "family": (2, 1),
    }
    assert found["categorisation"]["ap"] | {"purity": 0} == {"purity": 0, "words": 4, "known": 3, "scored": 3, "classes": 2}
    assert "msr, bless" in caplog.text and "1 rows without" in caplog.text
    assert evaluate(random_vectors, sets=["men"])["mean_similarity"] is None


def test_files_of_ones_own_stand_alone_unless_sets_are_named(folder, random_vectors, tmp_path):
    own, csv, tsv = tmp_path / "own.tsv", tmp_path / "own.csv", tmp_path / "kinds.tsv"
    own.write_text("king\tqueen\t1\r\n\nman\twoman\t.5\r\n")
    csv.write_text('type,"word1",word2,word3,target\nx,king,queen,man,woman\n')
    tsv.write_text("king\tperson\nrome\tplace\n")
    found = evaluate(random_vectors, similarity=[own], analogies=[csv], categories=[tsv])
    assert {kind: list(part) for kind, part in found.items() if part} == {
        "similarity": [str(own)],
        "analogy": [str(csv)],
        "categorisation": [str(tsv)],
    }
    assert found["similarity"][str(own)]["pairs"] == 2 and found["analogy"][str(csv)]["sections"]["x"]["known"] == 1
    assert list(evaluate(random_vectors, sets=["men"], similarity=[own])["similarity"]) == ["men", str(own)]


@pytest.mark.parametrize(
    ("reader", "name", "text", "place", "said"),
    [
        (read_pairs, "a.tsv", "a\tb\t1\na b 2\n", ":2", "two words and a score"),
        (read_pairs, "a.tsv", "a\tb\tmuch\n", ":1", "'much'"),
        (read_pairs, "a.tsv", "a\tb\tnan\n", ":1", "finite"),
        (read_pairs, "a.tsv", "a\t\t1\n", ":1", "two words"),
        (read_pairs, "a.tsv", "", "", "empty"),
        (read_questions, "a.txt", ": s\na b c d\na b c\n", ":3", "four words"),
        (read_questions, "a.txt", ": s\n", "", "no question"),
        (read_questions, "a.csv", "type,word1,word2,target\nx,a,b,c\n", ":1", "word3 is missing"),
        (read_questions, "a.csv", "type,word1,word2,word3,target\nx,a,b,c\n", ":2", "5 cells"),
        (read_questions, "a.csv", "type,word1,word2,word3,target\n", "", "no row"),
        (read_classes, "a.tsv", "a\tb\nc\n", ":2", "a word and its class"),
        (read_classes, "a.csv", "word,kind\na,b\n", ":1", "category is missing"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, reader, name, text, place, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said) as error:
        reader(tmp_path / name)
    assert error.value.place == f"{tmp_path / name}{place}"


def test_what_is_not_a_set_or_not_here_is_refused(folder, random_vectors, monkeypatch, tmp_path):
    with pytest.raises(InputError, match="did you mean men"):
        evaluate(random_vectors, sets=["menn"])
    with pytest.raises(InputError, match=r"rw not on this machine; sim_rw\.tsv"):
        evaluate(random_vectors, sets=["men", "rw"])
    with pytest.raises(InputError, match="nothing to measure"):
        evaluate(random_vectors, sets=[])
    with pytest.raises(InputError, match="a list of names"):
        evaluate(random_vectors, sets="men")
    with pytest.raises(InputError, match='"add" or "multiply"'):
        evaluate(random_vectors, method="divide")
    monkeypatch.setenv("WEFT_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="or give files of your own"):
        find(None)
