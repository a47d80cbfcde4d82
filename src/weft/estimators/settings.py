"""One flat mapping of settings (`--set filters=200 dropout=0.3`) ↔ the tokenizer's, the network's and the training's own arguments.

A setting nobody knows is refused with the names that exist; texts from the command line become the type of the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from weft.errors import InputError
from weft.estimators.values import coerce
from weft.models.classifier import ClassifierConfig
from weft.models.encoders import ENCODERS
from weft.training.loop import TrainConfig

# None is the tokenizer's own default, and is not passed on
TOKENIZER_DEFAULTS: dict[str, Any] = {
    "tokenizer": "words", "maximum_length": 400, "lowercase": None, "minimum_count": None, "maximum_size": None, "ngrams": None, "buckets": None, "pattern": None,
}  # fmt: skip
BUDGET_DEFAULTS: dict[str, Any] = {
    "epochs": 10, "batch_size": 50, "batch_tokens": 0, "patience": 0, "checks": 10, "label_smoothing": 0.0, "class_weights": "none", "loss": "",
}  # fmt: skip
OWNED_BY_DATA = {"vocabulary_size", "outputs", "pair", "encoder_settings", "sparse", "steps", "seed", "evaluate_every", "patience", "checkpoint_every"}


@dataclass(frozen=True)
class Settings:
    """Resolved: tokenizer (kind and its arguments), network (ClassifierConfig's), train (TrainConfig's; monitor "metric" is the task's own), budget (the rest)."""

    tokenizer: dict[str, Any]
    network: dict[str, Any]
    encoder: dict[str, Any]
    train: dict[str, Any]
    budget: dict[str, Any]
    flat: dict[str, Any] = field(default_factory=dict)


def resolve(*layers: Mapping[str, Any] | None) -> Settings:
    """Later layers override earlier ones (rung's defaults, then the user's). Raises InputError for an unknown name or a value of the wrong kind."""
    given: dict[str, Any] = {}
    for layer in layers:
        given.update(layer or {})
    encoder = str(given.get("encoder", "cnn"))
    if encoder not in ENCODERS:
        raise InputError(f"no encoder {encoder!r}; there are {', '.join(ENCODERS)}", "encoder")
    groups = {
        "tokenizer": TOKENIZER_DEFAULTS,
        "network": _defaults(ClassifierConfig),
        "encoder": _defaults(ENCODERS[encoder][0]),
        "train": {**_defaults(TrainConfig), "monitor": "metric"},
        "budget": BUDGET_DEFAULTS,
    }
    chosen = {name: dict(defaults) for name, defaults in groups.items()}
    known = sorted({setting for defaults in groups.values() for setting in defaults})
    for setting, value in given.items():
        owners = [name for name, defaults in groups.items() if setting in defaults]
        if not owners:
            raise InputError(f"no such setting for this model; there are {', '.join(known)}", setting)
        for owner in owners:
            chosen[owner][setting] = coerce(setting, value, groups[owner][setting])
    flat = {setting: chosen[name][setting] for name in groups for setting in sorted(chosen[name])}
    return Settings(**chosen, flat=flat)


def _defaults(config: type) -> dict[str, Any]:
    """The fields of a config dataclass that a user may set, with their defaults."""
    return {
        item.name: item.default if item.default is not MISSING else item.default_factory()  # type: ignore[misc]
        for item in fields(config)
        if item.name not in OWNED_BY_DATA and (item.default is not MISSING or item.default_factory is not MISSING)
    }
