"""Word vectors side by side: `python benchmarks/vectors.py [--only speed,scaling,table] [--runs 3] [--threads 2] [--epochs 5]`.

One corpus (the Wikipedia text of shared/data: wordvec_corpus and wikitext2's training part, lower-cased runs of the letters a–z, a
sentence a line, none longer than 1,000 words), the same settings on both sides: 100 numbers, window 5, 5 negatives, 5 epochs, minimum
count 5, sample 1e-3; the rate 0.025 for skip-gram and 0.05 else.

speed: skip-gram and CBOW with negative sampling and hierarchical softmax beside gensim, subwords beside gensim and the fasttext package.
Each side is a process of its own, which times its training loop; the whole command (imports, reading, training, writing) is timed from
outside, and so is its peak memory beyond imports. The sides take turns; run r has seed r, and the vectors of every run are measured: the
mean over seeds of Spearman's ρ over WS353, SimLex-999 and MEN, and of analogies. scaling: skip-gram on a quarter, a half and all of the
corpus, and on one thread and two. table: our other methods, each once a seed.

Kernels are compiled before anything is measured, as they are once a machine; what loading them takes is told apart. The peers'
environments are made on first use.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import peers
from sides import compared, heading, told

from weft.data.datasets import data_folder
from weft.files import write_json

FILES = ("wordvec_corpus/text8_prefix.txt.gz", "wordvec_corpus/enwiki_2018_articles.txt.gz", "wikitext2/train.txt.gz")
LONGEST = 1000
SHARED: dict[str, Any] = {"dim": 100, "window": 5, "negative": 5, "epochs": 5, "sample": 1e-3}
SUBWORDS = {"min_n": 3, "max_n": 6}
BUCKETS = 2_000_000
GENSIM = {"vector_size": 100, "window": 5, "min_count": 5, "sample": 1e-3}
CASES: dict[str, dict[str, Any]] = {
    "skipgram": {"ours": {"method": "skipgram", "rate": 0.025}, "gensim": {"sg": 1, "hs": 0, "negative": 5, "alpha": 0.025}},
    "cbow": {"ours": {"method": "cbow", "rate": 0.05}, "gensim": {"sg": 0, "hs": 0, "negative": 5, "alpha": 0.05}},
    "skipgram+hs": {
        "ours": {"method": "skipgram", "loss": "hs", "rate": 0.025}, "gensim": {"sg": 1, "hs": 1, "negative": 0, "alpha": 0.025},
    },
    "cbow+hs": {"ours": {"method": "cbow", "loss": "hs", "rate": 0.05}, "gensim": {"sg": 0, "hs": 1, "negative": 0, "alpha": 0.05}},
    "fasttext": {
        "ours": {"method": "fasttext", "rate": 0.05, "settings": {**SUBWORDS, "buckets": BUCKETS}},
        "gensim": {"sg": 1, "hs": 0, "negative": 5, "alpha": 0.05, **SUBWORDS, "bucket": BUCKETS},
        "fasttext": {
            "model": "skipgram", "dim": 100, "ws": 5, "neg": 5, "minCount": 5, "t": 1e-3, "lr": 0.05, "minn": 3, "maxn": 6,
            "bucket": BUCKETS,
        },
    },
}  # fmt: skip


def write_corpus(path: Path, share: float = 1.0) -> int:
    """Writes the corpus, or its first lines up to a share of its words; returns how many words there are."""
    folder = data_folder()
    if folder is None:
        sys.exit("error: WEFT_DATA must name the folder of data (its README lists wordvec_corpus and wikitext2)")
    lines = []
    for name in FILES:
        with gzip.open(folder / name, "rt", encoding="utf-8") as file:
            for line in file:
                words = re.findall("[a-z]+", line.replace("<unk>", " ").lower())
                lines += [words[start : start + LONGEST] for start in range(0, len(words), LONGEST)]
    total, kept = sum(map(len, lines)), 0
    with open(path, "w", encoding="utf-8") as out:
        for words in lines:
            if kept >= share * total:
                break
            out.write(" ".join(words) + "\n")
            kept += len(words)
    return kept


def peak() -> int:
    """Bytes that this process has held at most, since it became this program (getrusage also counts what its parent held)."""
    return 1024 * int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0])


def ours(request_file: str, answer_file: str) -> None:
    """Our side, in a process of its own: the same request and answer as a peer's script."""
    started = time.perf_counter()
    from weft.vectors.methods import WordVectors

    request = json.loads(Path(request_file).read_text(encoding="utf-8"))
    model = WordVectors(**request["options"], threads=request["threads"], seed=request["seed"])
    if request["options"]["method"] not in ("svd", "glove"):  # the kernels are loaded now, as others' libraries are
        WordVectors(**{**request["options"], "epochs": 1}, threads=1).fit([["a", "b", "c", "d"] * 8] * 8)

    imported, held = time.perf_counter() - started, peak()
    model.fit(request["corpus"])
    trained = time.perf_counter()
    model.vectors_.save(request["vectors"])
    saved = time.perf_counter()
    seconds = model.seconds_
    answer = {
        "import_seconds": imported, "read_seconds": seconds["read"], "train_seconds": seconds["train"],
        "compile_seconds": seconds["compile"], "save_seconds": saved - trained,
        "words": model.corpus_.tokens * model.chosen()[1]["epochs"], "losses": model.losses_,
        "peak_bytes": peak(), "imports_bytes": held,
    }  # fmt: skip
    Path(answer_file).write_text(json.dumps(answer), encoding="utf-8")


