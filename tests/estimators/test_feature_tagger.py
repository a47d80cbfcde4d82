"""The taggers without a network: a perceptron of dictionaries, a CRF in autograd, and counts by hand stand beside them."""

from __future__ import annotations

import json
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
import torch

from weft.data.schemes import allowed, illegal
from weft.data.word_features import KINDS, WordFeatures
from weft.errors import InputError
from weft.estimators.feature_models import CrfTraining, FeatureCrf, Majority, Perceptron
from weft.estimators.feature_tagger import DEFAULTS, FeatureTagger, checked_settings, templates
from weft.nn.crf import Chain, Emissions, chain_loss, marginals, path_score, viterbi

WORDS = ["the", "The", "cat", "cats", "sat", "on", "3rd", "mat", "!", "Anna", "ran", "NATO"]
TAGS = ["D", "N", "V", "P"]
SPANS = ["B-X", "E-X", "I-X", "O", "S-X", "B-Y", "E-Y", "S-Y"]
SMALL = {"majority": {}, "averaged-perceptron": {"epochs": 3, "minimum_count": 1}, "crf": {"epochs": 2, "minimum_count": 1}}


def corpus(count=60, seed=0, *, longest=8, labels=4, words=WORDS):
    """Sentences, some empty, and tags that depend on the word, the one before it and chance."""
    draw = np.random.default_rng(seed)
    sentences = [[words[i] for i in draw.integers(0, len(words), draw.integers(0, longest))] for _ in range(count)]
    tags = []
    for sentence in sentences:
        hashed = [sum(map(ord, word)) + (len(sentence[place - 1]) if place else 0) for place, word in enumerate(sentence)]
        tags.append(np.array([(h + (draw.random() < 0.2)) % labels for h in hashed], np.int64))
    return sentences, tags


def legal_tags(sentences, seed=0, labels=SPANS):
    """Random legal tags of spans."""
    start, transitions, end = allowed(labels, "BIOES")
    draw, found = np.random.default_rng(seed), []
    for sentence in sentences:
        can = [end]
        for _ in sentence[1:]:
            can.insert(0, (transitions & can[0]).any(1))
        tags: list[int] = []
        for after in can[: len(sentence)]:
            tags.append(int(draw.choice(np.flatnonzero(after & (transitions[tags[-1]] if tags else start)))))
        found.append(np.array(tags, np.int64))
    return found


def fitted(name, sentences, tags, labels=TAGS, legal=None, seed=0, **settings):
    engine = FeatureTagger(name, {**SMALL[name], **settings}, seed)
    return engine.fit(sentences, {"tag": tags}, {"tag": labels}, {"tag": legal})


def same(one, other):
    """Whether two answers are equal, bit for bit."""
    return one.keys() == other.keys() and all(
        np.array_equal(a, b) for column in one for left, right in zip(one[column], other[column], strict=True)
        for a, b in zip(left, right, strict=True)
    )  # fmt: skip


# Majority


def test_majority_is_what_was_counted():
    sentences = [["a", "b", "a", "c"], ["a", "b", "c"]]
    tags = [np.array([1, 0, 1, 2]), np.array([0, 2, -100])]
    engine = fitted("majority", sentences, tags, TAGS[:3])
    ids, sure = engine.decoded([["a", "b", "c", "new"], []])["tag"]
    assert ids[0].tolist() == [1, 0, 2, 0] and ids[1].shape == (0,)  # of equals, and of 2 of each, the first label
    assert sure[0] == pytest.approx([2 / 3, 1 / 2, 1, 2 / 6])
    assert (ids[0].dtype, sure[0].dtype) == (np.int64, np.float32)


# The perceptron


