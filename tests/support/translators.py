"""What the contracts of translators are held against: every rung of their ladder, made small, and a tiny corpus of pairs of texts.

The rungs come from weft's own table, so a new row is under the contracts the moment it is there. `python translators.py` fits every case as
a user would and prints digests of what they became as JSON.
"""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from tiny import FP32, WORDS

from weft import Translator
from weft.data.batch import Batch
from weft.device import Compute
from weft.estimators.rungs import TRANSLATION_RUNGS
from weft.estimators.settings import resolve
from weft.estimators.translation_network import TranslationNetwork, Translations
from weft.models.seq2seq import Predicted

RUNGS = [name for name, rung in TRANSLATION_RUNGS.items() if rung.engine == "neural"]
BASELINES = [name for name, rung in TRANSLATION_RUNGS.items() if rung.engine != "neural"]
SIZES = {
    "embedding_size": 32,
    "hidden_size": 32,
    "inner": 64,
    "layers": 1,
    "filters": 16,
    "heads": 2,
    "attention_size": 16,
    "maximum_size": 450,
}
ODD = ["e\u0301", "東京", "=" * 40, "１２", "zzyx qqwv", "👩\u200d👩\u200d👧"]
OWN_WORDS = {"tokenizer": "whitespace", "shared": False, "maximum_size": None}


@dataclass(frozen=True)
class Case:
    """A rung, settings beside its own, how many targets a source has, and how long it takes to learn 32 pairs by heart."""

    rung: str
    settings: dict[str, Any] = field(default_factory=dict)
    targets: int = 1
    steps: int = 50


CASES: dict[str, Case] = {
    **{rung: Case(rung) for rung in RUNGS},
    "hard": Case("rnn-attention", {"align": "hard", "attend": "after", "attention": "general"}),
    "monotonic": Case("rnn-attention", {"align": "monotonic", **OWN_WORDS, "tied": "none"}),
    "local-m": Case("rnn-luong", {"align": "local-m", "feed": False, "attention": "dot", "reach": 2}),
    "scheduled sampling": Case("rnn-attention", {"scheduled_sampling": 0.2, "cell": "lstm", "decoder_layers": 2}),
    "sampling at once, rotary": Case("transformer", {"scheduled_sampling": 0.2, "positions": "rotary", "norm": "post"}, steps=80),
    "several targets, untied": Case("transformer", {**OWN_WORDS, "tied": "none"}, targets=2, steps=80),
    "characters to words": Case("rnn-attention", {
        **OWN_WORDS, "tokenizer": "characters", "target_tokenizer": "whitespace", "tied": "output"}),
    "learned positions": Case("transformer", {"positions": "learned", "maximum_positions": 40, "maximum_length": 40}),
}  # fmt: skip


def settings_of(case: Case, *, dropout: float | None = None, **more: Any) -> dict[str, Any]:
    """What an estimator's `settings` would be: the case's own over every size made small; `dropout` sets every rate of every kind."""
    own = {**TRANSLATION_RUNGS[case.rung].settings, **case.settings}
    known = resolve(own, network="seq2seq").flat
    plain = {name: name.removeprefix("encoder_").removeprefix("decoder_") for name in known}
    chosen = {name: SIZES[base] for name, base in plain.items() if base in SIZES and not {name, base} & set(case.settings)}
    if dropout is not None:
        chosen.update({name: dropout for name in known if "dropout" in name})
    scale = {"embedding_std": 0.25, "embedding_scale": 4.0}
    return {"metric": "exact_match", "label_smoothing": 0.0, "warmup": 0.0, **scale, **chosen, **case.settings, **more}


def texts(count: int, seed: int, longest: int = 3) -> list[str]:
    """Texts of 1 to `longest` words."""
    draw = random.Random(seed)
    return [" ".join(draw.choice(WORDS) for _ in range(draw.randint(1, longest))) for _ in range(count)]


