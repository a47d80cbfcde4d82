"""The contracts, for taggers: every neural rung of their ladder, columns of tags, spans, every way to join words, characters and features.

Rungs without a network are under those that make sense for them: seeds, saved models, learning.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import taggers
import torch
from contracts import Killed, assert_same, at, one_step, outcome, under_hash_seeds
from taggers import (
    BASELINES,
    CASES,
    KINDS,
    ODD,
    baseline,
    corpus,
    emissions,
    estimator,
    everything,
    logits,
    network,
    probes,
    sentences,
    tags_of,
)  # fmt: skip
from tiny import BF16, widened

import weft
from weft.data.batch import IGNORED
from weft.device import autocast
from weft.errors import DivergedError, InputError
from weft.estimators.engine import Budget
from weft.estimators.tag_network import Tagged, best
from weft.metrics_tagging import span_f1, token_accuracy
from weft.nn.crf import marginals

EVERY = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
STEPS = 12  # of batches of 7 of 32 sentences: two epochs and a part; a check every 3 steps
BF16_BOUND = 2**-6  # a few roundings, as in test_padding


# 1 and 7: padding and batch mates change nothing, what is masked cannot be seen


@EVERY
def test_one_by_one_is_in_a_batch(case):
    made = network(case)
    batch = everything(made, probes(case))
    together = logits(made, batch)
    assert torch.isfinite(together).all()
    for row in range(len(batch)):
        one = batch.rows(slice(row, row + 1))
        length = int(one.mask.sum())
        torch.testing.assert_close(logits(made, one)[0], together[row, :length], rtol=0, atol=1e-5)


@EVERY
def test_more_padding_and_another_order_change_nothing(case):
    made = network(case)
    batch = everything(made, probes(case))
    before = logits(made, batch)
    length = before.shape[1]
    for columns in (1, 13):
        after = logits(made, widened(batch, columns))
        torch.testing.assert_close(after[:, :length], before, rtol=0, atol=1e-5)
        assert not after[:, length:].any()
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(logits(made, batch.rows(order)), before[order], rtol=0, atol=1e-5)


@EVERY
def test_answers_do_not_depend_on_their_company(case):
    """The same by the way that users go: buckets of many sentences, an empty one too, against each alone, in the order they came in."""
    made = network(case)
    given = [*probes(case).sentences, [], *sentences(20, seed=3)]
    together, alone = made.decoded(given), [made.decoded([one]) for one in given]
    for column in made.labels:
        for place, one in enumerate(given):
            assert together[column].ids[place].shape == together[column].confidences[place].shape == (len(one),)
            assert together[column].ids[place].tolist() == alone[place][column].ids[0].tolist()
            np.testing.assert_allclose(together[column].confidences[place], alone[place][column].confidences[0], rtol=0, atol=1e-5)


@EVERY
def test_bf16_stays_within_its_rounding(case):
    made = network(case, compute=BF16)
    batch = everything(made, probes(case))
    exact = logits(made, batch)
    with autocast(BF16):
        together = logits(made, batch)
        wide = logits(made, widened(batch, 13))[:, : together.shape[1]]
    bound = BF16_BOUND * max(1.0, float(exact.abs().max()))
    assert float((wide - together).abs().max()) <= bound
    assert float((exact - together).abs().max()) <= 2 * bound
    assert (exact != together).any()


@EVERY
def test_what_is_masked_is_neither_seen_nor_learnt_from(case):
    made = network(case, dropout=0.0)
    batch = widened(everything(made, corpus(case)), 3)
    garbage = len(batch.forms.word) - 1  # a word that is then reached through the mask alone
    batch.inputs[batch.inputs == garbage] = 1
    spoilt = replace(batch, inputs=batch.inputs.masked_fill(~batch.mask, garbage))
    outcomes = []
    for one in (batch, spoilt):
        made.model.train().zero_grad()
        sum(term.value for term in made.loss(corpus(case))(made.model, one).values()).backward()
        outcomes.append((logits(made, one), {name: p.grad.to_dense().clone() for name, p in made.model.named_parameters()}))
    (clean, gradients), (dirty, dirty_gradients) = outcomes
    assert torch.equal(clean, dirty)
    assert gradients.keys() == dirty_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(dirty_gradients[name], gradient, rtol=0, atol=1e-7, msg=name)
        if name.startswith("words.") and "embedding" in name:
            assert not dirty_gradients[name][0].any(), name  # padding's row


# 2: k micro-batches are one batch


@EVERY
def test_micro_batches_are_one_batch(case):
    data = corpus(case, count=11)
    whole, *parts = (one_step(network(case, dropout=0.0), data, parts) for parts in (1, 4, 50))
    for part in parts:
        assert_same(whole, part)


@pytest.mark.parametrize("case", [CASES["columns"], CASES["levels"]], ids=["chained", "by themselves"])
def test_so_are_they_where_some_tags_are_not_known(case):
    data = corpus(case, count=11)
    for row in (1, 4):
        data.targets[row][0] = IGNORED, IGNORED
    data.targets[5][:, 0] = IGNORED
    whole, part = (one_step(network(case, dropout=0.0), data, parts) for parts in (1, 4))
    assert_same(whole, part)


# 3: the same seed gives the same bytes


@pytest.fixture(scope="session")
def elsewhere() -> list[dict[str, str]]:
    return under_hash_seeds(taggers.__file__)


@pytest.mark.parametrize("name", [*CASES, *BASELINES])
def test_same_seed_same_bytes(elsewhere, name):
    assert elsewhere[0][name] == elsewhere[1][name] == taggers.digest(taggers.fitted(name))


def test_another_seed_is_another_model():
    case = CASES["char-bilstm-crf, tags"]
    digests = {taggers.digest(estimator(case, random_state=seed).fit(sentences(), tags_of("tags", sentences()))) for seed in (0, 0, 1)}
    assert len(digests) == 2


# 4: killed and resumed


def run(case, checkpoint=None, **options):
    made = network(case, dropout=0.3, batch_size=7, checks=4)
    return outcome(made, corpus(case), corpus(case, count=12, seed=1), STEPS, checkpoint, **options)


@EVERY
def test_killed_and_resumed(case, tmp_path):
    whole, path = run(case), tmp_path / "checkpoint"
    assert len(whole[1]["checks"]) == 4
    for step, error in ((1, Killed()), (3, Killed()), (7, Killed()), (8, KeyboardInterrupt())):
        with pytest.raises(type(error)):
            run(case, path, callbacks=[at(step, error)])
        assert run(case, path, resume=True) == whole, f"after step {step}"
        path.unlink(missing_ok=True)


def test_tables_updated_by_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("weft.estimators.engine.LAZY_ROWS", 1)
    for name in ("char-bilstm-crf, tags", "multichannel"):
        whole, path = run(CASES[name]), tmp_path / name
        with pytest.raises(Killed):
            run(CASES[name], path, callbacks=[at(7, Killed())])
        assert run(CASES[name], path, resume=True) == whole


# 5: saved and loaded


def ask(made) -> list:
    given = [*sentences(12, seed=4), [], ODD, ["one"], "Raw text, and 12 words' marks: bake LODI."]
    predicted = made.predict(given)
    return [*(predicted.items() if isinstance(predicted, dict) else predicted), made.answers(given)]


def assert_saved_is_loaded(made, tmp_path) -> None:
    loaded = weft.load(made.save(tmp_path / "model"), precision="fp32", threads=1)
    assert type(loaded) is type(made)
    assert ask(loaded) == ask(made)  # confidences too, to the bit
    assert loaded.parameters_ == made.parameters_
    truth = tags_of(
        "columns" if len(made.labels_) > 1 else next(kind for kind in KINDS if list(KINDS[kind]) == list(made.tasks_)), sentences(9)
    )
    assert loaded.evaluate(sentences(9), truth) == made.evaluate(sentences(9), truth)
    again = loaded.save(tmp_path / "again")
    for name in ("model.safetensors", "tokenizer.json"):
        assert (again / name).read_bytes() == (tmp_path / "model" / name).read_bytes()
    for name in ("config.json", "metrics.json", "tokenizer.json"):
        json.loads((again / name).read_text(encoding="utf-8"), parse_constant=pytest.fail)


@EVERY
def test_loaded_is_as_saved(case, tmp_path):
    given = sentences()
    assert_saved_is_loaded(estimator(case, random_state=3).fit(given, tags_of(case.kind, given)), tmp_path)


@pytest.mark.parametrize("rung", BASELINES)
@pytest.mark.parametrize("kind", KINDS)
def test_so_are_those_without_a_network(rung, kind, tmp_path):
    assert_saved_is_loaded(baseline(rung).fit(sentences(), tags_of(kind, sentences())), tmp_path)


# 9: 32 sentences by heart


def mastered(made, data) -> bool:
    """Whether every column's main metric is 1 on what was learnt."""
    found = made.decoded(data.sentences)
    for place, (column, task) in enumerate(made.tasks.items()):
        names = made.labels[column]
        truth = [[names[i] for i in rows[:, place].tolist()] for rows in data.targets]
        answered = [[names[i] for i in ids.tolist()] for ids in found[column].ids]
        measure = span_f1 if task == "spans" else token_accuracy
        if measure(truth, answered) < 1:
            return False
    return True


