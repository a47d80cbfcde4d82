"""Public checkpoints ↔ our networks: which of their settings and weights are which of ours, as tables that are read both ways.

A family is what their config.json calls `model_type`. Where several weights of theirs are one of ours, they are stacked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from weft.errors import InputError, meant
from weft.models.bert import Bert, BertConfig
from weft.models.encoders import TransformerConfig
from weft.models.language_model import LanguageModel, LanguageModelConfig
from weft.nn.transformer import EPSILON

Config = BertConfig | LanguageModelConfig


class Row(NamedTuple):
    """A weight of ours and those of theirs that make it up. {layer} stands for each layer's number, {part} for weight and bias.

    turned: theirs is (in, out) where ours is (out, in).
    """

    ours: str
    theirs: tuple[str, ...]
    turned: bool = False


@dataclass(frozen=True)
class Family:
    """settings: our setting → theirs. fixed: ours that no config says. wanted: theirs that have to be so, where they are said at all.

    prefix: may stand before the names of weights, as it does in checkpoints with a head. left: beginnings of the names of what belongs
    to other heads and is no part of the network. said: what their config.json says besides, where we write one.
    """

    prefix: str
    settings: Mapping[str, str]
    rows: tuple[Row, ...]
    left: tuple[str, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    wanted: Mapping[str, Any] = field(default_factory=dict)
    said: Mapping[str, Any] = field(default_factory=dict)
    dropouts: tuple[str, ...] = ("attention_probs_dropout_prob",)  # theirs that are one with ours
    language_model: bool = False


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
        dropouts=("attention_dropout",),
    ),
    "gpt2": Family(
        "transformer.",
        {
            "vocabulary_size": "vocab_size", "hidden_size": "n_embd", "layers": "n_layer", "heads": "n_head", "inner": "n_inner",
            "maximum_positions": "n_positions", "dropout": "resid_pdrop", "activation": "activation_function",
        },
        (
            Row("embedding.weight", ("wte.weight",)),
            Row("encoder.positions.table", ("wpe.weight",)),
            *(
                Row(f"encoder.{_BLOCK}{ours}.{{part}}", (f"h.{{layer}}.{theirs}.{{part}}",), turned)
                for ours, theirs, turned in (
                    ("attention_norm", "ln_1", False), ("attention.input", "attn.c_attn", True), ("attention.output", "attn.c_proj", True),
                    ("feed_forward_norm", "ln_2", False), ("feed_forward.enter", "mlp.c_fc", True),
                    ("feed_forward.leave", "mlp.c_proj", True),
                )
            ),
            Row("encoder.encoder.norm.{part}", ("ln_f.{part}",)),
        ),
        ("lm_head.", "score."),
        wanted={
            "layer_norm_epsilon": EPSILON, "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False,
            "add_cross_attention": False, "tie_word_embeddings": True,
        },
        said={"architectures": ["GPT2LMHeadModel"]}, dropouts=("attn_pdrop", "embd_pdrop"), language_model=True,
    ),
}  # fmt: skip
# their names of functions → ours; of several that are one of ours, the first is written
ACTIVATION_NAMES = {
    "gelu": "gelu", "gelu_new": "gelu-tanh", "gelu_pytorch_tanh": "gelu-tanh", "gelu_fast": "gelu-tanh", "relu": "relu", "tanh": "tanh",
}  # fmt: skip
GPT2 = {"norm": "pre", "positions": "learned", "output": "tied", "output_bias": False}  # of our language models, what is one of theirs
POOLER = "pooler.dense.weight"
# 0, 1, 2 …, zeros, and masks, which some checkpoints keep
CONSTANTS = ("embeddings.position_ids", "embeddings.token_type_ids", ".attn.bias", ".attn.masked_bias")


def family_of(config: Mapping[str, Any], place: str) -> str:
    """What family a checkpoint's config.json names. Raises InputError for one that is not in FAMILIES."""
    name = config.get("model_type")
    if not isinstance(name, str) or name not in FAMILIES:
        near = meant(name, FAMILIES) if isinstance(name, str) else ""
        raise InputError(f"is of the family {name!r} (model_type){near}; weft reads {', '.join(FAMILIES)}", place)
    return name


