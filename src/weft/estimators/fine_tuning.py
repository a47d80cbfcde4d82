"""What a network that starts from a pretrained encoder is told; free of torch, as the table of rungs is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# where nothing else is said: what Devlin et al. (2019), A.3, found to work well across tasks; the mean over positions instead of [CLS],
# which encoders of sentences were trained for
FINE_TUNED: dict[str, Any] = {
    "pooling": "mean", "dropout": 0.1, "layer_dropout": 0.1, "learning_rate": 5e-5, "weight_decay": 0.01, "warmup": 0.1, "epochs": 4,
    "batch_size": 32,
}  # fmt: skip


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
class Given:
    """An encoder with nothing to choose: it is as it was trained."""
