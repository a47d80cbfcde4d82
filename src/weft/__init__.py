"""weft: from word embeddings to fine-tuned Transformers. The estimators are imported when they are first asked for, torch with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weft.errors import InputError
    from weft.estimators.text import TextClassifier, TextRegressor, load

__version__ = "0.1.0"
__all__ = ["InputError", "TextClassifier", "TextRegressor", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name == "InputError":
        from weft import errors

        return errors.InputError
    if name in __all__:
        from weft.estimators import text

        return getattr(text, name)
    raise AttributeError(f"module 'weft' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