def config_from(family: str, config: Mapping[str, Any], names: Iterable[str], separator: int | None, place: str) -> Config:
    """Our config of a checkpoint's. names: of its weights, which say whether there is a pooler; separator: the id that ends a segment,
    or a text of a language model.

    Raises InputError where a setting is missing, is no number, or is something that this network does not do.
    """
    rules = FAMILIES[family]
    for theirs, wanted in rules.wanted.items():
        if (found := config.get(theirs, wanted)) != wanted:
            raise InputError(f"has {theirs} {found!r}; weft reads checkpoints of {wanted!r}", place)
    chosen: dict[str, Any] = {"pooler": any(name.endswith(POOLER) for name in names), **rules.fixed}
    for ours, theirs in rules.settings.items():
        value = config.get(theirs, getattr(BertConfig, ours) if ours in SHARES else None)
        if ours == "inner" and value is None and rules.language_model:
            value = 4 * chosen["hidden_size"]
        if ours == "activation":
            if value not in ACTIVATION_NAMES:
                raise InputError(f"has the activation {value!r}; weft reads {', '.join(ACTIVATION_NAMES)}", place)
            value = ACTIVATION_NAMES[value]
        elif isinstance(value, bool) or not isinstance(value, int | float) or (isinstance(value, float) and ours not in SHARES):
            raise InputError(f"has {theirs} {value!r}; a number was expected", place)
        chosen[ours] = value
    chosen["maximum_positions"] -= chosen.get("position_offset", 0)
    return _language_model(chosen, separator) if rules.language_model else BertConfig(**chosen, separator=separator)


def _language_model(chosen: Mapping[str, Any], end: int | None) -> LanguageModelConfig:
    """GPT-2: pre-norm blocks that see what comes before, learned positions, output weights that are the embeddings."""
    encoder = {name: chosen[name] for name in ("hidden_size", "layers", "heads", "inner", "maximum_positions", "activation")}
    encoder |= {"layer_dropout": chosen["dropout"], "norm": "pre", "positions": "learned", "causal": True}
    return LanguageModelConfig(
        chosen["vocabulary_size"], end=-1 if end is None else end, encoder="transformer", encoder_settings=encoder,
        embedding_size=chosen["hidden_size"], output="tied",
    )  # fmt: skip


def _settings(config: Config) -> dict[str, Any]:
    """What the tables call settings, of either network."""
    if isinstance(config, BertConfig):
        return asdict(config)
    inside = {**asdict(TransformerConfig()), **config.encoder_settings}
    return {**inside, "vocabulary_size": config.vocabulary_size, "dropout": inside["layer_dropout"]}


SHARES = ("dropout", "epsilon")  # the settings that are no whole numbers


def config_to(family: str, config: Config) -> dict[str, Any]:
    """Their config.json of ours. Raises ValueError where the family has no such networks."""
    rules, own = FAMILIES[family], _settings(config)
    if rules.language_model != isinstance(config, LanguageModelConfig):
        raise ValueError(f"a {family} is {'a language model' if rules.language_model else 'an encoder'}, and this network is none")
    fixed = GPT2 if isinstance(config, LanguageModelConfig) else {"position_offset": 0, **rules.fixed}
    has = own | ({"output": config.output, "output_bias": config.output_bias} if isinstance(config, LanguageModelConfig) else {})
    for ours, value in fixed.items():
        if has[ours] != value and ours != "pooler":
            raise ValueError(f"a {family} has {ours}={value}, this network {has[ours]}")
    said: dict[str, Any] = {"model_type": family, **rules.said} | {theirs: own[ours] for ours, theirs in rules.settings.items()}
    said[rules.settings["inner"]] = own["inner"] or 4 * own["hidden_size"]
    said[rules.settings["maximum_positions"]] += own.get("position_offset", 0)
    named = next((theirs for theirs, ours in ACTIVATION_NAMES.items() if ours == own["activation"]), None)
    if named is None:
        raise ValueError(f"a {family} has one of the activations {', '.join(ACTIVATION_NAMES)}, not {own['activation']!r}")
    said[rules.settings["activation"]] = named
    return {**said, **dict.fromkeys(rules.dropouts, own["dropout"])}


