"""GPT beside nanoGPT and Hugging Face: `python benchmarks/language_model.py [--only training] [--turns 3] [--quick]`.

training: tokens/s of a step, that is loss, gradient, clipping, AdamW, of nanoGPT's two settings for Shakespeare's characters: 4 layers, 4
    heads, 128, blocks of 64, 12 a batch; 6 layers, 6 heads, 384, blocks of 256, 64 a batch. fp32 against fp32, and the best of each: ours
    in bf16 where the processor has it; nanoGPT's the faster of fp32, bf16 and compiled (torch.compile), whose cold seconds stand beside it.
shakespeare: 2,000 steps of the first setting, both in fp32: the loss over the whole last tenth in blocks side by side as training goes on,
    ours at 3e-3, nanoGPT's at its own rate, 1e-3; when each reaches 1.88. Clocks stop while it is measured.
generation: tokens/s of 256 drawn tokens of 6 layers, 6 heads, 384, positions for 512; ours cached, nanoGPT's own generate, which reads all
    anew for every token, and Hugging Face's on GPT2LMHeadModel, cached, with the same weights; and whether greedy answers are the same.
cost: seconds and peak memory a token as rows grow, of GPT (a step of training, and the next token from a cache) and of BERT (a step).

nanoGPT's model.py is its own, of the commit named below: given with --nanogpt, or fetched from where it is published, and known by its
sha256. Where it cannot be had, benchmarks/peers/nanogpt_standin.py, written anew after its description, takes its place and its name. The
peers run in environments of their own and time themselves; the sides take turns, a ratio is the median over them. Writes --out as JSON.
"""

from __future__ import annotations

import argparse
import logging
import math
import statistics
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import language_cost
import numpy as np
import peers
import torch
from sides import compared, heading, told

from weft.compare.summary import machine
from weft.data import datasets
from weft.data.batch import IGNORED, Batch, Batches, StreamBatches
from weft.data.characters import CharacterTokenizer
from weft.data.streams import Streams, joined, strided
from weft.device import Compute, autocast, choose
from weft.estimators.language_network import Endless
from weft.files import atomic_write, cache_folder, sha256
from weft.generation.search import Greedy, Limits, Sample, generate
from weft.losses import NextToken
from weft.models.language_model import LanguageModel, LanguageModelConfig
from weft.training.loop import TrainConfig, evaluate, train

log = logging.getLogger("weft")
PARTS = ("training", "shakespeare", "generation", "cost")
COMMIT = "3adf61e154c3fe3fca428ad6bc3818b27a3b8291"
MODEL_SHA256 = "7c01703240dbec5d554527dc666e35b3df8391d0b117fddc07afcf325a21d11c"
ADDRESS = f"https://raw.githubusercontent.com/karpathy/nanoGPT/{COMMIT}/model.py"
STANDIN = Path(__file__).parent / "peers" / "nanogpt_standin.py"
HOME = "transformers"  # the peers' environment: nanoGPT needs torch alone
WARM = 3  # steps of a training, and tokens of a generation, that are not counted
BAR = 1.88
RATES = {"weft": 3e-3, "nanogpt": 1e-3}


@dataclass(frozen=True)
class Shape:
    """layers × heads × size, over blocks of so many tokens, so many a batch."""

    layers: int
    heads: int
    size: int
    block: int
    batch: int

    def __str__(self) -> str:
        return f"{self.layers} × {self.size}, blocks of {self.block}, {self.batch} a batch"


SMALL, MIDDLE = Shape(4, 4, 128, 64, 12), Shape(6, 6, 384, 256, 64)


@dataclass(frozen=True)
class Sizes:
    """How much is measured. steps: of a training, by shape; shakespeare: steps, and between looks; tokens: generated; lengths: of rows."""

    steps: tuple[tuple[Shape, int], ...] = ((SMALL, 60), (MIDDLE, 4))
    shakespeare: tuple[int, int] = (2000, 250)
    generated: Shape = Shape(6, 6, 384, 512, 1)
    tokens: int = 256
    lengths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    repeats: int = 3


TINY = Shape(1, 2, 16, 16, 4)
QUICK = Sizes(((TINY, 3),), (4, 2), TINY, 12, (16, 32), 1)


