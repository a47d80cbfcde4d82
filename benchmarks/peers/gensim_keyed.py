"""gensim's KeyedVectors, timed: `python gensim_keyed.py request.json answer.json`, in the peer's own environment.

Request: bin and vec (files of vectors), words to ask about, singles (how many of them one by one), topn, threads. Answer: seconds of
start-up (import, told apart from the work), of loading each file, of the first query (lengths are worked out in it), the median of a
single query, and of all words one by one, as gensim has no way to ask for several at once; what it answered; the peak of its memory in
MB; versions.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()

from gensim.models import KeyedVectors  # noqa: E402  # the import is what is timed

STARTUP = time.perf_counter() - STARTED


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Everything once."""
    started = time.perf_counter()
    KeyedVectors.load_word2vec_format(request["vec"], binary=False)
    read = time.perf_counter()
    kv = KeyedVectors.load_word2vec_format(request["bin"], binary=True)
    loaded = time.perf_counter()
    words, topn = request["words"], request["topn"]
    kv.most_similar(words[0], topn=topn)
    answer = {"vec": read - started, "bin": loaded - read, "first": time.perf_counter() - loaded}
    singles = []
    for word in words[: request["singles"]]:
        started = time.perf_counter()
        kv.most_similar(word, topn=topn)
        singles.append(time.perf_counter() - started)
    started = time.perf_counter()
    found = [kv.most_similar(word, topn=topn) for word in words]
    batch = time.perf_counter() - started
    return {**answer, "single": statistics.median(singles), "batch": batch, "found": [[word for word, _ in each] for each in found]}


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    answer = measure(request)
    status = Path("/proc/self/status")  # a child's ru_maxrss begins with its parent's
    lines = status.read_text().splitlines() if status.exists() else []
    peak = next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)
    versions = {"gensim": metadata.version("gensim"), "numpy": metadata.version("numpy"), "python": sys.version.split()[0]}
    Path(sys.argv[2]).write_text(json.dumps({"startup": STARTUP, **answer, "peak_mb": peak, "versions": versions}), encoding="utf-8")


if __name__ == "__main__":
    main()
