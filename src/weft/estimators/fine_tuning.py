"""What a network that starts from a pretrained encoder is told; free of torch, as the table of rungs is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weft.files import read_json

# where nothing else is said: what Devlin et al. (2019), A.3, found to work well across tasks; the mean over positions instead of [CLS],
# which encoders of sentences were trained for
FINE_TUNED: dict[str, Any] = {
    "pooling": "mean", "dropout": 0.1, "layer_dropout": 0.1, "learning_rate": 5e-5, "weight_decay": 0.01, "warmup": 0.1, "epochs": 4,
    "batch_size": 32,
}  # fmt: skip

# of a language model's encoder (Howard & Ruder, 2018): all of the last state, the maxima and the means under a hidden layer; layers that
# are freed one an epoch, lower ones at lower rates, on a slanted triangle
ULMFIT: dict[str, Any] = {
    "pooling": "concat", "head": (50,), "dropout": 0.4, "layer_dropout": 0.2, "language_epochs": 5.0, "language_rate": 4e-3,
    "learning_rate": 5e-3, "schedule": "slanted-triangular", "layer_decay": 2.6, "tune": "gradual", "epochs": 10,
}  # fmt: skip
LANGUAGE_MODEL = "LanguageModel"  # what a folder of one says it holds


@dataclass(frozen=True)
class CheckpointTokenizerSettings:
    """The tokenizer is the checkpoint's. maximum_length: of a row in tokens, special ones and both texts of a pair among them; 0 for as
    long as the encoder can read."""

    maximum_length: int = 256


@dataclass(frozen=True)
class FineTuningSettings:
    """pretrained: a name or a folder, see weft.estimators.pretrained. layer_dropout: everywhere in the encoder. The rest as in
    ClassifierConfig."""

    pretrained: str = "minilm"
    layer_dropout: float = 0.1
    pooling: str = "mean"
    k: int = 3
    regions: int = 1
    passes: int = 2
    dropout: float = 0.1
    head: tuple[int, ...] = ()
    head_activation: str = "tanh"


@dataclass(frozen=True)
class LanguageTokenizerSettings:
    """The tokenizer is the language model's. maximum_length: of a text in tokens, the end before it among them; 0 for no limit."""

    maximum_length: int = 400


@dataclass(frozen=True)
class UlmfitSettings:
    """pretrained: the folder of a language model. language_epochs: of foretelling the training texts before they are classified, at the
    rate language_rate. layer_dropout: everywhere in the encoder. The rest as in ClassifierConfig."""

    pretrained: str = ""
    language_epochs: float = 0.0
    language_rate: float = 4e-3
    layer_dropout: float = 0.2
    pooling: str = "concat"
    k: int = 3
    regions: int = 1
    passes: int = 2
    dropout: float = 0.4
    head: tuple[int, ...] = (50,)
    head_activation: str = "relu"


@dataclass(frozen=True)
class Given:
    """An encoder with nothing to choose: it is as it was trained."""


def holds_language_model(source: Any) -> bool:
    """Whether it is the folder of a language model that was trained here, as its config.json says."""
    path = Path(str(source)) / "config.json"
    config = read_json(path) if path.is_file() else None
    return isinstance(config, dict) and config.get("estimator") == LANGUAGE_MODEL
