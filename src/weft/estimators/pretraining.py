"""Pretraining an encoder from raw text (E102–E104): documents → tokenizer, network, a folder that `pretrained` and --from read.

"bert": WordPiece, hidden tokens and next sentences (Devlin et al., 2019). "roberta": byte-level pieces, hidden tokens alone, fresh in every
epoch (Liu et al., 2019).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from weft import __version__
from weft.data.batch import IGNORED, Batch
from weft.data.checkpoint_files import write_tokenizer
from weft.data.checkpoints import BertTokenizer, ByteLevelTokenizer, CheckpointTokenizer
from weft.data.masking import Masker, Masking
from weft.data.next_sentence import NextSentence, Packed
from weft.data.subwords import BytePairTokenizer, WordPieceTokenizer
from weft.device import Compute, choose
from weft.errors import InputError, meant
from weft.estimators.engine import Budget, Engine
from weft.estimators.masked_batches import MaskedBatches
from weft.estimators.settings import Settings, resolve_whole
from weft.estimators.training import progress, training_in
from weft.files import atomic_write, plain, write_json
from weft.losses import Loss, PretrainingLoss
from weft.models.bert import BertConfig
from weft.models.huggingface import config_to, weights_to
from weft.models.pretraining import Pretraining, PretrainingOutputs
from weft.nn.activations import ACTIVATIONS
from weft.saving import CHECKPOINT, check_folder
from weft.training.loop import evaluate

log = logging.getLogger("weft")
Documents = Sequence[Sequence[str]]
MODELS = ("bert", "roberta")
UNKNOWN = "<unk>"  # as corpora write a word that they left out
HELD = 0.05  # of the documents, where no development data is given


@dataclass(frozen=True)
class PretrainingSettings:
    """Of the tokenizer (vocabulary_size ids at most; lowercase: of bert alone), the network (as of BertConfig), what is asked (mask_rate,
    masked, replaced, exact, whole_words, dynamic: as of Masking; short, same_document: as of NextSentence; reduction: of the loss), and the
    training (checks: of development data). maximum_length: of a row, in tokens."""

    vocabulary_size: int = 8000
    lowercase: bool = True
    maximum_length: int = 128
    hidden_size: int = 256
    layers: int = 4
    heads: int = 4
    inner: int = 0
    dropout: float = 0.1
    activation: str = "gelu"
    mask_rate: float = 0.15
    masked: float = 0.8
    replaced: float = 0.1
    exact: bool = False
    whole_words: bool = False
    dynamic: bool = True
    short: float = 0.1
    same_document: bool = False
    reduction: str = "mean"
    epochs: float = 10
    batch_tokens: int = 8192
    patience: int = 0
    checks: int = 10


TRAINING: dict[str, Any] = {"learning_rate": 1e-3, "schedule": "linear", "warmup": 0.1, "weight_decay": 0.01, "monitor": "loss"}
LEAST = {
    "vocabulary_size": 8, "maximum_length": 5, "hidden_size": 1, "layers": 1, "heads": 1, "inner": 0, "batch_tokens": 1, "patience": 0,
    "checks": 1,
}  # fmt: skip
NETWORK = ("hidden_size", "layers", "heads", "inner", "dropout", "activation")


def resolve(given: Mapping[str, Any] | None) -> Settings:
    """The settings with those that are given. Raises InputError for a name there is not, or a value that it cannot have."""
    made = resolve_whole(PretrainingSettings, given, training=TRAINING, least=LEAST, network=NETWORK)
    own = made.tokenizer
    if not 0 <= own["dropout"] < 1 or not 0 <= own["short"] <= 1:
        raise InputError(f"must be shares, not {own['dropout']} and {own['short']}", "dropout, short")
    if own["activation"] not in ACTIVATIONS:
        raise InputError(f"there is no {own['activation']!r}{meant(own['activation'], ACTIVATIONS)}", "activation")
    _masking(own)
    return made


def _masking(own: Mapping[str, Any]) -> Masking:
    try:
        return Masking(own["mask_rate"], own["masked"], own["replaced"], own["exact"], own["whole_words"], own["dynamic"])
    except ValueError as error:
        raise InputError(str(error), "mask_rate, masked, replaced") from None


class PretrainingNetwork(Engine):
    """A tokenizer and a network under two heads, learnt from documents, lists of sentences."""

    tokenizer: CheckpointTokenizer
    model: Pretraining

    def __init__(self, family: str, settings: Settings, compute: Compute, seed: int) -> None:
        super().__init__("pretraining", settings, compute, seed)
        self.family, self.pairs = family, family == "bert"
        self.commonest = 0  # the token that a guess without reading would be

    def build_for(self, data: Documents) -> None:
        told = self.settings.tokenizer
        texts = [sentence.replace(UNKNOWN, " ") for document in data for sentence in document]
        if self.family == "bert":
            pieces = WordPieceTokenizer.train(texts, maximum_size=told["vocabulary_size"], lowercase=told["lowercase"])
            self.tokenizer = BertTokenizer.of(pieces)
        else:  # <s>, </s> and <mask> come on top
            merged = BytePairTokenizer.train(texts, maximum_size=told["vocabulary_size"] - 3, lowercase=False)
            self.tokenizer = ByteLevelTokenizer.of(merged)
        separator = self.tokenizer.id_of("separator")
        form = {"segments": 2} if self.pairs else {"segments": 1, "position_offset": 2, "epsilon": 1e-5}
        config = BertConfig(
            vocabulary_size=self.tokenizer.size, maximum_positions=told["maximum_length"], separator=separator, pooler=self.pairs,
            **form, **self.settings.network,
        )  # fmt: skip
        self.model = self.draw(lambda: Pretraining(config, next_sentence=self.pairs))

    def encoded(self, data: Documents) -> list[list[np.ndarray]]:
        """The ids of each sentence, without special tokens but the unknown one where the text says <unk>."""
        parts = [part for document in data for sentence in document for part in sentence.split(UNKNOWN)]
        ids, hole = iter(self.tokenizer.pieces(parts)), [self.tokenizer.id_of("unknown") or 0]
        found: list[list[np.ndarray]] = []
        holes = 0
        for document in data:
            found.append([])
            for sentence in document:
                row = next(ids)
                for _ in range(sentence.count(UNKNOWN)):
                    row, holes = row + hole + next(ids), holes + 1
                found[-1].append(np.array(row, np.int32))
        if holes:
            log.info("%d words that the text gives as %s are the unknown token, and never asked for", holes, UNKNOWN)
        return found

    def batches(self, data: Documents, *, shuffled: bool) -> Any:
        told, seed, tokenizer = self.settings.tokenizer, self.seed if shuffled else self.seed + 1, self.tokenizer
        ids, special = self.encoded(data), [tokenizer.id_of(role) or 0 for role in ("first", "separator", "mask")]
        room = {"maximum_length": told["maximum_length"], "first": special[0], "separator": special[1]}
        rows = (
            NextSentence(ids, **room, seed=seed, short=told["short"], same_document=told["same_document"])
            if self.pairs
            else Packed(ids, **room)
        )
        masker = Masker(
            _masking(told),
            vocabulary_size=tokenizer.size,
            mask=special[2],
            special=tokenizer.special_ids,
            seed=seed,
            continues=self._continues(),
        )
        budgets = {name: value for name, value in self.budgets(shuffled=shuffled).items() if name != "examples"}
        found = MaskedBatches(rows, masker, **budgets)
        if shuffled:
            counts = found.counts(tokenizer.size) * masker.open
            self.commonest = int(counts.argmax())
            log.info("%d rows, %d tokens of %d kinds", len(found), counts.sum(), tokenizer.size)
        return found

    def _continues(self) -> np.ndarray:
        """Which tokens go on with the word before."""
        if self.family == "bert":
            return np.array([token.startswith("##") for token in self.tokenizer.tokens])
        return np.array([not token.startswith("Ġ") for token in self.tokenizer.tokens])

    def loss(self, data: Documents) -> Loss:
        return PretrainingLoss(self.settings.tokenizer["reduction"])

    def metrics(self) -> Mapping[str, Any]:
        found: dict[str, Any] = {"masked_accuracy": _Share(_recovered), "unigram_accuracy": _Share(self._guessed)}
        return {**found, "next_accuracy": _Share(_told)} if self.pairs else found

    def _guessed(self, outputs: PretrainingOutputs, batch: Batch) -> Tensor:
        return outputs.tokens == self.commonest


class _Share:
    """A stream of how often something is so."""

    def __init__(self, of: Callable[[PretrainingOutputs, Batch], Tensor]) -> None:
        self.of, self.right, self.count = of, 0, 0

    def update(self, outputs: PretrainingOutputs, batch: Batch) -> None:
        found = self.of(outputs, batch)
        self.right, self.count = self.right + int(found.sum()), self.count + len(found)

    def compute(self) -> float:
        return self.right / self.count if self.count else 0.0


def _recovered(outputs: PretrainingOutputs, batch: Batch) -> Tensor:
    return outputs.logits.argmax(1) == outputs.tokens


def _told(outputs: PretrainingOutputs, batch: Batch) -> Tensor:
    assert outputs.following is not None
    assert batch.targets is not None
    labels = batch.targets[:, 0]
    return (outputs.following.argmax(1) == labels)[labels != IGNORED]


def pretrain(
    documents: Documents,
    folder: str | Path,
    *,
    model: str = "bert",
    dev: Documents | None = None,
    settings: Mapping[str, Any] | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    resume: bool = False,
    data: str = "",
    console: Any = None,
    random_state: int = 0,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> dict[str, Any] | None:
    """Learns an encoder from documents, each a list of sentences, and writes its folder; answers metrics of dev.

    The folder is a checkpoint as the Hugging Face libraries have it, the heads included; `pretrained(folder)` and --from read it. Without
    dev, a twentieth of the documents is set aside. While it trains, folder/checkpoint.safetensors is kept, from which resume=True goes on
    to the same bytes. At most one budget of epochs, steps and minutes. Under torchrun the main process alone writes and answers; the
    others get None. Raises InputError for a model there is not, settings that cannot be, a corpus that is too small, and a folder of other
    things.
    """
    folder = Path(folder)
    if model not in MODELS:
        raise InputError(f"there is no {model!r} to pretrain{meant(model, MODELS)}; there are {', '.join(MODELS)}", "model")
    budget = budget_of(epochs=epochs, steps=steps, minutes=minutes)
    check_folder(folder)
    engine = PretrainingNetwork(model, resolve(settings), choose(device, precision, threads), random_state)
    if dev is None:
        documents, dev = split_documents(documents, engine.pairs, random_state)
    with training_in(folder, engine.compute.device, resume) as main:
        with progress(model, console if main else None) as bar:
            callbacks = [bar] if bar is not None else []
            engine.fit(documents, dev, budget, checkpoint=folder / CHECKPOINT, resume=resume, callbacks=callbacks)
        if not main:
            return None
        record = _measured(engine, dev)
        write_folder(folder, engine, record, data)
        return record


def budget_of(**given: float | None) -> Budget:
    """The one budget of epochs, steps and minutes that is given, or none. Raises InputError for two, and for one that is not above 0."""
    budgets: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if len(budgets) > 1:
        raise InputError(f"give one budget, not {' and '.join(budgets)}", list(budgets)[1])
    if wrong := next((name for name, value in budgets.items() if not value > 0), None):
        raise InputError(f"must be above 0, not {budgets[wrong]}", wrong)
    return Budget(**budgets)


def split_documents(documents: Documents, pairs: bool, seed: int) -> tuple[Documents, Documents]:
    """(the rest, a twentieth of the documents by the seed); of those with pairs in them, where pairs are made. InputError where too few."""
    usable = [number for number, document in enumerate(documents) if len(document) >= (2 if pairs else 1)]
    count = max(2, round(HELD * len(usable)))
    if len(usable) < count + 2:
        raise InputError(
            f"has {len(usable)} documents to learn from: too few to set some aside; give development data of its own", "corpus"
        )
    chosen = set(np.random.default_rng([seed, 103]).permutation(usable)[:count].tolist())
    parts = [[document for number, document in enumerate(documents) if (number in chosen) == held] for held in (False, True)]
    return parts[0], parts[1]


def _measured(engine: PretrainingNetwork, dev: Documents) -> dict[str, Any]:
    """Metrics of dev, with 95 % intervals of those that are shares, and how the training went."""
    batches, metrics = engine.batches(dev, shuffled=False), engine.metrics()
    engine.model.eval()
    with torch.inference_mode():
        found = evaluate(engine.model, batches, metrics, engine.loss(dev), engine.compute.device)
    history = engine.history
    assert history is not None
    parts = ("steps", "epochs", "best_step", "stopped", "seconds")
    return {
        "split": "dev", "rows": len(batches), "maximum_length": engine.model.config.maximum_positions, "metrics": found,
        "counts": {name: share.count for name, share in metrics.items()},
        "intervals": {name: wilson(share.right, share.count) for name, share in metrics.items()},
        "parameters": engine.parameters(), "training": {part: getattr(history, part) for part in parts}, "checks": history.checks,
    }  # fmt: skip


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, 1927)."""
    if not count:
        return 0.0, 1.0
    z, share = 1.959964, right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return middle - half, middle + half


