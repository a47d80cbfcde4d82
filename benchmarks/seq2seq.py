"""Sequence to sequence beside JoeyNMT 2.3 and Hugging Face: `python benchmarks/seq2seq.py [--only decoding] [--turns 3] [--quick]`.

One network on all sides, with the same weights: a Transformer of 3 + 3 post-norm blocks of 256, 4 heads, 1024 inside, one table of
embeddings for both sides and the output, dropout 0.1, over one BPE of 8,000 of Multi30k (English to German); its first steps are trained
here, so that answers have the lengths of captions (--keep: where these weights are kept, and taken from).

training: target tokens/s of a step, that is loss (label smoothing 0.1), gradient, clipping, Adam; 64 pairs a batch, fp32, the very same
    pairs. "best": ours in length buckets, in bf16 where the processor has it; JoeyNMT's in the precision that is its faster one.
decoding: sentences/s of a beam of 4, from padded ids to ids, in the same batches; JoeyNMT's own beam search, and `generate` on a
    MarianMTModel. Length penalties are 1 everywhere, though what they are differs; how many answers are the same is told.
cache: ours, 200 tokens a source, greedily: keys and values kept against the whole target read anew for every token.
cost: seconds as lengths grow, and the exponents of what grows (growth.py).

The peers run in environments of their own and time themselves; the sides take turns, a ratio is the median over them. Processor seconds
stand beside the clock's, for machines that are busy. Start-up (imports) is told apart. Writes --out as JSON.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import growth
import numpy as np
import peers
import torch
from sides import compared, heading, told, turns
from torch import Tensor

from weft.compare.summary import machine
from weft.data import datasets
from weft.data.batch import Batch, Batches, pad
from weft.data.tokenizers import train_tokenizer
from weft.device import Compute, autocast, choose
from weft.generation.search import Beam, Greedy, Limits, generate
from weft.losses import TargetLoss
from weft.models.decoders import Encoded, Step
from weft.models.seq2seq import Seq2Seq, Seq2SeqConfig
from weft.nn.positions import sinusoidal
from weft.training.loop import TrainConfig, train

PARTS = ("training", "decoding", "cache", "cost")
SIDES = {"joeynmt": ("weft", "JoeyNMT 2.3"), "marian": ("weft", "Hugging Face generate")}
SHAPE = {"layers": 3, "size": 256, "heads": 4, "inner": 1024}
VOCABULARY, WIDTH, CACHED = 8000, 4, 200
DROPOUT, SMOOTHING, RATE, CLIP = 0.1, 0.1, 5e-4, 1.0
WARM_STEPS = 3  # of a training, not counted
POSITIONS = 512  # that Marian is given
UNITS = ("{}/s", "{}/processor-s")
Rows = list[list[int]]


@dataclass(frozen=True)
class Sizes:
    """How much is measured. steps: counted in a training; first: that the weights are trained; pairs: of a step; sentences: decoded, in
    batches of `beam`; cached: how many sources at a time; lengths, repeats: of growth.py.
    """

    pairs: int = 64
    steps: int = 60
    first: int = 600
    sentences: int = 400
    beam: int = 32
    cached: tuple[int, ...] = (1, 16)
    lengths: tuple[int, ...] = growth.LENGTHS
    repeats: int = 5


QUICK = Sizes(pairs=4, steps=2, first=3, sentences=6, beam=3, cached=(2,), lengths=(32, 64), repeats=1)


class Corpus(NamedTuple):
    """Ids: sources and targets to learn from, each target with the end symbol; sources to decode, the shortest first; how many tokens."""

    sources: list[np.ndarray]
    targets: list[np.ndarray]
    test: list[np.ndarray]
    tokens: int


def corpus(sentences: int, limit: int | None) -> Corpus:
    splits = datasets.load("multi30k")
    assert splits.test is not None
    pairs = splits.train.examples[:limit]
    sources, targets = [pair.text for pair in pairs], [str(pair.label) for pair in pairs]
    tokenizer = train_tokenizer("bpe", [*sources, *targets], maximum_size=VOCABULARY)
    ids = [np.append(row, tokenizer.size).astype(np.int64) for row in tokenizer.encode_ids(targets)]
    test = tokenizer.encode_ids([pair.text for pair in splits.test.examples[:sentences]])
    return Corpus(tokenizer.encode_ids(sources), ids, sorted(test, key=len), tokenizer.size)


def network(tokens: int) -> Seq2Seq:
    """Ours, drawn with seed 1. The output's bias, which the peers have not, stays zero."""
    blocks = {
        "hidden_size": SHAPE["size"], "layers": SHAPE["layers"], "heads": SHAPE["heads"], "inner": SHAPE["inner"],
        "layer_dropout": DROPOUT, "norm": "post", "positions": "sinusoidal", "activation": "relu",
    }  # fmt: skip
    torch.manual_seed(1)
    config = Seq2SeqConfig(
        tokens, tokens, encoder="transformer", encoder_settings=blocks, decoder="transformer", decoder_settings=blocks, tied="all",
        embedding_size=SHAPE["size"], embedding_std=SHAPE["size"] ** -0.5, embedding_scale=SHAPE["size"] ** 0.5, dropout=0.0,
    )  # fmt: skip
    model = Seq2Seq(config)
    model.bias.requires_grad_(False)
    return model


