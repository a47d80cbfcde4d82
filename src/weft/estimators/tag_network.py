"""The neural engine behind the Tagger: sentences and tags → vocabularies → network; sentences → tags, each with a probability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from weft.data.batch import IGNORED, Batch, Batches
from weft.data.lexicon import Words, feature_names
from weft.data.schemes import allowed
from weft.device import Compute, autocast
from weft.errors import InputError
from weft.estimators.decoding import Decoded
from weft.estimators.elmo import ElmoStart, read_elmo
from weft.estimators.engine import Engine, described_config
from weft.estimators.pretrained import pretrained
from weft.estimators.scoring import MAIN_METRIC
from weft.estimators.settings import Settings
from weft.estimators.values import by_column
from weft.estimators.vectors import Vectors
from weft.losses import Loss, TagLoss
from weft.metrics import Metric
from weft.metrics_tagging import span_counts
from weft.models.tagger import Tagger, TaggerConfig
from weft.nn.crf import Emissions, marginals, viterbi

Sentence = Sequence[str]
MARKS = ("first", "separator")  # the special tokens that stand around a sentence
HIGHEST = 8  # level: so many encoders on top of one another


@dataclass
class Tagged:
    """Sentences, and for each an array (T, columns) of label ids, IGNORED where a tag is not known; none at prediction."""

    sentences: Sequence[Sentence]
    targets: Sequence[np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.sentences)


class TagNetwork(Engine):
    """Vocabularies and a tagger that are trained, asked and saved together.

    labels: the names of each column's labels, the first column being the one that is measured; tasks: "tagging" or "spans" for each.
    """

    prediction_tokens = 2048  # every word of a long row costs as much as any other: little padding matters more than large batches

    def __init__(
        self,
        labels: Mapping[str, Sequence[str]],
        tasks: Mapping[str, str],
        settings: Settings,
        compute: Compute,
        seed: int,
        vectors: Vectors | None = None,
    ) -> None:
        self.labels, self.tasks = {column: list(names) for column, names in labels.items()}, dict(tasks)
        super().__init__(next(iter(self.tasks.values())), settings, compute, seed, vectors)
        self.words: Words | None = None
        self.elmo: ElmoStart | None = None
        self.elmo_facts: dict[str, Any] | None = None
        self.pretrained_facts: dict[str, Any] | None = None  # what its encoder started from
        self.model: Tagger | None = None

    def build_for(self, data: Tagged) -> None:
        if "pretrained" in self.settings.network:
            self.start_from(self.settings.network["pretrained"], data.sentences)
            return
        own = {name: value for name, value in self.settings.tokenizer.items() if name not in ("maximum_length", "elmo")}
        given = {name: value for name, value in own.items() if value is not None}
        given["features"] = feature_names(given["features"])
        self.words = Words.train(data.sentences, **given)
        self.elmo = read_elmo(folder) if (folder := self.settings.tokenizer["elmo"]) else None
        if self.elmo is not None:
            self.words, self.elmo_facts = self.elmo.share_characters(self.words), self.elmo.facts
        start = self.found_vectors(self.words.vocabulary.tokens)
        made: Any = self.create().words
        if self.elmo is not None:
            made.elmo.network.load_state_dict(self.elmo.weights)
        if start is not None:
            made.embedding.start_from(torch.from_numpy(start).to(self.compute.device))

    def start_from(self, source: str, sentences: Sequence[Sentence]) -> None:
        """The encoder and the pieces of a checkpoint, features of these sentences' words, and a head drawn from the seed.

        Raises InputError where there is no such checkpoint, and for more words than it has positions.
        """
        start, network = pretrained(source), dict(self.settings.network)
        del network["pretrained"]
        longest = self.settings.tokenizer["maximum_length"]
        if not longest:
            raise InputError("must be above 0: the encoder has not positions without end", "maximum_length")
        encoder, weights = start.body(network.pop("layer_dropout"), longest + len(MARKS))
        ends = [number for name in MARKS if (number := start.tokenizer.id_of(name)) is not None]
        if len(ends) != len(MARKS):
            raise InputError("puts no special tokens around a text, as encoders of words in a sentence do", start.name)
        self.words = Words.train(sentences, features=feature_names(self.settings.tokenizer["features"])).in_pieces(start.tokenizer)
        self.pretrained_facts = start.facts
        made: Any = self.create(encoder="", pretrained=asdict(encoder), ends=tuple(ends), **network).words
        made.encoder.load_state_dict(weights)

    def create(self, **own: Any) -> Tagger:
        """The network for these vocabularies and labels, with weights drawn from the seed; own: of its config, the settings' if not given.
        Raises InputError for impossible settings."""
        assert self.words is not None
        budget, levels = self.settings.budget, self._levels()
        constrained = tuple(column for column, task in self.tasks.items() if task == "spans" and budget["constrained"])
        config = TaggerConfig(
            vocabulary_size=self.words.size, columns={column: len(names) for column, names in self.labels.items()},
            features={name: len(values) for name, values in self.words.features.items()}, character_vocabulary=len(self.words.characters),
            encoder_settings=dict(self.settings.encoder), elmo={} if self.elmo is None else asdict(self.elmo.config),
            levels=levels, constrained=constrained, sparse=self.lazy(self.words.size),
            **(own or self.settings.network),
        )  # fmt: skip
        legal = {column: allowed(self.labels[column], budget["scheme"]) for column in constrained}
        made: Tagger = self.draw(lambda: self._tried(Tagger(config, legal)))
        self.model = made
        return made

    def _tried(self, model: Tagger) -> Tagger:
        """The network, tried out: ValueError where its encoder gives no state for every word, before anything is trained."""
        assert self.words is not None
        rows, lexicon = self.words.encode([["a"] * 5])
        with torch.inference_mode():
            model.eval()(Batches(rows, examples=1, lexicon=lexicon).gather(np.arange(1)))
        model.train()
        return model

    def _levels(self) -> dict[str, int]:
        levels = by_column("levels", self.settings.budget.get("levels", ""), self.labels)
        if wrong := [level for level in levels.values() if not 1 <= level <= HIGHEST or level != int(level)]:
            raise InputError(f"are whole numbers from 1 to {HIGHEST}, not {wrong[0]:g}", "levels")
        return {column: int(level) for column, level in levels.items()}

    def batches(self, data: Tagged, *, shuffled: bool) -> Batches:
        assert self.words is not None
        rows, lexicon = self.words.encode(data.sentences)
        return Batches(rows, targets=data.targets, lexicon=lexicon, **self.budgets(shuffled=shuffled))

    def loss(self, data: Tagged) -> Loss:
        """By column, weighed as the settings say. Raises InputError for weights below 0, and for smoothing that a CRF does not know."""
        budget = self.settings.budget
        weights = by_column("weights", budget["weights"], self.labels)
        if wrong := [column for column, weight in weights.items() if weight < 0]:
            raise InputError(f"must not be below 0, as that of {wrong[0]!r} is", "weights")
        chained = bool(self.settings.network["crf"])
        if chained and budget["label_smoothing"]:
            raise InputError("is for tags that are chosen each by itself; a CRF has no such loss", "label_smoothing")
        return TagLoss(tuple(self.labels), chained, weights, budget["label_smoothing"])

    def metrics(self) -> Mapping[str, Metric]:
        kinds = {"tagging": TokenAccuracy, "spans": SpanF1}
        found: dict[str, Metric] = {}
        for place, (column, task) in enumerate(self.tasks.items()):
            name = MAIN_METRIC[task] if not place else f"{column} {MAIN_METRIC[task]}"
            found[name] = kinds[task](name, column, place, self.labels[column])
        return found

    def decoded(self, sentences: Sequence[Sentence]) -> dict[str, Decoded]:
        """For each column the label ids (T,) of every sentence and their probabilities: the softmax's, or the CRF's marginals.

        A sentence longer than `maximum_length` is tagged in pieces.
        """
        assert self.model is not None
        limit = self.settings.tokenizer["maximum_length"]
        pieces, owner = cut(sentences, limit)
        found = {column: ([np.zeros(0, np.int64)] * len(pieces), [np.zeros(0, np.float32)] * len(pieces)) for column in self.labels}
        full = [i for i, piece in enumerate(pieces) if len(piece)]
        if full:
            given = Tagged([pieces[i] for i in full])
            self.model.eval()
            with torch.inference_mode(), autocast(self.compute):
                for batch in self.batches(given, shuffled=False):
                    for column, emissions in self.model(batch.to(self.compute.device)).items():
                        _put(emissions, batch, full, *found[column])
        return {
            column: Decoded(_joined(ids, owner, len(sentences)), _joined(sure, owner, len(sentences)))
            for column, (ids, sure) in found.items()
        }

    def describe(self) -> dict[str, Any]:
        """As any engine, and what its encoder started from, whose ELMo it reads."""
        facts = {"pretrained": self.pretrained_facts, "elmo": self.elmo_facts}
        return {**super().describe(), **{name: found for name, found in facts.items() if found is not None}}

    def saved(self) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
        """All there is to keep: (weights, config, vocabularies)."""
        assert self.words is not None
        return self.arrays(), self.describe(), self.words.to_dict()

    def take(self, network: Mapping[str, Any], words: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """What a model folder holds. Raises InputError where its weights do not fit its config."""
        self.words = Words.from_dict(words)
        self.model = Tagger(described_config(TaggerConfig, network))
        self.take_up(arrays)


class _TagStream:
    """A measure of one column over batches: `update` takes {column: Emissions} and targets (B, T, columns)."""

    higher_is_better = True

    def __init__(self, name: str, column: str, place: int, labels: Sequence[str]) -> None:
        self.name, self.column, self.place, self.labels = name, column, place, labels
        self.numerator = self.denominator = 0.0

    def update(self, outputs: Mapping[str, Emissions], batch: Batch) -> None:
        assert batch.targets is not None
        self.count(best(outputs[self.column]).cpu().numpy(), batch.targets[..., self.place].cpu().numpy())

    def compute(self) -> float:
        return self.numerator / self.denominator if self.denominator else float("nan")

    def count(self, tags: np.ndarray, targets: np.ndarray) -> None:
        raise NotImplementedError


class TokenAccuracy(_TagStream):
    """The share of tokens whose tag is right, of those that have one."""

    def count(self, tags: np.ndarray, targets: np.ndarray) -> None:
        counted = targets != IGNORED
        self.numerator += float(((tags == targets) & counted).sum())
        self.denominator += float(counted.sum())


class SpanF1(_TagStream):
    """Strict F1 of spans, 2·right/(found + true), over sentences whose every tag is known."""

    def count(self, tags: np.ndarray, targets: np.ndarray) -> None:
        for found, true in zip(tags, targets, strict=True):
            real = true != IGNORED
            names = ([[self.labels[i] for i in row[real]]] for row in (true, found))
            above, below = span_counts(*names)[0]
            self.numerator, self.denominator = self.numerator + float(above), self.denominator + float(below)


def best(emissions: Emissions) -> torch.Tensor:
    """The tags (B, T): of each token by itself, or of the best path."""
    return emissions.logits.argmax(-1) if emissions.chain is None else viterbi(emissions)[0]


def _put(emissions: Emissions, batch: Batch, places: Sequence[int], ids: list[np.ndarray], sure: list[np.ndarray]) -> None:
    """One batch's answers to where they belong."""
    tags = best(emissions)
    chances = marginals(emissions).gather(-1, tags.unsqueeze(-1)).squeeze(-1)
    lengths = batch.mask.sum(1).tolist()
    for row, (source, tag, chance) in enumerate(zip(batch.source.tolist(), tags.cpu().numpy(), chances.float().cpu().numpy(), strict=True)):
        ids[places[source]], sure[places[source]] = tag[: lengths[row]].astype(np.int64), chance[: lengths[row]]


def cut(sentences: Sequence[Sentence], limit: int) -> tuple[list[Sentence], list[int]]:
    """Pieces of at most `limit` tokens (0: whole), and the sentence that each is of."""
    pieces: list[Sentence] = []
    owner: list[int] = []
    for number, sentence in enumerate(sentences):
        step = limit or max(1, len(sentence))
        for start in range(0, max(1, len(sentence)), step):
            pieces.append(sentence[start : start + step])
            owner.append(number)
    return pieces, owner


def _joined(pieces: Sequence[np.ndarray], owner: Sequence[int], count: int) -> list[np.ndarray]:
    """The pieces of each sentence in one."""
    if len(pieces) == count:
        return list(pieces)
    parts: list[list[np.ndarray]] = [[] for _ in range(count)]
    for piece, number in zip(pieces, owner, strict=True):
        parts[number].append(piece)
    return [np.concatenate(some) for some in parts]
