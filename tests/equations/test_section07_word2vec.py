"""E39–E48: word2vec, through the kernels that train it."""

from __future__ import annotations

import itertools
import math

import numba
import numpy as np
import pytest
import torch
from replay import Draws, agree, blocks, joined, loss_of, make, options, trained
from scipy.stats import chi2
from torch.nn.functional import softplus

from weft.huffman import huffman_paths
from weft.vectors import kernels, steps
from weft.vectors.compiled import OPTIONS
from weft.vectors.corpus import read_corpus
from weft.vectors.kernels import alias_table
from weft.vectors.word2vec import Plan, keep_probability, noise_weights, train_word2vec

FOX = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog"]
SONNET = """
When forty winters shall besiege thy brow, And dig deep trenches in thy beauty's field, Thy youth's proud livery so gazed on now,
Will be a totter'd weed of small worth held: Then being asked, where all thy beauty lies, Where all the treasure of thy lusty
days; To say, within thine own deep sunken eyes, Were an all-eating shame, and thriftless praise. How much more praise deserv'd
thy beauty's use, If thou couldst answer 'This fair child of mine Shall sum my count, and make my old excuse,' Proving his beauty
by succession thine! This were to be new made when thou art old, And see thy blood warm when thou feel'st it cold."""
W22_INPUTS = np.array([(0.1, 0.3), (0.2, -0.1), (-0.4, 0.5), (0.3, 0.2)], np.float32)
W22_OUTPUTS = np.array([(0.2, 0.1), (-0.3, 0.4), (0.5, -0.2), (0.1, 0.6)], np.float32)
STILL = 1e-12  # a rate at which nothing moves
LOSSES = ("ns", "hs", "softmax")


def near(found, expected, tolerance: float = 2e-6) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def moved(words: list[int], *, inputs=W22_INPUTS, outputs=W22_OUTPUTS, rows=None, loss: str = "softmax", noise: int = 0, **how):
    """(gradient of the inputs, of the outputs, ℓ) of one sentence as one block: what the kernel adds at a rate of 1, turned round. Every
    draw of noise is of one word; rows of zeros take their word's own examples out of the outputs' gradient."""
    tables = make(4, 2, rows=rows, noise=np.arange(4) == noise)._replace(inputs=inputs, outputs=outputs)
    new, lost, _, _ = trained(joined([words]), tables, options(**{"window": 0, "negative": 1, "rate": 1.0, **how}), loss=loss, pool=1)
    return inputs - new.inputs, outputs - new.outputs, lost


def only(*words: int) -> np.ndarray:
    """W22's inputs, those of the other words 0."""
    return np.where(np.isin(np.arange(4), words)[:, None], W22_INPUTS, np.float32(0))


# E39


def test_e39_w8_the_fox_has_30_pairs() -> None:
    words = sorted(set(FOX))
    fox = [words.index(word) for word in FOX]
    for loss in LOSSES:
        assert trained(joined([fox]), make(len(words), loss=loss), options(), loss=loss)[2] == 30
    agree(joined([fox]), make(len(words)), options())  # the kernel's pairs are the replay's, which are
    examples = list(itertools.chain(*blocks(fox, options(), Draws(1))))
    told = [(words[centre], [words[other] for other in others]) for (centre,), others in examples]
    assert told[:4] == [
        ("the", ["quick", "brown"]),
        ("quick", ["the", "brown", "fox"]),
        ("brown", ["the", "quick", "fox", "jumps"]),
        ("fox", ["quick", "brown", "jumps", "over"]),
    ]
    assert sum(len(others) for _, others in told) == 30


