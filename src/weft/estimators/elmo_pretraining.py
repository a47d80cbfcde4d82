"""ELMo from raw text (E106): sentences → vocabularies, network, a model folder that other networks start from.

Words are what stands between blanks, as in tokenised corpora.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from weft import __version__
from weft.data.batch import Batches
from weft.data.lexicon import Words
from weft.device import Compute, choose
from weft.errors import InputError, meant
from weft.estimators.elmo import ESTIMATOR
from weft.estimators.engine import Engine
from weft.estimators.pretraining import Documents, budget_of, split_documents
from weft.estimators.settings import Settings, resolve_whole
from weft.estimators.training import progress, training_in
from weft.files import plain
from weft.metrics import Metric
from weft.models.elmo import BothDirections, Elmo, ElmoConfig
from weft.nn.outputs import OUTPUTS
from weft.saving import CHECKPOINT, check_folder, write_model
from weft.training.loop import evaluate

Sentence = Sequence[str]


@dataclass(frozen=True)
class ElmoSettings:
    """Of the vocabularies (as of Words; maximum_length: of a piece of a sentence, in words), the network (as of ElmoConfig), and the
    training (checks: of development data)."""

    lowercase: bool = False
    minimum_count: int = 1
    maximum_size: int = 30_000
    maximum_characters: int = 24
    maximum_length: int = 100
    character_size: int = 16
    widths: tuple[int, ...] = (1, 2, 3, 4, 5)
    filters: int = 64
    highways: int = 1
    size: int = 128
    layers: int = 2
    dropout: float = 0.1
    output: str = "adaptive"
    epochs: float = 10
    batch_tokens: int = 2048
    patience: int = 0
    checks: int = 10


NETWORK = ("character_size", "widths", "filters", "highways", "size", "layers", "dropout", "output")
WORDS = ("lowercase", "minimum_count", "maximum_size", "maximum_characters")
LEAST = {
    **dict.fromkeys(("minimum_count", "maximum_size", "maximum_characters", "maximum_length", "character_size", "widths", "filters"), 1),
    "highways": 0, "size": 1, "layers": 1, "batch_tokens": 1, "patience": 0, "checks": 1,
}  # fmt: skip
TRAINING: dict[str, Any] = {"learning_rate": 2e-3, "schedule": "linear", "warmup": 0.05, "monitor": "loss"}


def resolve(given: Mapping[str, Any] | None) -> Settings:
    """The settings with those that are given. Raises InputError for a name there is not, or a value that it cannot have."""
    made = resolve_whole(ElmoSettings, given, training=TRAINING, least=LEAST, network=NETWORK)
    own = made.network
    if not 0 <= own["dropout"] < 1:
        raise InputError(f"must be at least 0 and below 1, not {own['dropout']}", "dropout")
    there = [name for name in OUTPUTS if name != "tied"]
    if own["output"] not in there:
        raise InputError(f"there is no {own['output']!r}{meant(own['output'], there)}; there are {', '.join(there)}", "output")
    return made


class ElmoNetwork(Engine):
    """Vocabularies and two language models, learnt from sentences."""

    words: Words
    model: Elmo

    def __init__(self, settings: Settings, compute: Compute, seed: int) -> None:
        super().__init__("elmo", settings, compute, seed)

    def build_for(self, data: Sequence[Sentence]) -> None:
        self.words = Words.train(data, **{name: self.settings.tokenizer[name] for name in WORDS})
        rows, lexicon = self.words.encode(data)
        counts = np.bincount(lexicon.word[np.concatenate(rows)], minlength=self.words.size)
        counts[0] += 2 * len(data)  # what is foretold at both ends
        config = ElmoConfig(self.words.size, len(self.words.characters), **self.settings.network)
        self.model = self.draw(lambda: Elmo(config, counts))

    def batches(self, data: Sequence[Sentence], *, shuffled: bool) -> Batches:
        rows, lexicon = self.words.encode(data)
        return Batches(rows, lexicon=lexicon, **self.budgets(shuffled=shuffled))

    def budgets(self, *, shuffled: bool) -> dict[str, Any]:
        """By padded tokens, also where nothing is trained: an output layer's scores are large."""
        return {**super().budgets(shuffled=shuffled), "tokens": self.settings.budget["batch_tokens"], "examples": None}

    def loss(self, data: Sequence[Sentence]) -> BothDirections:
        return BothDirections()

    def metrics(self) -> Mapping[str, Metric]:
        return {}


