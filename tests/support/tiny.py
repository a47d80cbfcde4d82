"""What the contracts are held against: every neural rung of the ladder and every encoder there is, made small, and a tiny corpus.

Both lists come from weft's own tables, so a new row is under the contracts the moment it is there. What word vectors do to an embedding
table comes before every encoder alike, so a few rungs stand for all there: "cnn, static" is the rung cnn, started from `VECTORS`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from weft.data.batch import IGNORED, Batch, with_tokens
from weft.device import Compute
from weft.estimators.engines import ENGINES
from weft.estimators.network import Examples, Network
from weft.estimators.rungs import RUNGS, TEXT_RUNGS
from weft.estimators.settings import Settings, resolve
from weft.estimators.vectors import Vectors
from weft.models.encoders import ENCODERS

MINILM = str(Path(__file__).with_name("minilm"))  # a tiny random checkpoint in the place of every real one, see checkpoints.py
NEURAL = [name for name, rung in RUNGS.items() if rung.engine == "neural"]
STARTED = [f"{rung}, {mode}" for rung in ("bag", "cnn") for mode in ("static", "non-static", "multichannel")]
STARTED += ["lstm, static", "bilstm, multichannel", "transformer, multichannel"]
CASES = [*NEURAL, "minilm", *STARTED]  # ulmfit, which needs a language model, is in tests/estimators/test_ulmfit.py
KINDS = {
    "classes": ("classification", False),
    "labels": ("multi-label", False),
    "number": ("regression", False),
    "pair": ("classification", True),
}
# every case with every head that it can have
HEADS = [
    (case, kind)
    for case in CASES
    for kind, (task, pair) in KINDS.items()
    if task in TEXT_RUNGS[case.partition(",")[0]].tasks and not (pair and not TEXT_RUNGS[case.partition(",")[0]].reads_pairs)
]
FP32 = Compute(torch.device("cpu"), "fp32", 1)
BF16 = Compute(torch.device("cpu"), "bf16", 1)
CLASSES = 3
SIZES = {"embedding_size": 16, "hidden_size": 16, "filters": 8, "heads": 2, "buckets": 64}
SYLLABLES = ("ba", "ke", "di", "lo", "mu", "ra", "se", "ti", "no", "fu")
WORDS = [first + second for first in SYLLABLES for second in SYLLABLES[:5]]
UNKNOWN = ("zzyx", "qqwv", "xxkj")
VECTORS = SimpleNamespace(  # what KeyedVectors are to who starts from them: most of the words, and some that no text has
    key_to_index={word: row for row, word in enumerate([*UNKNOWN, *WORDS[39::-1]])},
    vectors=np.random.default_rng(3).normal(0, 0.3, (43, 12)).astype(np.float32),
    subwords=None,
)

# Encoders by name, with settings that change what they do to a mask or an order; every encoder is also run with its defaults, made small.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "window": [{"window": 0}, {"window": 3, "activation": "sigmoid"}],
    "cnn": [{"widths": (2, 5), "padding": "wide", "activation": "sigmoid"}, {"widths": (3,), "padding": "narrow"}],
    "dilated-cnn": [{"stride": 2}, {"width": 2, "dilations": (1, 3)}],
    "recurrent": [
        {"cell": "elman", "activation": "sigmoid"},
        {"cell": "gru", "layers": 2, "bidirectional": True},
        {"cell": "lstm", "layers": 2, "bidirectional": True},
        {"cell": "peephole-lstm", "layers": 2, "residual": True, "initial": "learnt"},
        {"cell": "coupled-lstm", "bidirectional": True, "peepholes": "full", "output_depth": 1},
        {"cell": "gru", "reset": "before", "update": "candidate", "input_depth": 1, "state_depth": 1},
    ],
    "transformer": [{"norm": "post", "positions": "learned", "activation": "relu"}, {"positions": "none"}],
}
ENCODER_CASES = [(name, settings) for name in ENCODERS for settings in ({}, *VARIANTS.get(name, []))]


def rung_of(case: str) -> str:
    """ "cnn, static" → "cnn"."""
    return case.partition(",")[0]


def vectors_of(case: str) -> Any:
    """The word vectors that a case starts from, or None."""
    return VECTORS if "," in case else None


def small(case: str, *, dropout: float | None = None, **more: Any) -> dict[str, Any]:
    """A rung's settings with every size made small, as far as it has them; `dropout` sets every rate of every kind of dropout.

    Of a case that starts from word vectors, what an estimator's `settings` would be: no size of the embeddings, which is theirs.
    """
    rung, _, mode = case.partition(", ")
    own = TEXT_RUNGS[rung].settings
    known = resolve(own, network=TEXT_RUNGS[rung].network).flat
    chosen: dict[str, Any] = {name: size for name, size in SIZES.items() if known.get(name) is not None}
    if "pretrained" in known:
        chosen |= {"pretrained": MINILM, "maximum_length": 90, "learning_rate": 1e-3}
    if known.get("head"):
        chosen["head"] = tuple(16 for _ in known["head"])
    if dropout is not None:
        chosen.update({name: dropout for name in known if "dropout" in name or name == "variational"})
    if not mode:
        return {**own, **chosen, **more}
    chosen = {name: value for name, value in {**own, **chosen}.items() if name != "embedding_size"}
    if mode == "static":
        chosen.pop("ngrams", None)
    return {**chosen, "vectors_mode": mode, **more}


def resolved(case: str, **settings: Any) -> Settings:
    """A rung's settings, made small, by who takes them."""
    return resolve(small(case, **settings), network=TEXT_RUNGS[rung_of(case)].network)


