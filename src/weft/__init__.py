"""weft: from word embeddings to fine-tuned Transformers. What users hold is imported when it is first asked for, torch with it where it
needs torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weft.errors import InputError
    from weft.estimators.distillation import distill
    from weft.estimators.language_model import LanguageModel
    from weft.estimators.loading import load
    from weft.estimators.sentence_encoder import SentenceEncoder
    from weft.estimators.tagger import Tagger
    from weft.estimators.text import TextClassifier, TextRegressor
    from weft.estimators.translator import Translator
    from weft.vectors.keyed import KeyedVectors
    from weft.vectors.methods import WordVectors

__version__ = "0.1.0"
__all__ = [
    "InputError",
    "KeyedVectors",
    "LanguageModel",
    "SentenceEncoder",
    "Tagger",
    "TextClassifier",
    "TextRegressor",
    "Translator",
    "WordVectors",
    "__version__",
    "distill",
    "load",
]


def __getattr__(name: str) -> Any:
    if name == "InputError":
        from weft import errors

        return errors.InputError
    if name == "KeyedVectors":
        from weft.vectors import keyed

        return keyed.KeyedVectors
    if name == "WordVectors":
        from weft.vectors import methods

        return methods.WordVectors
    if name == "distill":
        from weft.estimators import distillation

        return distillation.distill
    if name == "load":
        from weft.estimators import loading

        return loading.load
    if name == "LanguageModel":
        from weft.estimators import language_model

        return language_model.LanguageModel
    if name == "SentenceEncoder":
        from weft.estimators import sentence_encoder

        return sentence_encoder.SentenceEncoder
    if name == "Tagger":
        from weft.estimators import tagger

        return tagger.Tagger
    if name == "Translator":
        from weft.estimators import translator

        return translator.Translator
    if name in __all__:
        from weft.estimators import text

        return getattr(text, name)
    raise AttributeError(f"module 'weft' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