def trained(made: Corpus, compute: Compute, sizes: Sizes, keep: Path | None) -> Seq2Seq:
    """The network after its first steps, or with the weights that are kept."""
    model = network(made.tokens)
    if keep is not None and keep.exists():
        with np.load(keep, allow_pickle=False) as file:
            model.load_state_dict({name: torch.from_numpy(file[name]) for name in file.files})
        return model.eval()
    config = TrainConfig(sizes.first, "adam", 2 * RATE, "linear", warmup=0.2, clip=CLIP)
    train(model, batches(made, sizes.pairs, bucketed=True), TargetLoss(SMOOTHING), config, compute=compute)
    if keep is not None:
        saved(model, keep)
    return model.eval()


def saved(model: Seq2Seq, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{name: tensor.numpy() for name, tensor in model.state_dict().items()})
    return path


def batches(made: Corpus, pairs: int, bucketed: bool) -> Batches:
    return Batches(made.sources, pairs=made.targets, examples=pairs, seed=1, bucketed=bucketed)


def ordered(given: Batches, steps: int) -> list[np.ndarray]:
    """Which pairs each of the first steps has."""

    def endless() -> Iterator[np.ndarray]:
        for epoch in itertools.count():
            yield from given.order(epoch)

    return list(itertools.islice(endless(), steps))


def now() -> np.ndarray:
    """(2,): the clock, and the processors' time of this process."""
    return np.array([time.perf_counter(), time.process_time()])


def our_training(made: Corpus, model: Seq2Seq, compute: Compute, sizes: Sizes, bucketed: bool) -> np.ndarray:
    """Target tokens a second, by the clock and by the processors."""
    given, steps = batches(made, sizes.pairs, bucketed), sizes.steps + WARM_STEPS
    counts = [sum(len(made.targets[i]) for i in index) for index in ordered(given, steps)]
    times: list[np.ndarray] = []
    config = TrainConfig(steps, "adam", RATE, "constant", clip=CLIP)
    train(copy.deepcopy(model), given, TargetLoss(SMOOTHING), config, callbacks=[lambda moment: times.append(now())], compute=compute)
    return sum(counts[WARM_STEPS:]) / (times[-1] - times[WARM_STEPS - 1])


def their_rate(answer: dict[str, Any]) -> np.ndarray:
    """The same of JoeyNMT's answer."""
    return sum(answer["tokens"][WARM_STEPS:]) / np.sum(answer["seconds"][WARM_STEPS:], 0)


def sources(made: Corpus, size: int) -> tuple[list[list[np.ndarray]], list[int]]:
    """Batches of the sources to decode, and how many tokens the answers of each may have: twice the longest source's and ten."""
    found = [made.test[start : start + size] for start in range(0, len(made.test), size)]
    return found, [2 * max(map(len, batch)) + 10 for batch in found]


def our_decoding(made: Corpus, model: Seq2Seq, compute: Compute, size: int) -> tuple[np.ndarray, Rows]:
    """Sentences a second, by the clock and by the processors, and the answers."""
    rows, maxima = sources(made, size)
    ready = [pad(batch, np.arange(len(batch))) for batch in rows]
    beam = Beam(WIDTH, length_penalty=1.0)

    def answered(batch: Batch, most: int) -> Rows:
        limits = Limits(maximum=most, forbidden=(0,))
        return [list(found[0].ids) for found in generate(model, batch, beam, count=len(batch), limits=limits)]

    with torch.inference_mode(), autocast(compute):
        answered(ready[0], maxima[0])
        started = now()
        answers = [answer for batch, most in zip(ready, maxima, strict=True) for answer in answered(batch, most)]
        return len(answers) / (now() - started), answers