def slow_perceptron(sentences, tags, labels, epochs, seed, window):
    """Weights by feature and label, as dictionaries of strings; averaged by adding up all weights after every token."""

    def on(sentence, place, before, earlier):
        found = []
        for template in templates(window):
            parts = [part.split("@") for part in template.split("&")]
            where = [(kind, place + int(offset)) for kind, offset in parts]
            found.append((template, *(KINDS[kind](sentence[w]) if 0 <= w < len(sentence) else None for kind, w in where)))
        found += [("before", before), ("both", earlier, before)]
        return [*found, ("pair", sentence[place], before)] if (sentence[place], before) in seen else found

    seen = {(word, b) for s, t in zip(sentences, tags, strict=True) for word, b in zip(s, [None, *t.tolist()][: len(s)], strict=True)}
    weights, summed, steps = defaultdict(lambda: [0.0] * labels), defaultdict(lambda: [0.0] * labels), 0
    draws = np.random.default_rng(seed)
    for _ in range(epochs):
        for number in draws.permutation(len(sentences)):
            sentence, before, earlier = sentences[number], None, None
            for place in range(len(sentence)):
                features = on(sentence, place, before, earlier)
                scores = [sum(weights[feature][label] for feature in features) for label in range(labels)]
                best, right = scores.index(max(scores)), int(tags[number][place])
                for feature in features if best != right else ():
                    weights[feature][right] += 1
                    weights[feature][best] -= 1
                for feature, values in weights.items():
                    summed[feature] = [a + b for a, b in zip(summed[feature], values, strict=True)]
                steps += 1
                before, earlier = best, before
    return {feature: np.array(values) / steps for feature, values in summed.items()}


def named_rows(engine, labels):
    """What each row of a perceptron's weights is for, as the slow one names it."""
    features, model, names = engine.features, engine.columns["tag"], {}

    def value(kind, number):
        return features.values[kind][number - 1] if number else None

    for template, parts, table, base in zip(features.templates, features.parts, features.tables, features.bases, strict=False):
        if len(parts) == 1:
            names |= {base + row: (template, value(parts[0][0], number)) for number, row in enumerate(table.tolist()) if row >= 0}
            continue
        width = len(features.values[parts[1][0]]) + 1
        both = [divmod(pair, width) for pair in table.tolist()]
        names |= {base + row: (template, value(parts[0][0], a), value(parts[1][0], b)) for row, (a, b) in enumerate(both)}
    history, first = [*range(labels), None], features.size
    names |= {first + place: ("before", before) for place, before in enumerate(history)}
    for (a, earlier), (b, before) in product(enumerate(history), repeat=2):
        names[first + (labels + 1) * (a + 1) + b] = ("both", earlier, before)
    words = {row: names[row][1] for row in range(int(features.bases[1]))}
    for word, before in zip(*np.nonzero(model.pairs >= 0), strict=True):
        names[int(model.pairs[word, before])] = ("pair", words[int(word)], history[int(before)])
    return names


@pytest.mark.parametrize(("window", "seed"), [(0, 0), (1, 1), (2, 5)])
def test_the_perceptron_is_that_of_dictionaries(window, seed):
    sentences, tags = corpus(25, seed)
    engine = fitted("averaged-perceptron", sentences, tags, seed=seed, window=window)
    slow = slow_perceptron(sentences, tags, 4, 3, seed, window)
    names, weights = named_rows(engine, 4), engine.columns["tag"].weights
    assert sorted(names) == list(range(len(weights))) and set(slow) <= set(names.values())
    expected = np.array([slow.get(names[row], np.zeros(4)) for row in range(len(weights))])
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(weights, expected, rtol=1e-6, atol=1e-6)


def test_a_perceptron_s_confidence_is_the_softmax_of_its_scores():
    sentences, tags = corpus()
    engine = fitted("averaged-perceptron", sentences, tags, window=0)
    names, weights = named_rows(engine, 4), engine.columns["tag"].weights
    rows = {name: row for row, name in names.items()}
    found = engine.decoded([["zebra"]])["tag"]
    on = [("suffix1", "a"), ("shape", "xx"), ("case", "lower")]
    sums = sum(weights[rows[f"{kind}@0", value]] for kind, value in on if (f"{kind}@0", value) in rows)
    sums = sums + weights[rows["before", None]] + weights[rows["both", None, None]]
    assert found.ids[0].tolist() == [int(sums.argmax())]
    assert found.confidences[0] == pytest.approx(torch.tensor(sums).softmax(0).max().item(), rel=1e-5)


# The CRF