@EVERY
def test_thirty_two_sentences_by_heart(case):
    data = corpus(case)
    made = network(case, dropout=0.0, batch_size=8, learning_rate=0.01)
    assert not mastered(made, data)
    made.fit(data, None, Budget(steps=400))
    assert mastered(made, data)


def test_those_without_a_network_learn_too():
    """Exempt: the most frequent tag of each word, which sees no words around; it reaches what any such table can."""
    given = sentences()
    for kind in ("tags", "spans"):
        truth = tags_of(kind, given)[next(iter(KINDS[kind]))]
        for rung in ("averaged-perceptron", "crf"):
            made = baseline(rung, minimum_count=1, epochs=60, **({"l2": 0.0} if rung == "crf" else {}))
            assert made.fit(given, truth).score(given, truth) == 1.0, (rung, kind)
    truth = tags_of("tags", given)["upos"]
    by_word: dict[str, Counter[str]] = defaultdict(Counter)
    for word, tag in zip(chain.from_iterable(given), chain.from_iterable(truth)):
        by_word[word][tag] += 1
    reachable = sum(max(counts.values()) for counts in by_word.values()) / sum(map(len, given))
    assert baseline("majority").fit(given, truth).score(given, truth) == pytest.approx(reachable)


# 10: odd input


@EVERY
def test_any_sentence_gets_legal_tags_and_probabilities(case):
    made = network(case)
    given = [[], [""], ODD, ODD[:1] * 40, [*sentences(1)[0]] * 60]
    found = made.decoded(given)
    for column, one in found.items():
        assert [len(ids) for ids in one.ids] == list(map(len, given))
        sure = np.concatenate(one.confidences)
        assert ((sure > 0) & (sure <= 1 + 1e-6)).all()
        assert all(ids.min(initial=0) >= 0 and ids.max(initial=0) < len(made.labels[column]) for ids in one.ids)


