"""The conditional random field beside pytorch-crf 0.7.2: `python benchmarks/crf.py [--runs 5] [--threads 2] [--quick]`.

Loss with its gradient (of logits, transitions, start, end), and decoding, of a batch of 32 sentences with 17 and 50 tags: all of 40
tokens, and ragged, of 1 to 80. Both sides get the same numbers, float32, and the same number of threads, and build the loss anew at
every call, as training does. A turn is the median over --repeats calls, in a process of its own that times itself; the sides take turns
(A B A B …), a ratio X
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SIDES = ("weft", "pytorch-crf")
SENTENCES, TOKENS, TAGS = 32, 40, (17, 50)
PARTS = (("loss and gradient", "train"), ("Viterbi", "decode"))


def median_seconds(work: Callable[[], object], repeats: int) -> list[float]:
    """Of one call, by the clock and of the processor, after two that are not counted (kernels are compiled or read)."""
    clock, processor = [], []
    for _ in range(repeats + 2):
        started, begun = time.perf_counter(), time.process_time()
        work()
        clock.append(time.perf_counter() - started)
        processor.append(time.process_time() - begun)
    return [statistics.median(clock[2:]), statistics.median(processor[2:])]


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Our side: both parts, and the results where they are asked for."""
    import torch

    from weft.nn.crf import CRF, Emissions, chain_loss, viterbi

    torch.set_num_threads(request["threads"])
    with np.load(request["made"]) as made:
        arrays = {name: torch.from_numpy(made[name]) for name in made.files}
    model = CRF(labels=arrays["logits"].shape[-1])
    with torch.no_grad():
        for name, weights in model.named_parameters():
            weights.copy_(arrays[name])
    logits, tags = arrays["logits"].requires_grad_(), arrays["tags"]
    mask = torch.arange(logits.shape[1]) < arrays["lengths"][:, None]

    def train() -> torch.Tensor:
        logits.grad = None
        model.zero_grad(set_to_none=True)
        loss = chain_loss(Emissions(logits, mask, model.chain()), tags).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def decode() -> list[list[int]]:  # lists, as the peer gives them
        with torch.no_grad():
            found = viterbi(Emissions(logits, mask, model.chain()))[0]
        return [row[:length] for row, length in zip(found.tolist(), arrays["lengths"].tolist(), strict=True)]

    answer: dict[str, Any] = {}
    if request["numbers"]:
        loss = float(train())
        assert logits.grad is not None
        assert model.transitions.grad is not None
        answer = {"loss": loss, "logits": logits.grad.tolist(), "transitions": model.transitions.grad.tolist(), "tags": decode()}
    return {**answer, "train": median_seconds(train, request["repeats"]), "decode": median_seconds(decode, request["repeats"])}


def our_turn(request: dict[str, Any], folder: Path, threads: int) -> dict[str, Any]:
    """The same in a process of its own, with so many threads."""
    from weft.files import read_json, write_json

    asked, answered = folder / "request.json", folder / "answer.json"
    write_json(asked, {**request, "threads": threads}, indent=None)
    command = [sys.executable, __file__, "--measure", str(asked), str(answered)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    return dict(read_json(answered))


def make(path: Path, tags: int, ragged: bool) -> int:
    """Logits, gold tags and weights as a trained tagger might have them, into a file; how many tokens they are."""
    draw = np.random.default_rng(tags)
    lengths = draw.integers(1, 2 * TOKENS + 1, SENTENCES) if ragged else np.full(SENTENCES, TOKENS)
    lengths[0] = max(lengths[0], 2)
    longest = int(lengths.max())
    weights = {"transitions": draw.normal(size=(tags, tags)), "start": draw.normal(size=tags), "end": draw.normal(size=tags)}
    logits = 3 * draw.normal(size=(SENTENCES, longest, tags))
    gold = draw.integers(0, tags, (SENTENCES, longest))
    numbers = {name: array.astype(np.float32) for name, array in {**weights, "logits": logits}.items()}
    np.savez(path, tags=gold, lengths=lengths, **numbers)  # type: ignore[arg-type]
    return int(lengths.sum())


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, float]:
    """The largest, of the loss relative to it, of gradients, and how many sentences are decoded otherwise."""
    found = {"loss": abs(ours["loss"] / theirs["loss"] - 1)}
    for name in ("logits", "transitions"):
        found[name] = float(np.abs(np.array(ours[name]) - np.array(theirs[name])).max())
    found["decoded"] = sum(a != b for a, b in zip(ours["tags"], theirs["tags"], strict=True))
    return found


def compare(runs: int, threads: int, repeats: int) -> dict[str, Any]:
    """The turns, and their table."""
    import peers
    from sides import compared, heading

    peers.environment("pytorch-crf")
    heading(SIDES)
    table, apart, versions = [], {}, {}
    with tempfile.TemporaryDirectory(prefix="weft-crf-") as name:
        folder = Path(name)
        for tags in TAGS:
            for ragged in (False, True):
                what = f"{tags} tags, {SENTENCES} × {f'1 to {2 * TOKENS}' if ragged else TOKENS} tokens"
                tokens = make(folder / "made.npz", tags, ragged)
                both = []
                for turn in range(runs + 1):  # the first warms up, and its results are compared
                    request = {"made": str(folder / "made.npz"), "repeats": repeats, "numbers": not turn}
                    both.append((our_turn(request, folder, threads), peers.run("pytorch-crf", "crf_peer.py", request, threads=threads)))
                apart[what], versions = differences(*both[0]), both[0][1]["versions"]
                for part, key in PARTS:
                    for place, unit in enumerate(("tokens/s", "tokens/processor-s")):
                        ours, theirs = ([tokens / pair[k][key][place] for pair in both[1:]] for k in range(2))
                        table.append(compared(f"{what}: {part}", unit, ours, theirs, SIDES))
    print("\nlargest differences:")
    for what, found in apart.items():
        print(
            f"{what}: loss {found['loss']:.1e} of itself, gradient of logits {found['logits']:.1e}, of transitions "
            f"{found['transitions']:.1e}, {found['decoded']:.0f} of {SENTENCES} sentences decoded otherwise"
        )
    return {"table": table, "differences": apart, "versions": versions}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--quick", action="store_true", help="three calls a turn: to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/crf.json"))
    parser.add_argument("--measure", nargs=2, metavar=("REQUEST", "ANSWER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        answer = measure(json.loads(Path(options.measure[0]).read_text(encoding="utf-8")))
        Path(options.measure[1]).write_text(json.dumps(answer), encoding="utf-8")
        return
    from weft.compare.summary import machine
    from weft.files import write_json

    results = compare(options.runs, options.threads, 3 if options.quick else options.repeats)
    write_json(options.out, {"machine": machine(f"{options.threads} threads"), **results})
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
