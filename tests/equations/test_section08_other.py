"""E49, E50, E52: a neural n-gram model, the ranking of windows, GloVe."""

import gzip
import itertools
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from torch.utils._python_dispatch import TorchDispatchMode

from weft.data.batch import Batch
from weft.data.datasets import data_folder
from weft.losses import CrossEntropy
from weft.training.loop import evaluate
from weft.vectors.counts import BOUNDARY
from weft.vectors.glove import Cells, Tables, fit_glove, objective, step
from weft.vectors.neural import NeuralNgram, WindowRanking, Windows, WindowScorer, train_neural


def batch_of(inputs: torch.Tensor, targets: torch.Tensor | None = None) -> Batch:
    return Batch(inputs, torch.ones(inputs.shape, dtype=torch.bool), targets, torch.arange(len(inputs)))


# E49


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("hidden", [(6,), (6, 5)])
def test_e49_the_equation_by_hand(direct, hidden) -> None:
    torch.manual_seed(0)
    model = NeuralNgram(size=7, dim=4, context=3, hidden=hidden, direct=direct).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    inputs, targets = torch.randint(0, 8, (5, 3)), torch.randint(0, 8, (5,))
    loss = CrossEntropy()(model, batch_of(inputs, targets))["cross-entropy"].total
    table, expected = model.embedding.weight, 0.0
    for words, target in zip(inputs, targets):
        x = torch.cat([table[word] for word in words])
        h = x
        for layer in model.layers:
            h = torch.tanh(layer.weight @ h + layer.bias)
        scores = model.output.weight @ h + model.output.bias + (model.direct.weight @ x if direct else 0)
        expected = expected - torch.log(torch.exp(scores[target]) / torch.exp(scores).sum())
    torch.testing.assert_close(loss, expected, atol=1e-10, rtol=0)
    parameters = list(model.parameters())
    ours = torch.autograd.grad(loss, parameters)
    for mine, wanted in zip(ours, torch.autograd.grad(expected, parameters)):
        torch.testing.assert_close(mine.to_dense(), wanted, atol=1e-10, rtol=0)


def test_e49_gradient_at_the_logits_and_at_w2() -> None:
    """∂ℓ/∂(hW² + b²) = ŷ − y, so that W²'s row of word j moves along (ŷ_j − y_j) h."""
    torch.manual_seed(0)
    model = NeuralNgram(size=7, dim=4, context=3).double()
    batch = batch_of(torch.randint(0, 8, (5, 3)), torch.randint(0, 8, (5,)))
    CrossEntropy()(model, batch)["cross-entropy"].total.backward()
    with torch.no_grad():
        wrong = model(batch).softmax(-1) - torch.nn.functional.one_hot(batch.targets, 8)
        torch.testing.assert_close(model.output.weight.grad, wrong.T @ model.context(batch.inputs), atol=1e-10, rtol=0)


def test_e49_the_order_of_context_words_matters() -> None:
    """The third word names the first of the two before it, whichever they are: no bag of context words knows it."""
    random = np.random.default_rng(0)
    rows = np.array([(a, b, 6 + a, BOUNDARY) for a, b in random.integers(0, 6, (400, 2)) if a != b], np.int32)
    options = {"dim": 6, "window": 3, "hidden": 20, "epochs": 8, "examples": 32, "learning_rate": 0.02, "threads": 1}
    model = train_neural("ngram", lambda: iter([rows.ravel()]), np.bincount(rows[:, :3].ravel()), **options)[1]["model"]
    pairs = torch.tensor(list(itertools.permutations(range(6), 2)))
    assert (model(batch_of(pairs)).argmax(-1) == 6 + pairs[:, 0]).all()
    assert (model(batch_of(pairs.flip(1))).argmax(-1) == 6 + pairs[:, 1]).all()