@EVERY
def test_probabilities_sum_to_one_and_are_of_the_best(case):
    made = network(case)
    batch = everything(made, probes(case))
    for column, one in emissions(made, batch).items():
        chances = marginals(one)
        real = chances.sum(-1)[batch.mask]
        torch.testing.assert_close(real, torch.ones_like(real), rtol=0, atol=1e-4)
        ids, sure = made.decoded(probes(case).sentences)[column]
        tags = best(one)
        for row, (mine, own) in enumerate(zip(ids, sure)):
            assert tags[row, : len(mine)].tolist() == mine.tolist()
            expected = chances[row, torch.arange(len(mine)), torch.from_numpy(mine)].numpy()
            np.testing.assert_allclose(own, expected, rtol=0, atol=1e-5)


@EVERY
def test_one_token_and_one_step(case):
    made = network(case)
    outside = [names.index("O") if "O" in names else 0 for names in made.labels.values()]  # legal by itself
    for word in ("bake", ""):
        batch = everything(made, Tagged([[word]], [np.array([outside], np.int64)]))
        assert batch.inputs.shape == (1, 1)
        for training in (True, False):
            made.model.train(training).zero_grad()
            total = sum(term.value for term in made.loss(None)(made.model, batch).values())
            total.backward()
            assert torch.isfinite(total)
            assert all(torch.isfinite(p.grad.to_dense()).all() for p in made.model.parameters() if p.grad is not None)


@EVERY
def test_a_loss_that_is_no_number_is_named_by_step_and_batch(case):
    made = network(case, batch_size=7)

    def poison(moment):
        if moment.step == 7:
            with torch.no_grad():
                made.model.outputs["column0"].bias.fill_(math.nan)

    with pytest.raises(DivergedError, match="loss is nan at step 7, batch 2"):
        made.fit(corpus(case), None, Budget(steps=12), callbacks=[poison])


@pytest.mark.parametrize("rung", taggers.NEURAL)
@pytest.mark.parametrize(
    "setting,value",
    [("taste", 1), ("hidden_sise", 20), ("dropout", 1.5), ("embedding_size", 0), ("characters", "letters"), ("join", "mean"),
     ("features", "case,shapes"), ("scheme", "BILOU"), ("levels", "pos:2"), ("levels", "upos:0"), ("levels", "upos"),
     ("weights", "upos:-1"), ("weights", "upos:nan")],
)  # fmt: skip
def test_settings_that_do_not_exist_or_fit_are_named(rung, setting, value):
    with pytest.raises(InputError, match=rf"{setting}|{value}"):
        estimator(taggers.Case(rung, "tags", {setting: value})).fit(sentences(), tags_of("tags", sentences()))
