"""A folder → a language model to start from: a public checkpoint of GPT-2's kind, or one that was trained here; its network, its tokenizer,
its weights (Radford et al., 2018, 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from weft.data.checkpoint_files import TOKENIZER
from weft.errors import InputError
from weft.estimators.base import not_ours
from weft.estimators.engine import described_config
from weft.estimators.fine_tuning import LANGUAGE_MODEL, is_model_folder
from weft.estimators.pretrained import SPARE_ROWS, pretrained
from weft.estimators.spelling import Spelling
from weft.files import sha256
from weft.models.encoders import ENCODERS
from weft.models.language_model import LanguageModelConfig
from weft.saving import SavedModel, read_model

BLOCK = 128  # tokens that a row of a step has where nothing else is said, and the network sees as many
OF_ENCODERS = ("layer_dropout",)


@dataclass(frozen=True)
class LanguageStart:
    """A language model as it was read. name: as it was asked for; weights: the state of its network; facts: what a model that starts from
    it says of it."""

    name: str
    config: LanguageModelConfig
    spelling: Spelling
    weights: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]

    def config_with(self, rates: Mapping[str, float | None], *, sparse: bool) -> LanguageModelConfig:
        """Its config with other rates of dropout by name; None: the one that it had. Raises InputError for one that its encoder lacks."""
        given: dict[str, Any] = {name: rate for name, rate in rates.items() if rate is not None}
        inside = {name: given.pop(name) for name in OF_ENCODERS if name in given}
        known = {item.name for item in fields(ENCODERS[self.config.encoder][0])}
        if lacking := next((name for name in inside if name not in known), None):
            raise InputError(f"is not of the encoder {self.config.encoder!r} of {self.name}: leave it out", lacking)
        settings = {**self.config.encoder_settings, **inside}
        return replace(self.config, encoder_settings=settings, sparse=sparse and self.config.output != "tied", **given)


def language_start(source: str | Path) -> LanguageStart:
    """The language model of a folder, or of a repository owner/name of the hub.

    Raises InputError where there is none: for an encoder, a model by counts, what another estimator wrote, a tokenizer that does not go
    with the weights, and where a checkpoint cannot be had (`pretrained`).
    """
    name = str(source)
    if not name:
        raise InputError("names no language model: give the folder of one, a GPT-2's or one that weft trained", "pretrained")
    if is_model_folder(source):
        saved = saved_language(source)
        try:
            config, spelling = described_language(saved.config["engine"]["network"], saved.tokenizer or {})
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise not_ours(error, Path(source)) from error
        facts = {"name": name, "family": "language-model", "sha256": sha256(Path(source) / "model.safetensors")}
        return LanguageStart(name, config, spelling, saved.arrays, facts)
    found = pretrained(source)
    model = found.language_model()
    weights = {name: tensor.numpy() for name, tensor in found.weights.items()}
    return LanguageStart(name, model.config, Spelling(found.tokenizer, lines=False), weights, found.facts)


def saved_language(source: str | Path) -> SavedModel:
    """What the folder of a neural language model holds that was trained here. Raises InputError where the folder is none."""
    saved = read_model(source)
    if saved.config.get("estimator") != LANGUAGE_MODEL:
        raise InputError(f"holds a {saved.config.get('estimator')}; a language model was expected", str(source))
    if "network" not in saved.config.get("engine", {}):
        raise InputError("is a language model by counts, which has no states to read; a neural one was expected", str(source))
    return saved


def described_language(network: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> tuple[LanguageModelConfig, Spelling]:
    """What a model folder says of a network and its tokenizer. Raises InputError where these do not go together."""
    spelling, config = Spelling.from_dict(tokenizer), described_config(LanguageModelConfig, network)
    spare = config.vocabulary_size - spelling.size
    if not 0 <= spare <= (SPARE_ROWS if spelling.borrowed else 0):
        message = f"has {spelling.size} tokens, the end among them, but the network foretells {config.vocabulary_size}"
        raise InputError(message, TOKENIZER)
    if config.end % config.vocabulary_size != spelling.end:
        raise InputError(f"ends texts with the id {spelling.end}, the network with {config.end % config.vocabulary_size}", TOKENIZER)
    return config, spelling