def network(shape: Shape, vocabulary: int) -> LanguageModel:
    """Ours of this shape, drawn with seed 1."""
    settings = {
        "hidden_size": shape.size, "layers": shape.layers, "heads": shape.heads, "layer_dropout": 0.0, "positions": "learned",
        "maximum_positions": shape.block,
    }  # fmt: skip
    torch.manual_seed(1)
    return LanguageModel(LanguageModelConfig(vocabulary, encoder_settings=settings, embedding_size=shape.size, residual_std=0.02))


def characters() -> tuple[np.ndarray, np.ndarray, int]:
    """Ids of the training text and of the last tenth, and how many ids there are."""
    splits = datasets.load("tinyshakespeare")
    tokenizer = CharacterTokenizer.train(splits.train.texts)
    train_ids, held = (joined(tokenizer.encode_ids(table.texts), tokenizer.size) for table in (splits.train, splits.dev))
    return train_ids, held, tokenizer.size + 1


def nanogpt(given: Path | None) -> tuple[Path, str]:
    """(its model.py, or what stands in for it; its name in the tables)."""
    place = cache_folder() / "peers" / f"nanogpt-{COMMIT[:8]}.py"
    path = place if given is None else given
    if given is None and not (place.is_file() and sha256(place) == MODEL_SHA256):
        try:
            with urllib.request.urlopen(ADDRESS, timeout=20) as answer:
                content = answer.read()
            place.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(place, "wb") as file:
                file.write(content)
        except (urllib.error.URLError, OSError) as error:
            log.warning("nanoGPT's model.py cannot be fetched (%s): a stand-in takes its place", error)
            return STANDIN, "stand-in for nanoGPT"
    if sha256(path) != MODEL_SHA256:
        raise SystemExit(f"error: {path}: is not nanoGPT's model.py of commit {COMMIT[:8]}")
    return path, "nanoGPT"


def now() -> np.ndarray:
    """(2,): the clock, and the processors' time of this process."""
    return np.array([time.perf_counter(), time.process_time()])


def our_training(ids: np.ndarray, vocabulary: int, shape: Shape, steps: int, compute: Compute) -> np.ndarray:
    """Tokens a second, by the clock and by the processors."""
    times: list[np.ndarray] = []
    config = TrainConfig(steps + WARM, "adamw", RATES["weft"], "constant", weight_decay=0.1)
    batches = StreamBatches(Streams(ids, rows=shape.batch, block=shape.block, seed=1, cut="random"))
    train(network(shape, vocabulary), batches, NextToken(), config, callbacks=[lambda moment: times.append(now())], compute=compute)
    return steps * shape.batch * shape.block / (times[-1] - times[WARM - 1])


def training(
    asked: dict[str, Any], made: tuple[np.ndarray, np.ndarray, int], computes: dict[str, Compute], sizes: Sizes, runs: int, side: str
) -> list[Any]:
    """Rows of both shapes."""
    ids, _, vocabulary = made
    rows, sides = [], ("weft", side)
    heading(sides)
    for shape, steps in sizes.steps:
        request = {
            **asked,
            "what": "training",
            "shape": vars(shape),
            "vocabulary": vocabulary,
            "steps": steps,
            "ids": ids[:100_000].tolist(),
        }
        ours: dict[str, list[np.ndarray]] = {precision: [] for precision in computes}
        theirs: dict[str, list[np.ndarray]] = {}
        answer: dict[str, Any] = {}
        for turn in range(runs + 1):
            found = {precision: our_training(ids, vocabulary, shape, steps, compute) for precision, compute in computes.items()}
            answer = peers.run(HOME, "nanogpt.py", request, threads=computes["fp32"].threads)
            if turn:
                for precision, rate in found.items():
                    ours[precision].append(rate)
                for way, seconds in answer["seconds"].items():
                    theirs.setdefault(way, []).append(steps * shape.batch * shape.block / np.array(seconds))
        own, other = fastest(ours), fastest(theirs)
        for place, unit in enumerate(("tokens/s", "tokens/processor-s")):
            for title, a, b in ((f"{shape}, fp32", "fp32", "fp32"), (f"{shape}, best of each ({own}, {other})", own, other)):
                rows.append(compared(title, unit, [float(r[place]) for r in ours[a]], [float(r[place]) for r in theirs[b]], sides))
        rows.append(told(f"{shape}: parameters", "", count(network(shape, vocabulary)), answer["parameters"], sides))
        rows.append(told(f"{shape}: seconds to compile", "s", 0.0, answer["compiling"], sides))
    return rows


