"""EQUATIONS.md, section 5: one-hot vectors, bags, embeddings, concatenation (E31–E34, W4, W5). E35 has its own file."""

from __future__ import annotations

import resource
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from weft.data.datasets import available, load
from weft.data.tokenizers import train_tokenizer
from weft.estimators.baselines import Ngrams
from weft.nn import masks
from weft.nn.convolution import Convolution1d
from weft.nn.embeddings import CountInput, TokenEmbedding, bag, concatenated_windows, hybrid_windows
from weft.nn.pooling import max_over_time

F64 = torch.float64


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def close(got: Tensor, expected: Tensor, within: float = 1e-10) -> None:
    torch.testing.assert_close(got, expected, rtol=0, atol=within)


def one_hot(ids: list[int] | Tensor, size: int) -> Tensor:
    return F.one_hot(torch.as_tensor(ids), size).to(F64)


def counts_layer(weight: Tensor) -> CountInput:
    """Our sparse count input with this weight (V, size)."""
    layer = CountInput(vocabulary_size=weight.shape[0], size=weight.shape[1]).to(weight.dtype)
    layer.weight = nn.Parameter(weight.clone())
    return layer


def test_e31_w5_a_text_is_the_sum_of_its_one_hots():
    assert one_hot([1, 3, 6], 8).sum(0).tolist() == [0, 1, 0, 1, 0, 0, 1, 0]
    identity = counts_layer(torch.eye(8, dtype=F64))
    assert identity(torch.tensor([1, 3, 6]), torch.tensor([0])).tolist() == [[0, 1, 0, 1, 0, 0, 1, 0]]


def test_e31_counts_are_the_matrix_of_one_hots_times_one():
    ids = [2, 5, 2, 0, 2, 5]
    columns = one_hot(ids, 7).mT  # W, one column a word
    counts = columns @ torch.ones(6, dtype=F64)
    assert counts.tolist() == np.bincount(ids, minlength=7).tolist()
    close(counts_layer(torch.eye(7, dtype=F64))(torch.tensor(ids), torch.tensor([0]))[0], counts)
    shuffled = columns[:, torch.tensor([3, 1, 0, 5, 4, 2])]
    close(shuffled.sum(1), counts)  # order is lost in the bag
    assert not torch.equal(shuffled.flatten(), columns.flatten())  # and kept in the concatenation


def test_e31_distinct_words_are_all_equally_far_apart():
    vectors = torch.eye(12, dtype=F64)
    distances = torch.linalg.vector_norm(vectors[:, None] - vectors[None], dim=-1)
    other = ~torch.eye(12, dtype=torch.bool)
    close(distances[other], torch.full((132,), 2.0, dtype=F64).sqrt())  # √2; the notes' 1 is the cosine distance
    close((1 - vectors @ vectors.mT)[other], torch.ones(132, dtype=F64))
    assert (distances[~other] == 0).all()


def test_e31_the_length_is_that_of_the_vocabulary():
    texts = ["the cat saw the cat", "the dog saw"]
    assert Ngrams.learn(texts, size=1).counts(texts).toarray().tolist() == [[2, 0, 1, 2], [0, 1, 1, 1]]


