"""Public checkpoints ↔ our networks: which of their settings and weights are which of ours, as tables that are read both ways.

A family is what their config.json calls `model_type`. Where several weights of theirs are one of ours, they are stacked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from weft.errors import InputError, meant
from weft.models.bert import Bert, BertConfig


class Row(NamedTuple):
    """A weight of ours and those of theirs that make it up. {layer} stands for each layer's number, {part} for weight and bias."""

    ours: str
    theirs: tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """settings: our setting → theirs. fixed: ours that no config says. wanted: theirs that have to be so, where they are said at all.

    prefix: may stand before the names of weights, as it does in checkpoints with a head. left: beginnings of the names of what belongs
    to other heads and is no part of the encoder.
    """

    prefix: str
    settings: Mapping[str, str]
    rows: tuple[Row, ...]
    left: tuple[str, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    wanted: Mapping[str, Any] = field(default_factory=dict)
    said: Mapping[str, Any] = field(default_factory=dict)  # what their config.json says besides, where we write one


_BLOCK, _LAYER = "encoder.blocks.{layer}.", "encoder.layer.{layer}."
_BERT_ROWS = (
    Row("tokens", ("embeddings.word_embeddings.weight",)),
    Row("positions", ("embeddings.position_embeddings.weight",)),
    Row("segments", ("embeddings.token_type_embeddings.weight",)),
    Row("norm.{part}", ("embeddings.LayerNorm.{part}",)),
    Row(_BLOCK + "attention.input.{part}", tuple(f"{_LAYER}attention.self.{name}.{{part}}" for name in ("query", "key", "value"))),
    Row(_BLOCK + "attention.output.{part}", (_LAYER + "attention.output.dense.{part}",)),
    Row(_BLOCK + "attention_norm.{part}", (_LAYER + "attention.output.LayerNorm.{part}",)),
    Row(_BLOCK + "feed_forward.enter.{part}", (_LAYER + "intermediate.dense.{part}",)),
    Row(_BLOCK + "feed_forward.leave.{part}", (_LAYER + "output.dense.{part}",)),
    Row(_BLOCK + "feed_forward_norm.{part}", (_LAYER + "output.LayerNorm.{part}",)),
    Row("pooler.{part}", ("pooler.dense.{part}",)),
)
_BERT_SETTINGS = {
    "vocabulary_size": "vocab_size", "hidden_size": "hidden_size", "layers": "num_hidden_layers", "heads": "num_attention_heads",
    "inner": "intermediate_size", "maximum_positions": "max_position_embeddings", "segments": "type_vocab_size",
    "dropout": "hidden_dropout_prob", "activation": "hidden_act", "epsilon": "layer_norm_eps",
}  # fmt: skip
_ABSOLUTE = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}
_DISTIL = "transformer.layer.{layer}."

