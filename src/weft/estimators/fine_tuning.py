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

# of taggers: the encoder is told a word's pieces alone, and what it learns of them wants a higher rate
FINE_TUNED_TAGGER: dict[str, Any] = {
    "features": "case", "feature_size": 16, "embedding_std": 1.0, "dropout": 0.1, "layer_dropout": 0.1, "learning_rate": 1e-4,
    "weight_decay": 0.01, "warmup": 0.1, "epochs": 4, "batch_size": 32,
}  # fmt: skip

# of a language model's encoder (Howard & Ruder, 2018): all of the last state, the maxima and the means under a hidden layer; layers that
# are freed one an epoch, lower ones at lower rates, on a slanted triangle
ULMFIT: dict[str, Any] = {
    "pooling": "concat", "head": (50,), "dropout": 0.4, "layer_dropout": 0.2, "language_epochs": 5.0, "language_rate": 4e-3,
    "learning_rate": 5e-3, "schedule": "slanted-triangular", "layer_decay": 2.6, "tune": "gradual", "epochs": 10,
}  # fmt: skip
# of a language model, trained on by its own objective: what Radford et al. (2018, 4.1) fine-tuned with, in fewer rows
CONTINUED: dict[str, Any] = {
    "learning_rate": 6.25e-5, "schedule": "linear", "warmup": 0.02, "weight_decay": 0.01, "clip": 1.0, "epochs": 3, "batch_size": 8,
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
class PieceSettings:
    """What a tagger that starts from an encoder reads of a word: its pieces, and features as in WordSettings. maximum_length: of a part of
    a sentence in words; where their pieces are more than the encoder has positions, the longest words lose their ends."""

    features: str = "case"
    maximum_length: int = 256


@dataclass(frozen=True)
class TaggerFineTuningSettings:
    """pretrained: a name or a folder, see weft.estimators.pretrained. layer_dropout: everywhere in the encoder. dropout: before the output.
    The rest as in TaggerConfig."""

    pretrained: str = "minilm"
    layer_dropout: float = 0.1
    feature_size: int = 16
    embedding_std: float = 1.0
    dropout: float = 0.1
    crf: bool = False


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
class ContinuedSettings:
    """pretrained: the folder of a language model, see weft.estimators.language_start. Dropouts as in LanguageModelConfig, layer_dropout
    everywhere in its Transformer or between its recurrent layers; None: as the model has it."""

    pretrained: str = ""
    layer_dropout: float | None = None
    dropout: float | None = None
    embedding_dropout: float | None = None
    type_dropout: float | None = None


@dataclass(frozen=True)
class ContinuedBudget:
    """As LanguageSettings. block None: as many tokens as the model sees at once, 128 at most."""

    epochs: float = 3
    minimum_steps: int = 0
    batch_size: int = 8
    block: int | None = None
    cut: str = "contiguous"
    patience: int = 0
    checks: int = 10
    checked: int = 20_000
    activation_penalty: float = 0.0
    temporal_penalty: float = 0.0


@dataclass(frozen=True)
class Given:
    """An encoder, or a tokenizer, with nothing to choose: it is as it was trained."""


def config_of(source: Any) -> dict[str, Any]:
    """What the config.json in a folder says; nothing where there is none. Raises InputError where it is no JSON."""
    path = Path(str(source)) / "config.json"
    config = read_json(path) if path.is_file() else None
    return config if isinstance(config, dict) else {}


def is_model_folder(source: Any) -> bool:
    """Whether it is the folder of a model that was trained here, as its config.json says."""
    return "estimator" in config_of(source)


def holds_language_model(source: Any) -> bool:
    """Whether it is the folder of a language model that was trained here."""
    return config_of(source).get("estimator") == LANGUAGE_MODEL


def checkpoint_family(source: Any) -> str | None:
    """The family of a public checkpoint in a folder; None where it holds none."""
    family = None if is_model_folder(source) else config_of(source).get("model_type")
    return family if isinstance(family, str) else None
