"""The contracts, for translators: every neural rung of their ladder, every alignment, scheduled sampling, positions, kinds of tokens.

Rungs without a network learn nothing that these could change; they are under the one that makes sense for them, saved models.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import translators
from contracts import Killed, assert_same, at, one_step, outcome, under_hash_seeds
from tiny import BF16, widened
from translators import (
    BASELINES,
    CASES,
    DRAWN,
    RUNGS,
    asked,
    corpus,
    estimator,
    everything,
    learnt,
    logits,
    network,
    probes,
    texts,
)  # fmt: skip

import weft
from weft import Translator
from weft.data.batch import Batches
from weft.device import autocast
from weft.errors import DivergedError, InputError
from weft.estimators.engine import Budget
from weft.estimators.translator import each_target
from weft.generation.search import Beam, Greedy, Limits, Sample, generate
from weft.metrics_text import exact_match
from weft.models.decoders import Encoded

EVERY = pytest.mark.parametrize("name", CASES)
SOME = pytest.mark.parametrize("name", DRAWN)
STEPS = 9  # of batches of 11 of 32 pairs: three epochs; a check every 3 steps
BF16_BOUND = 2**-6  # a few roundings, as in test_padding
WIDE = Beam(4, n_best=4, length_penalty=0.6)


@pytest.fixture
def no_chance(monkeypatch):
    """What training draws (choices of attention, its noise, tokens of the model's own) is no function of the batch that it is drawn in."""
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda tensor: tensor.fill_(1.0))
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    monkeypatch.setattr(torch, "rand", torch.zeros)


# 1 and 7: padding and batch mates change nothing, what is masked cannot be seen, nor the future


@EVERY
def test_padding_batch_mates_and_order_change_nothing(name):
    made = network(CASES[name])
    batch = everything(made, asked(CASES[name]))
    together = logits(made, batch)
    assert torch.isfinite(together).all()
    for row in range(len(batch)):
        one = batch.rows(slice(row, row + 1))
        length = int(one.pair.mask.sum())
        torch.testing.assert_close(logits(made, one)[0, :length], together[row, :length], rtol=0, atol=1e-5)
    length = together.shape[1]
    if name != "learned positions":  # exempt: its table has no room for so much padding, and a user's batches have none
        for columns in (1, 13):
            torch.testing.assert_close(logits(made, widened(batch, columns))[:, :length], together, rtol=0, atol=1e-5)
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(logits(made, batch.rows(order)), together[order], rtol=0, atol=1e-5)


@EVERY
def test_answers_do_not_depend_on_their_company(name):
    """The same by the way that users go: buckets of many sources, an empty one too, against each alone, in the order they came in."""
    made = learnt(name)
    given = [*probes(), "", *texts(5, 3)]
    for search in (Greedy(), WIDE):
        together = made.translations(given, search=search)
        for source, found in zip(given, together):
            (alone,) = made.translations([source], search=search)
            assert [one.text for one in found] == [one.text for one in alone]
            assert [one.log_probability for one in found] == pytest.approx([one.log_probability for one in alone], abs=1e-4)
    numbered = made.translations(given, search=Sample(seed=3))
    assert numbered == made.translations(given, search=Sample(seed=3)) != made.translations(given, search=Sample(seed=4))


@pytest.mark.parametrize("name", RUNGS)
def test_bf16_stays_within_its_rounding(name):
    made = network(CASES[name], compute=BF16)
    batch = everything(made, asked(CASES[name]))
    exact = logits(made, batch)
    with autocast(BF16):
        together = logits(made, batch)
        wide = logits(made, widened(batch, 5))[:, : together.shape[1]]
    bound = BF16_BOUND * max(1.0, float(exact.abs().max()))
    assert float((wide - together).abs().max()) <= bound
    assert float((exact - together).abs().max()) <= 2 * bound
    assert (exact != together).any()


