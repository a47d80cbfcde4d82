"""The engine of classifiers over a language model: its encoder and tokenizer, tuned on the task's texts if asked, under a pooling and a
head (E107–E109; Howard & Ruder, 2018)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from weft.device import Compute
from weft.errors import InputError
from weft.estimators.base import not_ours
from weft.estimators.engine import Budget
from weft.estimators.language_network import LanguageNetwork
from weft.estimators.language_start import saved_language
from weft.estimators.network import Network
from weft.estimators.rungs import LANGUAGE_RUNGS
from weft.estimators.settings import resolve
from weft.estimators.spelling import Spelling
from weft.files import sha256
from weft.models.classifier import Classifier, ClassifierConfig
from weft.models.language_model import LanguageModelConfig

log = logging.getLogger("weft")
OF_THE_LANGUAGE_MODEL = ("pretrained", "layer_dropout", "language_epochs", "language_rate")
SHARED = ("schedule", "layer_decay")  # settings of the training that both stages have


@dataclass
class Beginnings:
    """Texts → ids as a language model reads a text from its beginning: the end of what was before, tokens, ends of lines among them."""

    spelling: Spelling

    @property
    def size(self) -> int:
        """How many ids there are."""
        return self.spelling.size

    def encode_ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each text."""
        return [self.spelling.prompt(text) for text in texts]

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` needs, as JSON can hold it."""
        return self.spelling.to_dict()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """What `to_dict` described."""
        return cls(Spelling.from_dict(data))


class TunedLanguage(LanguageNetwork):
    """A language model that is there already, trained on."""

    def build_for(self, data: Sequence[str]) -> None:
        """Nothing: it is."""

    def tune(self, texts: Sequence[str], epochs: float, **train: Any) -> None:
        """So many epochs of the texts, all layers at once, with these settings of training; optimizer, clip and decay as it had them."""
        kept = {name: self.settings.train[name] for name in ("optimizer", "clip", "weight_decay")}
        fresh = {**resolve({}, network="language-model").train, **kept, **train}
        self.settings = replace(self.settings, train=fresh)
        self.fit(list(texts), None, Budget(epochs=epochs))


def read_language(source: str | Path, compute: Compute, seed: int) -> TunedLanguage:
    """The neural language model of a model folder. Raises InputError where the folder is none."""
    if not str(source):
        raise InputError("names no language model: give the folder of one, which weft train TEXT --task language-model makes", "pretrained")
    saved = saved_language(source)
    engine = saved.config["engine"]
    try:
        made = TunedLanguage(resolve(engine["settings"], network=LANGUAGE_RUNGS[saved.config["model"]].network), compute, seed)
        made.take(engine["network"], saved.tokenizer or {}, saved.arrays)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise not_ours(error, Path(source)) from error
    return made


class UlmfitNetwork(Network):
    """A language model's tokenizer and encoder under a pooling and a head, trained, asked and saved together."""

    tokenizer: Beginnings | None  # type: ignore[assignment]

    def build(self, texts: Sequence[str], pair: bool) -> None:
        """Takes tokenizer and encoder from the language model, tuned on the texts where epochs of it are asked for; draws the head."""
        network = self.settings.network
        source, epochs = network["pretrained"], network["language_epochs"]
        start = read_language(source, self.compute, self.seed)
        self.tokenizer = Beginnings(start.spelling)
        self._look(texts, start)
        if epochs:
            log.info("%s: %g epochs of foretelling the %d texts first", source, epochs, len(texts))
            start.tune(texts, epochs, learning_rate=network["language_rate"], **{name: self.settings.train[name] for name in SHARED})
        own = {name: value for name, value in network.items() if name not in OF_THE_LANGUAGE_MODEL}
        encoder = asdict(_encoder_config(start.model.config, network["layer_dropout"]))
        config = ClassifierConfig(start.spelling.size, self.outputs, "language-model", encoder, pair=pair, **own)
        model = self.draw(lambda: Classifier(config))
        weights = {name: value for name, value in start.model.state_dict().items() if name.startswith(("embedding.", "encoder."))}
        model.encoder.load_state_dict(weights)
        self.model = model
        self.pretrained_facts = {"name": str(source), "family": "language-model", "sha256": sha256(Path(source) / "model.safetensors")}

    def _look(self, texts: Sequence[str], start: LanguageNetwork) -> None:
        """Says how much of the texts the language model does not know. Raises InputError where rows may be longer than it sees."""
        assert self.tokenizer is not None
        longest, room = self.settings.tokenizer["maximum_length"], start.model.context
        if room is not None and not 0 < longest <= room:
            message = f"must be from 1 to the {room} tokens that the language model sees at once, not {longest}"
            raise InputError(message, "maximum_length")
        rows = self.tokenizer.encode_ids(texts)
        unknown, count = self.tokenizer.spelling.unknown_in(rows), sum(map(len, rows)) - len(rows)
        if unknown:
            log.warning("%d of %d tokens are unknown to the language model", unknown, count)

    def reread(self, tokenizer: Mapping[str, Any]) -> Beginnings:
        return Beginnings.from_dict(tokenizer)

    def maps(self, text: str) -> tuple[list[str], np.ndarray]:
        raise InputError("has no attention to show: it reads as a language model does", "model")


def _encoder_config(config: LanguageModelConfig, rate: float) -> LanguageModelConfig:
    """The config of its encoder alone, with one rate for all dropouts in it."""
    rates = {name: rate for name in ("layer_dropout", "weight_dropout") if name in config.encoder_settings}
    others = {name: 0.0 for name in ("input_dropout", "output_dropout", "variational") if name in config.encoder_settings}
    return replace(
        config, encoder_settings={**config.encoder_settings, **rates, **others}, output_settings={}, embedding_dropout=rate, dropout=0.0,
        type_dropout=0.0, residual_std=0.0, sparse=False,
    )  # fmt: skip
