"""What users hold of sequence to sequence: texts → texts, learnt from pairs: translations, pronunciations, replies, corrections."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weft.data.examples import Example, Table
from weft.errors import InputError, MissingExtra
from weft.estimators.base import Estimator
from weft.estimators.decoding import Alignment, Translated, limits_of
from weft.estimators.inputs import set_aside
from weft.estimators.rungs import PAIRS, TRANSLATION_RUNGS, Rung
from weft.estimators.translation_baselines import TranslationBaseline
from weft.metrics_text import MEASURES
from weft.saving import SavedModel

if TYPE_CHECKING:
    from weft.estimators.translation_network import Search, Translations

log = logging.getLogger("weft")
Targets = Sequence[str | Sequence[str]]
WIDTH = 4  # of the beam where no search is named


class Translator(Estimator):
    """Texts → texts: `Translator(model="transformer").fit(sources, targets).predict(sources)`; `weft models` lists the models.

    A target is a text, or several of which any is right: all are learnt, and the nearest is measured against. Fitted: history_,
    parameters_.
    """

    rungs = TRANSLATION_RUNGS
    tasks = PAIRS
    network = "seq2seq"

    def __init__(
        self,
        model: str = "transformer",
        settings: dict[str, Any] | None = None,
        *,
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
        random_state: Any = 0,
    ) -> None:
        super().__init__(
            model, settings, epochs=epochs, steps=steps, minutes=minutes, batch_size=batch_size, batch_tokens=batch_tokens,
            patience=patience, validation_fraction=validation_fraction, device=device, precision=precision, threads=threads,
            random_state=random_state,
        )  # fmt: skip

    def fit(
        self,
        sources: Sequence[str],
        targets: Targets,
        validation: tuple[Sequence[str], Targets] | None = None,
        *,
        checkpoint: str | Path | None = None,
        resume: bool = False,
        callbacks: Sequence[Any] = (),
    ) -> Translator:
        """Trains on N sources and their targets; returns self.

        validation: (sources, targets) for the choice of the best weights; without it a `validation_fraction` is set aside. Raises
        InputError for empty data, different lengths, and an empty source or target (naming its place).
        """
        from weft.estimators.engine import Budget

        rung = self._rung()
        data = checked(sources, targets, "sources")
        self.seed_, self.task_ = self._seed(), PAIRS[0]
        if rung.engine != "neural":
            rows = each_target(data)
            own = {**rung.settings, **self._own_settings(rung)}
            self.engine_ = TranslationBaseline(rung.name, own).fit(rows.sources, [right[0] for right in rows.targets])
            self.history_ = None
            return self
        self._check_budget()
        if validation is None:
            data, held = hold_out(data, self.validation_fraction, self.seed_)
        elif isinstance(validation, tuple | list) and len(validation) == 2:
            held = checked(validation[0], validation[1], "validation")
        else:
            raise InputError("must be (sources, targets)", "validation")
        self.engine_ = self._network(rung)
        self.history_ = self.engine_.fit(
            each_target(data), held, Budget(self.steps, self.epochs, self.minutes),
            checkpoint=None if checkpoint is None else Path(checkpoint), resume=resume, callbacks=callbacks,
        )  # fmt: skip
        return self

    def _network(self, rung: Rung) -> Any:
        """The neural engine for these settings, not built yet. Raises MissingExtra where their metric needs one that is not there."""
        from weft.estimators.translation_network import TranslationNetwork

        settings = self._settings(rung)
        MEASURES[settings.budget["metric"]](["a"], ["a"])
        return TranslationNetwork(settings, self._compute(), self.seed_)

    def seconds_per_step(self, sources: Sequence[str], targets: Targets, validation: tuple[Any, Any]) -> tuple[float, int]:
        """(seconds a training step takes, its share of the checks on `validation` included; steps of the model's own number of epochs).

        Measured on a copy: nothing is fitted.
        """
        self.seed_ = self._seed()
        data, held = checked(sources, targets, "sources"), checked(*validation, "validation")
        measured: tuple[float, int] = self._network(self._rung()).measure(each_target(data), held)
        return measured

    def predict(self, sources: Sequence[str], *, search: Search | None = None, limits: Mapping[str, Any] | None = None) -> list[str]:
        """The best target of each source. search: of weft.generation, a beam of 4 unless told; limits: as `translations`."""
        return [answers[0].text for answers in self.translations(sources, search=search, limits=limits)]

    def translations(
        self,
        sources: Sequence[str],
        *,
        search: Search | None = None,
        limits: Mapping[str, Any] | None = None,
        weights: bool = False,
        stream: Any = None,
    ) -> list[list[Translated]]:
        """The targets found for each source, best first, with their scores: one, or as many as the search's n_best.

        limits: fields of weft.generation.Limits. Unless they name a maximum it is twice the source's tokens and ten. weights: with the
        attention of each token over the source's. An empty source has an empty target, which is said with a count. Raises InputError where
        one of these is given to a model that does not search.
        """
        self._check_fitted()
        texts = as_texts(sources, "sources")
        full = [place for place, text in enumerate(texts) if text.strip()]
        if len(full) < len(texts):
            log.warning("%d of %d sources are empty, and so are their targets", len(texts) - len(full), len(texts))
        own = limits_of(limits or {}, full, len(texts))
        made = self._found([texts[place] for place in full], search, own, weights, stream)
        found = [[Translated("", 0.0, 0.0, [], None, True)] for _ in texts]
        for place, answers in zip(full, made, strict=True):
            found[place] = answers
        return found

    def _found(self, texts: list[str], search: Search | None, limits: Mapping[str, Any] | None, weights: bool, stream: Any) -> Any:
        """The answers to texts that are not empty."""
        if self._rung().engine != "neural":
            given = {"search": search is not None, "limits": bool(limits), "weights": weights, "stream": stream is not None}
            if wrong := next((name for name, there in given.items() if there), None):
                raise InputError(f"has no meaning for {self.model!r}, which neither searches nor attends: leave it out", wrong)
            return self.engine_.translated(texts)
        from weft.generation.search import Beam, Greedy, Sample

        if not isinstance(search, Beam | Greedy | Sample | None):
            raise InputError(f"must be a Beam, Greedy or Sample of weft.generation, not {search!r:.60}", "search")
        chosen = Beam(WIDTH, length_penalty=1.0) if search is None else search
        return self.engine_.translated(texts, chosen, weights=weights, limits=limits, stream=stream)

    def align(self, source: str, target: str | None = None) -> Alignment:
        """How the model's attention joins a source and a target (what it makes of the source, where none is given).

        Raises InputError for an empty source, and for a model without attention.
        """
        self._check_fitted()
        as_texts([source] if target is None else [source, target], "align")
        if not source.strip():
            raise InputError("is empty: there is nothing to align", "source")
        if self._rung().engine != "neural":
            raise InputError(f"{self.model!r} has no attention to align by", "model")
        return Alignment(*self.engine_.maps(source, self.predict([source])[0] if target is None else target))

    def evaluate(
        self, sources: Sequence[str], targets: Targets, *, search: Search | None = None, predicted: Sequence[str] | None = None
    ) -> dict[str, float]:
        """Every measure of weft.metrics_text, by name, the one that weights were chosen by first; BLEU and chrF where sacreBLEU is there.

        predicted: the answers to these sources, where they are there already.
        """
        self._check_fitted()
        data = checked(sources, targets, "sources", empty=True)
        made = self.predict(data.sources, search=search) if predicted is None else list(predicted)
        first = self.engine_.monitor()
        scores = {}
        for name in sorted(MEASURES, key=lambda name: name != first):
            try:
                scores[name] = float(MEASURES[name](made, data.targets))
            except MissingExtra as missing:
                log.warning("%s", missing)
        return scores

    def score(self, X: Sequence[str], y: Targets) -> float:
        """The metric that weights were chosen by. Raises MissingExtra where it needs one that is not there."""
        self._check_fitted()
        metric = self.engine_.monitor()
        MEASURES[metric](["a"], ["a"])
        return self.evaluate(X, y)[metric]

    def _take_up(self, config: dict[str, Any], saved: SavedModel) -> None:
        from weft.estimators.settings import resolve
        from weft.estimators.translation_network import TranslationNetwork

        engine = config["engine"]
        if self._rung().engine != "neural":
            self.engine_ = TranslationBaseline.restore(saved.arrays, engine, saved.tokenizer or {})
            return
        self.engine_ = TranslationNetwork(resolve(engine["settings"], network=self.network), self._compute(), self.seed_)
        self.engine_.take(engine["network"], saved.tokenizer or {}, saved.arrays)


def as_texts(texts: Any, place: str) -> list[str]:
    """A list of texts. Raises InputError, naming the first that is none."""
    if isinstance(texts, str):
        raise InputError("is one text; give a list of them", place)
    if not isinstance(texts, Iterable):
        raise InputError(f"must be a list of texts, not {texts!r:.60}", place)
    made = list(texts)
    if (wrong := next((i for i, text in enumerate(made) if not isinstance(text, str)), None)) is not None:
        raise InputError(f"text {wrong + 1} is {type(made[wrong]).__name__}, not a text", place)
    return made


def checked(sources: Any, targets: Any, place: str, *, empty: bool = False) -> Translations:
    """Sources and the targets of each, none empty unless `empty`. Raises InputError naming what is wrong and where."""
    from weft.estimators.translation_network import Translations

    texts = as_texts(sources, place)
    if isinstance(targets, str):
        raise InputError("is one text; give a list, a target for each source", "targets")
    if not isinstance(targets, Iterable):
        raise InputError(f"must be a list, a target for each source, not {targets!r:.60}", "targets")
    found = [tuple(target) if isinstance(target, Iterable) and not isinstance(target, str) else (target,) for target in targets]
    if not texts:
        raise InputError("there are none; training needs pairs of texts", place)
    if len(texts) != len(found):
        raise InputError(f"{len(texts)} sources but {len(found)} targets", place)
    for number, (text, right) in enumerate(zip(texts, found, strict=True), 1):
        if not right or not all(isinstance(one, str) for one in right):
            raise InputError(f"target {number} must be a text, or several of which any is right", "targets")
        if not empty and not (text.strip() and all(one.strip() for one in right)):
            raise InputError(f"{'source' if not text.strip() else 'target'} {number} is empty; leave the pair out", place)
    return Translations(texts, found)


def each_target(data: Translations) -> Translations:
    """A row for each of several right targets."""
    from weft.estimators.translation_network import Translations

    rows = [(source, (one,)) for source, right in zip(data.sources, data.targets, strict=True) for one in right]
    return Translations([source for source, _ in rows], [right for _, right in rows])


def hold_out(data: Translations, fraction: float, seed: int) -> tuple[Translations, Translations | None]:
    """(what to train on, what to choose the best weights by): a share set aside at random; None where there are too few."""
    from weft.estimators.translation_network import Translations

    rows = [Example(text, tuple(right), line=place) for place, (text, right) in enumerate(zip(data.sources, data.targets, strict=True))]
    held = set_aside(Table(rows, PAIRS[0], "texts"), fraction, seed, "too few, or too much the same,")
    if held is None:
        return data, None
    parts = [Translations([data.sources[i] for i in part], [data.targets[i] for i in part]) for part in held]
    return parts[0], parts[1]