def fastest(rates: dict[str, list[np.ndarray]]) -> str:
    """What has the highest median by the clock."""
    return max(rates, key=lambda name: statistics.median(float(rate[0]) for rate in rates[name]))


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def windows(held: np.ndarray, block: int) -> Batches:
    """The whole of a text in blocks side by side."""
    found = strided(held, window=block, stride=block)
    targets = [np.where(np.arange(len(row)) < first, IGNORED, row) for row, first in zip(found.targets, found.counted_from, strict=True)]
    return Batches(found.inputs, targets=targets, tokens=8192)


def shakespeare(
    asked: dict[str, Any], made: tuple[np.ndarray, np.ndarray, int], compute: Compute, sizes: Sizes, side: str
) -> dict[str, Any]:
    """Both curves: [step, seconds of training, loss], and when each is at the bar."""
    ids, held, vocabulary = made
    shape = sizes.steps[0][0]
    steps, every = sizes.shakespeare
    curve: list[list[float]] = []
    measured, spent, resumed = windows(held, shape.block), 0.0, time.perf_counter()
    model = network(shape, vocabulary)

    def look(moment: Any) -> None:
        nonlocal spent, resumed
        if moment.metrics is None and moment.step % every == 0:
            spent += time.perf_counter() - resumed
            with torch.inference_mode():
                curve.append([moment.step, spent, evaluate(model, measured, {}, NextToken())["loss"]])
            model.train()
            resumed = time.perf_counter()

    config = TrainConfig(steps, "adamw", RATES["weft"], "cosine", warmup=min(100, steps // 2), weight_decay=0.1)
    batches = StreamBatches(Streams(ids, rows=shape.batch, block=shape.block, seed=0, cut="random"))
    train(model, batches, NextToken(), config, callbacks=[look], compute=compute)
    request = {
        **asked, "what": "shakespeare", "shape": vars(shape), "vocabulary": vocabulary, "steps": steps, "every": every,
        "rate": RATES["nanogpt"], "ids": ids.tolist(), "held": held.tolist(),
    }  # fmt: skip
    theirs = peers.run(HOME, "nanogpt.py", request, threads=compute.threads)["curve"]
    sides = ("weft", side)
    heading(sides)
    first, second = (next((seconds for _, seconds, loss in line if loss <= BAR), math.nan) for line in (curve, theirs))
    whole = theirs[-1][1]  # nanoGPT's training time, to the end of which it gets near the bar
    rows = [
        told("loss, whole last tenth", "", curve[-1][2], theirs[-1][2], sides),
        told("seconds of training in all", "s", curve[-1][1], whole, sides),
        told(f"seconds to {BAR}", "s", first, second, sides),
    ]
    if not math.isnan(first):
        print(f"\nours is at {BAR} in {first:.0f} s, 1/{whole / first:.2f} of the {whole:.0f} s of all of {side}'s training")
    return {"curves": {"weft": curve, side: theirs}, "rows": rows}


def our_generation(model: LanguageModel, prompt: np.ndarray, tokens: int, search: Any, compute: Compute) -> tuple[np.ndarray, list[int]]:
    """Tokens a second, by the clock and by the processors, and the tokens."""
    ids = torch.from_numpy(prompt[None].astype(np.int64))
    source = Batch(ids, torch.ones_like(ids, dtype=torch.bool), None, torch.arange(1))
    endless = Endless(model).eval()  # to the peers too the end is a token like others
    with autocast(compute):
        generate(endless, source, search, count=1, limits=Limits(maximum=WARM))
        started = now()
        answer = generate(endless, source, search, count=1, limits=Limits(maximum=tokens))[0][0]
        return tokens / (now() - started), list(answer.ids)


def generation(
    asked: dict[str, Any], made: tuple[np.ndarray, np.ndarray, int], computes: dict[str, Compute], sizes: Sizes, runs: int, side: str
) -> list[Any]:
    """Rows against both peers; their weights are ours."""
    _, held, vocabulary = made
    shape, tokens = sizes.generated, min(sizes.tokens, sizes.generated.block - 2)
    model = network(shape, vocabulary).eval()
    rows = []
    with tempfile.TemporaryDirectory(prefix="weft-language-") as folder:
        weights = Path(folder) / "weights.npz"
        np.savez(weights, **{name: tensor.numpy() for name, tensor in model.state_dict().items()})
        request = {
            **asked, "what": "generation", "shape": vars(shape), "vocabulary": vocabulary, "weights": str(weights), "tokens": tokens,
            "prompt": held[:1].tolist(), "end": model.end_symbol,
        }  # fmt: skip
        for script, name in (("nanogpt.py", side), ("gpt2_generate.py", "Hugging Face generate")):
            sides = ("weft", name)
            heading(sides)
            ours, theirs, answer, own = [], [], {}, [0]
            for turn in range(runs + 1):
                rate, _ = our_generation(model, held[:1], tokens, Sample(temperature=0.8, top_k=50), computes["fp32"])
                answer = peers.run(HOME, script, request, threads=computes["fp32"].threads)
                if turn:
                    ours.append(rate)
                    theirs.append(tokens / np.array(answer["seconds"]))
            _, own = our_generation(model, held[:1], tokens, Greedy(), computes["fp32"])
            title = f"{tokens} tokens, {shape.layers} × {shape.size}"
            for place, unit in enumerate(("tokens/s", "tokens/processor-s")):
                mine, other = ([float(rate[place]) for rate in each] for each in (ours, theirs))
                rows.append(compared(title, unit, mine, other, sides))
            same = statistics.mean(a == b for a, b in zip(own, answer["greedy"], strict=False))
            rows.append(told("greedy tokens that are the same", "%", 100.0, 100 * same, sides))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default=",".join(PARTS), help=f"which of {', '.join(PARTS)}")
    parser.add_argument("--turns", type=int, default=3, help="turns that are counted")
    parser.add_argument("--threads", type=int, default=2, help="all sides'")
    parser.add_argument("--nanogpt", type=Path, help="its model.py, where it is on this machine")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile on nanoGPT's side")
    parser.add_argument("--quick", action="store_true", help="a few steps and tokens, one turn: to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/language_model.json"))
    options = parser.parse_args()
    from weft.files import write_json

    wanted = options.only.split(",")
    if unknown := sorted(set(wanted) - set(PARTS)):
        parser.error(f"--only takes {', '.join(PARTS)}, not {', '.join(unknown)}")
    sizes, runs = (QUICK, 1) if options.quick else (Sizes(), options.turns)
    best = choose("cpu", threads=options.threads)
    computes = {each: choose("cpu", each, options.threads) for each in dict.fromkeys(("fp32", best.precision))}
    path, side = nanogpt(options.nanogpt) if set(wanted) - {"cost"} else (STANDIN, "")
    asked = {"model": str(path), "bf16": best.precision == "bf16", "compile": not options.no_compile and not options.quick}
    results: dict[str, Any] = {
        "machine": {**machine(f"{options.threads} threads"), "torch": torch.__version__, "precision": best.precision},
        "peer": side, "commit": COMMIT,
    }  # fmt: skip
    if set(wanted) - {"cost"}:
        made = characters()
        if options.quick:
            made = (made[0][:2000], made[1][:300], made[2])
        if "training" in wanted:
            results["training"] = training(asked, made, computes, sizes, runs, side)
        if "shakespeare" in wanted:
            results["shakespeare"] = shakespeare(asked, made, computes["fp32"], sizes, side)
        if "generation" in wanted:
            results["generation"] = generation(asked, made, computes, sizes, runs, side)
    if "cost" in wanted:
        results["cost"] = language_cost.cost(sizes.lengths, sizes.repeats, 16 if options.quick else 256)
    write_json(options.out, results)
    print(f"\nwritten to {options.out}")


if __name__ == "__main__":
    main()
