"""One flat mapping of settings (`--set filters=200 dropout=0.3`) ↔ the tokenizer's, the network's and the training's own arguments.

A setting nobody knows is refused with the names that exist; texts from the command line become the type that the setting has.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, get_type_hints

from weft.data.lexicon import feature_names
from weft.data.schemes import SCHEMES
from weft.data.streams import CUTS
from weft.data.tokenizers import TOKENIZERS
from weft.errors import InputError, meant
from weft.estimators import fasttext, feature_tagger, ngram_language, translation_baselines
from weft.estimators.baselines import checked_settings, read_settings
from weft.estimators.fine_tuning import (
    CheckpointTokenizerSettings,
    ContinuedBudget,
    ContinuedSettings,
    FineTuningSettings,
    Given,
    LanguageTokenizerSettings,
    PieceSettings,
    TaggerFineTuningSettings,
    UlmfitSettings,
)
from weft.estimators.rungs import Rung, ladder
from weft.estimators.values import coerce
from weft.losses import LOSSES
from weft.metrics_text import MEASURES
from weft.models.classifier import ClassifierConfig
from weft.models.decoders import ATTEND, CONDITIONS, DECODERS
from weft.models.encoders import ENCODERS, VECTORS_MODES, RecurrentConfig
from weft.models.generative import GenerativeConfig
from weft.models.language_model import LanguageModelConfig
from weft.models.seq2seq import TIED, Seq2SeqConfig
from weft.models.tagger import CHARACTERS, JOINS, TaggerConfig
from weft.nn.activations import ACTIVATIONS
from weft.nn.alignment import ALIGNMENTS
from weft.nn.cells import CELLS
from weft.nn.outputs import OUTPUTS
from weft.nn.pooling import POOLINGS
from weft.nn.scores import SCORES
from weft.training.averaging import AVERAGING
from weft.training.layers import TUNE
from weft.training.loop import TrainConfig
from weft.training.optimizers import OPTIMIZERS
from weft.training.schedules import SCHEDULES


@dataclass(frozen=True)
class TokenizerSettings:
    """None is the tokenizer's own default, and is not passed on. maximum_length: in tokens, 0 for no limit. elmo: the folder of one, whose
    vectors stand beside the words' own."""

    tokenizer: str = "words"
    maximum_length: int = 400
    lowercase: bool | None = None
    minimum_count: int | None = None
    maximum_size: int | None = None
    ngrams: int | None = None
    buckets: int | None = None
    pattern: str | None = None
    elmo: str = ""


@dataclass(frozen=True)
class BudgetSettings:
    """batch_tokens 0: batches are counted in examples. patience 0: no early end. checks: of development data. loss "": the task's own."""

    epochs: float = 10
    batch_size: int = 50
    batch_tokens: int = 0
    patience: int = 0
    checks: int = 10
    label_smoothing: float = 0.0
    class_weights: str = "none"
    loss: str = ""


@dataclass(frozen=True)
class GenerativeSettings:
    """As BudgetSettings; the loss is the text's own."""

    epochs: float = 10
    batch_size: int = 50
    batch_tokens: int = 0
    patience: int = 0
    checks: int = 10


@dataclass(frozen=True)
class WordSettings:
    """What a tagger reads of a word. features: names of FEATURES with commas between. maximum_length: of a piece of a sentence, 0 for no
    limit. elmo: the folder of one, whose vectors stand beside the rest."""

    features: str = "case"
    lowercase: bool = True
    minimum_count: int = 1
    maximum_size: int | None = None
    maximum_characters: int = 24
    maximum_length: int = 512
    elmo: str = ""


@dataclass(frozen=True)
class FlatTaggingSettings:
    """As BudgetSettings. scheme: what spans are learnt in; constrained: a CRF may not break it. weights: of columns, as upos:1,deprel:2."""

    epochs: float = 10
    batch_size: int = 32
    batch_tokens: int = 0
    patience: int = 0
    checks: int = 10
    label_smoothing: float = 0.0
    scheme: str = "BIOES"
    constrained: bool = True
    weights: str = ""


@dataclass(frozen=True)
class TaggingSettings(FlatTaggingSettings):
    """levels: of columns, as upos:1,deprel:2."""

    levels: str = ""