def pretrain(
    documents: Documents,
    folder: str | Path,
    *,
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
    """Learns ELMo from documents, each a list of sentences, and writes its folder; answers metrics of dev.

    Without dev, a twentieth of the documents is set aside. While it trains, folder/checkpoint.safetensors is kept, from which resume=True
    goes on to the same bytes. At most one budget of epochs, steps and minutes. Under torchrun the main process alone writes and answers.
    Raises InputError for settings that cannot be, a corpus that is too small, and a folder of other things.
    """
    folder, budget = Path(folder), budget_of(epochs=epochs, steps=steps, minutes=minutes)
    check_folder(folder)
    engine = ElmoNetwork(resolve(settings), choose(device, precision, threads), random_state)
    if dev is None:
        documents, dev = split_documents(documents, False, random_state)
    length = engine.settings.tokenizer["maximum_length"]
    train, held = sentences_of(documents, length), sentences_of(dev, length)
    if not train or not held:
        raise InputError("has no sentence to learn from" if not train else "has no sentence to measure on", "corpus")
    with training_in(folder, engine.compute.device, resume) as main:
        with progress("elmo", console if main else None) as bar:
            callbacks = [bar] if bar is not None else []
            engine.fit(train, held, budget, checkpoint=folder / CHECKPOINT, resume=resume, callbacks=callbacks)
        if not main:
            return None
        record = _measured(engine, held)
        _write(folder, engine, record, data)
        return record


def sentences_of(documents: Documents, length: int) -> list[Sentence]:
    """The words of every sentence, long ones in pieces of `length`."""
    words = (sentence.split() for document in documents for sentence in document)
    return [one[start : start + length] for one in words for start in range(0, len(one), length)]


def _measured(engine: ElmoNetwork, held: Sequence[Sentence]) -> dict[str, Any]:
    """The loss of dev, both directions together, its perplexity a direction, and how the training went."""
    engine.model.eval()
    with torch.inference_mode():
        found = evaluate(engine.model, engine.batches(held, shuffled=False), {}, engine.loss(held), engine.compute.device)
    history = engine.history
    assert history is not None
    training = {part: getattr(history, part) for part in ("steps", "epochs", "best_step", "stopped", "seconds")}
    metrics = {"perplexity": math.exp(min(found["loss"] / 2, 700.0)), "loss": found["loss"]}
    return {
        "split": "dev", "rows": len(held), "metrics": metrics, "intervals": {}, "parameters": engine.parameters(), "training": training,
        "checks": history.checks,
    }  # fmt: skip


def _write(folder: Path, engine: ElmoNetwork, record: Mapping[str, Any], data: str) -> None:
    """The model folder; what time it took is in its card alone, so that a resumed run's other files are the same."""
    training = {name: value for name, value in record["training"].items() if name != "seconds"}
    config = {
        "weft": __version__, "estimator": ESTIMATOR, "model": "elmo",
        "engine": plain({"network": asdict(engine.model.config), "settings": engine.settings.flat}), "seed": engine.seed,
    }  # fmt: skip
    card = "\n".join([
        "# ELMo", "", f"weft {__version__}; data: {data or 'given in Python'}; seed {engine.seed}; {record['parameters']:,} parameters; "
        f"{training['steps']} steps, {record['training']['seconds']:.1f} s; perplexity on dev {record['metrics']['perplexity']:.1f}.",
        "", "```sh", "weft train DATA --elmo this-folder --out DIR", "```", "",
    ])  # fmt: skip
    write_model(
        folder, config=config, arrays=engine.arrays(), tokenizer=engine.words.to_dict(), card=card,
        metrics=plain({**record, "training": training}),
    )  # fmt: skip