def run(side: str, request: dict[str, Any], threads: int) -> dict[str, Any]:
    """One side's answer, with "whole_seconds" from outside."""
    started = time.perf_counter()
    if side == "ours":
        with tempfile.TemporaryDirectory(prefix="weft-vectors-") as folder:
            asked, answered = Path(folder) / "request.json", Path(folder) / "answer.json"
            write_json(asked, {**request, "threads": threads}, indent=None)
            done = subprocess.run([sys.executable, __file__, "--ours", asked, answered], capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(done.stderr[-2000:])
            answer = json.loads(answered.read_text(encoding="utf-8"))
    else:
        script, environment = {"gensim": ("gensim_vectors.py", "gensim"), "fasttext": ("fasttext_vectors.py", "fasttext-wheel")}[side]
        answer = peers.run(environment, script, request, threads=threads)
    return {**answer, "whole_seconds": time.perf_counter() - started, "beyond_imports": answer["peak_bytes"] - answer["imports_bytes"]}


def request_of(case: str, side: str, corpus: Path, seed: int, epochs: int, vectors: Path) -> dict[str, Any]:
    """What a side is asked for."""
    options = CASES[case][side]
    request: dict[str, Any] = {"corpus": str(corpus), "seed": seed, "epochs": epochs, "vectors": str(vectors), "options": options}
    if side == "ours":
        request["options"] = {**SHARED, **options, "epochs": epochs}
    elif side == "gensim":
        request |= {"options": {**GENSIM, **options}, "method": "fasttext" if case == "fasttext" else "word2vec"}
    return request


def quality(vectors: Path) -> dict[str, float]:
    """Mean similarity and analogies of a file of vectors."""
    from weft.vectors.evaluation import evaluate
    from weft.vectors.keyed import KeyedVectors

    scores = evaluate(KeyedVectors.load(vectors), sets=["ws353", "simlex999", "men", "google"])
    return {"similarity": scores["mean_similarity"], "analogy": scores["analogy"]["google"]["accuracy"]}


def speed(corpus: Path, folder: Path, cases: list[str], runs: int, threads: int, epochs: int, scored: bool) -> list[dict[str, Any]]:
    """Every case, its sides in turns."""
    table = []
    for case in cases:
        sides = list(CASES[case])
        found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
        for seed in range(1, runs + 1):
            for side in sides:
                target = folder / f"{case}-{side}.{'vec' if side == 'fasttext' else 'bin'}"
                answer = run(side, request_of(case, side, corpus, seed, epochs, target), threads)
                found[side].append({**answer, **(quality(target) if scored else {})})
        for side in sides[1:]:
            names = ("weft", side)
            heading(names)
            for what, key in (("training loop, words", "train_seconds"), ("whole command, words", "whole_seconds")):
                first, second = ([found["ours"][0]["words"] / one[key] for one in found[which]] for which in ("ours", side))
                table.append(compared(f"{case}: {what}", "words/s", first, second, names))
            for what, key, unit, scale in (
                ("peak memory beyond imports", "beyond_imports", "MB", 1e-6),
                ("reading", "read_seconds", "s", 1),
                ("loading kernels", "compile_seconds", "s", 1),
            ):
                mine, other = (scale * statistics.median(one.get(key, 0.0) for one in found[which]) for which in ("ours", side))
                table.append(told(f"{case}: {what}", unit, mine, other, names))
            for what in ("similarity", "analogy") if scored else ():
                values = [statistics.fmean(one[what] for one in found[which]) for which in ("ours", side)]
                table.append(
                    told(f"{case}: {what}, mean of {runs} seeds", "", round(values[0], 4), round(values[1], 4), names) | {"scores": values}
                )
                print(f"  {what}: {values[0]:.4f} against {values[1]:.4f}", flush=True)
        table.append({"what": case, "answers": found})
    return table


def scaling(corpus: Path, folder: Path, runs: int, threads: int, epochs: int) -> list[dict[str, Any]]:
    """Seconds of the training loop by the size of the corpus and by threads (skip-gram, negative sampling)."""
    print("\n| words | threads | loop, s | words/s |\n|---|---|---|---|")
    table = []
    parts = []
    for share in (0.25, 0.5, 1.0):
        part = folder / f"part-{share}.txt"
        write_corpus(part, share) if share < 1 else part.write_bytes(corpus.read_bytes())
        parts += [(part, count) for count in ((1, threads) if share == 1 else (threads,))]
    times: dict[tuple[Path, int], list[dict[str, Any]]] = {}
    for seed in range(1, runs + 1):
        for part, count in parts:
            times.setdefault((part, count), []).append(
                run("ours", request_of("skipgram", "ours", part, seed, epochs, folder / "part.bin"), count)
            )
    for (_, count), answers in times.items():
        seconds, words = statistics.median(one["train_seconds"] for one in answers), answers[0]["words"]
        print(f"| {words / epochs:,.0f} × {epochs} | {count} | {seconds:.2f} | {words / seconds:,.0f} |", flush=True)
        table.append({"words": words, "threads": count, "seconds": seconds})
    return table


def others(corpus: Path, folder: Path, runs: int, threads: int) -> list[dict[str, Any]]:
    """Our counted methods with their own settings, for the same table."""
    print("\n| method | similarity | analogies | training, s |\n|---|---|---|---|")
    table = []
    for method in ("svd", "glove"):
        answers = []
        for seed in range(1, runs + 1):
            target = folder / f"{method}.bin"
            request = {"corpus": str(corpus), "seed": seed, "vectors": str(target), "options": {"method": method, "dim": 100}}
            answers.append({**run("ours", request, threads), **quality(target)})
        row = {name: statistics.fmean(one[name] for one in answers) for name in ("similarity", "analogy")}
        row["seconds"] = statistics.median(one["train_seconds"] for one in answers)
        print(f"| {method} | {row['similarity']:.4f} | {row['analogy']:.4f} | {row['seconds']:.1f} |", flush=True)
        table.append({"method": method, **row})
    return table


def main() -> None:
    if sys.argv[1:2] == ["--ours"]:
        ours(*sys.argv[2:4])
        return
    from weft.compare.summary import machine  # torch with it, which our side of the comparison does not load

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="speed,scaling,table")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=SHARED["epochs"])
    parser.add_argument(
        "--quick", action="store_true", help="a twentieth of the corpus, one epoch, one run, no scores: to see that it runs"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/vectors.json"))
    options = parser.parse_args()
    parts = options.only.split(",")
    if unknown := {*parts} - {"speed", "scaling", "table"} | {*options.cases.split(",")} - {*CASES}:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    runs, epochs = (1, 1) if options.quick else (options.runs, options.epochs)
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(options.threads)
    with tempfile.TemporaryDirectory(prefix="weft-vectors-") as name:
        folder = Path(name)
        corpus = folder / "corpus.txt"
        words = write_corpus(corpus, 0.05 if options.quick else 1.0)
        tiny = folder / "tiny.txt"
        tiny.write_text("a b c d e f\n" * 50)
        started = time.perf_counter()
        for case in CASES:
            run("ours", request_of(case, "ours", tiny, 1, 1, folder / "tiny.bin"), 1)
        print(f"{words:,} words; kernels compiled or found in {time.perf_counter() - started:.1f} s", flush=True)
        results: dict[str, Any] = {
            "machine": machine(f"{options.threads} threads"),
            "words": words,
            "threads": options.threads,
            "runs": runs,
        }
        if "speed" in parts:
            results["speed"] = speed(corpus, folder, options.cases.split(","), runs, options.threads, epochs, not options.quick)
        if "scaling" in parts:
            results["scaling"] = scaling(corpus, folder, runs, options.threads, epochs)
        if "table" in parts and not options.quick:
            results["table"] = others(corpus, folder, runs, options.threads)
    write_json(options.out, results)
    print(f"\nwritten to {options.out}")


if __name__ == "__main__":
    main()
