"""What the contracts of language models are held against: every rung of their ladder, made small, and a tiny text.

The rungs come from weft's own table, so a new row is under the contracts the moment it is there. `python language_models.py` fits the cases
that draw as a user would and prints digests of what they became as JSON.
"""

from __future__ import annotations

import hashlib
import json
import random
from functools import cache
from pathlib import Path
from typing import Any

from tiny import FP32, WORDS

from weft import LanguageModel
from weft.device import Compute
from weft.estimators.language_network import LanguageNetwork
from weft.estimators.rungs import LANGUAGE_RUNGS
from weft.estimators.settings import resolve

GPT2 = str(Path(__file__).with_name("gpt2"))  # a tiny random checkpoint in the place of every real one, see make_gpt2.py
RUNGS = [name for name, rung in LANGUAGE_RUNGS.items() if rung.engine == "neural"]
BASELINES = [name for name, rung in LANGUAGE_RUNGS.items() if rung.engine != "neural"]
SIZES = {"embedding_size": 24, "hidden_size": 24, "inner": 48, "layers": 2, "heads": 2, "block": 16, "batch_size": 4, "minimum_steps": 0}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{rung: (rung, {}) for rung in RUNGS},
    "gpt, rotary, contiguous, post-norm": ("gpt", {"positions": "rotary", "cut": "contiguous", "norm": "post", "residual_std": 0.0}),
    "lstm, adaptive, every dropout": ("lstm", {"output": "adaptive", "variational": 0.2, "type_dropout": 0.2, "temporal_penalty": 1.0}),
    "gru, bpe, learnt start, sampled": ("gru", {
        "tokenizer": "bpe", "maximum_size": 300, "initial": "learnt", "output": "sampled", "samples": 40}),
}  # fmt: skip
# where training draws in every way that there is; all that goes by a seed or a checkpoint is tried on these alone, as it takes long
DRAWN = ["gpt", "pretrained", "ngram-neural", "rnn", "lstm, adaptive, every dropout", "gru, bpe, learnt start, sampled"]
PARAGRAPH = (
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness,\n"
    "it was the epoch of belief, it was the epoch of incredulity, it was the season of Light.\n"
)


def settings_of(case: str, *, dropout: float | None = None, **more: Any) -> dict[str, Any]:
    """What an estimator's `settings` would be: the case's own over every size made small; `dropout` sets every rate of every kind."""
    rung, own = CASES[case]
    known = resolve(LANGUAGE_RUNGS[rung].settings, own, network=LANGUAGE_RUNGS[rung].network).flat
    chosen: dict[str, Any] = {name: size for name, size in SIZES.items() if name in known}
    chosen |= {"pretrained": GPT2, "learning_rate": 1e-3} if "pretrained" in known else {}
    if dropout is not None:
        chosen |= {name: dropout for name in known if "dropout" in name or name == "variational"}
    return {"warmup": 0.0, **chosen, **({} if dropout == 0.0 and "variational" in own else own), **({} if dropout is None else {
        name: chosen[name] for name in chosen if "dropout" in name or name == "variational"}), **more}  # fmt: skip


def text(words: int = 300, seed: int = 0) -> str:
    """Lines of known words."""
    draw = random.Random(seed)
    return "".join(draw.choice(WORDS) + ("\n" if draw.random() < 0.1 else " ") for _ in range(words))


def network(case: str, *, seed: int = 0, compute: Compute = FP32, data: list[str] | None = None, **settings: Any) -> LanguageNetwork:
    """A case's network, its vocabulary of the text, its weights drawn from the seed; in training mode."""
    rung = LANGUAGE_RUNGS[CASES[case][0]]
    resolved = resolve(rung.settings, settings_of(case, **settings), network=rung.network)
    made = LanguageNetwork(resolved, compute, seed)
    made.build_for([text()] if data is None else data)
    return made


def estimator(case: str, *, more: dict[str, Any] | None = None, dropout: float | None = None, **options: Any) -> LanguageModel:
    """The estimator of a case, three steps long."""
    options = {"steps": 3, "precision": "fp32", "threads": 1, **options}
    return LanguageModel(CASES[case][0], settings_of(case, dropout=dropout, **(more or {})), **options)


@cache
def learnt(case: str) -> LanguageModel:
    """A case that has read a paragraph often enough."""
    more = {
        "learning_rate": 0.01,
        "block": 32,
        "batch_size": 4,
        "hidden_size": 48,
        "embedding_size": 48,
        "minimum_count": 1,
        "output": "tied",
    }
    if CASES[case][0] == "ngram-neural":
        more["window"] = 7
    if CASES[case][0] == "gpt":
        more |= {"block": 64, "learning_rate": 0.003, "residual_std": 0.1}
    if CASES[case][0] == "pretrained":
        more = {"block": 64, "batch_size": 4, "learning_rate": 0.01}
    return estimator(case, more=more, dropout=0.0, steps=300, validation_fraction=0).fit(PARAGRAPH)


def fitted(case: str) -> LanguageModel:
    """The estimator of a case, fitted: the end held out, every kind of dropout at work."""
    return estimator(case, dropout=0.3, steps=4).fit(text())


def digest(made: LanguageModel) -> str:
    """Of the weights by name, of the vocabulary, and of what training said on its way."""
    arrays, described, words = made.engine_.saved()
    content = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        content.update(name.encode() + array.tobytes())
    content.update(json.dumps([described, words, made.history_.checks], sort_keys=False, default=str).encode())
    return content.hexdigest()


if __name__ == "__main__":
    print(json.dumps({case: digest(fitted(case)) for case in DRAWN}))