def training(gold_of=lambda gold: gold, legal=None, labels=4, count=12, **settings):
    """A CRF's training with random weights, and all sentences that are not empty."""
    sentences, tags = corpus(count, 3)
    features = WordFeatures.train(sentences, templates(1))
    ids, lengths = features.encode(sentences)
    draw = np.random.default_rng(0)
    start, transitions, end = legal or (np.ones(labels, bool), np.ones((labels, labels), bool), np.ones(labels, bool))
    chain = tuple(
        np.where(part, draw.normal(size=part.shape), -np.inf).astype(np.float64) for part in (transitions, start, end)
    )  # fmt: skip
    model = FeatureCrf(draw.normal(size=(features.size, labels)).astype(np.float32), chain)
    gold = gold_of(np.concatenate(tags))
    settings = {"learning_rate": 0.1, "l2": 0.0, **settings}
    return CrfTraining(model, ids, lengths, gold, settings), np.flatnonzero(lengths)


def in_autograd(state, batch, weights=None, chain=None):
    """Loss and gradients of (weights, transitions, start, end) by torch, in float64; of unknown tags all completions are summed."""
    weights = torch.tensor(state.model.weights.astype(np.float64), requires_grad=True) if weights is None else weights
    chain = [torch.tensor(part.copy(), requires_grad=True) for part in state.model.chain] if chain is None else chain
    total = torch.zeros(())
    for sentence in batch:
        rows = slice(state.starts[sentence], state.starts[sentence + 1])
        ids, gold = torch.from_numpy(state.ids[rows].astype(np.int64)), state.gold[rows]
        logits = (weights[ids.clamp(min=0)] * (ids >= 0)[..., None]).sum(1)[None]
        given = Emissions(logits, torch.ones(logits.shape[:2], dtype=torch.bool), Chain(*chain))
        choices = [range(weights.shape[1]) if tag < 0 else [tag] for tag in gold.tolist()]
        paths = [torch.tensor([path]) for path in product(*choices)]
        total = total + torch.logsumexp(torch.stack([chain_loss(given, path)[0].neg() for path in paths]), 0).neg()
    total.backward()
    return total, [weights.grad, *(part.grad for part in chain)]


@pytest.mark.parametrize("unknown", [False, True])
def test_the_crf_s_loss_and_gradients_are_autograd_s(unknown):
    state, batch = training(lambda gold: np.where(np.arange(len(gold)) % 3 == 1, -100, gold) if unknown else gold)
    from weft.estimators.feature_kernels import gathered

    loss, unary, chain = state.gradients(batch)
    gradient = np.zeros_like(state.model.weights)
    gathered(batch, state.starts, state.ids, np.arange(len(gradient), dtype=np.int32), unary, gradient)
    expected, (weights, *parts) = in_autograd(state, batch)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(gradient, weights.numpy(), atol=2e-5)
    for found, part in zip(chain, parts, strict=True):
        np.testing.assert_allclose(found, part.numpy(), atol=2e-5)


def test_steps_are_adagrad_s():
    state, sentences = training(count=12)
    batches = [sentences[at : at + 4] for at in range(0, len(sentences), 4)]
    weights = [torch.tensor(part.astype(np.float64), requires_grad=True) for part in (state.model.weights, *state.model.chain)]
    slow = torch.optim.Adagrad(weights, lr=0.1, eps=1e-8)
    for batch in batches * 2:
        slow.zero_grad()
        in_autograd(state, batch, weights[0], weights[1:])
        for part in weights:
            part.grad /= len(batch)
        slow.step()
        state.step(batch)
    state.finish()
    for found, part in zip((state.model.weights, *state.model.chain), weights, strict=True):
        np.testing.assert_allclose(found, part.detach().numpy(), atol=2e-3)