@EVERY
def test_what_is_masked_is_neither_seen_nor_learnt_from(name, no_chance):
    """Other ids in the padding of sources and targets change no logit and no gradient."""
    made = network(CASES[name], dropout=0.0)
    batch = widened(everything(made, each_target(corpus(CASES[name], 8))), 3)
    spoilt = replace(
        batch, inputs=batch.inputs.masked_fill(~batch.mask, 7),
        pair=replace(batch.pair, inputs=batch.pair.inputs.masked_fill(~batch.pair.mask, 9)),
    )  # fmt: skip
    outcomes = []
    for one in (batch, spoilt):
        made.model.train().zero_grad()
        sum(term.value for term in made.loss(corpus(CASES[name]))(made.model, one).values()).backward()
        gradients = {key: parameter.grad.to_dense().clone() for key, parameter in made.model.named_parameters()}
        outcomes.append((logits(made, one), gradients))
    (clean, gradients), (dirty, dirty_gradients) = outcomes
    assert torch.equal(clean, dirty)
    for key, gradient in gradients.items():
        torch.testing.assert_close(dirty_gradients[key], gradient, rtol=0, atol=1e-6, msg=key)


@EVERY
def test_no_number_that_is_none_comes_out_of_the_padding(name):
    """NaN where sources are padded: in what the encoder reads, and in what the decoder is given."""
    made = network(CASES[name])
    batch = everything(made, asked(CASES[name]))
    model, clean = made.model, logits(made, batch)
    with torch.inference_mode():
        encoded = model.encode(batch)
        spoilt = Encoded(encoded.hidden.masked_fill(~encoded.mask[..., None], math.nan), encoded.mask, encoded.vector)
        hidden = model.decode(spoilt, model.shifted(batch.pair)).hidden
        torch.testing.assert_close(model.logits(hidden[batch.pair.mask]), clean[batch.pair.mask], rtol=0, atol=1e-6)
    model.encoder.register_forward_pre_hook(lambda _, given: (given[0].masked_fill(~given[1][..., None], math.nan), given[1]))
    torch.testing.assert_close(logits(made, batch), clean, rtol=0, atol=1e-6)


@EVERY
def test_no_token_sees_those_after_it(name):
    made = network(CASES[name])
    batch = everything(made, asked(CASES[name]))
    before = logits(made, batch)
    for place in (0, 2):  # the token that stands there is another one
        ids = batch.pair.inputs.clone()
        ids[:, place] = torch.where(ids[:, place] == 5, 6, 5)
        after = logits(made, replace(batch, pair=replace(batch.pair, inputs=ids)))
        torch.testing.assert_close(after[:, : place + 1], before[:, : place + 1], rtol=0, atol=1e-6)
        real = batch.pair.mask[:, place + 1]
        assert ((after - before)[real, place + 1].abs().amax(-1) > 1e-6).all()


# 2: k micro-batches are one batch; two ranks: test_sums, by ranks.CASES


@EVERY
def test_micro_batches_are_one_batch(name, no_chance):
    data = each_target(corpus(CASES[name], 11))
    whole, *parts = (one_step(network(CASES[name], dropout=0.0, batch_size=32), data, parts) for parts in (1, 4))
    for part in parts:
        assert_same(whole, part)


# 3: the same seed gives the same bytes


@pytest.fixture(scope="session")
def elsewhere() -> list[dict[str, str]]:
    return under_hash_seeds(translators.__file__)


@SOME
def test_same_seed_same_bytes(elsewhere, name):
    assert elsewhere[0][name] == elsewhere[1][name] == translators.digest(translators.fitted(name))


def test_another_seed_is_another_model():
    data = corpus(CASES["rnn"])
    digests = {translators.digest(estimator(CASES["rnn"], random_state=seed).fit(data.sources, data.targets)) for seed in (0, 0, 1)}
    assert len(digests) == 2


# 4: killed and resumed


def run(name, checkpoint=None, **options):
    made = network(CASES[name], dropout=0.3, batch_size=11, checks=3, checked=4)
    return outcome(made, each_target(corpus(CASES[name])), corpus(CASES[name], 8, seed=1), STEPS, checkpoint, **options)


@SOME
def test_killed_and_resumed(name, tmp_path):
    whole, path = run(name), tmp_path / "checkpoint"
    assert len(whole[1]["checks"]) == 3 and {"exact_match", "loss"} <= set(whole[1]["checks"][0])
    step = 1 + DRAWN.index(name) % (STEPS - 1)  # any step will do, so each case has its own
    with pytest.raises(Killed):
        run(name, path, callbacks=[at(step, Killed())])
    assert run(name, path, resume=True) == whole, f"after step {step}"


# 5: saved and loaded


