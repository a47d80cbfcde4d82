"""What users hold of taggers: sentences → a tag for every word, and the spans that the tags stand for."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from weft.data.batch import IGNORED
from weft.data.examples import TAGGED, Example, Table
from weft.data.schemes import illegal, scheme_of, spans_of, tags_of
from weft.data.vocabulary import Vocabulary
from weft.data.words import WordTokenizer
from weft.errors import InputError
from weft.estimators.base import Estimator
from weft.estimators.decoding import Decoded
from weft.estimators.feature_tagger import FeatureTagger, checked_settings
from weft.estimators.inputs import set_aside
from weft.estimators.rungs import TAGGER_RUNGS, Rung
from weft.estimators.scoring import MAIN_METRIC, a_few, score_tags
from weft.saving import SavedModel

log = logging.getLogger("weft")
COLUMN = "tag"  # what a single column of tags is called where it has no name
INSIDE = "BIOES"  # the scheme that spans are learnt in where the settings do not say
Sentences = Sequence[Sequence[str]]
Tags = Sequence[Sequence[str]] | Mapping[str, Sequence[Sequence[str]]]


class Answer(NamedTuple):
    """One sentence, answered. tags, confidences: of the first column, a probability each. spans: where its tags are spans; others: further
    columns' tags. offsets: of each token in the text, where a text was given."""

    tokens: list[str]
    tags: list[str]
    confidences: list[float]
    spans: list[dict[str, Any]]
    others: dict[str, list[str]]
    offsets: list[tuple[int, int]] | None