@pytest.mark.parametrize("size", [1000, 4])
def test_what_is_made_least_is_the_penalised_loss(size):
    """Beside L-BFGS on the same objective: whole batches arrive there; small ones, of late-shrunk rows, end near it."""
    l2 = 2.0
    state, sentences = training(l2=l2, count=15, learning_rate=0.5 if size == 1000 else 0.1)
    weights = [torch.tensor(part.astype(np.float64), requires_grad=True) for part in (state.model.weights, *state.model.chain)]
    state.decay = l2 / len(sentences)  # the empty ones take no step

    def objective(parts):
        for part in parts:
            part.grad = None
        loss, _ = in_autograd(state, sentences, parts[0], parts[1:])
        penalty = l2 / 2 * sum((part**2).sum() for part in parts)
        penalty.backward()
        return (loss + penalty).detach()

    solver = torch.optim.LBFGS(weights, max_iter=200, line_search_fn="strong_wolfe", tolerance_change=1e-12)
    solver.step(lambda: objective(weights))
    least = float(objective(weights))
    for _ in range(300):
        for at in range(0, len(sentences), size):
            state.step(sentences[at : at + size])
    state.finish()
    reached = float(
        objective([torch.tensor(part.astype(np.float64), requires_grad=True) for part in (state.model.weights, *state.model.chain)])
    )
    assert least * 0.9999 <= reached <= least * (1.001 if size == 1000 else 1.02)


def test_the_crf_decodes_as_nn_crf_does():
    sentences, _ = corpus(40, 0)
    legal = allowed(SPANS, "BIOES")
    engine = fitted("crf", sentences, legal_tags(sentences), SPANS, legal)
    asked = [*corpus(20, 9, longest=30, words=[*WORDS, "unseen"])[0], [], ["Anna"]]
    found, model = engine.decoded(asked)["tag"], engine.columns["tag"]
    ids, lengths = engine.features.encode(asked)
    chain = Chain(*(torch.from_numpy(part) for part in model.chain))
    for rows, tags, sure in zip(np.split(ids, np.cumsum(lengths)[:-1]), found.ids, found.confidences, strict=True):
        logits = torch.from_numpy((model.weights[rows] * (rows >= 0)[..., None]).sum(1, dtype=np.float64))[None]
        given = Emissions(logits, torch.ones(logits.shape[:2], dtype=torch.bool), chain)
        best, _ = viterbi(given)
        assert float(path_score(given, torch.from_numpy(tags)[None])) == pytest.approx(float(path_score(given, best)), abs=1e-3)
        expected = marginals(given)[0].gather(1, torch.from_numpy(tags)[:, None])[:, 0]
        np.testing.assert_allclose(sure, expected.numpy(), atol=1e-4)


def test_sentences_that_cannot_be_are_left_out_with_a_count(caplog):
    sentences, tags = [["the", "cat"]] * 9 + [["cat"]], [np.array([0, 1])] * 8 + [np.array([1, 0]), np.array([0])]
    legal = allowed(["B-X", "E-X"], "BIOES")
    engine = fitted("crf", sentences, tags, ["B-X", "E-X"], legal)
    assert "2 of 10 sentences have no legal tags" in caplog.text
    assert engine.decoded([["the", "cat"]])["tag"].ids[0].tolist() == [0, 1]
    assert all(np.isfinite(part[part > -np.inf]).all() for part in (engine.columns["tag"].weights, *engine.columns["tag"].chain))


# All of them


@pytest.mark.parametrize("name", ["averaged-perceptron", "crf"])
def test_what_is_not_allowed_is_never_said(name):
    sentences, _ = corpus(80, 0)
    legal = allowed(SPANS, "BIOES")
    engine = fitted(name, sentences, legal_tags(sentences), SPANS, legal)
    asked = corpus(200, 7, longest=12, words=[*WORDS, "unseen", "Other"])[0]
    said = engine.decoded(asked)["tag"].ids
    assert [illegal([SPANS[i] for i in tags], "BIOES") for tags in said] == [[]] * 200
    free = fitted(name, sentences, legal_tags(sentences), SPANS).decoded(asked)["tag"].ids
    assert any(illegal([SPANS[i] for i in tags], "BIOES") for tags in free)  # or nothing was asked of it


@pytest.mark.parametrize("name", ["averaged-perceptron", "crf"])
def test_where_no_tags_are_legal_all_are(name):
    engine = fitted(name, [["the", "cat"]] * 5, [np.array([0, 1])] * 5, ["B-X", "E-X"], allowed(["B-X", "E-X"], "BIOES"))
    found = engine.decoded([["the", "cat"], ["cat"], ["the"], ["the", "cat", "the", "cat"]])["tag"]
    assert [tags.tolist() for tags in found.ids[::3]] == [[0, 1], [0, 1, 0, 1]]
    assert [len(tags) for tags in found.ids[1:3]] == [1, 1] and all(0.4 < sure[0] <= 1 for sure in found.confidences)