def words(count: int, draw: random.Random) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(count))


def corpus(kind: str = "classes", count: int = 32, seed: int = 0) -> Examples:
    """Texts of 1 to 12 known words, with targets that only memory can tell."""
    draw = random.Random(seed)
    task, pair = KINDS[kind]
    texts = [words(draw.randint(1, 12), draw) for _ in range(count)]
    pairs = [words(draw.randint(1, 12), draw) for _ in range(count)] if pair else None
    if task == "classification":
        targets = np.array([draw.randrange(CLASSES) for _ in range(count)])
    elif task == "multi-label":
        targets = np.array([[draw.random() < 0.4 for _ in range(CLASSES)] for _ in range(count)], np.float32)
    else:
        targets = np.array([draw.gauss(0, 1) for _ in range(count)], np.float32)
    return Examples(texts, pairs, targets)


def probes(kind: str = "classes") -> Examples:
    """What a user may send: nothing, unknown words alone, one word, texts of many lengths."""
    draw = random.Random(5)
    lengths = (1, 9, 2, 17, 3, 5, 4, 30)
    texts = ["", *[words(n, draw) for n in lengths], " ".join(UNKNOWN), f"{WORDS[0]} {UNKNOWN[0]}"]
    task, pair = KINDS[kind]
    pairs = texts[3:] + texts[:3] if pair else None
    shape = (len(texts), CLASSES) if task == "multi-label" else (len(texts),)
    return Examples(texts, pairs, np.zeros(shape, np.int64 if task == "classification" else np.float32))


def network(
    rung: str, kind: str = "classes", *, seed: int = 0, compute: Compute = FP32, data: Examples | None = None, **settings: Any
) -> Network:
    """A rung, small, its tokenizer trained on the corpus, its weights drawn from the seed; in training mode."""
    task, pair = KINDS[kind]
    outputs = 1 if task == "regression" else CLASSES
    data = corpus(kind) if data is None else data
    vectors = None if vectors_of(rung) is None else Vectors(vectors_of(rung))
    chosen = resolved(rung, **settings)
    made = ENGINES[TEXT_RUNGS[rung_of(rung)].network](task, outputs, chosen, compute, seed, vectors)
    made.build(list(data.texts) + list(data.pairs or []), pair)
    return made


def everything(made: Network, data: Examples) -> Batch:
    """All examples as one batch, in their order."""
    return made.batches(data, shuffled=False).gather(np.arange(len(data)))


def widened(batch: Batch, columns: int, fill: int = 0) -> Batch:
    """The batch with that many further columns of padding, which hold `fill`; the second texts of pairs, and targets of tokens, too."""
    pair = None if batch.pair is None else widened(batch.pair, columns, fill)
    targets = batch.targets
    if targets is not None and with_tokens(targets):
        targets = F.pad(targets, (*(0, 0) * (targets.dim() - 2), 0, columns), value=IGNORED)
    inputs, mask = F.pad(batch.inputs, (0, columns), value=fill), F.pad(batch.mask, (0, columns), value=False)
    return replace(batch, inputs=inputs, mask=mask, targets=targets, pair=pair)


def make_small(encoder: str, settings: Mapping[str, Any], input_size: int = 6, seed: int = 0) -> torch.nn.Module:
    """An encoder of ENCODERS, small, in evaluation mode."""
    from dataclasses import fields

    from weft.models.encoders import make_encoder

    known = {field.name for field in fields(ENCODERS[encoder][0])}
    torch.manual_seed(seed)
    return make_encoder(encoder, input_size, {**{name: size for name, size in SIZES.items() if name in known}, **settings}).eval()


def ragged(lengths: tuple[int, ...], size: int = 6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random vectors (B, T, size) and their mask: rows of these lengths, zeros after them."""
    mask = torch.arange(max(1, *lengths)) < torch.tensor(lengths)[:, None]
    x = torch.randn(*mask.shape, size, generator=torch.Generator().manual_seed(seed))
    return x * mask[..., None], mask


def weights(model: torch.nn.Module) -> dict[str, bytes]:
    """The bytes of every parameter and buffer."""
    return {name: tensor.detach().numpy().tobytes() for name, tensor in model.state_dict().items()}
