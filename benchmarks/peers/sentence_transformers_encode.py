"""Encodes texts with sentence-transformers, its defaults or its batches of tokens: reads a request, writes seconds and vectors.

Request: {"folder": a checkpoint in its form, "texts": […], "precision": "fp32" or "bf16", "options": of encode, "vectors": a .npy to
write, "repeats": n, "threads": n}.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main(asked: str, answered: str) -> None:
    request = json.loads(Path(asked).read_text(encoding="utf-8"))
    started = time.perf_counter()
    import numpy as np
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(request["threads"])
    types = {"fp32": torch.float32, "bf16": torch.bfloat16}
    model = SentenceTransformer(request["folder"], device="cpu", model_kwargs={"torch_dtype": types[request["precision"]]})
    startup = time.perf_counter() - started
    seconds, vectors = [], np.zeros((0, 0), np.float32)
    for _ in range(request["repeats"]):
        started = time.perf_counter()
        vectors = model.encode(request["texts"], show_progress_bar=False, **request["options"])
        seconds.append(time.perf_counter() - started)
    np.save(request["vectors"], np.asarray(vectors, np.float32))
    Path(answered).write_text(json.dumps({"startup": startup, "seconds": seconds}), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