# Our heads' weights by the names that checkpoints have for them.
HEADS: dict[str, dict[str, str]] = {
    "bert": {
        "transform": "cls.predictions.transform.dense", "norm": "cls.predictions.transform.LayerNorm", "tokens": "cls.predictions",
        "following": "cls.seq_relationship",
    },
    "roberta": {"transform": "lm_head.dense", "norm": "lm_head.layer_norm", "tokens": "lm_head"},
}  # fmt: skip
ARCHITECTURES = {"bert": "BertForPreTraining", "roberta": "RobertaForMaskedLM"}


def write_folder(folder: Path, engine: PretrainingNetwork, record: Mapping[str, Any], data: str) -> None:
    """The checkpoint's folder; config.json is written last."""
    model, family = engine.model, engine.family
    arrays = {f"{family}.{name}": tensor for name, tensor in weights_to(family, model.config, model.bert.state_dict()).items()}
    for name, tensor in model.state_dict().items():
        part, _, rest = name.partition(".")
        if part in HEADS[family]:
            arrays[f"{HEADS[family][part]}.{rest}"] = tensor
    with atomic_write(folder / "model.safetensors", "wb") as file:
        file.write(save({name: tensor.detach().cpu().contiguous() for name, tensor in arrays.items()}, {"format": "pt"}))
    write_tokenizer(folder, engine.tokenizer)
    training = {name: value for name, value in record["training"].items() if name != "seconds"}  # the same from a resumed run
    about = {**record, "training": training, "settings": engine.settings.flat, "data": data, "seed": engine.seed}
    write_json(folder / "metrics.json", plain(about))
    with atomic_write(folder / "README.md") as file:
        file.write(_card(engine, record, data))
    write_json(folder / "config.json", {**config_to(family, model.config), "architectures": [ARCHITECTURES[family]]})


