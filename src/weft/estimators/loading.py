"""A model folder → the estimator that wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from weft.errors import InputError
from weft.estimators.base import Estimator, not_ours
from weft.estimators.fine_tuning import checkpoint_family
from weft.estimators.language_model import LanguageModel
from weft.estimators.tagger import Tagger
from weft.estimators.text import TextClassifier, TextRegressor
from weft.estimators.translator import Translator
from weft.saving import read_model

ESTIMATORS: dict[str, type[Estimator]] = {
    "TextClassifier": TextClassifier, "TextRegressor": TextRegressor, "Tagger": Tagger, "Translator": Translator,
    "LanguageModel": LanguageModel,
}  # fmt: skip


def load(folder: str | Path, *, device: str = "auto", precision: str = "auto", threads: int | None = None) -> Any:
    """The estimator of a model folder, ready to predict; the language model of a public checkpoint's folder (GPT-2).

    Raises InputError where the folder is neither.
    """
    if (family := checkpoint_family(folder)) is not None:
        return _of_checkpoint(folder, family, device=device, precision=precision, threads=threads)
    saved = read_model(folder)
    kind = saved.config.get("estimator")
    if kind not in ESTIMATORS:
        raise InputError(f"holds a {kind!r}; this version of weft knows {', '.join(ESTIMATORS)}", str(Path(folder) / "config.json"))
    try:
        estimator = ESTIMATORS[kind](**{**saved.config["parameters"], "device": device, "precision": precision, "threads": threads})
    except (KeyError, TypeError) as error:
        raise not_ours(error, Path(folder)) from error
    estimator._restore(saved, Path(folder))
    return estimator


def _of_checkpoint(folder: str | Path, family: str, **options: Any) -> LanguageModel:
    """The language model of a public checkpoint. Raises InputError for an encoder, which answers nothing before it is fine-tuned."""
    from weft.models.huggingface import FAMILIES

    if family in FAMILIES and not FAMILIES[family].language_model:
        message = f"holds a pretrained encoder ({family}): weft train DATA --from {folder} makes a model of it"
        raise InputError(message, str(Path(folder) / "config.json"))
    return LanguageModel.from_pretrained(folder, **options)
