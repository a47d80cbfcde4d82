"""EQUATIONS.md, section 10: convolution for text (E58–E61)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from weft.data.tokenizers import train_tokenizer
from weft.nn import masks
from weft.nn.convolution import Convolution1d, Convolutions, receptive_field
from weft.nn.embeddings import TokenEmbedding
from weft.nn.pooling import k_max, max_over_time, max_positions, mean_over_time

F64 = torch.float64


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def close(got: Tensor, expected: Tensor, within: float = 1e-10) -> None:
    torch.testing.assert_close(got, expected, rtol=0, atol=within)


def layer(input_size: int = 3, filters: int = 4, **settings) -> Convolution1d:
    torch.manual_seed(0)
    made = Convolution1d(input_size=input_size, filters=filters, **settings).double()
    torch.nn.init.normal_(made.bias)
    return made


def full(batch: int, steps: int) -> Tensor:
    return torch.ones(batch, steps, dtype=torch.bool)


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_e58_quadruple_loop(width):
    conv, x = layer(width=width, padding="narrow"), randn(2, 7, 3, seed=1)
    y, mask = conv(x, full(2, 7))
    assert y.shape == (2, 7 - width + 1, 4) and mask.all()
    for row in range(2):
        for k in range(4):
            for m in range(7 - width + 1):
                total = conv.bias[k].item()
                for d in range(3):
                    for n in range(width):
                        total += (conv.weight[k, n, d] * x[row, m + n, d]).item()
                assert y[row, m, k].item() == pytest.approx(total, abs=1e-10)


def test_e58_conv1d_and_one_matrix_product_over_windows():
    conv, x = layer(width=4, padding="narrow"), randn(2, 9, 3, seed=1)
    y, _ = conv(x, full(2, 9))
    close(y, F.conv1d(x.mT, conv.weight.mT, conv.bias).mT)
    windows = torch.stack([x[:, m : m + 4].flatten(1) for m in range(6)], dim=1)  # (B, M − h + 1, h·d)
    close(y, windows @ conv.weight.flatten(1).mT + conv.bias)


def test_e59_lengths_and_narrow_inside_wide():
    x = randn(2, 9, 3, seed=1)
    for width in (1, 2, 5, 9):
        narrow, wide, same = (layer(width=width, padding=padding)(x, full(2, 9))[0] for padding in ("narrow", "wide", "same"))
        assert (narrow.shape[1], wide.shape[1], same.shape[1]) == (9 - width + 1, 9 + width - 1, 9)
        close(wide[:, width - 1 : wide.shape[1] - (width - 1)], narrow)
        left = (width - 1) // 2
        close(same, wide[:, width - 1 - left : width - 1 - left + 9])


def test_e59_wide_edges_see_the_text_alone():
    conv, x = layer(width=3, padding="wide"), randn(1, 5, 3, seed=1)
    y, _ = conv(x, full(1, 5))
    close(y[0, 0], conv.bias + conv.weight[:, 2] @ x[0, 0])
    close(y[0, -1], conv.bias + conv.weight[:, 0] @ x[0, -1])


def test_e59_a_text_shorter_than_a_narrow_filter_is_padded_up():
    conv, x = layer(width=5, padding="narrow"), randn(1, 3, 3, seed=1)
    y, mask = conv(x, full(1, 3))
    assert y.shape == (1, 1, 4) and mask.all()
    close(y, conv(F.pad(x, (0, 0, 0, 2)), full(1, 5))[0])


@pytest.mark.parametrize("padding", ["narrow", "wide", "same"])
def test_e60_masked_is_unpadded(padding):
    torch.manual_seed(0)
    convs = Convolutions(input_size=3, filters=4, widths=(2, 3, 4), padding=padding).double()
    lengths = torch.tensor([8, 4, 6])
    x, mask = randn(3, 8, 3, seed=1), masks.from_lengths(lengths, 8)
    for pool in (max_over_time, mean_over_time, lambda h, m: k_max(h, m, 2)):
        pooled = torch.cat([pool(torch.relu(y), shown) for y, shown in convs.apart(x, mask)], dim=1)
        for row, n in enumerate(lengths.tolist()):
            one = convs.apart(x[row : row + 1, :n], full(1, n))
            close(pooled[row], torch.cat([pool(torch.relu(y), shown) for y, shown in one], dim=1)[0])


def test_e60_fixed_size_for_any_length_widths_pooled_apart_and_joined():
    torch.manual_seed(0)
    convs = Convolutions(input_size=3, filters=4, widths=(3, 4, 5)).double()
    for steps in (1, 2, 9, 30):
        x = randn(2, steps, 3, seed=steps)
        y, mask = convs(x, full(2, steps))
        pooled = max_over_time(torch.relu(y), mask)
        assert pooled.shape == (2, 12)
        apart = [max_over_time(torch.relu(part(x, full(2, steps))[0]), full(2, steps)) for part in convs.parts]
        close(pooled, torch.cat(apart, dim=1))


def test_e60_gradients_of_pooling():
    x, lengths = randn(2, 6, 4).requires_grad_(), torch.tensor([6, 3])
    mask = masks.from_lengths(lengths, 6)
    incoming = randn(2, 4, seed=1)
    (of_max,) = torch.autograd.grad(max_over_time(x, mask), x, incoming)
    expected = torch.zeros_like(x)
    for row in range(2):
        for channel in range(4):
            best = int(x[row, : lengths[row], channel].argmax())
            expected[row, best, channel] = incoming[row, channel]
    close(of_max, expected.detach())
    (of_mean,) = torch.autograd.grad(mean_over_time(x, mask), x, incoming)
    close(of_mean, mask.unsqueeze(-1) * (incoming / lengths.unsqueeze(-1)).unsqueeze(1))


TEXTS = ["What is the capital of the Faroe Islands ?", "Who wrote it ?", "Dogs don't bark at night.", "Why"]


@pytest.mark.parametrize("padding", ["narrow", "same", "wide"])
@pytest.mark.parametrize(("width", "stride", "dilation"), [(3, 1, 1), (2, 1, 1), (3, 2, 1), (2, 1, 2)])
def test_e60_the_named_n_gram_alone_gives_the_maximum(padding, width, stride, dilation):
    tokenizer = train_tokenizer("words", TEXTS)
    encodings = [tokenizer.encode(text) for text in TEXTS]
    lengths = torch.tensor([len(encoding) for encoding in encodings])
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(encoding.ids) for encoding in encodings], batch_first=True)
    torch.manual_seed(0)
    embedding = TokenEmbedding(vocabulary_size=tokenizer.size, size=5, std=1.0).double()
    conv = layer(input_size=5, filters=16, width=width, padding=padding, stride=stride, dilation=dilation)
    anywhere = layer(input_size=5, filters=16, width=width, padding="wide", dilation=dilation)
    anywhere.load_state_dict(conv.state_dict())
    y, mask = conv(embedding(ids), masks.from_lengths(lengths, ids.shape[1]))
    pooled, spans = max_over_time(y, mask), conv.provenance(max_positions(y, mask), lengths)
    for row in range(len(TEXTS)):
        for f in range(16):
            start, end = spans[row, f].tolist()
            assert 0 <= start < end <= lengths[row] and end - start <= conv.reach
            alone, shown = anywhere(embedding(ids[row : row + 1, start:end]), full(1, end - start))
            if end - start == conv.reach:  # the whole window stands in the text: the filter laid on it, once
                close(alone[0, conv.reach - 1, f], pooled[row, f])
            else:  # it reached over an end: one of the filter's places over these words alone
                assert (alone[0, shown[0], f] - pooled[row, f]).abs().min() < 1e-10
            named = TEXTS[row][encodings[row].offsets[start][0] : encodings[row].offsets[end - 1][1]]
            assert tokenizer.encode(named).ids == encodings[row].ids[start:end]


def test_e60_provenance_finds_the_planted_n_gram():
    """A filter that answers to "not good" alone names just these two words."""
    texts = ["it was not good at all", "good , not bad", "so not good"]
    tokenizer = train_tokenizer("words", texts)
    encodings = [tokenizer.encode(text) for text in texts]
    lengths = torch.tensor([len(encoding) for encoding in encodings])
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(encoding.ids) for encoding in encodings], batch_first=True)
    x = F.one_hot(ids, tokenizer.size).to(F64)
    conv = layer(input_size=tokenizer.size, filters=1, width=2, padding="narrow")
    with torch.no_grad():
        conv.weight.zero_()
        conv.bias.zero_()
        conv.weight[0, 0, tokenizer.encode("not").ids[0]] = 1.0
        conv.weight[0, 1, tokenizer.encode("good").ids[0]] = 1.0
    y, mask = conv(x, masks.from_lengths(lengths, ids.shape[1]))
    spans = conv.provenance(max_positions(y, mask), lengths)[:, 0].tolist()
    places = [(encodings[row].offsets[start][0], encodings[row].offsets[end - 1][1]) for row, (start, end) in enumerate(spans)]
    assert [text[start:end] for text, (start, end) in zip(texts, places)] == ["not good", "not bad", "not good"]
    assert max_over_time(y, mask).flatten().tolist() == [2.0, 1.0, 2.0]


STACKS = [((1, 1, 1), (1, 1, 1), 7), ((1, 1, 1), (2, 2, 2), 15), ((1, 2, 4), (1, 1, 1), 15), ((1, 1, 1), (3, 3, 3), 27)]


@pytest.mark.parametrize(("dilations", "strides", "expected"), STACKS)
def test_e61_one_output_sees_exactly_its_receptive_field(dilations, strides, expected):
    assert receptive_field((3, 3, 3), dilations, strides) == expected
    x = randn(1, 80, 2).requires_grad_()
    h, mask = x, full(1, 80)
    for dilation, stride in zip(dilations, strides):
        h, mask = layer(input_size=h.shape[2], filters=3, width=3, padding="narrow", dilation=dilation, stride=stride)(h, mask)
    assert mask.all()
    h[0, 1, 0].backward()
    touched = (x.grad[0] != 0).any(1).nonzero().flatten()
    step = torch.tensor(strides).prod().item()
    assert touched.tolist() == list(range(step, step + expected))