def real_corpus(tokens: int, held: int, vocabulary: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids of WikiText-2's beginning and of what follows it, the rarer words as one, and counts."""
    folder = data_folder()
    if folder is None or not (folder / "wikitext2" / "train.txt.gz").is_file():
        pytest.skip("the folder of data is not here (WEFT_DATA)")
    with gzip.open(folder / "wikitext2" / "train.txt.gz", "rt", encoding="utf-8") as file:
        lines = [line.lower().split() for line in itertools.islice(file, 12_000) if len(line) > 40]
    known = {word: number for number, (word, _) in enumerate(Counter(itertools.chain(*lines)).most_common(vocabulary - 1))}
    ids = np.array([number for line in lines for number in (*(known.get(word, vocabulary - 1) for word in line), BOUNDARY)], np.int32)
    cut = tokens + int(np.flatnonzero(ids[tokens:] == BOUNDARY)[0]) + 1
    first, second = ids[:cut], ids[cut : cut + held]
    return first, second, np.bincount(first[first >= 0], minlength=vocabulary)


def interpolated_ngram(training: Batch, held: Batch, size: int) -> float:
    """Cross-entropy of Jelinek–Mercer's n-gram model, orders 0 … k + 1, with the weights that are best on the held-out text itself."""

    def keys(inputs: np.ndarray, order: int) -> list[tuple]:
        return [tuple(row[len(row) - order :]) for row in inputs]

    likelihoods = [np.full(len(held), 1 / size)]
    for order in range(training.inputs.shape[1] + 1):
        contexts = keys(training.inputs.numpy(), order)
        joint, alone = Counter(zip(contexts, training.targets.tolist())), Counter(contexts)
        wanted = keys(held.inputs.numpy(), order)
        likelihoods.append(np.array([joint[c, t] / alone[c] if alone[c] else 0.0 for c, t in zip(wanted, held.targets.tolist())]))
    table = np.stack(likelihoods, 1)
    weights = np.full(table.shape[1], 1 / table.shape[1])
    for _ in range(50):  # expectation–maximisation
        shares = table * weights
        weights = (shares / shares.sum(1, keepdims=True)).mean(0)
    return -float(np.log(table @ weights).mean())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_e49_beats_the_interpolated_ngram_of_equal_order(seed) -> None:
    size, window = 1000, 4
    first, second, counts = real_corpus(150_000, 20_000, size)
    options = {"dim": 50, "hidden": 100, "epochs": 4, "learning_rate": 3e-3, "threads": 1}
    model = train_neural("ngram", lambda: iter([first]), counts, window=window, seed=seed, **options)[1]["model"]
    walks = [Windows(ids, size, kind="ngram", width=window, examples=1000, each=None, seed=0) for ids in (first, second)]
    training, held = (walk.gather(np.arange(len(walk))) for walk in walks)
    with torch.inference_mode():
        neural = evaluate(model, walks[1], {}, CrossEntropy())["loss"]
    counted = interpolated_ngram(training, held, size + 1)
    print(f"seed {seed}: perplexity {np.exp(neural):.1f}, interpolated {np.exp(counted):.1f}")
    assert neural < counted


# E50


def scored(true: list[float], false: list[float]) -> Callable[[Batch], torch.Tensor]:
    """A model that gives these scores to the true and the corrupted windows."""
    return lambda batch: torch.tensor([*true, *false], dtype=torch.float64)


def test_e50_the_loss_is_0_just_where_the_true_window_leads_by_1() -> None:
    loss, batch = WindowRanking(np.ones(9)), batch_of(torch.randint(0, 9, (1, 5)))
    for lead, expected in ((1.0, 0.0), (1.5, 0.0), (0.999, 0.001), (0.0, 1.0), (-2.0, 3.0)):
        assert float(loss(scored([lead], [0.0]), batch)["ranking"].total) == pytest.approx(expected, abs=1e-6)
    batch = batch_of(torch.randint(0, 9, (4, 5)))
    term = loss(scored([2.0, 0.5, 2.0, 0.5], [1.0, 0.0, 0.0, 1.0]), batch)["ranking"]
    assert float(term.total) == pytest.approx(0 + 0.5 + 0 + 1.5)
    assert term.count == loss.counts(batch)["ranking"] == 4


def test_e50_autograd_against_the_closed_form() -> None:
    """s = g(xU + b)·v, g the hard tanh: every gradient of max(0, 1 − s + s′), written out."""
    torch.manual_seed(0)
    model, loss = WindowScorer(size=9, dim=3, width=5, hidden=(8,)).double(), WindowRanking(np.ones(9))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    seen = []
    inputs = torch.randint(0, 9, (20, 5))
    loss(lambda batch: seen.append(batch.inputs) or model(batch), batch_of(inputs))["ranking"].total.backward()
    (both,) = seen
    (layer,) = model.layers
    v, table, bent = model.output.weight[0], model.embedding.weight, 0
    wanted = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    with torch.no_grad():
        for true, false in zip(both[:20], both[20:]):
            hidden = [(layer.weight @ table[words].flatten() + layer.bias) for words in (true, false)]
            scores = [v @ h.clamp(-1, 1) for h in hidden]
            if scores[0] - scores[1] >= 1:
                continue
            for words, h, sign in zip((true, false), hidden, (-1, 1)):
                inside = sign * v * ((h > -1) & (h < 1))
                bent += int((inside == 0).any())
                wanted["output.weight"][0] += sign * h.clamp(-1, 1)
                wanted["layers.0.weight"] += torch.outer(inside, table[words].flatten())
                wanted["layers.0.bias"] += inside
                for word, row in zip(words, (layer.weight.T @ inside).reshape(5, 3)):
                    wanted["embedding.weight"][word] += row
    assert 0 < bent < 40
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad.to_dense(), wanted[name], atol=1e-10, rtol=0)