def _card(engine: PretrainingNetwork, record: Mapping[str, Any], data: str) -> str:
    config, training = model_sizes(engine.model.config), record["training"]
    lines = ["---", "library_name: weft", "tags: [fill-mask]", "---", "", f"# {engine.family}, pretrained", "", "| | |", "|---|---|"]
    lines += [f"| made by | weft {__version__} |", f"| data | {data or 'given in Python'} |", f"| seed | {engine.seed} |"]
    lines += [f"| network | {config}; {record['parameters']:,} parameters |"]
    spent = (
        f"{training['steps']} steps ({training['epochs']:.1f} epochs), best at step {training['best_step']}, {training['seconds']:.1f} s"
    )
    lines += [f"| training | {spent} |", "", "## Metrics on dev", "", "| metric | value |", "|---|---|"]
    lines += [f"| {name} | {value:.4f} |" for name, value in record["metrics"].items()]
    return "\n".join(
        [
            *lines,
            "",
            "## Use",
            "",
            "```sh",
            f"weft train DATA --from this-folder --set maximum_length={engine.model.config.maximum_positions} --out DIR",
            "```",
            "",
        ]
    )


def model_sizes(config: BertConfig) -> str:
    """The network in words."""
    return f"{config.layers} layers of {config.hidden_size}, {config.heads} heads, {config.vocabulary_size:,} tokens"