def ask(made: Translator) -> list:
    given = [*probes(), "", *texts(3, 4)]
    found = [made.predict(given)]
    if made.model not in BASELINES:
        found += [made.translations(given, search=WIDE), made.translations(given, search=Sample(seed=1))]
        if made.model != "rnn":
            alignment = made.align("bake dilo", "bake lobu")
            found += [alignment.source, alignment.target, [one.tolist() for one in alignment.maps]]
    return found


@pytest.mark.parametrize("name", [*CASES, *BASELINES])
def test_loaded_is_as_saved(name, tmp_path):
    if name in BASELINES:
        data = corpus(CASES["rnn"])
        made = Translator(name, {"metric": "exact_match"}).fit(data.sources, data.targets)
    else:
        made, data = learnt(name), corpus(CASES[name])
    loaded = weft.load(made.save(tmp_path / "model"), precision="fp32", threads=1)
    assert type(loaded) is Translator
    assert ask(loaded) == ask(made)  # probabilities too, to the bit
    assert loaded.parameters_ == made.parameters_
    assert loaded.evaluate(data.sources[:9], data.targets[:9]) == made.evaluate(data.sources[:9], data.targets[:9])
    again = loaded.save(tmp_path / "again")
    for file in ("model.safetensors", "tokenizer.json"):
        assert (again / file).read_bytes() == (tmp_path / "model" / file).read_bytes()
    for file in ("config.json", "metrics.json", "tokenizer.json"):
        json.loads((again / file).read_text(encoding="utf-8"), parse_constant=pytest.fail)


# 8: cached is recomputed; what searches say is what teacher forcing says


@EVERY
def test_steps_are_whole_targets(name):
    made = network(CASES[name])
    batch = everything(made, asked(CASES[name]))
    whole = logits(made, batch)
    with torch.inference_mode():
        state = made.model.start(batch)
        for place, ids in enumerate(made.model.shifted(batch.pair).unbind(1)):
            step = made.model.step(ids, state)
            state, real = step.state, batch.pair.mask[:, place]
            torch.testing.assert_close(step.logits[real], whole[real, place], rtol=0, atol=1e-5)


@EVERY
def test_probabilities_of_answers_are_teacher_forced(name):
    """Of every hypothesis of every search; and what users are told is what the search found."""
    made = learnt(name)
    engine, given = made.engine_, [*corpus(CASES[name]).sources[:3], *probes()[:3]]
    sources = Batches(engine.rows(given), examples=len(given)).gather(np.arange(len(given)))
    limits = {"maximum": 12, "forbidden": (0,)}
    for search in (Greedy(), WIDE, Sample(seed=2)):
        answers = generate(engine.model, sources, search, count=len(given), limits=Limits(**limits))
        users = made.translations(given, search=search, limits={"maximum": 12})
        for row, (found, shown) in enumerate(zip(answers, users)):
            assert [one.log_probability for one in shown] == pytest.approx([one.log_probability for one in found], abs=1e-4)
            assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
            assert len({one.ids for one in found}) == len(found) == (4 if search is WIDE else 1)
            for one in found:
                target = np.array([*one.ids, engine.model.end_symbol])
                pair = Batches([sources.inputs[row][sources.mask[row]].numpy()], pairs=[target], examples=1).gather(np.arange(1))
                logp = logits(engine, pair)[0].double().log_softmax(-1).gather(1, torch.from_numpy(target)[:, None])[:, 0]
                ended = len(target) if one.finished else len(target) - 1
                assert one.log_probability == pytest.approx(float(logp[:ended].sum()), abs=1e-3)


# 9: 32 pairs by heart


@EVERY
def test_thirty_two_pairs_by_heart(name):
    data = corpus(CASES[name])
    assert learnt(name).evaluate(data.sources, data.targets, search=Greedy())["exact_match"] == 1.0
    assert exact_match([found[0].text for found in network(CASES[name]).translated(data.sources, Greedy())], data.targets) < 0.1


def test_rotary_positions_cannot_count():
    """A named failure: they tell what is apart by how much, so that to an encoder a word twice is the word once."""
    found = []
    for positions in ("rotary", "sinusoidal"):
        made = network(CASES["several targets, untied"], positions=positions)
        batch = everything(made, translators.Translations(["bake", "bake bake"], [["dilo"], ["dilo"]]))
        found.append(float((logits(made, batch)[0] - logits(made, batch)[1]).abs().max()))
    assert found[0] < 1e-5 < 1e-3 < found[1]