@pytest.mark.parametrize("weights", [[1.0] * 5, [10.0, 5.0, 2.0, 2.0, 1.0], [0.0, 3.0, 0.0, 1.0, 0.0]])
def test_e50_the_wrong_word_is_another_one_drawn_by_weight(weights) -> None:
    torch.manual_seed(0)
    words, share = torch.arange(5).repeat(20_000), np.array(weights)
    drawn = WindowRanking(weights).other(words)
    assert (drawn != words).all()
    for word in range(5):
        left = share * (np.arange(5) != word)
        expected = left / left.sum()
        found = np.bincount(drawn[words == word], minlength=5) / 20_000
        assert (np.abs(found - expected) <= 4 * np.sqrt(expected * (1 - expected) / 20_000)).all()


def test_e50_only_the_middle_is_replaced() -> None:
    inputs = torch.randint(0, 9, (50, 5))
    seen = []
    WindowRanking(np.ones(9))(lambda batch: seen.append(batch.inputs) or torch.zeros(100), batch_of(inputs))
    differs = seen[0][:50] != seen[0][50:]
    assert differs[:, 2].all() and not differs[:, [0, 1, 3, 4]].any() and (seen[0][:50] == inputs).all()


class Sizes(TorchDispatchMode):
    """Remembers the shape of everything that is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.shapes |= {tuple(one.shape) for one in (out if isinstance(out, tuple | list) else [out]) if torch.is_tensor(one)}
        return out


def test_e50_no_softmax_over_the_vocabulary() -> None:
    """Nothing that a scored window computes is as long as the vocabulary; the n-gram model's logits are."""
    size = 1237
    scorer, ranking, windows = WindowScorer(size=size, dim=3, width=5), WindowRanking(np.ones(size)), torch.randint(0, size, (4, 5))
    with Sizes() as sizes:
        ranking(scorer, batch_of(windows))
    assert sizes.shapes and not any(dim >= size for shape in sizes.shapes for dim in shape)
    ngram, batch = NeuralNgram(size=size, dim=3, context=4), batch_of(torch.randint(0, size, (4, 4)), torch.randint(0, size, (4,)))
    with Sizes() as sizes:
        CrossEntropy()(ngram, batch)
    assert (4, size + 1) in sizes.shapes


# E52


def low_rank(size: int = 12, dim: int = 3, seed: int = 0, dtype: type = np.float32) -> tuple[csr_matrix, Tables]:
    """X = exp(w·w̃ + b + b̃), and the w, w̃, b, b̃ it is built from."""
    random = np.random.default_rng(seed)
    vectors, biases = random.normal(0, 0.7, (2 * size, dim)).astype(dtype), random.normal(0, 0.7, 2 * size).astype(dtype)
    logs = vectors[:size].astype(float) @ vectors[size:].T.astype(float) + biases[:size, None].astype(float) + biases[size:]
    start = np.full_like(vectors, 20.0**2), np.full_like(biases, 20.0**2)
    return csr_matrix(np.exp(logs)), Tables(vectors, biases, *start)


