"""Who counts? aⁿbⁿ, learnt for n up to 10, asked up to 30, by LSTMs and GRUs: `python examples/counting.py`, a minute or two.

The network reads a string symbol by symbol and names the next one. How many a come is anybody's guess; but from the first b on all is
settled: n − 1 further b, then the end. A string is right where every one of these is. An LSTM's cell can add one for each a and take one
off for each b (E77); a GRU's state is a mixture that never leaves (−1, 1), and can only pretend, by smaller and smaller differences.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weft.nn import masks
from weft.nn.recurrent import Recurrent

START, A, B, END = range(4)
SEEN, ASKED = 10, 30


class Counter(nn.Module):
    """Symbols (B, T) → scores of the next symbol (B, T, 4)."""

    def __init__(self, cell: str, size: int = 10) -> None:
        super().__init__()
        self.recurrent, self.head = Recurrent(cell=cell, input_size=4, hidden_size=size), nn.Linear(size, 4)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.recurrent(F.one_hot(ids, 4).float(), mask)[0])


def strings(first: int, last: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """aⁿbⁿ for n from first to last: what is read (B, T), what comes next, what is real, and where the next symbol is settled."""
    numbers = torch.arange(first, last + 1)
    rows = [torch.tensor([START] + [A] * n + [B] * n + [END]) for n in numbers.tolist()]
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = masks.from_lengths(2 * numbers + 1, ids.shape[1] - 1)
    read, wanted = ids[:, :-1], ids[:, 1:]
    return read, wanted, mask, mask & (read == B)


def train(cell: str, seed: int, steps: int) -> Counter:
    """All strings up to SEEN at every step; Adam at 0.01, falling to nothing."""
    torch.manual_seed(seed)
    model = Counter(cell)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
    read, wanted, mask, _ = strings(1, SEEN)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(read, mask)[mask], wanted[mask]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.inference_mode()
def right(model: Counter, last: int = ASKED) -> list[bool]:
    """Whether each n from 1 to last is counted right."""
    read, wanted, mask, settled = strings(1, last)
    hit = model(read, mask).argmax(-1) == wanted
    return (hit | ~settled).all(1).tolist()


def main(seeds: int = 5, steps: int = 3000) -> dict[str, list[tuple[int, int, int]]]:
    """Per cell and seed: of the n seen how many are right, of those beyond how many, and up to which n there is no mistake."""
    found: dict[str, list[tuple[int, int, int]]] = {}
    for cell in ("lstm", "gru"):
        for seed in range(seeds):
            good = right(train(cell, seed, steps))
            upto = good.index(False) if False in good else len(good)
            row = (sum(good[:SEEN]), sum(good[SEEN:]), upto)
            found.setdefault(cell, []).append(row)
            said = f"{row[0]:2} of {SEEN} seen lengths right, {row[1]:2} of {ASKED - SEEN} longer ones; no mistake up to n = {upto}"
            print(f"{cell:5} seed {seed}: {said}", flush=True)
    return found


if __name__ == "__main__":
    main()