@pytest.mark.parametrize("name", list(DEFAULTS))
def test_it_learns_by_heart_and_shares_are_probabilities(name):
    sentences, _ = corpus(50)
    tags = [np.array([WORDS.index(word) % 4 for word in sentence], np.int64) for sentence in sentences]
    found = fitted(name, sentences, tags, **({} if name == "majority" else {"epochs": 20})).decoded(sentences)["tag"]
    assert all(np.array_equal(a, b) for a, b in zip(found.ids, tags, strict=True))
    assert all(((sure > 0) & (sure <= 1)).all() and sure.dtype == np.float32 for sure in found.confidences)


@pytest.mark.parametrize("name", list(DEFAULTS))
def test_one_word_five_thousand_unseen_ones_none(name):
    sentences, _ = corpus(60)
    legal = allowed(SPANS, "BIOES")
    engine = fitted(name, [*sentences, ["cat"] * 5000], legal_tags([*sentences, ["cat"] * 5000]), SPANS, legal)
    asked = [["cat"], ["cat", "never"] * 2500, [], ["never"], ["İ\u0307\U0001f600"]]
    found = engine.decoded(asked)["tag"]
    assert [len(tags) for tags in found.ids] == [len(sure) for sure in found.confidences] == [len(sentence) for sentence in asked]
    assert all(np.isfinite(sure).all() and (tags < len(SPANS)).all() for tags, sure in zip(*found, strict=True))
    assert engine.decoded([])["tag"] == ([], []) and [len(tags) for tags in engine.decoded([[], []])["tag"].ids] == [0, 0]


@pytest.mark.parametrize("name", list(DEFAULTS))
def test_company_and_pieces_change_nothing(name, monkeypatch):
    sentences, tags = corpus(60)
    engine = fitted(name, sentences, tags)
    asked = corpus(30, 5, longest=20)[0]
    together = engine.decoded(asked)["tag"]
    alone = [engine.decoded([sentence])["tag"] for sentence in asked]
    assert all(np.array_equal(ids, one.ids[0]) for ids, one in zip(together.ids, alone, strict=True))
    assert all(np.array_equal(sure, one.confidences[0]) for sure, one in zip(together.confidences, alone, strict=True))
    monkeypatch.setattr("weft.estimators.feature_tagger.CHUNK", 7)
    assert same({"tag": together}, engine.decoded(asked))


@pytest.mark.parametrize("name", list(DEFAULTS))
def test_kept_and_taken_up_again_bit_for_bit(name):
    sentences, _ = corpus(60)
    engine = fitted(name, sentences, legal_tags(sentences), SPANS, allowed(SPANS, "BIOES"), seed=3)
    arrays, described, words = engine.saved()
    again = FeatureTagger.restore(arrays, json.loads(json.dumps(described)), json.loads(json.dumps(words)))
    asked = corpus(50, 8, words=[*WORDS, "unseen"])[0]
    assert same(engine.decoded(asked), again.decoded(asked))
    assert again.parameters() == engine.parameters() > 0
    once_more = again.saved()
    assert once_more[1:] == (described, words) and all(np.array_equal(arrays[key], once_more[0][key]) for key in arrays)


@pytest.mark.parametrize("name", list(DEFAULTS))
def test_what_does_not_fit_is_refused(name):
    sentences, tags = corpus(30)
    arrays, described, words = fitted(name, sentences, tags).saved()
    for key in arrays:
        for broken in ({k: v for k, v in arrays.items() if k != key}, {**arrays, key: arrays[key][:-1]}):
            with pytest.raises(InputError):
                FeatureTagger.restore(broken, described, words)
    more = {**described, "columns": [{"name": "tag", "labels": [*TAGS, "X"]}]}
    wrong = [{**described, "name": "cfr"}, {k: v for k, v in described.items() if k != "columns"}, {**described, "columns": 3}]
    for config in wrong if name == "majority" else [*wrong, more]:
        with pytest.raises(InputError):
            FeatureTagger.restore(arrays, config, words)
    with pytest.raises(InputError):
        FeatureTagger.restore(arrays, described, {})