def test_e52_the_objective_entry_by_entry() -> None:
    counts = np.random.default_rng(0).poisson(30, (10, 10)) * (np.random.default_rng(1).random((10, 10)) < 0.5)
    tables = Tables.start(10, 4, 0.05, seed=0)
    expected = 0.0
    for i, j in np.argwhere(counts):
        product = tables.vectors[i] @ tables.vectors[10 + j] + tables.biases[i] + tables.biases[10 + j]
        expected += min((counts[i, j] / 40) ** 0.75, 1) * (product - np.log(counts[i, j])) ** 2
    assert objective(Cells.of(csr_matrix(counts), x_max=40), tables) == pytest.approx(expected, rel=1e-5)
    assert (counts > 40).any() and (counts[counts > 0] < 40).any()  # both branches of f


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 2e-5), (np.float64, 1e-10)])
def test_e52_the_kernel_against_autograd_and_torchs_adagrad(dtype, tolerance) -> None:
    """Cell after cell, the gradient of J/2 by autograd, stepped by torch's AdaGrad: rate 1, accumulators from η⁻² = 400."""
    matrix, _ = low_rank(seed=3)
    _, tables = low_rank(seed=0, dtype=dtype)
    cells = Cells.of(matrix, x_max=2.0)
    cells.what = cells.what.astype(dtype)
    vectors, biases = (torch.nn.Parameter(torch.from_numpy(array.copy())) for array in (tables.vectors, tables.biases))
    rule = torch.optim.Adagrad([vectors, biases], lr=1.0, initial_accumulator_value=400.0, eps=0.0)
    total = 0.0
    for (i, j), (log, weight) in zip(cells.where.tolist(), cells.what.tolist()):
        rule.zero_grad()
        part = weight * (vectors[i] @ vectors[12 + j] + biases[i] + biases[12 + j] - log) ** 2
        (part / 2).backward()
        rule.step()
        total += float(part.detach())
    assert step(cells, tables) == pytest.approx(total, rel=1e-5)
    np.testing.assert_allclose(tables.vectors, vectors.detach().numpy(), atol=tolerance)
    np.testing.assert_allclose(tables.biases, biases.detach().numpy(), atol=tolerance)
    np.testing.assert_allclose(tables.vector_squares, rule.state[vectors]["sum"].numpy(), rtol=tolerance)


def test_e52_the_rate_inside_or_outside_the_accumulators() -> None:
    """The C program's form: accumulators begin at 1 and gather (ηg)², the step is ηg/√V."""
    matrix, _ = low_rank(size=2, seed=3)
    _, tables = low_rank(size=2, dtype=np.float64)
    cells = Cells.of(matrix)
    cells.what = cells.what.astype(np.float64)
    w, b, gw, gb = tables.vectors.copy(), tables.biases.copy(), np.ones_like(tables.vectors), np.ones_like(tables.biases)
    for (i, j), (log, weight) in zip(cells.where.tolist(), cells.what.tolist()):
        slope = 0.05 * weight * (w[i] @ w[2 + j] + b[i] + b[2 + j] - log)
        of_word, of_context = slope * w[2 + j], slope * w[i]
        gw[i], gw[2 + j] = gw[i] + of_word**2, gw[2 + j] + of_context**2
        w[i], w[2 + j] = w[i] - of_word / np.sqrt(gw[i]), w[2 + j] - of_context / np.sqrt(gw[2 + j])
        for row in (i, 2 + j):
            gb[row] += slope**2
            b[row] -= slope / np.sqrt(gb[row])
    step(cells, tables)
    np.testing.assert_allclose(tables.vectors, w, atol=1e-12)
    np.testing.assert_allclose(tables.biases, b, atol=1e-12)


def test_e52_cells_without_counts_contribute_nothing() -> None:
    counts = np.random.default_rng(0).poisson(2, (8, 8)).astype(float)
    counts[3] = counts[:, 3] = 0  # a word that stands alone
    stored = csr_matrix(counts + 1)
    stored.data = stored.data - 1  # zeros that are stored
    assert stored.nnz == 64 > np.count_nonzero(counts)
    (first, one), (second, other) = (fit_glove(matrix, 4, epochs=3) for matrix in (csr_matrix(counts), stored))
    assert one == other and one["cells"] == np.count_nonzero(counts)
    np.testing.assert_array_equal(first.vectors, second.vectors)
    start = Tables.start(8, 4, 0.1, seed=1)
    for row in (3, 8 + 3):
        np.testing.assert_array_equal(first.vectors[row], start.vectors[row])
    assert (first.vectors[[0, 8]] != start.vectors[[0, 8]]).all()


def test_e52_j_is_0_for_a_matrix_built_from_w_and_b() -> None:
    matrix, tables = low_rank()
    before = tables.vectors.copy()
    cells = Cells.of(matrix)
    assert objective(cells, tables) < 1e-9
    step(cells, tables)
    np.testing.assert_allclose(tables.vectors, before, atol=1e-6)
    tables.vectors[0] += 0.1
    assert objective(cells, tables) > 1e-3


def test_e52_training_finds_such_a_matrix() -> None:
    matrix, _ = low_rank(size=30)
    _, info = fit_glove(matrix, 3, epochs=400, learning_rate=0.2, x_max=1.0)
    assert info["losses"][0] > 0.5 and info["loss"] < 1e-3