# 10: odd input


@EVERY
def test_any_source_gets_an_answer(name, caplog):
    made = learnt(name)
    given = ["", " \n", "\u200b", "\x00", "\ud83d", "x" * 300, "bake " * 300, *translators.ODD]
    found = made.translations(given, weights=True, limits={"maximum": 5})
    assert "2 of 13 sources are empty, and so are their targets" in caplog.text
    assert "longer than maximum_length=" in caplog.text and "tokens and were cut there" in caplog.text
    for (answer,) in found:
        assert isinstance(answer.text, str) and len(answer.tokens) <= 5
        assert math.isfinite(answer.score) and answer.log_probability <= 0
        if answer.weights is not None:
            assert answer.weights.shape[0] == len(answer.tokens) and np.isfinite(answer.weights).all()
    assert [answer.text for (answer,) in found[:2]] == ["", ""]
    assert made.predict([]) == []


@EVERY
def test_no_tokens_many_beams_and_an_end_at_once(name):
    made, given = learnt(name), probes()[:3]
    for search in (Greedy(), WIDE):
        assert [(answer.text, answer.finished) for (answer, *_) in made.translations(given, search=search, limits={"maximum": 0})] == [
            ("", False)
        ] * 3
    size = made.engine_.target.size + 1
    (found,) = made.translations(given[:1], search=Beam(size + 5, n_best=size + 5), limits={"maximum": 1})
    assert len(found) == size - 1 and len({one.log_probability for one in found}) > size // 2  # every token but padding, and the end
    assert sum(math.exp(one.log_probability) for one in found) == pytest.approx(1.0, abs=1e-2)
    bias, end = made.engine_.model.bias, made.engine_.model.end_symbol
    before = bias[end].item()
    try:
        bias.data[end] = 1e4
        for answer, *_ in made.translations(given, weights=True):
            assert answer.text == "" and answer.finished and (answer.weights is None or answer.weights.shape[0] == 0)
    finally:
        bias.data[end] = before


@EVERY
def test_one_pair_of_one_token_and_one_step(name):
    made = network(CASES[name])
    for source, target in (("bake", "bake"), ("\u200b", "bake"), ("", "bake")):
        batch = everything(made, translators.Translations([source], [[target]]))
        for training in (True, False):
            made.model.train(training).zero_grad()
            total = sum(term.value for term in made.loss(None)(made.model, batch).values())
            total.backward()
            assert torch.isfinite(total)
            assert all(torch.isfinite(p.grad.to_dense()).all() for p in made.model.parameters() if p.grad is not None)


def test_a_loss_that_is_no_number_is_named_by_step_and_batch():
    made = network(CASES["rnn"], batch_size=11)

    def poison(moment):
        if moment.step == 4:
            with torch.no_grad():
                made.model.bias.fill_(math.nan)

    with pytest.raises(DivergedError, match="loss is nan at step 4, batch 1"):
        made.fit(corpus(CASES["rnn"]), None, Budget(steps=6), callbacks=[poison])


@pytest.mark.parametrize("rung", ["rnn-attention", "transformer"])
@pytest.mark.parametrize(
    "setting,value",
    [("taste", 1), ("hidden_sise", 20), ("dropout", 1.5), ("embedding_size", 0), ("tied", "both"), ("tokenizer", "letters"),
     ("target_tokenizer", "characters"), ("tokenizer", "hashing"), ("metric", "blue"), ("decoder", "lstm"), ("too_long", "drop"),
     ("scheduled_sampling", 1.0), ("shared", False), ("decoder_taste", 1)],
)  # fmt: skip
def test_settings_that_do_not_exist_or_fit_are_named(rung, setting, value):
    data = corpus(CASES[rung])
    with pytest.raises(InputError, match=rf"{setting}|{value}|one vocabulary"):
        estimator(translators.Case(rung, {setting: value, "maximum_size": None})).fit(data.sources, data.targets)


def test_so_are_those_of_attention():
    data = corpus(CASES["rnn-attention"])
    for settings, said in (
        ({"attention": "dots"}, "did you mean dot"), ({"align": "firm"}, "align"), ({"attend": "between"}, "attend"),
        ({"feed": True}, "feed"), ({"condition": "always"}, "condition"), ({"reach": 0}, "reach"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said):
            estimator(translators.Case("rnn-attention", settings)).fit(data.sources, data.targets)
