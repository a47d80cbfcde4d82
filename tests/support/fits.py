"""`python fits.py`: fits every neural rung, some from word vectors too, as a user would, and prints digests of what they became as JSON."""

from __future__ import annotations

import hashlib
import json
import random
from typing import Any

from tiny import CASES as RUNGS
from tiny import WORDS, rung_of, small, vectors_of

from weft import TextClassifier

CASES: dict[str, dict[str, Any]] = {
    **{rung: {"model": rung} for rung in RUNGS},
    "labels as sets": {"model": "cnn", "several": True},
    "a BPE tokenizer": {"model": "cnn", "tokenizer": "bpe", "maximum_size": 300},
    "another seed": {"model": "cnn", "random_state": 1},
    "patience and tokens": {"model": "gru", "patience": 1, "batch_tokens": 60},
}


def fitted(case: str) -> Any:
    """The estimator of one case: 48 texts, a tenth held out, every kind of dropout at work."""
    options = dict(CASES[case])
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(1, 9))) for _ in range(48)]
    names = ["sour", "sweet", "bitter", "salty"]
    labels: list[Any] = [draw.choice(names[:3]) for _ in texts]
    if options.pop("several", False):
        labels = [set(draw.sample(names, draw.randint(0, 3))) for _ in texts]
    case = options.pop("model")
    settings, options["model"], options["vectors"] = small(case, dropout=0.3), rung_of(case), vectors_of(case)
    settings.update({name: options.pop(name) for name in ("tokenizer", "maximum_size") if name in options})
    size = {} if "batch_tokens" in options else {"batch_size": 16}
    return TextClassifier(settings=settings, steps=6, precision="fp32", threads=1, **size, **options).fit(texts, labels)


def digest(estimator: Any) -> str:
    """Of the weights by name, of the tokenizer, and of what training said on its way."""
    content = hashlib.sha256()
    for name, array in sorted(estimator.engine_.arrays().items()):
        content.update(name.encode() + array.tobytes())
    content.update(json.dumps([estimator.engine_.tokenizer.to_dict(), estimator.history_.checks, estimator.classes_.tolist()]).encode())
    return content.hexdigest()


if __name__ == "__main__":
    print(json.dumps({case: digest(fitted(case)) for case in CASES}))