FAMILIES: dict[str, Family] = {
    "bert": Family(
        "bert.", _BERT_SETTINGS, _BERT_ROWS, ("cls.", "classifier.", "qa_outputs."), wanted=_ABSOLUTE,
        said={"architectures": ["BertModel"], "pad_token_id": 0},
    ),
    "roberta": Family(
        "roberta.", _BERT_SETTINGS, _BERT_ROWS, ("lm_head.", "classifier.", "qa_outputs."),
        fixed={"position_offset": 2}, wanted=_ABSOLUTE | {"pad_token_id": 1},
        said={"architectures": ["RobertaModel"], "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2},
    ),
    "distilbert": Family(
        "distilbert.",
        {
            "vocabulary_size": "vocab_size", "hidden_size": "dim", "layers": "n_layers", "heads": "n_heads", "inner": "hidden_dim",
            "maximum_positions": "max_position_embeddings", "dropout": "dropout", "activation": "activation",
        },
        (
            Row("tokens", ("embeddings.word_embeddings.weight",)),
            Row("positions", ("embeddings.position_embeddings.weight",)),
            Row("norm.{part}", ("embeddings.LayerNorm.{part}",)),
            Row(_BLOCK + "attention.input.{part}", tuple(f"{_DISTIL}attention.{name}_lin.{{part}}" for name in "qkv")),
            Row(_BLOCK + "attention.output.{part}", (_DISTIL + "attention.out_lin.{part}",)),
            Row(_BLOCK + "attention_norm.{part}", (_DISTIL + "sa_layer_norm.{part}",)),
            Row(_BLOCK + "feed_forward.enter.{part}", (_DISTIL + "ffn.lin1.{part}",)),
            Row(_BLOCK + "feed_forward.leave.{part}", (_DISTIL + "ffn.lin2.{part}",)),
            Row(_BLOCK + "feed_forward_norm.{part}", (_DISTIL + "output_layer_norm.{part}",)),
        ),
        ("vocab_", "pre_classifier.", "classifier.", "qa_outputs."),
        fixed={"segments": 0, "epsilon": 1e-12, "pooler": False}, said={"architectures": ["DistilBertModel"], "pad_token_id": 0},
    ),
}  # fmt: skip
# their names of functions → ours; of several that are one of ours, the first is written
ACTIVATION_NAMES = {
    "gelu": "gelu", "gelu_new": "gelu-tanh", "gelu_pytorch_tanh": "gelu-tanh", "gelu_fast": "gelu-tanh", "relu": "relu", "tanh": "tanh",
}  # fmt: skip
POOLER = "pooler.dense.weight"
CONSTANTS = ("embeddings.position_ids", "embeddings.token_type_ids")  # 0, 1, 2 … and zeros, which some checkpoints keep


def family_of(config: Mapping[str, Any], place: str) -> str:
    """What family a checkpoint's config.json names. Raises InputError for one that is not in FAMILIES."""
    name = config.get("model_type")
    if not isinstance(name, str) or name not in FAMILIES:
        near = meant(name, FAMILIES) if isinstance(name, str) else ""
        raise InputError(f"is of the family {name!r} (model_type){near}; weft reads {', '.join(FAMILIES)}", place)
    return name


def config_from(family: str, config: Mapping[str, Any], names: Iterable[str], separator: int | None, place: str) -> BertConfig:
    """Our config of a checkpoint's. names: of its weights, which say whether there is a pooler; separator: the id that ends a segment.

    Raises InputError where a setting is missing, is no number, or is something that this network does not do.
    """
    rules = FAMILIES[family]
    for theirs, wanted in rules.wanted.items():
        if (found := config.get(theirs, wanted)) != wanted:
            raise InputError(f"has {theirs} {found!r}; weft reads checkpoints of {wanted!r}", place)
    chosen: dict[str, Any] = {"separator": separator, "pooler": any(name.endswith(POOLER) for name in names), **rules.fixed}
    for ours, theirs in rules.settings.items():
        value = config.get(theirs, getattr(BertConfig, ours) if ours in ("dropout", "epsilon") else None)
        if ours == "activation":
            if value not in ACTIVATION_NAMES:
                raise InputError(f"has the activation {value!r}; weft reads {', '.join(ACTIVATION_NAMES)}", place)
            value = ACTIVATION_NAMES[value]
        elif isinstance(value, bool) or not isinstance(value, int | float) or (isinstance(value, float) and ours not in SHARES):
            raise InputError(f"has {theirs} {value!r}; a number was expected", place)
        chosen[ours] = value
    chosen["maximum_positions"] -= chosen.get("position_offset", 0)
    return BertConfig(**chosen)


SHARES = ("dropout", "epsilon")  # the settings that are no whole numbers


def config_to(family: str, config: BertConfig) -> dict[str, Any]:
    """Their config.json of ours. Raises ValueError where the family has no such networks."""
    rules = FAMILIES[family]
    offset = int(rules.fixed.get("position_offset", 0))
    for ours, value in {"position_offset": 0, **rules.fixed}.items():
        if getattr(config, ours) != value and ours != "pooler":
            raise ValueError(f"a {family} has {ours}={value}, this network {getattr(config, ours)}")
    said: dict[str, Any] = {"model_type": family, **rules.said}
    for ours, theirs in rules.settings.items():
        said[theirs] = getattr(config, ours)
    said[rules.settings["inner"]] = config.inner or 4 * config.hidden_size
    said["max_position_embeddings"] += offset
    said[rules.settings["activation"]] = next((theirs for theirs, ours in ACTIVATION_NAMES.items() if ours == config.activation), None)
    if said[rules.settings["activation"]] is None:
        raise ValueError(f"a {family} has one of the activations {', '.join(ACTIVATION_NAMES)}, not {config.activation!r}")
    attention = "attention_dropout" if family == "distilbert" else "attention_probs_dropout_prob"
    return {**said, attention: config.dropout}


def weights_from(family: str, config: BertConfig, arrays: Mapping[str, Tensor], place: str) -> tuple[dict[str, Tensor], list[str]]:
    """(the state of a Bert of this config, float32; the names of weights of other heads, which were left out).

    Raises InputError naming the weights that are missing, that there is no place for, or whose shape does not fit.
    """
    rules = FAMILIES[family]
    named = {_plain(name, rules.prefix): name for name in arrays if not name.endswith(CONSTANTS)}
    expected = _expected(config)
    state, missing = {}, []
    for ours, theirs in pairs(family, config):
        if lacking := [name for name in theirs if name not in named]:
            missing += lacking
            continue
        parts = [arrays[named.pop(name)] for name in theirs]
        rows = expected[ours][0] // len(parts)
        for name, part in zip(theirs, parts, strict=True):
            if (found := tuple(part.shape)) != (wanted := (rows, *expected[ours][1:])):
                raise InputError(f"the weight {name} has the shape {_shape(found)}, and by the config it is {_shape(wanted)}", place)
        state[ours] = (torch.cat(parts) if len(parts) > 1 else parts[0]).float()
    if missing:
        raise InputError(f"lacks {len(missing)} weights of a {family} of {config.layers} layers: {_some(missing)}", place)
    left = sorted(name for name in named if name.startswith(rules.left))
    if extra := sorted(set(named) - set(left)):
        raise InputError(f"holds {len(extra)} weights that a {family} of {config.layers} layers has no place for: {_some(extra)}", place)
    return state, left


def weights_to(family: str, config: BertConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their weights of ours, without prefix. Raises ValueError where a weight of ours has no place there."""
    found: dict[str, Tensor] = {}
    left = set(state)
    for ours, theirs in pairs(family, config):
        left.discard(ours)
        found |= dict(zip(theirs, (part.contiguous() for part in state[ours].chunk(len(theirs))), strict=True))
    if left:
        raise ValueError(f"a {family} has no place for {_some(sorted(left))}")
    return found


def pairs(family: str, config: BertConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each weight of a network of this config, with those of theirs that make it up."""
    for row in FAMILIES[family].rows:
        if (row.ours.startswith("pooler.") and not config.pooler) or (row.ours == "segments" and not config.segments):
            continue
        for layer in range(config.layers) if "{layer}" in row.ours else (0,):
            for part in ("weight", "bias") if "{part}" in row.ours else ("",):
                yield row.ours.format(layer=layer, part=part), tuple(name.format(layer=layer, part=part) for name in row.theirs)


def _expected(config: BertConfig) -> dict[str, tuple[int, ...]]:
    """The shapes of a network of this config, which is not built for it."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in Bert(config).state_dict().items()}


def _plain(name: str, prefix: str) -> str:
    """Without the prefix, and norms' weights by the names that they have today."""
    name = name.removeprefix(prefix)
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "of a single number"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