class Tagger(Estimator):
    """Sentences (lists of words) → a tag for each word, in one column or several at once.

    `Tagger(model="char-bilstm-crf").fit(sentences, tags).predict(sentences)`; `weft models` lists the models. tags: a list of tags for each
    sentence, or {column: such lists} to learn several together, the first being the one that weights are chosen by. Tags in a BIO scheme
    (BIO, IOB1, BIOES) are spans unless `task="tagging"`; they are learnt in the scheme of the settings and given back in their own.
    Fitted: labels_ {column: names}, tasks_ {column: "tagging" or "spans"}, inside_ (the scheme of the settings), history_, parameters_.
    """

    rungs = TAGGER_RUNGS
    tasks = TAGGED
    kept = ("labels_", "tasks_", "schemes_", "inside_")
    labels_: dict[str, list[str]]
    tasks_: dict[str, str]
    schemes_: dict[str, str]
    inside_: str
    seen_: set[str]

    def __init__(
        self,
        model: str = "char-bilstm-crf",
        settings: dict[str, Any] | None = None,
        *,
        task: str | None = None,
        epochs: float | None = None,
        steps: int | None = None,
        minutes: float | None = None,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        patience: int | None = None,
        validation_fraction: float = 0.1,
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        vectors: Any = None,
        random_state: Any = 0,
    ) -> None:
        super().__init__(
            model, settings, epochs=epochs, steps=steps, minutes=minutes, batch_size=batch_size, batch_tokens=batch_tokens,
            patience=patience, validation_fraction=validation_fraction, device=device, precision=precision, threads=threads,
            vectors=vectors, random_state=random_state,
        )  # fmt: skip
        self.task = task

    def fit(
        self,
        sentences: Sentences,
        tags: Tags,
        validation: tuple[Sentences, Tags] | None = None,
        *,
        checkpoint: str | Path | None = None,
        resume: bool = False,
        callbacks: Sequence[Any] = (),
    ) -> Tagger:
        """Trains on N sentences and their tags; returns self.

        validation: (sentences, tags) for the choice of the best weights; without it a `validation_fraction` is set aside. Raises InputError
        for empty data, sentences and tags of different lengths (naming the sentence), and a column with one tag only.
        """
        rung = self._rung()
        words, columns = checked(sentences, tags, "sentences")
        self.seed_ = self._seed()
        self._learn_labels(columns)
        if self.vectors is not None and not rung.takes_vectors:
            raise InputError(f"{rung.name!r} starts from no word vectors; --vectors is for the neural models", "vectors")
        if rung.engine == "neural":
            self._check_budget()
            self._fit_network(rung, words, columns, validation, checkpoint, resume, callbacks)
        else:
            self._fit_features(rung, words, columns)
        self.seen_ = {word for sentence in words for word in sentence}
        return self

    def _learn_labels(self, columns: Mapping[str, Sequence[Sequence[str]]]) -> None:
        """What each column's tags are: spans or not, in which scheme, and their names inside."""
        if self.task not in (None, *TAGGED):
            raise InputError(f"must be {' or '.join(TAGGED)}, not {self.task!r}", "task")
        self.tasks_, self.schemes_, self.labels_ = {}, {}, {}
        self.inside_ = self._scheme()
        for place, (column, tags) in enumerate(columns.items()):
            asked = self.task if not place else None
            scheme = scheme_of(tags) if asked != "tagging" else None
            if asked == "spans" and scheme is None:
                raise InputError("spans are written in a BIO scheme (B-PER, I-PER, O), and these tags are not", column)
            self.tasks_[column], self.schemes_[column] = ("tagging", "") if scheme is None else ("spans", scheme)
            if scheme is not None and (wrong := sum(len(illegal(sentence, scheme)) for sentence in tags)):
                log.warning("%s: %d tags are against the rules of %s, read as conlleval does and repaired", column, wrong, scheme)
            inside = (self._inside(column, sentence) for sentence in tags)
            self.labels_[column] = sorted({tag for sentence in inside for tag in sentence})
            if len(self.labels_[column]) < 2:
                said = f"every tag is {self.labels_[column][0]!r}" if self.labels_[column] else "no sentence has a word"
                raise InputError(f"{said}: a tagger needs at least two tags", column)
        self.task_ = next(iter(self.tasks_.values()))

    def _scheme(self) -> str:
        if self._rung().engine != "neural":
            return INSIDE
        return str(self._settings(self._rung()).budget["scheme"])

    def _inside(self, column: str, tags: Sequence[str]) -> list[str]:
        """A sentence's tags as they are learnt. Raises InputError for what is no tag of spans where those are."""
        if self.tasks_[column] != "spans":
            return list(tags)
        try:
            return tags_of(spans_of(tags), len(tags), self.inside_)
        except ValueError as error:
            raise InputError(str(error), column) from error

    def _outside(self, column: str, tags: Sequence[str]) -> list[str]:
        """Learnt tags as they were given."""
        if self.tasks_[column] != "spans":
            return list(tags)
        return tags_of(spans_of(tags), len(tags), self.schemes_[column])

    def _targets(self, columns: Mapping[str, Sequence[Sequence[str]]]) -> list[np.ndarray]:
        """(T, columns) label ids of each sentence; IGNORED for a tag that training did not have."""
        by_column = []
        for column, names in self.labels_.items():
            ids = {name: i for i, name in enumerate(names)}
            by_column.append(
                [np.array([ids.get(tag, IGNORED) for tag in self._inside(column, tags)], np.int64) for tags in columns[column]]
            )
        return [np.stack(parts, 1) for parts in zip(*by_column, strict=True)]

    def _fit_network(
        self,
        rung: Rung,
        words: list[list[str]],
        columns: dict[str, Any],
        validation: Any,
        checkpoint: Any,
        resume: bool,
        callbacks: Sequence[Any],
    ) -> None:
        from weft.estimators.engine import Budget

        if validation is not None:
            held = self._given_validation(validation, columns)
        else:
            (words, columns), held = hold_out(words, columns, self.validation_fraction, self.seed_)
        dev = None if held is None else self._tagged(*held)
        self.engine_ = self._network(rung)
        self.history_ = self.engine_.fit(
            self._tagged(words, columns), dev if dev is not None and len(dev) else None,
            Budget(self.steps, self.epochs, self.minutes),
            checkpoint=None if checkpoint is None else Path(checkpoint), resume=resume, callbacks=callbacks,
        )  # fmt: skip

    def _given_validation(self, validation: Any, columns: Mapping[str, Any]) -> tuple[Any, Any]:
        """The caller's (sentences, tags); tags that training does not have are said, and take no part in the choice of weights."""
        if not isinstance(validation, tuple | list) or len(validation) != 2:
            raise InputError("must be (sentences, tags)", "validation")
        held = checked(validation[0], validation[1], "validation", columns)
        for column, tags in held[1].items():
            self._say_unseen(column, tags, "left out of the choice of weights")
        return held

    def _tagged(self, words: Sentences, columns: Mapping[str, Any]) -> Any:
        """Sentences in pieces that are not too long, empty ones left out, with their targets; a span between two pieces is one in each."""
        from weft.estimators.tag_network import Tagged, cut

        limit = self._settings(self._rung()).tokenizer["maximum_length"]
        self._say_long(words, limit)
        pieces, _ = cut(words, limit)
        targets = self._targets({column: cut(tags, limit)[0] for column, tags in columns.items()})
        kept = [i for i, piece in enumerate(pieces) if len(piece)]
        return Tagged([pieces[i] for i in kept], [targets[i] for i in kept])

    @staticmethod
    def _say_long(words: Sentences, limit: int) -> None:
        if longer := sum(len(sentence) > limit for sentence in words) if limit else 0:
            log.warning("%d of %d sentences are longer than maximum_length=%d words and are read in pieces", longer, len(words), limit)

    def _network(self, rung: Rung) -> Any:
        """The neural engine for these settings, not built yet."""
        from weft.estimators.tag_network import TagNetwork

        settings = self._settings(rung)
        vectors = self._vectors(settings)
        return TagNetwork(self.labels_, self.tasks_, settings, self._compute(), self.seed_, vectors)

    def _fit_features(self, rung: Rung, words: Sentences, columns: Mapping[str, Any]) -> None:
        """Trains an engine that goes to its own end, on all data."""
        from weft.data.schemes import allowed

        settings = checked_settings(rung.name, {**rung.settings, **self._own_settings(rung)})
        targets = self._targets(columns)
        tags = {column: [rows[:, place] for rows in targets] for place, column in enumerate(self.labels_)}
        legal = {c: allowed(names, self.inside_) if self.tasks_[c] == "spans" else None for c, names in self.labels_.items()}
        self.engine_ = FeatureTagger(rung.name, settings, self.seed_).fit(words, tags, self.labels_, legal)
        self.history_ = None

    def seconds_per_step(self, sentences: Sentences, tags: Tags, validation: tuple[Any, Any]) -> tuple[float, int]:
        """(seconds a training step takes, its share of the checks on `validation` included; steps of the model's own number of epochs).

        Measured on a copy: nothing is fitted.
        """
        words, columns = checked(sentences, tags, "sentences")
        self.seed_ = self._seed()
        self._learn_labels(columns)
        held = self._given_validation(validation, columns)
        return self._network(self._rung()).measure(self._tagged(words, columns), self._tagged(*held))

    def predict(self, sentences: Sequence[Any]) -> Any:
        """The tags (lists of str) of each sentence: a list of words, or a text, which is cut into words. {column: …} where there are
        several."""
        tags = self._predicted([tokens_of(one)[0] for one in as_sentences(sentences)])
        return tags if len(tags) > 1 else next(iter(tags.values()))

    def _predicted(self, words: Sentences) -> dict[str, list[list[str]]]:
        """The tags of each column, sentence by sentence."""
        found = self._decoded(words)
        return {column: [self._outside(column, self._names(column, ids)) for ids in one.ids] for column, one in found.items()}

    def answers(self, sentences: Sequence[Any]) -> list[Answer]:
        """For each sentence or text its tokens, tags, their probabilities, and spans with theirs (that of the least sure token)."""
        cut = [tokens_of(one) for one in as_sentences(sentences)]
        found = self._decoded([tokens for tokens, _ in cut])
        first, *rest = found
        answers = []
        for i, (tokens, offsets) in enumerate(cut):
            tags, sure = (
                self._outside(first, self._names(first, found[first].ids[i])),
                [round(float(p), 6) for p in found[first].confidences[i]],
            )
            others = {column: self._outside(column, self._names(column, found[column].ids[i])) for column in rest}
            spans = described(tokens, tags, sure, offsets) if self.tasks_[first] == "spans" else []
            answers.append(Answer(list(tokens), tags, sure, spans, others, offsets))
        return answers

    def evaluate(self, sentences: Sentences, tags: Tags, *, answers: Sequence[Answer] | None = None) -> dict[str, float]:
        """Every metric, by name: token accuracy, span F1 where the tags are spans, both of words that training did not have.

        Tags that training never saw count as wrong, and are said aloud with their number. Of further columns the main metric.
        answers: to these sentences, where they are there already.
        """
        self._check_fitted()
        words, columns = checked(sentences, tags, "sentences", self.labels_)
        if answers is None:
            predicted = self._predicted(words)
        else:
            first, *rest = self.labels_
            predicted = {first: [one.tags for one in answers]} | {name: [one.others[name] for one in answers] for name in rest}
        scores: dict[str, float] = {}
        for place, (column, task) in enumerate(self.tasks_.items()):
            true = [self._outside(column, self._inside(column, one)) for one in columns[column]]
            self._say_unseen(column, columns[column])
            found = score_tags(task, true, predicted[column], words, self.seen_)
            scores |= found if not place else {f"{column} {MAIN_METRIC[task]}": found[MAIN_METRIC[task]]}
        return scores

    def score(self, X: Sentences, y: Tags) -> float:
        """The main metric: token accuracy, or strict span F1 where the tags are spans."""
        return self.evaluate(X, y).get(MAIN_METRIC[self.task_], math.nan)

    def _say_unseen(self, column: str, tags: Sequence[Sequence[str]], so: str = "they count as wrong") -> None:
        known = set(self.labels_[column])
        missed = [tag for sentence in tags for tag in self._inside(column, sentence) if tag not in known]
        if missed:
            log.warning("%d tokens have a tag that training never saw (%s): %s", len(missed), a_few(sorted(set(missed))), so)

    def _names(self, column: str, ids: np.ndarray) -> list[str]:
        names = self.labels_[column]
        return [names[i] for i in ids.tolist()]

    def _decoded(self, sentences: Sentences) -> dict[str, Decoded]:
        self._check_fitted()
        if self._rung().engine == "neural":
            self._say_long(sentences, self.engine_.settings.tokenizer["maximum_length"])
        found: dict[str, Decoded] = self.engine_.decoded(sentences)
        return found

    def _tokenizer(self, tokenizer: dict[str, Any]) -> dict[str, Any]:
        return {**tokenizer, "seen": sorted(self.seen_)}

    def _take_up(self, config: dict[str, Any], saved: SavedModel) -> None:
        engine, tokenizer = config["engine"], dict(saved.tokenizer or {})
        self.seen_ = set(tokenizer.pop("seen"))
        if self._rung().engine != "neural":
            self.engine_ = FeatureTagger.restore(saved.arrays, engine, tokenizer)
            return
        from weft.estimators.settings import resolve
        from weft.estimators.tag_network import TagNetwork

        settings = resolve(engine["settings"], network=self._rung().network)
        self.engine_ = TagNetwork(self.labels_, self.tasks_, settings, self._compute(), self.seed_)
        self.engine_.take(engine["network"], tokenizer, saved.arrays)
        self.engine_.vectors_facts, self.engine_.elmo_facts = engine.get("vectors"), engine.get("elmo")
        self.engine_.pretrained_facts = engine.get("pretrained")


