"""The fasttext package's unsupervised training on a file: what benchmarks/vectors.py asks for. Reads a request, writes an answer (JSON)."""

from __future__ import annotations

import time

STARTED = time.perf_counter()

import json  # noqa: E402
import re  # noqa: E402
import sys  # noqa: E402
from importlib import metadata  # noqa: E402
from pathlib import Path  # noqa: E402

import fasttext  # noqa: E402

IMPORTED = time.perf_counter() - STARTED


def peak() -> int:
    """Bytes that this process has held at most, since it became this program (getrusage also counts what its parent held)."""
    return 1024 * int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0])


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    imports = peak()
    started = time.perf_counter()
    model = fasttext.train_unsupervised(
        request["corpus"], thread=request["threads"], epoch=request["epochs"], verbose=0, **request["options"]
    )
    trained = time.perf_counter()
    if request.get("vectors"):
        words = model.get_words()
        with open(request["vectors"], "w", encoding="utf-8") as file:
            file.write(f"{len(words)} {model.get_dimension()}\n")
            for word in words:
                file.write(word + " " + " ".join(f"{number:.6g}" for number in model.get_word_vector(word)) + "\n")
    answer = {
        "import_seconds": IMPORTED, "train_seconds": trained - started, "peak_bytes": peak(), "imports_bytes": imports,
        "versions": {"fasttext-wheel": metadata.version("fasttext-wheel"), "numpy": metadata.version("numpy")},
    }  # fmt: skip
    Path(sys.argv[2]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