def weights_from(family: str, config: Config, arrays: Mapping[str, Tensor], place: str) -> tuple[dict[str, Tensor], list[str]]:
    """(the state of a network of this config, float32; the names of weights of other heads, which were left out).

    Raises InputError naming the weights that are missing, that there is no place for, or whose shape does not fit.
    """
    rules = FAMILIES[family]
    named = {_plain(name, rules.prefix): name for name in arrays if not name.endswith(CONSTANTS)}
    expected = _expected(config)
    state, missing = {}, []
    layers = _settings(config)["layers"]
    for ours, theirs, turned in pairs(family, config):
        if lacking := [name for name in theirs if name not in named]:
            missing += lacking
            continue
        parts = [arrays[named.pop(name)] for name in theirs]
        rows = expected[ours][0] // len(parts)
        turn = turned and len(expected[ours]) == 2
        for name, part in zip(theirs, parts, strict=True):
            wanted = (rows, *expected[ours][1:])
            wanted = wanted[::-1] if turn else wanted
            if (found := tuple(part.shape)) != wanted:
                raise InputError(f"the weight {name} has the shape {_shape(found)}, and by the config it is {_shape(wanted)}", place)
        whole = torch.cat(parts) if len(parts) > 1 else parts[0]
        state[ours] = (whole.T if turn else whole).float()
    if missing:
        raise InputError(f"lacks {len(missing)} weights of a {family} of {layers} layers: {_some(missing)}", place)
    left = sorted(name for name in named if name.startswith(rules.left))
    if extra := sorted(set(named) - set(left)):
        raise InputError(f"holds {len(extra)} weights that a {family} of {layers} layers has no place for: {_some(extra)}", place)
    return state, left


def weights_to(family: str, config: Config, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Their weights of ours, without prefix. Raises ValueError where a weight of ours has no place there."""
    found: dict[str, Tensor] = {}
    left = set(state)
    for ours, theirs, turned in pairs(family, config):
        left.discard(ours)
        whole = state[ours].T if turned and state[ours].dim() == 2 else state[ours]
        found |= dict(zip(theirs, (part.contiguous() for part in whole.chunk(len(theirs))), strict=True))
    if left:
        raise ValueError(f"a {family} has no place for {_some(sorted(left))}")
    return found


def pairs(family: str, config: Config) -> Iterator[Row]:
    """Each weight of a network of this config, by its own name, with those of theirs that make it up."""
    there = _expected(config)
    for row in FAMILIES[family].rows:
        for layer in range(_settings(config)["layers"]) if "{layer}" in row.ours else (0,):
            for part in ("weight", "bias") if "{part}" in row.ours else ("",):
                ours = row.ours.format(layer=layer, part=part)
                if ours in there:  # a pooler, or segments, need not be
                    yield Row(ours, tuple(name.format(layer=layer, part=part) for name in row.theirs), row.turned)


def network_of(config: Config) -> Bert | LanguageModel:
    """The network of a config, as it starts."""
    return Bert(config) if isinstance(config, BertConfig) else LanguageModel(config)


def _expected(config: Config) -> dict[str, tuple[int, ...]]:
    """The shapes of a network of this config, which is not built for it."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in network_of(config).state_dict().items()}


def _plain(name: str, prefix: str) -> str:
    """Without the prefix, and norms' weights by the names that they have today."""
    name = name.removeprefix(prefix)
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "of a single number"


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