def asked(made: Corpus, wanted: Sequence[str], sizes: Sizes, precisions: Sequence[str], files: dict[str, str]) -> dict[str, Any]:
    """What the peers are asked."""
    request: dict[str, Any] = {
        "network": {**SHAPE, "tokens": made.tokens, "dropout": DROPOUT}, **files, "precisions": list(precisions), "seed": 1,
        "training": None, "decoding": None,
    }  # fmt: skip
    if "training" in wanted:
        steps = ordered(batches(made, sizes.pairs, bucketed=False), sizes.steps + WARM_STEPS)
        pairs = [[(made.sources[i].tolist(), made.targets[i].tolist()) for i in index] for index in steps]
        request["training"] = {"batches": pairs, "learning_rate": RATE, "clip": CLIP, "smoothing": SMOOTHING}
    if "decoding" in wanted:
        rows, maxima = sources(made, sizes.beam)
        ids = [[row.tolist() for row in batch] for batch in rows]
        request["decoding"] = {"batches": ids, "maximum": maxima, "width": WIDTH, "alpha": 1.0, "length_penalty": 1.0}
    return request


class Turn(NamedTuple):
    """One turn: rates (2,) of ours by part and precision, and the peers' answers."""

    rates: dict[str, dict[str, np.ndarray]]
    answers: dict[str, Rows]
    joeynmt: dict[str, Any]
    marian: dict[str, Any] | None


def turn(made: Corpus, model: Seq2Seq, computes: dict[str, Compute], wanted: Sequence[str], sizes: Sizes, request: dict[str, Any]) -> Turn:
    """Ours, JoeyNMT's, Marian's, one after the other."""
    rates: dict[str, dict[str, np.ndarray]] = {"training": {}, "decoding": {}}
    answers: dict[str, Rows] = {}
    fastest = list(computes)[-1]
    if "training" in wanted:
        rates["training"]["fp32"] = our_training(made, model, computes["fp32"], sizes, bucketed=False)
        rates["training"]["best"] = our_training(made, model, computes[fastest], sizes, bucketed=True)
    if "decoding" in wanted:
        for precision, compute in computes.items():
            rates["decoding"][precision], answers[precision] = our_decoding(made, model, compute, sizes.beam)
    threads = computes["fp32"].threads
    joeynmt = peers.run("joeynmt", "joeynmt_seq2seq.py", request, threads=threads)
    marian = peers.run("transformers", "marian_generate.py", request, threads=threads) if "decoding" in wanted else None
    return Turn(rates, answers, joeynmt, marian)


def faster(rates: Sequence[dict[str, np.ndarray]]) -> str:
    """The precision with the higher median by the clock."""
    return max(rates[0], key=lambda precision: statistics.median(float(rate[precision][0]) for rate in rates))


def both_units(name: str, what: str, ours: list[np.ndarray], theirs: list[np.ndarray], sides: tuple[str, str]) -> list[dict[str, Any]]:
    """A row by the clock and one by the processors."""
    return [
        compared(name, unit.format(what), [float(rate[place]) for rate in ours], [float(rate[place]) for rate in theirs], sides)
        for place, unit in enumerate(UNITS)
    ]


def training_rows(counted: list[Turn], model: Seq2Seq) -> list[dict[str, Any]]:
    sides = SIDES["joeynmt"]
    heading(sides)
    theirs = [{name: their_rate(answer) for name, answer in each.joeynmt["training"].items()} for each in counted]
    best, ours = faster(theirs), [each.rates["training"] for each in counted]
    rows = both_units("training, fp32", "tokens", [each["fp32"] for each in ours], [each["fp32"] for each in theirs], sides)
    title = f"training, best of each (JoeyNMT's {best})"
    rows += both_units(title, "tokens", [each["best"] for each in ours], [each[best] for each in theirs], sides)
    own = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    rows.append(told("parameters", "", own, counted[-1].joeynmt["parameters"], sides))
    return rows


