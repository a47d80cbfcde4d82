"""Measured time as lengths grow, for `python benchmarks/seq2seq.py --only cost`: n of the source, m of the target.

Forward passes without gradients, fp32, every part of a network of 256: a GRU encoder with a GRU decoder that has of the source one vector
(n + m); the same decoder with additive attention before every step (n · m); three blocks of self-attention (n²).

An exponent is of the part that grows: seconds less those of a control, which has all the rest of the work and reads as many tokens. The
control of attention attends to the first SHORT positions alone; that of self-attention reads the same tokens as rows of SHORT; without
attention it is the same network at the shortest length. What a control has of the growing part itself, one SHORT-th of it per token, is
made up for by 1 / (1 - short / length). The exponent is the slope of the line through the logarithms, by least squares.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from weft.data.batch import Batch
from weft.models.seq2seq import Seq2Seq, Seq2SeqConfig
from weft.nn.transformer import TransformerEncoder

LENGTHS = (64, 128, 256, 512, 1024)
SHORT = 16
SIZE, TOKENS = 256, 100
NAMES = {"none": "without attention, n + m", "attention": "with attention, n · m", "self": "self-attention, n²"}
Seconds = dict[tuple[int, int], float]  # by (n, m)


def recurrent(attention: str) -> Seq2Seq:
    """A GRU encoder, a GRU decoder with this attention or with the source's vector at every step."""
    half = {"cell": "gru", "hidden_size": SIZE // 2, "bidirectional": True}
    decoder = {"cell": "gru", "hidden_size": SIZE, "attention": attention, "condition": "every" if attention == "none" else "initial"}
    config = Seq2SeqConfig(TOKENS, TOKENS, encoder="recurrent", encoder_settings=half, decoder="recurrent", decoder_settings=decoder,
                           embedding_size=SIZE, pooling="ends")  # fmt: skip
    return Seq2Seq(config).eval()


def passes(model: Seq2Seq, rows: int, n: int, m: int, seen: int | None = None) -> Callable[[], object]:
    """Encodes n tokens, decodes m; of the source's positions the first `seen` are attended to."""
    draw = torch.Generator().manual_seed(0)
    source, target = (torch.randint(1, TOKENS, (rows, length), generator=draw) for length in (n, m))
    batch = Batch(source, torch.ones_like(source, dtype=torch.bool), None, torch.arange(rows))

    def work() -> object:
        encoded = model.encode(batch)
        encoded = encoded._replace(hidden=encoded.hidden[:, :seen], mask=encoded.mask[:, :seen])
        return model.decode(encoded, target).hidden

    return work


def medians(works: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """The median seconds of each, taken in turns; the first turn is not counted."""
    seconds: list[list[float]] = [[] for _ in works]
    with torch.inference_mode():
        for _ in range(repeats + 1):
            for kept, work in zip(seconds, works, strict=True):
                started = time.perf_counter()
                work()
                kept.append(time.perf_counter() - started)
    return [statistics.median(kept[1:]) for kept in seconds]


def measured(lengths: Sequence[int], rows: int, repeats: int) -> tuple[dict[str, Seconds], dict[str, Seconds]]:
    """(seconds, seconds of the controls) of each network; the recurrent ones for all pairs of lengths."""
    whole: dict[str, Seconds] = {name: {} for name in NAMES}
    control: dict[str, Seconds] = {"attention": {}, "self": {}}
    without, additive = recurrent("none"), recurrent("additive")
    blocks = TransformerEncoder(size=SIZE, heads=4, layers=3, inner=4 * SIZE).eval()
    for n, m in itertools.product(lengths, lengths):
        works = [passes(without, rows, n, m), passes(additive, rows, n, m), passes(additive, rows, n, m, SHORT)]
        whole["none"][n, m], whole["attention"][n, m], control["attention"][n, m] = medians(works, repeats)
    for n in lengths:
        x = torch.randn(rows, n, SIZE)
        cut = x.view(-1, SHORT, SIZE)
        masks = [torch.ones(each.shape[:2], dtype=torch.bool) for each in (x, cut)]
        both = medians([lambda x=x, m=masks[0]: blocks(x, m), lambda x=cut, m=masks[1]: blocks(x, m)], repeats)  # type: ignore[misc]
        whole["self"][n, n], control["self"][n, n] = both
    return whole, control


def exponent(lengths: Sequence[int], seconds: Sequence[float]) -> float | None:
    """p of a · length^p, None where less than two points have grown at all."""
    grown = [(math.log(length), math.log(each)) for length, each in zip(lengths, seconds, strict=True) if each > 0]
    points = np.array(grown)
    return float(np.polyfit(points[:, 0], points[:, 1], 1)[0]) if len(grown) > 1 else None


def exponents(whole: Seconds, control: Seconds | None, lengths: Sequence[int]) -> dict[str, float | None]:
    """By the length that grows, n, m or both alike: the exponent of the part that grows; the other length is the longest."""
    first, last = lengths[0], lengths[-1]
    found: dict[str, float | None] = {}
    ways: Mapping[str, Callable[[int], tuple[int, int]]] = {
        "n": lambda length: (length, last), "m": lambda length: (last, length), "n = m": lambda length: (length, length)
    }  # fmt: skip
    for name, at in ways.items():
        if not all(at(length) in whole for length in lengths):
            continue
        if control is None:
            grown = {length: (whole[at(length)] - whole[at(first)]) / (1 - first / length) for length in lengths[1:]}
        else:
            grown = {length: (whole[at(length)] - control[at(length)]) / (1 - SHORT / at(length)[0]) for length in lengths}
        found[name] = exponent(list(grown), list(grown.values()))
    return found


def together(seconds: Seconds, lengths: Sequence[int]) -> float:
    """The share of the time of the longest pair that belongs to neither length by itself: near 0 for n + m, near 1 for n · m."""
    first, last = lengths[0], lengths[-1]
    return (seconds[last, last] - seconds[last, first] - seconds[first, last] + seconds[first, first]) / seconds[last, last]


def cost(lengths: Sequence[int], rows: int, repeats: int) -> dict[str, Any]:
    """The table, printed, with its exponents."""
    if wrong := [length for length in lengths if length <= SHORT or length % SHORT]:
        raise ValueError(f"lengths are multiples of {SHORT} above it, not {wrong[0]}")
    whole, control = measured(lengths, rows, repeats)
    print(f"\n| milliseconds, {rows} rows of n = m tokens | " + " | ".join(map(str, lengths)) + " | exponents of what grows |")
    print("|---|" + "---|" * (len(lengths) + 1))
    fitted = {name: exponents(whole[name], control.get(name), lengths) for name in NAMES}
    for name, title in NAMES.items():
        cells = " | ".join(f"{1000 * whole[name][length, length]:.1f}" for length in lengths)
        print(
            f"| {title} | {cells} | "
            + ", ".join(f"{way}: {'–' if power is None else f'{power:.2f}'}" for way, power in fitted[name].items())
            + " |",
            flush=True,
        )
    shares = {name: together(whole[name], lengths) for name in ("none", "attention")}
    print(f"\nthe share that belongs to neither length alone: {shares['none']:.2f} without attention, {shares['attention']:.2f} with it")
    cells_of = {name: [{"n": n, "m": m, "seconds": each} for (n, m), each in seconds.items()] for name, seconds in whole.items()}
    controls = {name: [{"n": n, "m": m, "seconds": each} for (n, m), each in seconds.items()] for name, seconds in control.items()}
    return {"rows": rows, "short": SHORT, "seconds": cells_of, "controls": controls, "exponents": fitted, "together": shares}
