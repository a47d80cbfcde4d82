"""How much of the last state depends on an earlier one: `python examples/gradient_through_time.py [FIGURE.svg]`, seconds.

The largest singular value of ∂h_T/∂s_t (E73) in networks that have learnt nothing, over random inputs: s_t is all that a cell carries, (h)
or (h, c). Given a file, it draws what it prints; that needs matplotlib.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

from weft.nn.cells import CELLS

CELLS_SHOWN: dict[str, dict[str, Any]] = {
    "Elman": {"cell": "elman"},
    "GRU": {"cell": "gru"},
    "LSTM, forget bias 1": {"cell": "lstm"},
    "LSTM, forget bias 4": {"cell": "lstm", "forget_bias": 4.0},
    "coupled LSTM, forget bias 4": {"cell": "coupled-lstm", "forget_bias": 4.0},
}
STEPS, UNITS, INPUTS, SEEDS = 100, 32, 16, 5


def norms(cell: str, seed: int, **options: Any) -> Tensor:
    """‖∂h_T/∂s_t‖₂ for t = T − 1, T − 2, …, 0: (T)."""
    torch.manual_seed(seed)
    made = CELLS[cell](input_size=INPUTS, hidden_size=UNITS, **options).double()
    state = tuple(torch.zeros(1, UNITS, dtype=torch.float64).requires_grad_() for _ in range(made.states))
    states = [state]
    for x in torch.randn(STEPS, 1, INPUTS, dtype=torch.float64):
        states.append(made(x, states[-1]))
    parts = [part for state in states[:-1] for part in state]
    eye = torch.eye(UNITS, dtype=torch.float64)[:, None]
    rows = torch.autograd.grad(states[-1][0], parts, eye, is_grads_batched=True)  # of each (H, 1, H)
    jacobians = [torch.cat(rows[k : k + made.states], -1)[:, 0] for k in range(0, len(rows), made.states)]
    return torch.stack([torch.linalg.matrix_norm(jacobian, 2) for jacobian in reversed(jacobians)])


def main(figure: str | None = None) -> dict[str, list[float]]:
    """Per cell the geometric mean over seeds, for 1, 2, …, T steps back."""
    curves = {}
    for name, options in CELLS_SHOWN.items():
        curves[name] = torch.stack([norms(seed=seed, **options) for seed in range(SEEDS)]).log().mean(0).exp().tolist()
        print(f"{name:28}", *(f"{back:3} back: {curves[name][back - 1]:.1e}" for back in (1, 10, 50, STEPS)), sep="  ")
    if figure:
        draw(curves, figure)
    return curves


def draw(curves: dict[str, list[float]], figure: str) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "weft"  # the same bytes each time
    matplotlib.rcParams["svg.fonttype"] = "none"
    _, axes = pyplot.subplots(figsize=(7, 4))
    for name, values in curves.items():
        axes.semilogy(range(1, len(values) + 1), values, label=name)
    axes.set(xlabel="steps back", ylabel="‖∂h_T/∂s_t‖", ylim=(1e-18, 10))
    axes.legend(loc="lower left")
    axes.grid(alpha=0.3)
    pyplot.tight_layout()
    pyplot.savefig(figure, metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:2])