def losses(counted: list[Turn], made: Corpus, model: Seq2Seq, sizes: Sizes) -> dict[str, float]:
    """−log p a token of the first batch, by side: that the network is the same one."""
    given = batches(made, sizes.pairs, bucketed=False)
    with torch.inference_mode():
        term = TargetLoss()(model, given.gather(ordered(given, 1)[0]))["cross-entropy"]
    found = {"weft": float(term.total) / float(term.count)}
    for peer, answer in (("joeynmt", counted[-1].joeynmt), ("marian", counted[-1].marian)):
        if answer is not None:
            found[peer] = answer["loss"]
    print("\n−log p a token of the first batch: " + ", ".join(f"{side} {loss:.5f}" for side, loss in found.items()))
    return found


def decoding_rows(counted: list[Turn], peer: str, sentences: int) -> list[dict[str, Any]]:
    sides = SIDES[peer]
    heading(sides)
    answers = [getattr(each, peer)["decoding"] for each in counted]
    theirs = [{name: sentences / np.array(answer["seconds"]) for name, answer in each.items()} for each in answers]
    ours = [each.rates["decoding"] for each in counted]
    rows = both_units("beam of 4, fp32", "sentences", [each["fp32"] for each in ours], [each["fp32"] for each in theirs], sides)
    if len(theirs[0]) > 1:
        own, other = faster(ours), faster(theirs)
        title = f"beam of 4, best of each ({own}, {other})"
        rows += both_units(title, "sentences", [each[own] for each in ours], [each[other] for each in theirs], sides)
    mine, found = counted[-1].answers["fp32"], answers[-1]["fp32"]["answers"]
    rows.append(told("tokens an answer", "", statistics.mean(map(len, mine)), statistics.mean(map(len, found)), sides))
    rows.append(
        told("answers that are the same", "%", 100.0, 100 * statistics.mean(a == b for a, b in zip(mine, found, strict=True)), sides)
    )
    return rows


def against_peers(
    made: Corpus, model: Seq2Seq, computes: dict[str, Compute], wanted: Sequence[str], sizes: Sizes, runs: int
) -> dict[str, Any]:
    """The parts that have peers; the first turn warms up."""
    peers.environment("joeynmt")
    if "decoding" in wanted:
        peers.environment("transformers")
    with tempfile.TemporaryDirectory(prefix="weft-seq2seq-") as folder:
        table = Path(folder) / "positions.npz"
        np.savez(table, table=sinusoidal(POSITIONS, SHAPE["size"]).numpy())
        files = {"weights": str(saved(model, Path(folder) / "weights.npz")), "positions": str(table)}
        request = asked(made, wanted, sizes, list(computes), files)
        counted = [turn(made, model, computes, wanted, sizes, request) for _ in range(runs + 1)][1:]
    results: dict[str, Any] = {"versions": {"joeynmt": counted[-1].joeynmt["versions"]}}
    if "training" in wanted:
        results["training"] = training_rows(counted, model)
        results["losses"] = losses(counted, made, model, sizes)
    if "decoding" in wanted:
        assert counted[-1].marian is not None
        results["versions"]["transformers"] = counted[-1].marian["versions"]
        results["decoding"] = [row for peer in SIDES for row in decoding_rows(counted, peer, len(made.test))]
    started = our_startup()
    heading(SIDES["joeynmt"])
    results["startup"] = [told("start-up: imports", "s", started, counted[-1].joeynmt["startup_seconds"], SIDES["joeynmt"])]
    if counted[-1].marian is not None:
        heading(SIDES["marian"])
        results["startup"].append(told("start-up: imports", "s", started, counted[-1].marian["startup_seconds"], SIDES["marian"]))
    return results


def our_startup() -> float:
    """Seconds that a fresh Python takes to import what training and decoding need."""
    code = "import time; t = time.perf_counter(); import weft.estimators.translation_network; print(time.perf_counter() - t)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


class Whole(NamedTuple):
    """What is known without a cache: the sources, and all ids (N, T) read so far."""

    encoded: Encoded
    ids: Tensor | None


