"""The LSTM family as mathematics: one step, and all steps at once with the derivative worked out by hand.

Gates are written (…, G, H): input, forget, candidate, output; a coupled cell has no input gate, i = 1 − f, and so G = 3.

    i, f = σ(a_i + p_i ⊙ c'), σ(a_f + p_f ⊙ c')        a = W_x x + W_h h' + b, gate by gate
    g    = tanh(a_g + p_g ⊙ c')
    c    = f ⊙ c' + i ⊙ g
    o    = σ(a_o + p_o ⊙ c)      or, where the output gate sees the old cell, σ(a_o + p_o ⊙ c')
    h    = o ⊙ tanh c

Gers et al. (2000); peepholes p: Gers & Schmidhuber (2000); coupled: Greff et al. (2017); E74, E75. PyTorch has a kernel for the case
without peepholes alone. `sweep` is for the others: within it every step is one product and a handful of operations in place, the
backward pass goes through time by the formulas beside it, and the gradients of the weights are one product over all steps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Gradients = tuple[Tensor | None, ...]


def step(gates: Tensor, cell: Tensor, early: Tensor | None = None, late: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """a (B, G, H), c' (B, H) -> h, c (B, H). early (G, H): the peepholes on c'; late (H): the output gate's on c."""
    if early is not None:
        gates = gates + early * cell.unsqueeze(1)
    *write, forget, candidate, read = gates.unbind(1)
    kept = torch.sigmoid(forget)
    taken = torch.sigmoid(write[0]) if write else 1 - kept
    cell = kept * cell + taken * torch.tanh(candidate)
    if late is not None:
        read = read + late * cell
    return torch.sigmoid(read) * torch.tanh(cell), cell


def loop(
    projected: Tensor, weight: Tensor, early: Tensor | None, late: Tensor | None, hidden: Tensor, cell: Tensor, keep: Tensor | None
) -> tuple[Tensor, Tensor]:
    """What `sweep` computes, step by step: its oracle, and its second derivative."""
    states = []
    for entering in projected.unbind(0):
        seen = hidden if keep is None else hidden * keep
        gates = entering + F.linear(seen, weight)
        hidden, cell = step(gates.view(len(hidden), -1, hidden.shape[1]), cell, early, late)
        states.append((hidden, cell))
    hiddens, cells = zip(*states, strict=True)
    return torch.stack(hiddens), torch.stack(cells)


