"""gensim's Word2Vec and FastText on a file, a sentence a line, for benchmarks/vectors.py: a request in, an answer out (JSON)."""

from __future__ import annotations

import time

STARTED = time.perf_counter()

import json  # noqa: E402
import re  # noqa: E402
import sys  # noqa: E402
from importlib import metadata  # noqa: E402
from pathlib import Path  # noqa: E402

from gensim.models import FastText, Word2Vec  # noqa: E402

IMPORTED = time.perf_counter() - STARTED


def peak() -> int:
    """Bytes that this process has held at most, since it became this program (getrusage also counts what its parent held)."""
    return 1024 * int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0])


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    imports = peak()
    options = dict(request["options"])
    kind = FastText if request["method"] == "fasttext" else Word2Vec
    started = time.perf_counter()
    model = kind(workers=request["threads"], seed=request["seed"], **options)
    model.build_vocab(corpus_file=request["corpus"])
    read = time.perf_counter()
    model.train(
        corpus_file=request["corpus"], total_examples=model.corpus_count, total_words=model.corpus_total_words, epochs=request["epochs"]
    )
    trained = time.perf_counter()
    if request.get("vectors"):
        model.wv.save_word2vec_format(request["vectors"], binary=True)
    saved = time.perf_counter()
    answer = {
        "import_seconds": IMPORTED, "read_seconds": read - started, "train_seconds": trained - read, "save_seconds": saved - trained,
        "words": model.corpus_total_words * request["epochs"], "peak_bytes": peak(), "imports_bytes": imports,
        "versions": {name: metadata.version(name) for name in ("gensim", "numpy", "scipy")},
    }  # fmt: skip
    Path(sys.argv[2]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