@dataclass(frozen=True)
class PairTokenizerSettings:
    """tokenizer: the kind for both sides; target_tokenizer: another one for the targets; shared: one vocabulary, learnt from both sides.
    The rest as in TokenizerSettings; too_long: what becomes of sources of more than maximum_length tokens, "cut" or "refuse"."""

    tokenizer: str = "bpe"
    target_tokenizer: str = ""
    shared: bool = False
    lowercase: bool = False
    minimum_count: int | None = None
    maximum_size: int | None = None
    pattern: str | None = None
    maximum_length: int = 200
    too_long: str = "cut"


@dataclass(frozen=True)
class TranslationSettings:
    """As BudgetSettings. metric: of MEASURES, what the best weights are chosen by, over `checked` texts of development data (0: all).
    noise_NAME: fields of Noise, what is done to sources in training, anew in every epoch. copy_unknown: of the source's words."""

    epochs: float = 10
    batch_size: int = 64
    batch_tokens: int = 0
    patience: int = 0
    checks: int = 10
    checked: int = 500
    label_smoothing: float = 0.0
    metric: str = "bleu"
    copy_unknown: bool = True
    noise_drop: float = 0.0
    noise_shuffle: int = 0
    noise_infill: float = 0.0
    noise_mask: float = 0.0
    noise_span: float = 3.0


@dataclass(frozen=True)
class StreamTokenizerSettings:
    """As TokenizerSettings. lines: every line is a text with an end; None: where the tokenizer would not tell where lines end."""

    tokenizer: str = "characters"
    lines: bool | None = None
    lowercase: bool = False
    minimum_count: int | None = None
    maximum_size: int | None = None
    pattern: str | None = None


@dataclass(frozen=True)
class LanguageSettings:
    """As BudgetSettings. batch_size: rows of `block` tokens that a step reads, cut "contiguous" or "random" out of the text (Streams).
    minimum_steps: of a training whose length is not told. checked: tokens of development data that a check reads, 0 for all.
    activation_penalty, temporal_penalty: as in NextToken. cutoffs: of an adaptive output; samples, proposal: of a sampled one."""

    epochs: float = 10
    minimum_steps: int = 0
    batch_size: int = 20
    block: int = 64
    cut: str = "contiguous"
    patience: int = 0
    checks: int = 10
    checked: int = 20_000
    activation_penalty: float = 0.0
    temporal_penalty: float = 0.0
    cutoffs: tuple[int, ...] = ()
    samples: int = 1024
    proposal: str = "log-uniform"