def as_sentences(sentences: Any) -> list[Any]:
    """A list of sentences, each a text or a list of words. Raises InputError, naming the first that is neither."""
    if isinstance(sentences, str):
        raise InputError("is one text; give a list of sentences", "sentences")
    if not isinstance(sentences, Iterable):
        raise InputError(f"must be a list of sentences, not {sentences!r:.60}", "sentences")
    found = list(sentences)
    for number, one in enumerate(found, start=1):
        if not isinstance(one, str) and not (isinstance(one, Sequence) and all(isinstance(word, str) for word in one)):
            raise InputError(f"sentence {number} is {one!r:.60}; give a text, or a list of words", "sentences")
    return found


def tokens_of(sentence: str | Sequence[str]) -> tuple[list[str], list[tuple[int, int]] | None]:
    """The words of a sentence, and of a text where each stands in it."""
    if not isinstance(sentence, str):
        return list(sentence), None
    offsets = _cutter().encode(sentence).offsets
    return [sentence[start:end] for start, end in offsets], [(int(start), int(end)) for start, end in offsets]


@lru_cache(maxsize=1)
def _cutter() -> WordTokenizer:
    return WordTokenizer(Vocabulary(()), lowercase=False)


def described(tokens: Sequence[str], tags: Sequence[str], sure: Sequence[float], offsets: Any) -> list[dict[str, Any]]:
    """The spans of a sentence: type, text, start and end in tokens (and in characters), the probability of its least sure token."""
    found = []
    for start, end, kind in spans_of(tags):
        span: dict[str, Any] = {
            "type": kind,
            "start": start,
            "end": end,
            "text": " ".join(tokens[start:end]),
            "score": min(sure[start:end]),
        }
        if offsets is not None:
            span |= {"from": offsets[start][0], "to": offsets[end - 1][1]}
        found.append(span)
    return found


