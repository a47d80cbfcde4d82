"""Trained word vectors side by side with gensim 4.4: `python benchmarks/keyed.py [--rows 1000000] [--size 300] [--runs 3] [--quick]`.

Random rows, written once as .bin, the first --text-rows of them as .vec; both sides read the same files. loading: from the call to the
object, the files in the page cache. single query: the ten nearest to a word, the median of 20. 64 queries: ours in one call, gensim's one
by one, as it has no other way. Where answers differ, it is said.

Each side runs in a fresh process a turn and times itself; the two take turns (A B A B …), so that a machine that slows down slows both;
a ratio is the median over the turns, after a first that is not counted. Start-up (imports, our kernels compiled or fetched on tiny
files) and the first query (lengths are worked out in it) are told apart. Writes --out as JSON.
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
from pathlib import Path
from typing import Any

import numpy as np

QUERIES, SINGLES, TOPN = 64, 20, 10
SIDES = ("weft", "gensim")


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Our side: everything once."""
    started = time.perf_counter()
    from weft.vectors.keyed import KeyedVectors

    for tiny in request["tiny"]:
        KeyedVectors.load(tiny)
    startup = time.perf_counter()
    KeyedVectors.load(request["vec"])
    read = time.perf_counter()
    kv = KeyedVectors.load(request["bin"])
    loaded = time.perf_counter()
    words, topn = request["words"], request["topn"]
    kv.most_similar(words[0], topn=topn)
    answer = {"startup": startup - started, "vec": read - startup, "bin": loaded - read, "first": time.perf_counter() - loaded}
    singles = []
    for word in words[: request["singles"]]:
        started = time.perf_counter()
        kv.most_similar(word, topn=topn)
        singles.append(time.perf_counter() - started)
    started = time.perf_counter()
    found = kv.most_similar_batch(words, topn)
    batch = time.perf_counter() - started
    started = time.perf_counter()
    KeyedVectors.load(request["safetensors"])
    answer["open"] = time.perf_counter() - started
    return {**answer, "single": statistics.median(singles), "batch": batch, "found": [[word for word, _ in each] for each in found]}


def peak_mb() -> float:
    """The most memory that this process has had, in MB, as Linux counts it; 0 elsewhere (a child's ru_maxrss begins with its parent's)."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def our_turn(request: dict[str, Any], folder: Path, threads: int) -> dict[str, Any]:
    """The same in a process of its own, with so many threads."""
    from weft.files import read_json, write_json

    asked, answered = folder / "request.json", folder / "answer.json"
    write_json(asked, request, indent=None)
    command = [sys.executable, __file__, "--measure", str(asked), str(answered)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
    return dict(read_json(answered))


def files(folder: Path, rows: int, size: int, text_rows: int) -> dict[str, Any]:
    """Random vectors as files, and what is asked of them."""
    from weft.vectors.keyed import KeyedVectors

    vectors = np.random.default_rng(0).standard_normal((rows, size), dtype=np.float32)
    made = KeyedVectors([f"word{i}" for i in range(rows)], vectors)
    few = KeyedVectors(made.words[:text_rows], vectors[:text_rows])
    request: dict[str, Any] = {"words": made.words[:: max(1, rows // QUERIES)][:QUERIES], "singles": SINGLES, "topn": TOPN}
    for form, saved in (("bin", made), ("safetensors", made), ("vec", few)):
        saved.save(folder / f"vectors.{form}")
        request[form] = str(folder / f"vectors.{form}")
    tiny = KeyedVectors(["a", "b"], np.eye(2))
    request["tiny"] = [str(folder / "tiny.bin"), str(folder / "tiny.vec")]
    for name in request["tiny"]:
        tiny.save(name)
    return request


def compare(rows: int, size: int, text_rows: int, runs: int, threads: int) -> dict[str, Any]:
    """The turns, and their table."""
    import peers
    from sides import compared, heading, told

    peers.environment("gensim")
    with tempfile.TemporaryDirectory(prefix="weft-keyed-") as name:
        folder = Path(name)
        request = files(folder, rows, size, text_rows)
        both: list[tuple[dict[str, Any], dict[str, Any]]] = []
        for _ in range(runs + 1):  # the first warms up
            both.append((our_turn(request, folder, threads), peers.run("gensim", "gensim_keyed.py", request, threads=threads)))
            ours, theirs = (side["found"] for side in both[-1])
            if ours != theirs:
                print(f"{sum(a != b for a, b in zip(ours, theirs, strict=True))} of {len(ours)} answers differ", flush=True)
    heading(SIDES)
    sides = [[pair[k] for pair in both[1:]] for k in range(2)]
    table = []
    parts = (
        (f".bin loading, {rows:,} × {size}", "rows/s", "bin", rows),
        (f".vec loading, {text_rows:,} × {size}", "rows/s", "vec", text_rows),
        ("single query", "queries/s", "single", 1),
        (f"{len(request['words'])} queries", "queries/s", "batch", len(request["words"])),
    )
    for what, unit, part, count in parts:
        ours, theirs = ([count / each[part] for each in side] for side in sides)
        table.append(compared(what, unit, ours, theirs, SIDES))
    for what, unit, part in (("start-up", "s", "startup"), ("first query", "s", "first"), ("peak memory", "MB", "peak_mb")):
        middle = [statistics.median(each[part] for each in side) for side in sides]
        table.append(told(what, unit, middle[0], middle[1], SIDES))
    opening = statistics.median(each["open"] for each in sides[0])
    print(f"\nour .safetensors form opens in {opening:.2f} s")
    return {"rows": rows, "size": size, "table": table, "open_seconds": opening, "versions": sides[1][0]["versions"], "turns": both[1:]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--size", type=int, default=300)
    parser.add_argument("--text-rows", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="a small slice: to see that it runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/out/keyed.json"))
    parser.add_argument("--measure", nargs=2, metavar=("REQUEST", "ANSWER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        answer = measure(json.loads(Path(options.measure[0]).read_text(encoding="utf-8")))
        answer["peak_mb"] = peak_mb()
        Path(options.measure[1]).write_text(json.dumps(answer), encoding="utf-8")
        return
    from weft.compare.summary import machine
    from weft.files import write_json

    rows, size, text_rows = (3000, 20, 500) if options.quick else (options.rows, options.size, options.text_rows)
    results = compare(rows, size, min(rows, text_rows), options.runs, options.threads)
    write_json(options.out, {"machine": machine(f"{options.threads} threads"), **results})
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