# by network: what its tokenizer, itself and its training are told
NETWORKS: dict[str, tuple[type, type, type]] = {
    "classifier": (TokenizerSettings, ClassifierConfig, BudgetSettings),
    "pretrained": (CheckpointTokenizerSettings, FineTuningSettings, BudgetSettings),
    "ulmfit": (LanguageTokenizerSettings, UlmfitSettings, BudgetSettings),
    "generative": (TokenizerSettings, GenerativeConfig, GenerativeSettings),
    "tagger": (WordSettings, TaggerConfig, TaggingSettings),
    "pretrained-tagger": (PieceSettings, TaggerFineTuningSettings, FlatTaggingSettings),
    "seq2seq": (PairTokenizerSettings, Seq2SeqConfig, TranslationSettings),
    "language-model": (StreamTokenizerSettings, LanguageModelConfig, LanguageSettings),
    "continued": (Given, ContinuedSettings, ContinuedBudget),
}
# what a network decides of its encoder itself
FORETELLS = {"causal", "bidirectional", "maximum_positions"}
DECIDED: Mapping[str, set[str]] = {"language-model": FORETELLS, "generative": FORETELLS}
OWNED_BY_DATA: dict[type, set[str]] = {
    ClassifierConfig: {"vocabulary_size", "outputs", "pair", "encoder_settings", "sparse", "elmo"},
    GenerativeConfig: {"vocabulary_size", "outputs", "encoder_settings", "sparse"},
    TaggerConfig: {
        "vocabulary_size", "character_vocabulary", "columns", "features", "encoder_settings", "sparse", "levels", "constrained", "elmo",
        "pretrained", "ends",
    },
    Seq2SeqConfig: {"source_vocabulary", "target_vocabulary", "source_size", "encoder_settings", "decoder_settings"},
    LanguageModelConfig: {"vocabulary_size", "end", "encoder_settings", "output_settings", "sparse"},
    TrainConfig: {"steps", "seed", "evaluate_every", "patience", "checkpoint_every"},  # patience and checks are budget settings
}  # fmt: skip
SIDES: Mapping[str, Mapping[str, tuple[type, Any]]] = {"encoder": ENCODERS, "decoder": DECODERS}
FROM_0 = ("maximum_length", "project", "batch_tokens", "patience", "buckets", "window", "inner", "warmup", "l1", "l2", "weight_decay")
ALSO_FROM_0 = (
    "input_depth", "state_depth", "output_depth", "checked", "noise_shuffle", "minimum_steps", "activation_penalty", "temporal_penalty",
    "residual_std", "language_epochs",
)  # fmt: skip
FROM_1 = (
    "embedding_size",
    "feature_size",
    "class_size",
    "character_size",
    "character_hidden",
    "character_width",
    "filters",
    "width",
    "widths",
    "dilations",
    "stride",
    "hidden_size",
    "layers",
    "heads",
    "head",
    "k",
    "regions",
    "passes",
)
ALSO_FROM_1 = (
    "batch_size", "maximum_characters", "checks", "micro_batches", "minimum_count", "ngrams", "maximum_positions", "attention_size",
    "reach", "noise_span", "block", "cutoffs", "samples", "averaging_interval", "layer_decay",
)  # fmt: skip
AT_LEAST = {**dict.fromkeys(FROM_0 + ALSO_FROM_0, 0), **dict.fromkeys(FROM_1 + ALSO_FROM_1, 1)}
SHARES = {"dropout", "word_dropout", "embedding_dropout", "layer_dropout", "input_dropout", "output_dropout", "weight_dropout"}
SHARES |= {"averaging_decay", "variational", "label_smoothing", "scheduled_sampling", "noise_drop", "noise_infill", "noise_mask"}
SHARES |= {"type_dropout"}
ABOVE_0 = ("epochs", "learning_rate", "language_rate", "clip", "embedding_std", "embedding_scale")
CHOICES: dict[str, Iterable[str]] = {
    "encoder": ENCODERS, "tokenizer": TOKENIZERS, "pooling": POOLINGS, "activation": ACTIVATIONS, "head_activation": ACTIVATIONS,
    "optimizer": OPTIMIZERS, "schedule": SCHEDULES, "loss": ("", *LOSSES), "class_weights": ("none", "balanced"),
    "vectors_mode": VECTORS_MODES, "cell": CELLS, "initial": ("zero", "learnt"), "output_sees": ("new", "old"),
    "reset": ("after", "before"), "update": ("old", "candidate"), "characters": CHARACTERS, "join": JOINS, "scheme": SCHEMES,
    "target_tokenizer": ("", *TOKENIZERS), "too_long": ("cut", "refuse"), "metric": MEASURES, "tied": TIED, "decoder": DECODERS,
    "averaging": AVERAGING, "tune": TUNE, "condition": CONDITIONS, "attention": ("none", *SCORES), "align": ALIGNMENTS, "attend": ATTEND,
    "output": OUTPUTS, "cut": CUTS, "proposal": ("log-uniform", "unigram"),
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """Resolved, by who takes them: tokenizer (its kind too), network (ClassifierConfig, say), encoder, train (TrainConfig), budget; and the
    decoder, where the network has one.

    The monitor "metric" is the task's own. flat: all of them in one, which resolves to the same.
    """

    tokenizer: dict[str, Any]
    network: dict[str, Any]
    encoder: dict[str, Any]
    train: dict[str, Any]
    budget: dict[str, Any]
    decoder: dict[str, Any] = field(default_factory=dict)
    flat: dict[str, Any] = field(default_factory=dict)

    def with_network(self, **changed: Any) -> Settings:
        """The same with other settings of the network."""
        return replace(self, network={**self.network, **changed}, flat={**self.flat, **changed})


def resolve(*layers: Mapping[str, Any] | None, network: str = "classifier") -> Settings:
    """Later layers override earlier ones (rung's defaults, then the user's). network: of NETWORKS.

    A setting that several of them have goes to all of them; of a network with a decoder, encoder_NAME and decoder_NAME go to one side.

    Raises InputError for an unknown name, naming those there are, or a value of the wrong kind.
    """
    given = _layered(layers)
    tokenizer, config, budget = NETWORKS[network]
    configs: dict[str, type] = {"tokenizer": tokenizer, "network": config, "encoder": Given}
    if hasattr(config, "encoder"):
        configs["encoder"] = ENCODERS[_bounded("encoder", str(given.get("encoder", config.encoder)))][0]
    configs |= {"train": TrainConfig, "budget": budget}
    sides = ("encoder", "decoder") if hasattr(config, "decoder") else ()
    if sides:
        configs["decoder"] = DECODERS[_bounded("decoder", str(given.get("decoder", config.decoder)))][0]  # type: ignore[attr-defined]
    chosen = {name: _defaults(config) for name, config in configs.items()}
    chosen["train"]["monitor"] = "metric"
    for decided in DECIDED.get(network, ()):
        chosen["encoder"].pop(decided, None)
    for setting, value in given.items():
        owners = [(name, setting) for name in chosen if setting in chosen[name]]
        owners = owners or [(side, own) for side in sides if (own := setting.removeprefix(f"{side}_")) != setting and own in chosen[side]]
        if not owners:
            raise unknown(setting, {known for defaults in chosen.values() for known in defaults})
        for owner, own in owners:
            kind = get_type_hints(configs[owner])[own]
            chosen[owner][own] = _bounded(own, coerce(setting, value, chosen[owner][own], kind))
    _check_positions(chosen)
    _check_cell(chosen["encoder"])
    if chosen["network"].get("vectors_mode") == "static" and (chosen["tokenizer"].get("ngrams") or 1) > 1:
        raise InputError("static vectors are of words, and n-grams have to be learnt: ngrams=1, or another vectors_mode", "ngrams")
    flat = {f"{name}_{own}" if name in sides else own: chosen[name][own] for name in configs for own in sorted(chosen[name])}
    return Settings(**chosen, flat=flat)


def resolve_whole(
    kind: type, given: Mapping[str, Any] | None, *, training: Mapping[str, Any], least: Mapping[str, int], network: Iterable[str]
) -> Settings:
    """Settings of a pretraining, whose tokenizer, network and budget are told by one dataclass: as `tokenizer` all of it, as `network` the
    names given. training: its own defaults of TrainConfig; least: of whole numbers, one by one where there are several.

    Raises InputError as `resolve`.
    """
    train, own = {**_defaults(TrainConfig), **training}, _defaults(kind)
    kinds = {name: hint for name, hint in get_type_hints(TrainConfig).items() if name in train} | get_type_hints(kind)
    for name, value in (given or {}).items():
        if name not in kinds:
            raise unknown(name, kinds)
        made = coerce(name, value, {**train, **own}[name], kinds[name])
        for one in made if isinstance(made, tuple) else (made,):
            if name in least and one < least[name]:
                raise InputError(f"must be at least {least[name]}, not {one}", name)
        (own if name in own else train)[name] = made
    if own["epochs"] <= 0:
        raise InputError(f"must be above 0, not {own['epochs']}", "epochs")
    budget, flat = {**own, "batch_size": 1}, {**own, **train}
    return Settings(tokenizer=own, network={name: own[name] for name in network}, encoder={}, train=train, budget=budget, flat=flat)


def known_settings(rung: str, task: str = "classification") -> set[str]:
    """The names of the settings that a rung of the task's ladder has."""
    resolved = set(_resolved(ladder(task)[rung], {}))
    return resolved | {name.split("_", 1)[1] for name in resolved if name.startswith(("encoder_", "decoder_"))}


def typed_settings(rung: str, settings: Mapping[str, Any], task: str = "classification") -> dict[str, Any]:
    """The settings in the rung's types. Raises InputError for one that it does not have or that cannot have its value."""
    resolved = _resolved(ladder(task)[rung], settings)
    both = {name.split("_", 1)[1]: value for name, value in resolved.items() if name.startswith(("encoder_", "decoder_"))}
    return {name: {**both, **resolved}[name] for name in settings}


def _resolved(rung: Rung, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a rung, whatever its engine."""
    if rung.tagging and rung.engine != "neural":
        return feature_tagger.checked_settings(rung.name, {**rung.settings, **settings})
    if rung.network == "seq2seq" and rung.engine != "neural":
        return translation_baselines.checked_settings(rung.name, {**rung.settings, **settings})
    if rung.network == "language-model" and rung.engine != "neural":
        return ngram_language.checked_settings(rung.name, {**rung.settings, **settings})
    if rung.engine == "baseline":
        return checked_settings(rung.name, {**rung.settings, **read_settings(rung.name, settings)})
    if rung.engine == "fasttext":
        return fasttext.checked_settings({**rung.settings, **settings})
    return resolve(rung.settings, settings, network=rung.network).flat


def unknown(setting: str, known: Iterable[str]) -> InputError:
    """The refusal of a setting that a model does not have, with those that it has."""
    names = sorted(known)
    return InputError(f"no such setting for this model{meant(setting, names)}; there are {', '.join(names) or 'none'}", setting)


def _layered(layers: Iterable[Mapping[str, Any] | None]) -> dict[str, Any]:
    """All layers in one. A tokenizer, an encoder or a decoder that a layer names does not get what earlier layers chose for theirs and it
    does not take; static vectors do not get the n-grams that earlier layers chose.
    """
    given: dict[str, Any] = {}
    own = {item.name for item in fields(TokenizerSettings)} - {"tokenizer", "maximum_length", "elmo"}
    for layer in layers:
        if layer is not None and not isinstance(layer, Mapping):
            raise InputError(f"must be names and values, like {{'dropout': 0.3}}, not {layer!r:.60}", "settings")
        if layer and (kind := layer.get("tokenizer")) in TOKENIZERS:
            takes = inspect.signature(TOKENIZERS[kind].train).parameters
            given = {name: value for name, value in given.items() if name not in own or name in takes}
        for side in SIDES:
            given = _without(given, side, (layer or {}).get(side))
        if layer and layer.get("vectors_mode") == "static":
            given.pop("ngrams", None)
        given.update(layer or {})
    return given


def _without(given: dict[str, Any], side: str, chosen: Any) -> dict[str, Any]:
    """What was given, less the settings of this side that only the one it had before takes, where `chosen` is another."""
    before = str(given.get(side))
    if before == chosen or before not in SIDES[side] or chosen not in SIDES[side]:
        return given
    taken, takes = ({item.name for item in fields(SIDES[side][name][0])} for name in (before, chosen))
    others = {item.name for other, table in SIDES.items() if other != side and other in given for item in fields(table[given[other]][0])}
    gone = {f"{side}_{name}" for name in taken - takes} | (taken - takes - others)
    return {name: value for name, value in given.items() if name not in gone}


def _bounded(name: str, value: Any) -> Any:
    """The value, if such a setting can have it."""
    if name in CHOICES and value not in CHOICES[name]:
        there = [choice for choice in CHOICES[name] if choice]
        raise InputError(f"there is no {value!r}{meant(str(value), there)}; there are {', '.join(there)}", name)
    if name == "features":
        feature_names(value)
    for one in value if isinstance(value, tuple) else () if value is None else (value,):
        if name in AT_LEAST and one < AT_LEAST[name]:
            raise InputError(f"must be at least {AT_LEAST[name]}, not {one}", name)
        if name in SHARES and not 0 <= one < 1:
            raise InputError(f"must be at least 0 and below 1, not {one}", name)
        if name in ABOVE_0 and one <= 0:
            raise InputError(f"must be above 0, not {one}", name)
    return value


def _check_positions(chosen: dict[str, dict[str, Any]]) -> None:
    longest, room = chosen["tokenizer"].get("maximum_length", 0), chosen["encoder"].get("maximum_positions", 0)
    if room and chosen["encoder"].get("positions") == "learned" and not 0 < longest <= room:
        raise InputError(f"must be from 1 to the {room} of maximum_positions where positions are learned, not {longest}", "maximum_length")


def _check_cell(encoder: dict[str, Any]) -> None:
    """The choices of a recurrent cell are its own."""
    if "peepholes" not in encoder:
        return
    try:
        RecurrentConfig(**encoder).options()
    except ValueError as error:
        name, _, rest = str(error).partition(" ")
        raise InputError(rest, name) from None


def _defaults(config: type) -> dict[str, Any]:
    """The fields of a config dataclass that a user may set, with their defaults."""
    return {
        item.name: item.default for item in fields(config) if item.name not in OWNED_BY_DATA.get(config, ()) and item.default is not MISSING
    }
