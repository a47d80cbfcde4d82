"""Two sides of a comparison: they take turns, so that a machine that slows down slows both; a ratio is the median over the turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any


def turns(first: Callable[[], float], second: Callable[[], float], runs: int) -> tuple[list[float], list[float]]:
    """What two measurements give when they take turns; the first turn warms up and is not counted."""
    pairs = [(first(), second()) for _ in range(runs + 1)][1:]
    return [a for a, _ in pairs], [b for _, b in pairs]


def compared(name: str, unit: str, ours: list[float], theirs: list[float], sides: tuple[str, str]) -> dict[str, Any]:
    """A row: the median of each side and of the ratio ours/theirs over the turns, with its range. More is better."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    row = {
        "what": name, "unit": unit, "sides": list(sides), "first": statistics.median(ours), "second": statistics.median(theirs),
        "ratio": statistics.median(ratios), "least": min(ratios), "most": max(ratios),
    }  # fmt: skip
    print(
        f"| {name} | {unit} | {row['first']:,.0f} | {row['second']:,.0f} | {row['ratio']:.2f} ({row['least']:.2f}–{row['most']:.2f}) |",
        flush=True,
    )
    return row


def told(name: str, unit: str, ours: float, theirs: float, sides: tuple[str, str]) -> dict[str, Any]:
    """A row of two numbers that are measured once, or are no speeds: no ratio."""
    print(f"| {name} | {unit} | {ours:.2f} | {theirs:.2f} | |", flush=True)
    return {"what": name, "unit": unit, "sides": list(sides), "first": ours, "second": theirs}


def heading(sides: tuple[str, str]) -> None:
    print(f"\n| what | unit | {sides[0]} | {sides[1]} | ratio (least–most) |\n|---|---|---|---|---|")