@pytest.mark.parametrize("name", ["averaged-perceptron", "crf"])
def test_the_seed_says_all_and_threads_nothing(name):
    sentences, tags = corpus(80)

    def learnt(seed):
        arrays = fitted(name, sentences, tags, seed=seed).saved()[0]
        return {key: array.tobytes() for key, array in arrays.items()}

    alone = learnt(1)
    assert learnt(1) == alone and learnt(2) != alone
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(learnt, [1, 1, 1])) == [alone] * 3
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if before > 1 else 2)
        assert learnt(1) == alone
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", list(DEFAULTS))
def test_columns_are_learnt_each_by_itself(name):
    sentences, tags = corpus(40)
    others = [(row + 1) % 3 for row in tags]
    labels, free = {"a": TAGS, "b": TAGS[:3]}, {"a": None, "b": None}
    both = FeatureTagger(name, SMALL[name], 0).fit(sentences, {"a": tags, "b": others}, labels, free)
    asked = corpus(20, 4)[0]
    alone = fitted(name, sentences, others, TAGS[:3]).decoded(asked)["tag"]
    assert same({"tag": both.decoded(asked)["b"]}, {"tag": alone})


@pytest.mark.parametrize("name", list(DEFAULTS))
def test_tokens_without_a_tag_are_not_learnt_from(name):
    """A tag that contradicts all others is not seen where it is not known; without any tag there is nothing to learn."""
    sentences, tags = [["the", "cat"]] * 20, [np.array([0, 1])] * 5 + [np.array([0, -100])] * 15
    found = fitted(name, sentences, tags).decoded([["the", "cat"]])["tag"]
    assert found.ids[0].tolist() == [0, 1]
    with pytest.raises(InputError, match="no token has a tag in column 'tag'"):
        fitted(name, [["a"]], [np.array([-100])])
    with pytest.raises(InputError, match="no token has a tag"):
        fitted(name, [[], []], [np.zeros(0, np.int64)] * 2)


def test_numbers_learnt():
    sentences, tags = corpus(60)
    words = {word for sentence in sentences for word in sentence}
    assert fitted("majority", sentences, tags).parameters() == len(words) + 1
    crf = fitted("crf", sentences, tags)
    assert crf.parameters() == 4 * crf.features.size + 4 * 4 + 4 + 4
    assert isinstance(crf.columns["tag"], FeatureCrf) and not isinstance(crf.columns["tag"], Majority | Perceptron)


# Settings


def test_settings_are_read_in_their_types():
    assert checked_settings("majority", {}) == {"minimum_count": 1}
    read = checked_settings("crf", {"epochs": "3", "l2": "0", "window": 1.0})
    assert (read["epochs"], read["l2"], read["window"]) == (3, 0.0, 1) and isinstance(read["window"], int)
    assert read.keys() == DEFAULTS["crf"].keys()


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("crf", {"epoch": 3}, "epoch: no such setting for crf (did you mean epochs?)"),
        ("majority", {"epochs": 3}, "epochs: no such setting for majority"),
        ("averaged-perceptron", {"l2": 1}, "l2: no such setting"),
        ("crf", {"epochs": 0}, "epochs: must be at least 1"),
        ("crf", {"epochs": "many"}, "epochs: must be a whole number"),
        ("crf", {"window": 11}, "window: must be at most 10"),
        ("crf", {"window": -1}, "window: must be at least 0"),
        ("crf", {"learning_rate": 0}, "learning_rate: must be above 0"),
        ("crf", {"l2": -0.1}, "l2: must be from 0"),
        ("crf", {"l2": float("nan")}, "l2: must be a number"),
        ("crfs", {}, "model: there is no 'crfs' (did you mean crf?)"),
    ],
)
def test_impossible_settings_are_refused(name, settings, message):
    with pytest.raises(InputError) as refused:
        checked_settings(name, settings)
    assert str(refused.value).startswith(message)