def test_e39_the_corpus_objective_is_the_brute_force_sum() -> None:
    """−Σ log p(w_{t+j} | w_t) over 20 words, p by the definition."""
    text = np.random.default_rng(1).integers(0, 7, 20).tolist()
    tables = make(loss="softmax")
    probability = np.exp(tables.inputs.astype(np.float64) @ tables.outputs.T.astype(np.float64))
    probability /= probability.sum(1, keepdims=True)
    for window in (1, 3):
        expected, pairs = 0.0, 0
        for t in range(20):
            for j in range(-window, window + 1):
                if j and 0 <= t + j < 20:
                    expected -= math.log(probability[text[t], text[t + j]])
                    pairs += 1
        _, lost, found, _ = trained(joined([text]), tables, options(window=window, rate=STILL), loss="softmax")
        assert found == pairs and lost == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("cbow", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_e39_pairs_of_random_windows(loss, cbow) -> None:
    """Reaches are uniform over 1 … 5: their pairs in 3,000 sentences, mean and spread by hand."""
    length, window, count = 7, 5, 3000
    each = [[min(i, r) + min(length - 1 - i, r) for r in range(1, window + 1)] for i in range(length)]
    mean, variance = count * np.mean(each, 1).sum(), count * np.var(each, 1).sum()
    text = joined([[0, 1, 2, 3, 4, 5, 6]] * count)
    pairs = trained(
        text, make(dim=1, loss=loss), options(window=window, dynamic=True, cbow=cbow, rate=STILL), loss=loss, longest=8, pool=1
    )[2]
    if cbow:
        assert pairs == length * count
    else:
        assert abs(pairs - mean) < 4 * math.sqrt(variance)
        assert abs(pairs - count * 32) > 4 * math.sqrt(variance)  # the fixed window's


def test_e39_reaches_are_uniform() -> None:
    @numba.njit(**OPTIONS)
    def count(how, found, draws, state):
        for _ in range(draws):
            state += kernels.GOLDEN
            found[steps.reach(kernels.mixed(state), how, 9)] += 1

    for window in (1, 2, 5, 7):
        found = np.zeros(10, np.int64)
        count(options(window=window, dynamic=True), found, 100_000, np.uint64(3))
        assert found[0] == found[window + 1 :].sum() == 0
        np.testing.assert_array_less(np.abs(found[1 : window + 1] - 1e5 / window), 4 * math.sqrt(1e5 * (1 / window)) + 1)
        fixed = np.zeros(10, np.int64)
        count(options(window=window), fixed, 10, np.uint64(3))
        assert fixed[window] == 10


def test_e39_w9_the_sonnet_is_learnt_a_little_in_every_epoch() -> None:
    corpus = read_corpus([SONNET.split()], minimum_count=1)
    assert (corpus.tokens, len(corpus.words)) == (115, 97)
    plan = Plan(loss="softmax", dim=10, window=2, epochs=10, sample=0, rate=0.1, dynamic=False)
    for seed, cbow in itertools.product(range(3), (False, True)):
        losses = train_word2vec(corpus, Plan(**{**vars(plan), "seed": seed, "cbow": cbow})).losses
        assert losses[0] == pytest.approx(math.log(97), rel=0.01)  # outputs start at 0: a uniform guess
        assert np.all(np.diff(losses) < 0) and losses[0] - losses[-1] > 0.001


# E40–E42


def test_e40_w22_one_context() -> None:
    for cbow in (False, True):  # with one context they are the same, but for whose row the second example moves
        inputs, outputs, lost = moved([1, 2], inputs=only(1), cbow=cbow)
        y = np.array([0.256104, 0.224884, 0.280222, 0.238790])
        assert lost == pytest.approx(1.272172 + math.log(4), abs=2e-6)  # word 2's own example, z = 0, is a uniform guess
        near(inputs[1], (-0.352254, 0.402793))
        near(outputs, np.outer(y - [0, 0, 1, 0], W22_INPUTS[1]))
        assert not inputs[[0, 3]].any()


def test_e41_w22_three_contexts_exact_and_as_the_original() -> None:
    """Contexts 0, 1, 3 are the rows of one word, so that target 2 has an example of its own; beside it a word whose row is 0."""
    rows, table = [[0, 1, 3], [4], [2], [4]], np.vstack([only(0, 1, 3), np.zeros((1, 2), np.float32)])
    y = np.array([0.249393, 0.234869, 0.254431, 0.261307])
    inputs, outputs, lost = moved([0, 2], inputs=table, rows=rows)
    assert lost == pytest.approx(1.368726 + math.log(4), abs=2e-6)
    near(inputs[[0, 1, 3]], np.tile(np.array([-0.367236, 0.424785]) / 3, (3, 1)))
    near(outputs, np.outer(y - [0, 0, 1, 0], [0.2, 0.4 / 3]))
    original, same, _ = moved([0, 2], inputs=table, rows=rows, exact=False)
    near(original[[0, 1, 3]], np.tile([-0.367236, 0.424785], (3, 1)))  # not divided
    near(same, outputs)


@pytest.mark.parametrize("mean, exact", [(True, True), (True, False), (False, False)])
def test_e41_every_word_from_its_three_contexts(mean, exact) -> None:
    """The four examples of a sentence of W22's words, by the formulas."""
    inputs, outputs, lost = moved([0, 1, 2, 3], cbow=True, mean=mean, exact=exact)
    expected_inputs, expected_outputs, expected = np.zeros((4, 2)), np.zeros((4, 2)), 0.0
    for target in range(4):
        others = [word for word in range(4) if word != target]
        z = W22_INPUTS[others].sum(0) / (3 if mean else 1)
        y = np.exp(W22_OUTPUTS @ z) / np.exp(W22_OUTPUTS @ z).sum()
        expected -= math.log(y[target])
        wrong = y - np.eye(4)[target]
        expected_outputs += np.outer(wrong, z)
        expected_inputs[others] += wrong @ W22_OUTPUTS / (3 if exact else 1)
        if target == 2 and mean:
            near(wrong @ W22_OUTPUTS, (-0.367236, 0.424785))
    near(inputs, expected_inputs)
    near(outputs, expected_outputs)
    assert lost == pytest.approx(expected, abs=5e-6)


@pytest.mark.parametrize("exact", [False, True])
def test_e41_a_word_twice_in_the_window_gets_twice_the_gradient(exact) -> None:
    """Words 0 and 3 have outputs of 0: only the example whose target is 2 moves an input."""
    outputs = np.where(np.arange(4)[:, None] == 2, W22_OUTPUTS, np.float32(0))
    inputs, *_ = moved([0, 3, 0, 2], outputs=outputs, loss="ns", cbow=True, exact=exact, negative=0)
    near(inputs[0], 2 * inputs[3])
    assert np.abs(inputs[3]).max() > 0.05


def test_e42_w22_skip_gram() -> None:
    inputs, outputs, lost = moved([1, 2, 3], inputs=only(2), window=1)
    wrong = np.array([0.442588, -0.371938, 0.337863, -0.408513])
    assert lost == pytest.approx(2.376526 + 2 * math.log(4), abs=2e-6)
    near(outputs, np.outer(wrong, W22_INPUTS[2]))
    near(inputs[2], (0.328179, -0.417197))
    both = [moved([target, 2], inputs=only(2)) for target in (1, 3)]  # with C = 1 it is E40, and C of them add up
    near(inputs[2], both[0][0][2] + both[1][0][2])
    near(outputs, both[0][1] + both[1][1])


# E43


def way_of(tables, word: int) -> slice:
    return slice(tables.paths[word], tables.paths[word + 1])


def test_e43_the_words_probabilities_sum_to_1() -> None:
    random = np.random.default_rng(0)
    for size in (2, 3, 10, 300):
        starts, nodes, bits = huffman_paths(random.integers(1, 1000, size))
        gamma, z = random.normal(0, 3, (size - 1, 5)), random.normal(0, 3, 5)
        left = 1 / (1 + np.exp(-gamma @ z))
        words = [slice(starts[w], starts[w + 1]) for w in range(size)]
        total = sum(np.where(bits[way] == 0, left[nodes[way]], 1 - left[nodes[way]]).prod() for way in words)
        assert total == pytest.approx(1, abs=1e-12)


def test_e43_a_path_of_four_leaves_by_hand() -> None:
    """Counts 1, 2, 3, 4: words 0 and 1 join at node 0, with word 2 at node 1, with word 3 at the root, node 2."""
    tables = make(4, 3, loss="hs")
    assert [tables.nodes[way_of(tables, w)].tolist() for w in range(4)] == [[2, 1, 0], [2, 1, 0], [2, 1], [2]]
    kinds = [tables.labels[way_of(tables, w)].astype(int).tolist() for w in range(4)]
    assert kinds[0][-1] + kinds[1][-1] == 1 and kinds[3][0] + kinds[2][0] == 1
    for word in range(3):
        expected = 0.0
        for given, told in ((3, word), (word, 3)):
            scores = tables.outputs @ tables.inputs[given]
            for node, left in zip(tables.nodes[way_of(tables, told)], kinds[told]):
                expected += math.log1p(math.exp(-scores[node] if left else scores[node]))
        lost = trained(joined([[3, word]]), tables, options(rate=STILL), loss="hs")[1]
        assert lost == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("cbow", [False, True])
def test_e43_autograd(cbow) -> None:
    for text in ([0, 3, 1, 6], [5, 5, 2]):
        agree(joined([text]), make(loss="hs"), options(cbow=cbow), loss="hs")


# E44


def test_e44_w23() -> None:
    counts = np.array([5, 9, 12, 13, 16, 45])
    lengths = np.diff(huffman_paths(counts)[0])
    assert lengths.tolist() == [4, 4, 3, 3, 3, 1] and (counts * lengths).sum() == 224


# E45


def test_e45_w22_and_the_two_wrong_forms() -> None:
    inputs, outputs, lost = moved([2, 1], inputs=only(2), loss="ns", noise=0)
    assert lost == pytest.approx(1.224153 + 2 * math.log(2), abs=5e-6)
    near(inputs[2], (0.224703, -0.119020))
    near(outputs[1], -0.420676 * W22_INPUTS[2])
    near(outputs[0], 0.492501 * W22_INPUTS[2])
    assert not outputs[2:].any() and not inputs[[0, 3]].any()
    scores = W22_OUTPUTS[[1, 0]] @ W22_INPUTS[2]
    without_minus = 1 / (1 + np.exp(scores)) - [1, 0]  # 1 − σ
    assert np.abs(without_minus @ W22_OUTPUTS[[1, 0]] - inputs[2]).max() > 0.02
    for one in (-0.420676 * W22_OUTPUTS[1], 0.492501 * W22_OUTPUTS[0]):  # a term without the sum
        assert np.abs(one - inputs[2]).max() > 0.02


def test_e45_a_draw_that_is_the_target_is_skipped() -> None:
    score = float(W22_OUTPUTS[1] @ W22_INPUTS[2])
    sigma = 1 / (1 + math.exp(-score))
    inputs, outputs, lost = moved([2, 1], inputs=only(2), loss="ns", noise=1)
    assert lost == pytest.approx(-math.log(sigma) + 2 * math.log(2), abs=5e-6)
    near(outputs[1], (sigma - 1) * W22_INPUTS[2])
    near(inputs[2], (sigma - 1) * W22_OUTPUTS[1])
    _, outputs, _ = moved([1, 2, 3], inputs=only(2), loss="ns", noise=1, window=1)  # and counts for the other pair
    near(outputs[1], (2 * sigma - 1) * W22_INPUTS[2])


@pytest.mark.parametrize("cbow", [False, True])
def test_e45_expected_gradient_is_that_of_own_draws_for_every_pair(cbow) -> None:
    """Of the block's shared draws, exactly: a pool of one draw, every word in turn, weighed by its chance. The reference gives each pair
    `negative` draws of its own and skips those that are its target."""
    chance, text, how = np.array([0.6, 0.3, 0.1]), [0, 1, 2, 1, 0], options(cbow=cbow, negative=4, rate=0.1, window=2)
    tables = make(3, 4)
    found = np.zeros((2, 3, 4))
    total = 0.0
    for word in range(3):
        new, lost, _, _ = trained(joined([text]), make(3, 4, noise=np.arange(3) == word), how, pool=1)
        found += chance[word] * np.stack([tables.inputs - new.inputs.astype(np.float64), tables.outputs - new.outputs.astype(np.float64)])
        total += chance[word] * lost
    inputs, outputs = (torch.from_numpy(table).double().requires_grad_() for table in (tables.inputs, tables.outputs))
    expected = 0.0
    for centre in range(5):
        others = [text[i] for i in range(5) if i != centre and abs(i - centre) <= 2]
        for words, target in [(others, text[centre])] if cbow else [([text[centre]], other) for other in others]:
            z = inputs[words].mean(0)
            expected = expected + softplus(-(outputs[target] @ z))
            for word in range(3):
                if word != target:
                    expected = expected + 4 * chance[word] * softplus(outputs[word] @ z)
    expected.backward()
    assert total == pytest.approx(float(expected.detach()), rel=1e-5)
    near(found[0] / 0.1, inputs.grad.numpy(), 2e-5)
    near(found[1] / 0.1, outputs.grad.numpy(), 2e-5)


def test_e45_mean_gradient_over_many_draws() -> None:
    """The same by chance: a pool of 20 from the alias table, 4,000 times."""
    noise, how, text, rounds = np.array([6.0, 3.0, 1.0, 5.0]), options(negative=5, rate=0.1), [0, 1, 2, 1, 3], 4000
    tables = make(4, 3, noise=noise)
    moves = np.array([trained(joined([text]), tables, how, pool=20, state=state)[0].outputs - tables.outputs for state in range(rounds)])
    moves = moves.astype(np.float64)
    outputs = torch.from_numpy(tables.outputs).double().requires_grad_()
    examples = [([text[t]], [text[i] for i in range(5) if i != t and abs(i - t) <= 2]) for t in range(5)]
    inputs = torch.from_numpy(tables.inputs).double()
    positive = loss_of(examples, tables, how._replace(negative=0), inputs, outputs, "ns", [[0]])
    chance = noise / noise.sum()
    negative = sum(
        5 * chance[word] * softplus(outputs[word] @ inputs[words[0]])
        for words, targets in examples for target in targets for word in range(4) if word != target
    )  # fmt: skip
    (positive + negative).backward()
    error = np.abs(moves.mean(0) + 0.1 * outputs.grad.numpy())
    np.testing.assert_array_less(error, 4 * moves.std(0) / math.sqrt(rounds) + 1e-6)
    assert moves.std(0).max() > 1e-3


def test_e45_autograd_and_untouched_rows() -> None:
    tables, how = make(30, 5, noise=np.arange(30) < 4), options(rate=0.3)
    agree(joined([[9, 8, 9, 20]]), tables, how)
    new, *_ = trained(joined([[9, 8, 9, 20]]), tables, how)
    np.testing.assert_array_equal(np.delete(new.inputs, [8, 9, 20], 0), np.delete(tables.inputs, [8, 9, 20], 0))
    np.testing.assert_array_equal(np.delete(new.outputs, [0, 1, 2, 3, 8, 9, 20], 0), np.delete(tables.outputs, [0, 1, 2, 3, 8, 9, 20], 0))


# E46


def test_e46_a_whole_window() -> None:
    """Without negatives the loss of an example is −log P: of independent contexts Σ log σ, of CBOW's sum log σ(Σ)."""
    tables, text = make(), [0, 1, 2]
    U, V = tables.outputs.astype(np.float64), tables.inputs.astype(np.float64)

    def log_sigma(score: float) -> float:
        return -math.log1p(math.exp(-score))

    centre = {}
    for cbow in (False, True):
        how = options(cbow=cbow, mean=False, negative=0, rate=STILL, window=0)
        centre[cbow] = trained(joined([text]), tables, how)[1]
    apart = sum(log_sigma(U[c] @ V[w]) for w, c in itertools.permutations(text, 2))
    together = sum(log_sigma(U[w] @ V[[c for c in text if c != w]].sum(0)) for w in text)
    assert centre[False] == pytest.approx(-apart, abs=1e-5) and centre[True] == pytest.approx(-together, abs=1e-5)
    products = [np.prod([1 / (1 + math.exp(-U[c] @ V[w])) for c in text if c != w]) for w in text]
    assert sum(np.log(products)) == pytest.approx(apart, abs=1e-10)
    sums = [np.sum([1 / (1 + math.exp(-U[c] @ V[w])) for c in text if c != w]) for w in text]
    assert abs(sum(np.log(sums)) - apart) > 0.1  # the erratum: the log of a sum
    mean = trained(joined([text]), tables, options(cbow=True, negative=0, rate=STILL, window=0))[1]
    assert abs(mean - centre[True]) > 0.01


# E47


def exact_chances(probability: np.ndarray, alias: np.ndarray) -> np.ndarray:
    chances = probability.astype(np.float64)
    np.add.at(chances, alias, 1 - probability.astype(np.float64))
    return chances / len(probability)


def test_e47_w24_noise() -> None:
    weights = noise_weights(np.array([16, 81, 256]))
    near(weights, [8, 27, 64], 1e-12)
    near(exact_chances(*alias_table(weights)), [0.080808, 0.272727, 0.646465], 1e-6)
    plain = exact_chances(*alias_table(noise_weights(np.array([16, 81, 256]), 1.0)))
    near(plain, [0.045326, 0.229462, 0.725212], 1e-6)


@pytest.mark.parametrize("size", [1, 2, 3, 17, 1000, 30_000])
@pytest.mark.parametrize("exponent", [0.0, 0.75, 1.0])
def test_e47_the_alias_table_is_exact(size, exponent) -> None:
    weights = noise_weights(np.random.default_rng(size).zipf(1.3, size).clip(max=10**7), exponent)
    probability, alias = alias_table(weights)
    assert probability.min() >= 0 and probability.max() <= 1 and alias.min() >= 0 and alias.max() < size
    np.testing.assert_allclose(exact_chances(probability, alias), weights / weights.sum(), rtol=1e-5, atol=1e-6 / size)


def test_e47_a_million_draws() -> None:
    @numba.njit(**OPTIONS)
    def count(probability, alias, found, draws, state):
        for _ in range(draws):
            state += kernels.GOLDEN
            found[kernels.drawn(kernels.mixed(state), probability, alias)] += 1

    for weights in (noise_weights(np.array([16, 81, 256])), noise_weights(np.arange(1, 101)), np.array([1.0, 0.0, 3.0])):
        found = np.zeros(len(weights), np.int64)
        count(*alias_table(weights), found, 10**6, np.uint64(7))
        expected = 1e6 * weights / weights.sum()
        assert not found[weights == 0].any()
        seen = weights > 0
        statistic = ((found - expected)[seen] ** 2 / expected[seen]).sum()
        assert statistic < chi2.ppf(0.999, seen.sum() - 1)
    plain = 1e6 * np.array([16, 81, 256]) / 353  # and the exponent is told from the plain counts
    count(*alias_table(noise_weights(np.array([16, 81, 256]))), found := np.zeros(3, np.int64), 10**6, np.uint64(7))
    assert ((found - plain) ** 2 / plain).sum() > chi2.ppf(0.999, 2)


def test_e47_the_generator_is_splitmix64() -> None:
    """Its authors' numbers for the seed 1234567."""
    draws = Draws(1234567)
    assert [draws.bits() for _ in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]

    @numba.njit(**OPTIONS)
    def first(state):
        return kernels.mixed(state + kernels.GOLDEN)

    assert int(first(np.uint64(1234567))) == 6457827717110365317


def test_e47_keep_rates() -> None:
    """Through the kernel that reads sentences: min(1, √(t/f) + t/f) within 4σ, and always where f ≤ t."""

    @numba.njit(**OPTIONS)
    def read(ids, keep, words, found, state):
        at = tokens = 0
        while at < ids.shape[0]:
            count, seen, at, state = steps.sentence(ids, at, keep, words, state)
            tokens += seen
            for i in range(count):
                found[words[i]] += 1
        return tokens

    counts, t = np.array([70_000, 20_000, 8_000, 1_500, 400, 100]), 5e-3
    share = counts / counts.sum()
    keep = keep_probability(counts, t)
    expected = np.minimum(1, np.sqrt(t / share) + t / share)
    np.testing.assert_allclose(keep, expected, rtol=1e-6)
    assert keep.dtype == np.float32 and (keep[share <= t] == 1).all() and (keep[:2] < 1).all()
    ids = np.random.default_rng(0).permutation(np.repeat(np.arange(6), counts)).astype(np.int32).reshape(-1, 100)
    ids = np.hstack([ids, np.full((len(ids), 1), steps.BOUNDARY, np.int32)]).ravel()
    found = np.zeros(6, np.int64)
    assert read(ids, keep, np.empty(101, np.int32), found, np.uint64(1)) == 100_000
    sigma = np.sqrt(counts * expected * (1 - expected))
    assert (np.abs(found - counts * expected) <= 4 * sigma).all()
    assert (found[share <= t] == counts[share <= t]).all()
    assert abs(found[0] - counts[0] * math.sqrt(t / share[0])) > 4 * sigma[0]  # without the second term
    assert (keep_probability(counts, 0) == 1).all()


# E48


def neighbours(inputs: np.ndarray, item: int, topn: int) -> set[int]:
    unit = inputs / np.linalg.norm(inputs, axis=1, keepdims=True)
    return set(np.argsort(-(unit @ unit[item]))[1 : topn + 1].tolist())


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("cbow", [False, True])
def test_e48_baskets_of_two_themes(loss, cbow) -> None:
    random = np.random.default_rng(0)
    baskets = [[f"{theme}{item}" for item in random.permutation(5)[:3]] for theme in "ab" for _ in range(200)]
    corpus = read_corpus([baskets[i] for i in random.permutation(400)], minimum_count=1)
    plan = Plan(cbow=cbow, loss=loss, dim=8, window=0, epochs=3, sample=0, rate=0.05)
    inputs = train_word2vec(corpus, plan).inputs
    for item, name in enumerate(corpus.words):
        assert {corpus.words[other][0] for other in neighbours(inputs, item, 4)} == {name[0]}


def test_e48_two_cliques_joined_by_an_edge() -> None:
    """Nodes 0–4 and 5–9; only 4 and 5 are joined."""
    random = np.random.default_rng(0)
    edges = {n: [m for m in range(10) if m != n and m // 5 == n // 5] + [9 - n] * (n in (4, 5)) for n in range(10)}
    walks = []
    for start in list(range(10)) * 60:
        walk = [start]
        while len(walk) < 10:
            walk.append(int(random.choice(edges[walk[-1]])))
        walks.append([str(node) for node in walk])
    corpus = read_corpus(walks, minimum_count=1)
    inputs = train_word2vec(corpus, Plan(dim=8, window=3, epochs=20, sample=0, rate=0.05)).inputs
    for item, name in enumerate(corpus.words):
        assert {int(corpus.words[other]) // 5 for other in neighbours(inputs, item, 4)} == {int(name) // 5}


@pytest.mark.parametrize("loss", ["ns", "softmax"])
@pytest.mark.parametrize("cbow", [False, True])
def test_e48_the_order_of_a_set_changes_nothing(loss, cbow) -> None:
    """Six items are a block: the same draws, the same sum of gradients; with a window of two words it is another.

    In CBOW draws belong to a centre, so that it is the true pairs alone that stay the same whatever the order."""
    tables, items = make(loss=loss), [0, 1, 2, 3, 5, 6]
    for window, same in ((0, True), (5, True), (2, False)):
        how = options(window=window, cbow=cbow, **({"negative": 0} if cbow and loss == "ns" else {}))
        first, *rest = (trained(joined([list(order)]), tables, how, loss=loss) for order in (items, items[::-1], [3, 0, 6, 1, 5, 2]))
        for other in rest:
            assert np.allclose(other[0].inputs, first[0].inputs, atol=2e-6) or not same
            assert np.allclose(other[0].outputs, first[0].outputs, atol=2e-6) or not same
        if same:
            assert [other[2] for other in rest] == [first[2]] * 2 and rest[0][1] == pytest.approx(first[1], rel=1e-6)
    assert not np.allclose(rest[1][0].inputs, first[0].inputs, atol=1e-3)
