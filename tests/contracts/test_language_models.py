"""The contracts, for language models: every neural rung of their ladder, and more kinds of tokens, positions and outputs.

The rung that counts learns nothing that batches, seeds or kills could change; it is under those that make sense for it.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace

import language_models
import numpy as np
import pytest
import torch
from contracts import Killed, assert_same, at, one_step, outcome, under_hash_seeds
from language_models import BASELINES, CASES, DRAWN, PARAGRAPH, RUNGS, estimator, learnt, network, text
from tiny import widened

import weft
from weft import LanguageModel
from weft.errors import InputError
from weft.estimators.language_network import LanguageNetwork
from weft.generation.search import Beam, Greedy, Sample
from weft.training import loop

EVERY = pytest.mark.parametrize("name", CASES)
SOME = pytest.mark.parametrize("name", DRAWN)
STEPS = 8


def windows(made: LanguageNetwork, window: int, stride: int):
    return made._measured(made.ids([text(60, seed=3)]), window, stride)


# 1 and 7: batches, padding, the future


@EVERY
def test_batch_mates_and_padding_change_nothing(name):
    made = network(name)
    made.model.eval()
    batches = windows(made, 16, 5)
    whole = batches.gather(np.arange(len(batches)))
    with torch.inference_mode():
        together = made.model(whole).losses
        alone = torch.cat([made.model(whole.rows(slice(row, row + 1))).losses for row in range(len(whole))])
        clean = replace(whole, inputs=whole.inputs.masked_fill(~whole.mask, 7))
        torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)
        assert torch.equal(made.model(clean).losses, together)
        if "learned" not in str(made.settings.encoder.get("positions")):  # exempt: its table has no room for so much padding
            torch.testing.assert_close(made.model(widened(whole, 9)).losses, together, rtol=0, atol=1e-5)


@EVERY
def test_perplexity_does_not_depend_on_batches(name, monkeypatch):
    made, data = network(name), [text(80, seed=3), text(30, seed=4)]
    window = 16 if made.model.context else 20
    one = made.losses(data, window, 7)
    monkeypatch.setattr(made, "prediction_tokens", 17)
    other = made.losses(data, window, 7)
    assert len(one) == len(made.ids(data)) - 1
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


@EVERY
def test_no_token_sees_those_after_it(name):
    made = network(name)
    made.model.eval()
    batches = windows(made, 16, 16)
    whole = batches.gather(np.arange(len(batches) - 1))
    with torch.inference_mode():
        before = made.model(whole).losses.view(len(whole), -1)
        for place in (3, 9):
            other = whole.inputs.clone()
            other[:, place] = torch.where(other[:, place] == 5, 6, 5)
            after = made.model(replace(whole, inputs=other)).losses.view(len(whole), -1)
            assert torch.equal(after[:, :place], before[:, :place])
            assert (after[:, place] != before[:, place]).any()


# 2: k micro-batches are one batch


@EVERY
def test_micro_batches_are_one_batch(name, monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *size, **kind: torch.full(size, 0.05, dtype=kind.get("dtype")))  # of sampled words
    data, found = [text(40)], []
    for parts in (1, 3, 4):
        made = network(name, data=data, dropout=0.0, cut="random", block=16, batch_size=4)
        monkeypatch.setattr(
            made, "batches", lambda data, shuffled, made=made: _first(LanguageNetwork.batches(made, data, shuffled=shuffled))
        )
        found.append(one_step(made, data, parts))
    for part in found[1:]:
        _assert_same(found[0], part)


def _first(batches):
    """Batches whose epoch is one step."""
    batches.streams.steps = lambda epoch=0: 1
    return batches


def _assert_same(one, other):
    """As contracts.assert_same, but for words that no sample and no cluster touched."""
    untouched = {name: gradient for name, gradient in one[1].items() if not gradient.any()}
    for name in untouched:
        assert not other[1][name].any()
    touched = [{key: value for key, value in side.items() if key not in untouched} for side in (one[1], other[1])]
    assert_same((one[0], touched[0]), (other[0], touched[1]))


# 3: the same seed gives the same bytes


@pytest.fixture(scope="session")
def elsewhere() -> list[dict[str, str]]:
    return under_hash_seeds(language_models.__file__)


@SOME
def test_same_seed_same_bytes(elsewhere, name):
    assert elsewhere[0][name] == elsewhere[1][name] == language_models.digest(language_models.fitted(name))


def test_another_seed_is_another_model():
    assert len({language_models.digest(estimator("gpt", random_state=seed).fit(text())) for seed in (0, 0, 1)}) == 2


# 4: killed and resumed, states that are carried on too


def run(name, checkpoint=None, **options):
    made = network(name, dropout=0.3, checks=3, checked=60)
    return outcome(made, [text()], [text(50, seed=1)], STEPS, checkpoint, **options)


@SOME
def test_killed_and_resumed(name, tmp_path):
    whole, path = run(name), tmp_path / "checkpoint"
    assert len(whole[1]["checks"]) == 3 and {"perplexity", "loss"} <= set(whole[1]["checks"][0])
    step = 2 + DRAWN.index(name) % (STEPS - 2)  # any step will do, so each case has its own
    with pytest.raises(Killed):
        run(name, path, callbacks=[at(step, Killed())])
    assert run(name, path, resume=True) == whole, f"after step {step}"


def test_a_step_that_is_broken_off_leaves_no_state(tmp_path, monkeypatch):
    """Ctrl-C between a window that was read and the step that was to follow: the checkpoint has the state before that window."""
    name, path = "rnn", tmp_path / "checkpoint"
    whole, clip, calls = run(name), loop.clip_gradients, []

    def broken(parameters, limit):
        calls.append(limit)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return clip(parameters, limit)

    monkeypatch.setattr(loop, "clip_gradients", broken)
    with pytest.raises(KeyboardInterrupt):
        run(name, path)
    monkeypatch.setattr(loop, "clip_gradients", clip)
    assert run(name, path, resume=True) == whole


# 5: saved and loaded


@pytest.mark.parametrize("name", [*CASES, *BASELINES])
def test_loaded_is_as_saved(name, tmp_path):
    made = LanguageModel(name).fit(PARAGRAPH) if name in BASELINES else estimator(name).fit(text())
    loaded = weft.load(made.save(tmp_path / "model"), precision="fp32", threads=1)
    assert type(loaded) is LanguageModel
    for one in (made, loaded):
        one.told = [one.evaluate(text(30, seed=2)), one.generate("it was", tokens=9), one.generate("", tokens=5, search=Beam(3))]
        one.told.append(one.log_probabilities(["it was", "", "the age"]).tolist())
    assert loaded.told == made.told and loaded.parameters_ == made.parameters_
    again = loaded.save(tmp_path / "again")
    for file in ("model.safetensors", "tokenizer.json"):
        assert (again / file).read_bytes() == (tmp_path / "model" / file).read_bytes()
    for file in ("config.json", "metrics.json", "tokenizer.json"):
        json.loads((again / file).read_text(encoding="utf-8"), parse_constant=pytest.fail)


# 8: cached generation is recomputed generation


@pytest.mark.parametrize("name", [*CASES, *BASELINES])
def test_probabilities_of_answers_are_those_of_the_text(name):
    """Of every search, by the way that users go; the answer read again as a part of the text."""
    made = LanguageModel(name).fit(PARAGRAPH) if name in BASELINES else estimator(name).fit(text())
    spelling, prompts = made.engine_.spelling, ["it was", "", "of\nthe"]
    for search in (Greedy(), Sample(seed=2, top_k=9), Beam(3, n_best=2)):
        for prompt, answers in zip(prompts, made.continuations(prompts, search=search, tokens=6), strict=True):
            for answer in answers:
                before = spelling.prompt(prompt)
                ids = [number for token in answer.tokens for number in [_id(spelling, token)]]
                whole = np.array([*before, *ids, *([spelling.end] if answer.finished else [])])
                if name in BASELINES:
                    rows = np.split(whole, np.flatnonzero(whole == spelling.end))[1:]
                    losses = np.concatenate([-made.engine_.model.log_probabilities(np.append(row[1:], spelling.end)) for row in rows])
                    losses = losses[: len(whole) - 1]
                else:
                    losses = made.engine_._losses(whole.astype(np.int32), None, None)
                assert answer.log_probability == pytest.approx(-losses[len(before) - 1 :].sum(), abs=1e-3)


def _id(spelling, token):
    if token == "\n" and spelling.lines:
        return spelling.end
    vocabulary = getattr(spelling.tokenizer, "vocabulary", None)
    if spelling.tokenizer.kind in ("words", "characters"):
        return vocabulary.id(token)
    pytest.skip("a piece of bytes has no text of its own")


# 9: a paragraph by heart


@pytest.mark.parametrize("name", RUNGS)
def test_a_paragraph_by_heart_is_recited(name):
    made = learnt(name)
    beginning = PARAGRAPH[:18]  # "It was the best of"
    assert made.perplexity(PARAGRAPH) < 1.6
    recited = beginning + made.generate(beginning, tokens=30, search=Greedy())
    expected = made.engine_.spelling.text(made.engine_.spelling.prompt(PARAGRAPH)[1:].tolist())
    assert expected.startswith(recited.rstrip()) and len(recited) > 40


# 10: odd input


@EVERY
def test_any_text_has_a_probability_and_any_prompt_an_answer(name):
    made = estimator(name).fit(text())
    given = ["", " \n", "\u200b", "\x00", "\ud83d", "x" * 70, "bake " * 50, "東京", "👩\u200d👩\u200d👧"]
    found = made.log_probabilities(given)
    assert found.shape == (len(given),) and np.isfinite(found).all() and (found < 0).all()
    for answers in made.continuations(given, tokens=3):
        assert len(answers) == 1 and len(answers[0].tokens) <= 3 and math.isfinite(answers[0].log_probability)
    told: list[str] = []
    assert made.generate("bake", tokens=20, stream=told.append) == "".join(told)
    assert made.generate("bake", tokens=0) == ""


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: LanguageModel("gtp").fit("a"), "there is no 'gtp' (did you mean gpt?)"),
        (lambda: LanguageModel("gpt").fit("  \n"), "texts: is empty"),
        (lambda: LanguageModel("gpt").fit(["a", 3]), "text 2 is int, not a text"),
        (lambda: LanguageModel("gpt").fit("only a few letters"), "too few for one block of 64"),
        (lambda: LanguageModel("gpt", {"causal": False}).fit(PARAGRAPH), "causal: no such setting"),
        (lambda: LanguageModel("lstm", {"bidirectional": True}).fit(PARAGRAPH), "bidirectional: no such setting"),
        (lambda: LanguageModel("lstm", {"encoder": "cnn"}).fit(PARAGRAPH), "the encoder 'cnn' sees what comes after"),
        (lambda: LanguageModel("gpt", {"tokenizer": "hashing"}).fit(PARAGRAPH), "hashed ids cannot be turned back"),
        (lambda: LanguageModel("gpt", {"samples": 3}).fit(PARAGRAPH), "samples: is of the output layer 'sampled', not of 'tied'"),
        (lambda: LanguageModel("ngram", {"order": 0}).fit(PARAGRAPH), "order: must be from 1 to 10, not 0"),
        (lambda: LanguageModel("ngram", {"block": 8}).fit(PARAGRAPH), "block: no such setting"),
        (lambda: learnt("gpt").evaluate("a", window=999), "window: must be from 1 to the 64 tokens"),
        (lambda: learnt("gpt").evaluate("a", stride=65), "stride: must be from 1 to the window of 64, not 65"),
        (lambda: learnt("gpt").evaluate(""), "texts: is empty"),
        (lambda: learnt("gpt").generate("a", search="greedy"), "must be a Beam, Greedy or Sample"),
        (lambda: learnt("gpt").generate("a", limits={"longest": 3}), "there is no 'longest'"),
        (lambda: LanguageModel("gpt", validation_fraction=0.5).fit("ab"), "too few for one block"),
        (lambda: LanguageModel("gpt", validation_fraction=1.5).fit(PARAGRAPH), "must be above 0 and below 1, not 1.5"),
    ],
)
def test_what_cannot_be_is_refused(call, said):
    with pytest.raises(InputError) as caught:
        call()
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_tokenizer_of_another_size_is_refused(tmp_path):
    made = estimator("gpt").fit(text())
    arrays, described, words = made.engine_.saved()
    words["tokenizer"]["tokens"].append("~")
    with pytest.raises(InputError, match=r"tokenizer.json: has \d+ tokens, the end among them, but the network foretells \d+"):
        made.engine_.take(described["network"], words, arrays)