def sweep(
    projected: Tensor, weight: Tensor, early: Tensor | None, late: Tensor | None, hidden: Tensor, cell: Tensor, keep: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """All steps: W_x x + b (T, B, G·H), W_h (G·H, H), peepholes (G, H) and (H), h_0 and c_0 (B, H) -> every h and every c, (T, B, H) each.

    `keep` (B, H) multiplies h' where it enters the product. All are of one dtype; autocast is not looked at.
    """
    if torch.compiler.is_compiling():
        return loop(projected, weight, early, late, hidden, cell, keep)
    hiddens, cells = Sweep.apply(projected, weight, early, late, hidden, cell, keep)  # type: ignore[no-untyped-call]
    return hiddens, cells


class Sweep(torch.autograd.Function):
    """`loop` with its derivative. A second derivative goes through `loop` again."""

    @staticmethod
    def forward(
        context: Any,
        projected: Tensor,
        weight: Tensor,
        early: Tensor | None,
        late: Tensor | None,
        hidden: Tensor,
        cell: Tensor,
        keep: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        shape = (len(projected), *hidden.shape)
        gates = torch.empty_like(projected, memory_format=torch.contiguous_format)  # a, and then what the gates make of it
        hiddens, cells, squashed = (projected.new_empty(shape) for _ in range(3))
        values = gates.view(*shape[:2], -1, shape[2])  # (T, B, G, H)
        context.save_for_backward(projected, weight, early, late, hidden, cell, keep, gates, hiddens, cells, squashed)
        transposed = weight.T
        for time, entering in enumerate(projected.unbind(0)):
            torch.addmm(entering, hidden if keep is None else hidden * keep, transposed, out=gates[time])
            hidden, cell = forwards(values[time], early, late, cell, cells[time], squashed[time], hiddens[time])
        return hiddens, cells

    @staticmethod
    def backward(context: Any, to_hiddens: Tensor, to_cells: Tensor) -> Gradients:
        given, (gates, hiddens, cells, squashed) = context.saved_tensors[:7], context.saved_tensors[7:]
        if torch.is_grad_enabled():  # asked for with create_graph
            return through_the_loop(given, context.needs_input_grad, (to_hiddens, to_cells))
        _, weight, early, late, hidden, cell, keep = given
        seen = torch.cat((hidden[None], hiddens[:-1]))  # h' of every step
        seen = seen if keep is None else seen * keep
        before = torch.cat((cell[None], cells[:-1]))  # c'
        values = gates.view(*hiddens.shape[:2], -1, hiddens.shape[2])
        slopes, from_hidden = local_derivatives(values, before, squashed)
        grads, to_hidden, to_cell = backwards(values, slopes, from_hidden, to_hiddens, to_cells, weight, early, late, keep)
        flat = grads.flatten(0, 1)
        apart = grads.view_as(values)
        return (
            grads,
            flat.T @ seen.flatten(0, 1),
            None if early is None else torch.einsum("tbgh,tbh->gh", apart, before),
            None if late is None else torch.einsum("tbh,tbh->h", apart[:, :, -1], cells),
            to_hidden,
            to_cell,
            None,
        )


def forwards(
    gates: Tensor, early: Tensor | None, late: Tensor | None, before: Tensor, cell: Tensor, squashed: Tensor, hidden: Tensor
) -> tuple[Tensor, Tensor]:
    """`step` in place: a in `gates` (B, G, H) becomes the gates' values; c, tanh c and h go where they are kept."""
    if early is not None:
        gates.addcmul_(early, before.unsqueeze(1))
    candidate, read = gates[:, -2], gates[:, -1]
    gates[:, :-2].sigmoid_()
    candidate.tanh_()
    if gates.shape[1] == 3:
        torch.lerp(candidate, before, gates[:, 0], out=cell)  # (1 − f) ⊙ g + f ⊙ c'
    else:
        torch.mul(gates[:, 1], before, out=cell).addcmul_(gates[:, 0], candidate)
    if late is not None:
        read.addcmul_(late, cell)
    read.sigmoid_()
    return torch.mul(read, torch.tanh(cell, out=squashed), out=hidden), cell


def local_derivatives(values: Tensor, before: Tensor, squashed: Tensor) -> tuple[Tensor, Tensor]:
    """All steps at once: ∂c/∂a of all gates but the last, where ∂h/∂a_o stands (T, B, G, H); and ∂h/∂c with o held (T, B, H)."""
    *write, forget, candidate, read = values.unbind(2)
    slopes = torch.empty_like(values)
    new = before - candidate if not write else before  # what the forget gate lets in more of
    torch.mul(new, forget * (1 - forget), out=slopes[:, :, -3])
    if write:
        torch.mul(candidate, write[0] * (1 - write[0]), out=slopes[:, :, 0])
    torch.mul(write[0] if write else 1 - forget, 1 - candidate * candidate, out=slopes[:, :, -2])
    torch.mul(squashed, read * (1 - read), out=slopes[:, :, -1])
    return slopes, read * (1 - squashed * squashed)


def backwards(
    values: Tensor,
    slopes: Tensor,
    from_hidden: Tensor,
    to_hiddens: Tensor,
    to_cells: Tensor,
    weight: Tensor,
    early: Tensor | None,
    late: Tensor | None,
    keep: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """From the last step to the first: ∂/∂a (T, B, G·H), in the place of `slopes`; ∂/∂h_0 and ∂/∂c_0 (B, H)."""
    grads = slopes.flatten(2)
    to_hidden, to_cell = torch.zeros_like(to_hiddens[0]), torch.zeros_like(to_hiddens[0])
    for time in range(len(values) - 1, -1, -1):
        gates, kept = slopes[time], values[time, :, -3]
        to_hidden += to_hiddens[time]
        to_cell += to_cells[time]
        gates[:, -1].mul_(to_hidden)
        to_cell.addcmul_(to_hidden, from_hidden[time])
        if late is not None:
            to_cell.addcmul_(gates[:, -1], late)
        gates[:, :-1].mul_(to_cell.unsqueeze(1))
        to_cell.mul_(kept)
        if early is not None:
            to_cell += (gates * early).sum(1)
        torch.mm(grads[time], weight, out=to_hidden)
        if keep is not None:
            to_hidden *= keep
    return grads, to_hidden, to_cell


def through_the_loop(given: tuple[Tensor | None, ...], needed: tuple[bool, ...], outer: tuple[Tensor, Tensor]) -> Gradients:
    """The gradients of `sweep` as functions that can be differentiated again."""
    wanted = [tensor for tensor, need in zip(given, needed, strict=True) if need and tensor is not None]
    found = iter(torch.autograd.grad(loop(*given), wanted, outer, create_graph=True, allow_unused=True))  # type: ignore[arg-type]
    return tuple(next(found) if need and tensor is not None else None for tensor, need in zip(given, needed, strict=True))