class Recomputed:
    """A model as a Decoder that keeps nothing: for each token the whole target is read anew."""

    def __init__(self, model: Seq2Seq) -> None:
        self.model, self.start_symbol, self.end_symbol = model, model.start_symbol, model.end_symbol

    def start(self, source: Batch) -> Whole:
        return Whole(self.model.encode(source), None)

    def step(self, ids: Tensor, state: Whole) -> Step:
        read = ids[:, None] if state.ids is None else torch.cat([state.ids, ids[:, None]], 1)
        copies = len(read) // len(state.encoded.mask)
        encoded = Encoded(*(part.repeat_interleave(copies, 0) for part in state.encoded)) if copies > 1 else state.encoded
        hidden = self.model.decode(encoded, read).hidden
        return Step(self.model.logits(hidden[:, -1]), Whole(state.encoded, read))

    def reorder(self, state: Whole, rows: Tensor, sources: Tensor | None = None) -> Whole:
        encoded = state.encoded if sources is None else Encoded(*(part[sources] for part in state.encoded))
        return Whole(encoded, None if state.ids is None else state.ids[rows])


def caching(made: Corpus, model: Seq2Seq, sizes: Sizes, runs: int, length: int) -> list[dict[str, Any]]:
    """Tokens/s of so many greedy tokens a source, cached and recomputed."""
    sides = ("cached", "recomputed")
    heading(sides)
    rows, limits = [], Limits(minimum=length, maximum=length, forbidden=(0,))
    for count in sizes.cached:
        batch = pad(made.test[-count:], np.arange(count))
        answers: dict[str, Any] = {}

        def rate(side: str, decoder: Any, batch: Batch = batch, count: int = count, answers: dict[str, Any] = answers) -> float:
            started = time.perf_counter()
            answers[side] = [found[0].ids for found in generate(decoder, batch, Greedy(), count=count, limits=limits)]
            return count * length / (time.perf_counter() - started)

        both = turns(lambda rate=rate: rate(sides[0], model), lambda rate=rate: rate(sides[1], Recomputed(model)), runs)  # type: ignore[misc]
        row = compared(f"{length} tokens, {count} source{'s' * (count > 1)}", "tokens/s", *both, sides)
        same = statistics.mean(a == b for a, b in zip(answers[sides[0]], answers[sides[1]], strict=True))
        rows.append({**row, "same": same})
    print("\nanswers that are the same: " + ", ".join(f"{100 * row['same']:.0f} %" for row in rows))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default=",".join(PARTS), help=f"which of {', '.join(PARTS)}")
    parser.add_argument("--turns", type=int, default=3, help="turns that are counted")
    parser.add_argument("--threads", type=int, default=2, help="all sides'")
    parser.add_argument("--sentences", type=int, default=Sizes.sentences, help="that are decoded, the test set's first")
    parser.add_argument("--keep", type=Path, help="an .npz where the trained weights are kept, and taken from when they are there")
    parser.add_argument("--quick", action="store_true", help="a few steps, sentences and lengths, one turn: to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/seq2seq.json"))
    options = parser.parse_args()
    from weft.files import write_json

    wanted = options.only.split(",")
    if unknown := sorted(set(wanted) - set(PARTS)):
        parser.error(f"--only takes {', '.join(PARTS)}, not {', '.join(unknown)}")
    sizes = QUICK if options.quick else Sizes(sentences=options.sentences)
    runs = min(options.turns, 1) if options.quick else options.turns
    fastest = choose("cpu", threads=options.threads)
    computes = {each: choose("cpu", each, options.threads) for each in dict.fromkeys(("fp32", fastest.precision))}
    results: dict[str, Any] = {
        "machine": {**machine(f"{options.threads} threads"), "torch": torch.__version__, "precision": fastest.precision},
        "shape": {**SHAPE, "dropout": DROPOUT, "label_smoothing": SMOOTHING, "batch": sizes.pairs, "beam": WIDTH},
    }
    if set(wanted) - {"cost"}:
        made = corpus(sizes.sentences, 300 if options.quick else None)
        model = trained(made, computes["fp32"], sizes, options.keep)
        if {"training", "decoding"} & set(wanted):
            results |= against_peers(made, model, computes, wanted, sizes, runs)
        if "cache" in wanted:
            results["cache"] = caching(made, model, sizes, runs, 12 if options.quick else CACHED)
    if "cost" in wanted:
        results["cost"] = growth.cost(sizes.lengths, 2 if options.quick else 4, sizes.repeats)
    write_json(options.out, results)
    print(f"\nwritten to {options.out}")


if __name__ == "__main__":
    main()
