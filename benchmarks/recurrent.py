"""Recurrent cells side by side with torch.nn: `python benchmarks/recurrent.py [--rows 32] [--steps 40] [--size 200] [--runs 9] [--quick]`.

Forward and backward, to every weight and to the input, of one layer over rows of one length, fp32. Each of our cells takes turns with
torch.nn's own of its kind (nn.LSTM for all LSTMs, nn.GRU for GRUs, nn.RNN for Elman's), so that a machine that slows down slows both;
a turn is the median of --times passes; a ratio is the median over the turns. The ratio turned over, how often torch's time a
cell takes, is printed below each table. Cells that run step by step are there to show what that costs. Writes --out as JSON.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sides import compared, heading, turns
from torch import nn

from weft.nn.recurrent import Recurrent

SIDES = ("weft", "torch.nn")
CELLS: tuple[tuple[str, Callable[..., nn.Module], dict[str, Any]], ...] = (
    ("LSTM (torch's kernel)", nn.LSTM, {"cell": "lstm"}),
    ("LSTM, variational", nn.LSTM, {"cell": "lstm", "variational": 0.2}),
    ("LSTM, weights dropped", nn.LSTM, {"cell": "lstm", "weight_dropout": 0.2}),
    ("LSTM, peepholes", nn.LSTM, {"cell": "peephole-lstm"}),
    ("LSTM, peepholes everywhere, on the old cell", nn.LSTM, {
        "cell": "peephole-lstm", "peepholes": "input,forget,candidate,output", "output_sees": "old"
    }),
    ("LSTM, coupled", nn.LSTM, {"cell": "coupled-lstm"}),
    ("LSTM, coupled with peepholes", nn.LSTM, {"cell": "coupled-lstm", "peepholes": "forget,output"}),
    ("LSTM, full peepholes (step by step)", nn.LSTM, {"cell": "peephole-lstm", "peepholes": "full"}),
    ("GRU (torch's kernel)", nn.GRU, {"cell": "gru"}),
    ("GRU, z on the candidate (torch's kernel)", nn.GRU, {"cell": "gru", "update": "candidate"}),
    ("GRU, reset before (step by step)", nn.GRU, {"cell": "gru", "reset": "before"}),
    ("Elman, sigmoid (step by step)", nn.RNN, {"cell": "elman", "activation": "sigmoid"}),
)  # fmt: skip


def passes(network: nn.Module, x: torch.Tensor, times: int) -> Callable[[], float]:
    """-> tokens/s of one forward and backward pass, the median of `times`."""

    def measure() -> float:
        seconds = []
        for _ in range(times):
            network.zero_grad()
            x.grad = None
            started = time.perf_counter()
            network(x)[0].sum().backward()
            seconds.append(time.perf_counter() - started)
        return x.shape[0] * x.shape[1] / statistics.median(seconds)

    return measure


def compare(rows: int, steps: int, size: int, runs: int, times: int, threads: int) -> list[dict[str, Any]]:
    """All cells with so many threads."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    x = torch.randn(rows, steps, size, requires_grad=True)
    print(f"\n{threads} thread{'s' * (threads > 1)}: {rows} rows × {steps} steps × {size} units")
    heading(SIDES)
    table = []
    for name, theirs, options in CELLS:
        ours = Recurrent(input_size=size, hidden_size=size, **options)
        both = turns(passes(ours, x, times), passes(theirs(size, size, batch_first=True), x, times), runs)
        row = compared(name, "tokens/s", *both, SIDES)
        table.append({**row, "threads": threads, "times": 1 / row["ratio"]})
    print("\n" + "; ".join(f"{row['what']}: {row['times']:.2f} × torch's time" for row in table))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--size", type=int, default=200)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--quick", action="store_true", help="a small slice: to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/recurrent.json"))
    options = parser.parse_args()
    from weft.compare.summary import machine
    from weft.files import write_json

    rows, steps, size, runs, times = options.rows, options.steps, options.size, options.runs, options.times
    if options.quick:
        rows, steps, size, runs, times = 4, 5, 16, 2, 1
    table = [row for threads in options.threads for row in compare(rows, steps, size, runs, times, threads)]
    write_json(options.out, {"machine": machine("fp32"), "rows": rows, "steps": steps, "size": size, "table": table})
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