def checked(
    sentences: Any, tags: Any, place: str, columns: Mapping[str, Any] | None = None
) -> tuple[list[list[str]], dict[str, list[list[str]]]]:
    """Sentences and tags by column, as lists. Raises InputError for what does not fit, naming the sentence.

    columns: those that there must be; a single column may come without its name.
    """
    words = as_sentences(sentences)
    if raw := next((number for number, one in enumerate(words, start=1) if isinstance(one, str)), None):
        raise InputError(f"sentence {raw} is a text; with tags, give its words, a list", place)
    if not words:
        raise InputError("there is nothing to learn from or to measure: no sentences", place)
    named = dict(tags) if isinstance(tags, Mapping) else {next(iter(columns)) if columns else COLUMN: tags}
    if not named or (columns and (missing := [column for column in columns if column not in named])):
        raise InputError(f"there are no tags for {missing[0] if named else 'any column'}", "tags")
    found = {}
    for column in columns or named:
        if isinstance(named[column], str) or not isinstance(named[column], Iterable):
            raise InputError(f"must be a list of tags for each sentence, not {named[column]!r:.60}", "tags")
        lists = [list(one) if isinstance(one, Iterable) and not isinstance(one, str) else None for one in named[column]]
        if len(lists) != len(words):
            raise InputError(f"{len(words)} sentences but {len(lists)} lists of tags", "tags")
        for number, (sentence, one) in enumerate(zip(words, lists, strict=True), start=1):
            if one is None or len(one) != len(sentence):
                have = "no list of tags" if one is None else f"{len(one)} tags"
                raise InputError(f"sentence {number} has {len(sentence)} words but {have}; every word needs one", "tags")
            if bad := [tag for tag in one if not isinstance(tag, str) or not tag]:
                raise InputError(f"sentence {number} has the tag {bad[0]!r}; tags are texts", "tags")
        found[column] = [list(map(str, one or ())) for one in lists]
    return [list(one) for one in words], found


def hold_out(words: list[list[str]], columns: dict[str, list[list[str]]], fraction: float, seed: int) -> Any:
    """((sentences, tags) to train on, those to choose the best weights by), or None where there are too few."""
    first = next(iter(columns.values()))
    rows = [Example(" ".join(one), tuple(tags), line=i, tokens=tuple(one)) for i, (one, tags) in enumerate(zip(words, first, strict=True))]
    held = set_aside(Table(rows, "tagging", "sentences"), fraction, seed, "too few")
    if held is None:
        return (words, columns), None
    parts = [([words[i] for i in index], {column: [tags[i] for i in index] for column, tags in columns.items()}) for index in held]
    return parts[0], parts[1]