def test_e31_counts_are_never_stored_densely():
    """10⁵ texts of 20 words over 40,000: 8 MB of float32 counts when sparse, 16 GB when dense."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 40_000, (100_000, 20), generator=generator)
    layer = CountInput(vocabulary_size=40_000, size=4)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    hidden = layer(ids.flatten(), torch.arange(100_000) * 20)
    hidden.sum().backward()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (1 if sys.platform == "darwin" else 1024)
    assert grown < 400e6
    torch.testing.assert_close(hidden[7], layer.weight[ids[7]].sum(0))
    words = [f"w{i}" for i in range(40_000)]
    vocabulary = Ngrams(words, [])
    texts = [" ".join(words[i] for i in row) for row in ids[:1000].tolist()]
    counts = vocabulary.counts(texts)
    assert counts.shape == (1000, 40_000)
    assert np.diff(counts.indptr).max() <= 20
    assert counts.sum() == 20_000


def test_e32_w4_lookup():
    embedding = TokenEmbedding(vocabulary_size=3, size=3)
    with torch.no_grad():
        embedding.weight[1:] = torch.tensor([[1, 2.3, 3], [4, 5.1, 6.3]])  # row 0 is padding with us, so that the ids are one more
    assert torch.equal(embedding(torch.tensor([[1, 2, 2]]))[0], torch.tensor([[1, 2.3, 3], [4, 5.1, 6.3], [4, 5.1, 6.3]]))


def test_e32_lookup_is_the_first_layer_on_one_hots():
    ids, direction = torch.tensor([[3, 1, 3], [7, 7, 2]]), randn(2, 3, 4)
    embedding = TokenEmbedding(vocabulary_size=9, size=4).double()
    table = embedding.weight.detach().clone().requires_grad_()
    product = one_hot(ids, 9) @ table  # Eᵀ e_w for each word
    close(embedding(ids).detach(), product.detach())
    (embedding(ids) * direction).sum().backward()
    (product * direction).sum().backward()
    close(embedding.weight.grad, table.grad)
    assert (embedding.weight.grad[[0, 4, 5, 6, 8]] == 0).all()  # absent words
    assert (embedding.weight.grad[[1, 2, 3, 7]] != 0).all()


def test_e32_a_bag_of_words_unit_is_a_weighted_sum_of_embeddings():
    theta, direction = randn(9, 4), randn(2, 4, seed=1)
    layer, texts = counts_layer(theta), [[3, 1, 3, 3], [7, 2]]
    flat, offsets = torch.tensor(texts[0] + texts[1]), torch.tensor([0, 4])
    counts = torch.stack([one_hot(text, 9).sum(0) for text in texts])
    dense, bags = theta.clone().requires_grad_(), theta.clone().requires_grad_()
    expected = counts @ dense
    from_torch = F.embedding_bag(flat, bags, offsets, mode="sum")
    for unit in range(4):  # z_k = Σ_j θ_jk x_j, once in plain Python
        assert expected[0, unit].item() == pytest.approx(3 * theta[3, unit].item() + theta[1, unit].item(), abs=1e-12)
    for other in (expected, from_torch):
        close(layer(flat, offsets).detach(), other.detach())
    for values in (layer(flat, offsets), expected, from_torch):
        (values * direction).sum().backward()
    close(layer.weight.grad, dense.grad)
    close(bags.grad, dense.grad)
    assert (layer.weight.grad[[0, 4, 5, 6, 8]] == 0).all()


def test_e32_dense_vectors_share_strength_between_similar_words():
    """Two meanings, 40 words each, one word a text; half of the words are in training, the others in the test."""
    rng = np.random.default_rng(0)
    meaning = np.repeat([0, 1], 40)
    dense = rng.normal(size=(2, 10))[meaning] + 0.5 * rng.normal(size=(80, 10))
    seen = rng.permutation(80) < 40
    one_hots = np.eye(80)
    scores = {
        name: LogisticRegression().fit(x[seen], meaning[seen]).score(x[~seen], meaning[~seen])
        for name, x in (("dense", dense), ("one-hot", one_hots))
    }
    frequent = max(np.bincount(meaning[~seen])) / (~seen).sum()
    assert scores["dense"] >= 0.95
    assert scores["one-hot"] <= frequent  # it has never seen a feature of the test


def test_e33_a_linear_layer_on_a_concatenation_is_a_sum_of_layers():
    x, weight = randn(2, 5, 3), randn(4, 9, seed=1)
    mask = torch.ones(2, 5, dtype=torch.bool)
    windows = concatenated_windows(x, mask, left=1, right=1)
    padded = F.pad(x, (0, 0, 1, 1))
    parts = weight.chunk(3, dim=1)  # W_i, one for each place
    close(windows @ weight.mT, sum(padded[:, i : i + 5] @ part.mT for i, part in enumerate(parts)))
    same = torch.cat([parts[0]] * 3, dim=1)  # W_i = W: summation
    close(windows @ same.mT, (padded[:, :5] + padded[:, 1:6] + padded[:, 2:7]) @ parts[0].mT)


def test_e33_sizes_may_differ_in_a_concatenation():
    words, tags = randn(4, 3), randn(4, 2, seed=1)
    weight = randn(6, 5, seed=2)
    close(torch.cat([words, tags], 1) @ weight.mT, words @ weight[:, :3].mT + tags @ weight[:, 3:].mT)


def test_e33_permutations_change_the_concatenation_only():
    x, mask, order = randn(1, 5, 3), torch.ones(1, 5, dtype=torch.bool), torch.tensor([4, 2, 0, 1, 3])
    close(bag(x[:, order], mask), bag(x, mask))
    assert (x[:, order].flatten(1) - x.flatten(1)).abs().max() > 0.1
    window = concatenated_windows(x, mask, left=2, right=2)[:, 2]  # the whole text
    close(window, x.flatten(1))
    assert (concatenated_windows(x[:, order], mask, left=2, right=2)[:, 2] - window).abs().max() > 0.1


def test_e33_in_the_hybrid_far_words_may_swap_and_near_ones_not():
    x, mask, centre = randn(1, 9, 3), torch.ones(1, 9, dtype=torch.bool), 4

    def after_swap(a: int, b: int) -> Tensor:
        order = torch.arange(9)
        order[a], order[b] = b, a
        return hybrid_windows(x[:, order], mask, near=1, far=4)[0, centre]

    before = hybrid_windows(x, mask, near=1, far=4)[0, centre]
    close(before, torch.cat([x[0, 3], x[0, 4], x[0, 5], x[0, [0, 1, 2, 6, 7, 8]].sum(0)]))
    close(after_swap(0, 2), before)
    close(after_swap(1, 8), before)
    assert (after_swap(3, 5) - before).abs().max() > 0.1
    assert (after_swap(2, 3) - before).abs().max() > 0.1  # a far one with a near one


class Reader(nn.Module):
    """Questions (B, T) -> logits, by one of the ways to join vectors without recurrence."""

    def __init__(self, kind: str, words: int, classes: int, size: int = 24) -> None:
        super().__init__()
        self.kind, self.embedding = kind, TokenEmbedding(vocabulary_size=words, size=size, std=0.3)
        inputs = {"bag": size, "concatenation": 10 * size, "window": 5 * size, "hybrid": 4 * size, "convolution": 64}[kind]
        self.hidden = nn.Linear(inputs, 64)
        self.convolution = Convolution1d(input_size=size, filters=64, width=3)
        self.last = nn.Linear(64, classes)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.embedding(ids)
        if self.kind == "bag":
            return self.last(torch.relu(self.hidden(bag(x, mask))))
        if self.kind == "concatenation":
            return self.last(torch.relu(self.hidden(x[:, :10].flatten(1))))
        if self.kind == "convolution":
            h, mask = self.convolution(x, mask)
        elif self.kind == "window":
            h = self.hidden(concatenated_windows(x, mask, left=2, right=2))
        else:
            h = self.hidden(hybrid_windows(x, mask, near=1, far=4))
        return self.last(max_over_time(torch.relu(h), mask))


@pytest.fixture(scope="module")
def questions() -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
    if available("trec") is None:
        pytest.skip("the TREC questions are not at hand")
    splits = load("trec")
    tokenizer = train_tokenizer("words", splits.train.texts, minimum_count=2)
    classes = {name: k for k, name in enumerate(splits.train.classes)}

    def tensors(table, rows: int) -> tuple[Tensor, Tensor, Tensor]:
        encoded = [torch.from_numpy(row[:20].astype(np.int64)) for row in tokenizer.encode_ids(table.texts[:rows])]
        ids = nn.utils.rnn.pad_sequence([*encoded, torch.zeros(20, dtype=torch.int64)], batch_first=True)[:-1]
        labels = torch.tensor([classes[label] for label in table.labels[:rows]])
        return ids, masks.from_lengths(torch.tensor([len(row) for row in encoded]), 20), labels

    return tensors(splits.train, 2500), tensors(splits.dev, 545)


@pytest.mark.parametrize("kind", ["bag", "concatenation", "window", "hybrid", "convolution"])
def test_e33_every_way_beats_the_majority_class_on_real_questions(kind, questions):
    (ids, mask, labels), (dev_ids, dev_mask, dev_labels) = questions
    majority = (dev_labels == labels.bincount().argmax()).float().mean().item()
    scores = []
    for seed in range(5):
        torch.manual_seed(seed)
        model = Reader(kind, int(max(ids.max(), dev_ids.max())) + 1, 6)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for rows in torch.randperm(len(ids)).split(100):
            optimizer.zero_grad()
            F.cross_entropy(model(ids[rows], mask[rows]), labels[rows]).backward()
            optimizer.step()
        with torch.inference_mode():
            scores.append((model(dev_ids, dev_mask).argmax(1) == dev_labels).float().mean().item())
    print(f"{kind}: {np.mean(scores):.3f} ± {np.std(scores, ddof=1):.3f}, majority {majority:.3f}")
    assert min(scores) > majority + 0.1


def test_e34_equal_weights_give_the_plain_bag():
    x, mask = randn(3, 6, 4), masks.from_lengths(torch.tensor([6, 2, 5]), 6)
    close(bag(x, mask, torch.full((3, 6), 0.7, dtype=F64)), bag(x, mask))
    for row, n in enumerate((6, 2, 5)):
        close(bag(x, mask)[row], x[row, :n].sum(0) / n)


def test_e34_whole_weights_repeat_the_items():
    x, mask, times = randn(1, 4, 3), torch.ones(1, 4, dtype=torch.bool), torch.tensor([3, 0, 1, 2])
    repeated = x[0].repeat_interleave(times, dim=0).unsqueeze(0)
    close(bag(x, mask, times.unsqueeze(0)), bag(repeated, torch.ones(1, 6, dtype=torch.bool)))


def test_e34_padding_changes_nothing():
    x, mask, weights = randn(2, 5, 3), torch.ones(2, 5, dtype=torch.bool), randn(2, 5, seed=1).abs()
    garbage = torch.cat([x, torch.full((2, 4, 3), torch.nan, dtype=F64)], 1)
    longer = F.pad(mask, (0, 4))
    close(bag(garbage, longer), bag(x, mask))
    close(bag(garbage, longer, F.pad(weights, (0, 4), value=9.0)), bag(x, mask, weights))


def test_e34_an_empty_bag_is_zero_and_weights_that_cancel_an_error():
    x, mask = randn(2, 3, 4), torch.tensor([[True, True, True], [False, False, False]])
    assert (bag(x, mask)[1] == 0).all()
    assert (bag(x, mask, torch.ones(2, 3, dtype=F64))[1] == 0).all()
    with pytest.raises(ValueError, match="sum to 0"):
        bag(x, mask, torch.tensor([[1.0, -1.0, 0.0], [1.0, 1.0, 1.0]], dtype=F64))
