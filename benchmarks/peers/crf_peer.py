"""pytorch-crf's loss with its gradient, and decoding, timed: `python crf_peer.py request.json answer.json`, in an environment of its own.

Request: made (an .npz: logits (B, T, K), tags, lengths, transitions, start, end), repeats, threads, numbers (whether results are told,
too). Answer: the median seconds, by the clock and of the processor, of a loss with its gradient and of decoding a batch; of the first of
each, the losses' sum, the gradients of logits and transitions, the decoded tags, where they are asked for; versions.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchcrf import CRF


def median_seconds(work: Callable[[], object], repeats: int) -> list[float]:
    """Of one call, by the clock and of the processor, after two that are not counted."""
    clock, processor = [], []
    for _ in range(repeats + 2):
        started, begun = time.perf_counter(), time.process_time()
        work()
        clock.append(time.perf_counter() - started)
        processor.append(time.process_time() - begun)
    return [statistics.median(clock[2:]), statistics.median(processor[2:])]


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Both parts."""
    torch.set_num_threads(request["threads"])
    with np.load(request["made"]) as made:
        arrays = {name: torch.from_numpy(made[name]) for name in made.files}
    model = CRF(arrays["logits"].shape[-1], batch_first=True)
    with torch.no_grad():
        model.transitions.copy_(arrays["transitions"])
        model.start_transitions.copy_(arrays["start"])
        model.end_transitions.copy_(arrays["end"])
    logits, tags = arrays["logits"].requires_grad_(), arrays["tags"]
    mask = torch.arange(logits.shape[1]) < arrays["lengths"][:, None]

    def train() -> torch.Tensor:
        logits.grad = None
        model.zero_grad(set_to_none=True)
        loss: torch.Tensor = -model(logits, tags, mask=mask, reduction="sum")
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def decode() -> list[list[int]]:
        with torch.no_grad():
            found: list[list[int]] = model.decode(logits, mask=mask)
        return found

    answer: dict[str, Any] = {}
    if request["numbers"]:
        loss = float(train())
        assert logits.grad is not None
        answer = {"loss": loss, "logits": logits.grad.tolist(), "transitions": model.transitions.grad.tolist(), "tags": decode()}
    return {**answer, "train": median_seconds(train, request["repeats"]), "decode": median_seconds(decode, request["repeats"])}


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    versions = {name: metadata.version(name) for name in ("pytorch-crf", "torch")} | {"python": sys.version.split()[0]}
    Path(sys.argv[2]).write_text(json.dumps({**measure(request), "versions": versions}), encoding="utf-8")


if __name__ == "__main__":
    main()