def corpus(case: Case, count: int = 32, seed: int = 0) -> Translations:
    """Sources, none of them one word twice, and targets that only memory can tell."""
    once = (text for text in texts(2 * count, seed) if len(set(text.split())) > 1 or " " not in text)
    sources = list(dict.fromkeys(once))[:count]
    return Translations(sources, [[texts(1, hash_of(f"{place} {source}"))[0] for place in range(case.targets)] for source in sources])


def hash_of(text: str) -> int:
    """A number of a text that no process's seed changes."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def probes() -> list[str]:
    """What a user may send: a word, unknown letters, texts of many lengths, odd ones, one without any token."""
    draw = random.Random(5)
    lengths = (1, 7, 2, 9, 3)
    return [
        *(" ".join(draw.choice(WORDS) for _ in range(n)) for n in lengths),
        "zzyx qqwv",
        f"{WORDS[0]} 東京 e\u0301 👩\u200d👧",
        "\u200b",
    ]


def network(case: Case, *, seed: int = 0, compute: Compute = FP32, **settings: Any) -> TranslationNetwork:
    """A case's network, its vocabularies of the corpus, its weights drawn from the seed; in training mode."""
    resolved = resolve(TRANSLATION_RUNGS[case.rung].settings, settings_of(case, **settings), network="seq2seq")
    made = TranslationNetwork(resolved, compute, seed)
    made.build_for(corpus(case))
    return made


def everything(made: TranslationNetwork, data: Translations) -> Batch:
    """All pairs as one batch, in their order."""
    return made.batches(data, shuffled=False).gather(np.arange(len(data)))


def asked(case: Case) -> Translations:
    """Probes with targets of many lengths."""
    given = probes()
    return Translations(given, [[text] for text in texts(len(given), 6, longest=7)])


def logits(made: TranslationNetwork, batch: Batch) -> torch.Tensor:
    """Of the targets' tokens (B, T, V), zero in their padding."""
    made.model.eval()
    with torch.inference_mode():
        return spread(made.model(batch), batch)


def spread(found: Predicted, batch: Batch) -> torch.Tensor:
    """Logits (M, V) where their tokens stand, (B, T, V)."""
    assert batch.pair is not None
    whole = found.logits.new_zeros(*batch.pair.mask.shape, found.logits.shape[-1], dtype=torch.float32)
    whole[batch.pair.mask] = found.logits.float()
    return whole


def estimator(case: Case, *, dropout: float | None = None, more: dict[str, Any] | None = None, **options: Any) -> Translator:
    """The estimator of a case, two steps long."""
    options = {"steps": 2, "batch_size": 8, "validation_fraction": 0, "precision": "fp32", "threads": 1, **options}
    return Translator(case.rung, settings_of(case, dropout=dropout, **(more or {})), **options)


@cache
def learnt(name: str) -> Translator:
    """A case that has seen its 32 pairs often enough."""
    case = CASES[name]
    data = corpus(case)
    made = estimator(case, dropout=0.0, more={"learning_rate": 0.03}, steps=case.steps, batch_size=32)
    return made.fit(data.sources, data.targets)


def fitted(name: str) -> Translator:
    """The estimator of a case, fitted: a tenth held out, every kind of dropout at work."""
    data = corpus(CASES[name], 40)
    return estimator(CASES[name], dropout=0.3, steps=4, batch_size=16, validation_fraction=0.1).fit(data.sources, data.targets)


def digest(made: Translator) -> str:
    """Of the weights by name, of the vocabularies, and of what training said on its way."""
    arrays, described, words = made.engine_.saved()
    content = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        content.update(name.encode() + array.tobytes())
    content.update(json.dumps([described, words, made.history_.checks], sort_keys=False, default=str).encode())
    return content.hexdigest()


# Where training draws in every way that there is; all that goes by a seed or a checkpoint is tried on these alone, as it takes long.
DRAWN = [*RUNGS, "hard", "monotonic", "scheduled sampling", "sampling at once, rotary"]

if __name__ == "__main__":
    print(json.dumps({name: digest(fitted(name)) for name in DRAWN}))
