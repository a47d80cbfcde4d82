"""What users hold of language models: text → how likely it is, and what comes next."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from weft.data.examples import RAW
from weft.data.raw import cut_end
from weft.errors import InputError, meant
from weft.estimators.base import Estimator
from weft.estimators.rungs import LANGUAGE_RUNGS
from weft.saving import SavedModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from weft.estimators.language_network import Search

log = logging.getLogger("weft")
Texts = str | Sequence[str]
TOKENS = 200  # of an answer whose length is not told


class Continued(NamedTuple):
    """What follows a prompt. log_probability: Σ log p of its tokens, and of the end where it was reached; finished: whether it was."""

    text: str
    log_probability: float
    tokens: list[str]
    finished: bool


class LanguageModel(Estimator):
    """Texts → how likely they are and what comes next: `LanguageModel("gpt").fit(text).generate("Once")`; `weft models` lists the models.

    A text may be as long as a file; several are several. With settings={"pretrained": FOLDER} it is trained on from a GPT-2, or from one
    that weft trained. Fitted: history_, parameters_.
    """

    rungs = LANGUAGE_RUNGS
    tasks = RAW

    def __init__(
        self,
        model: str = "gpt",
        settings: dict[str, Any] | None = None,
        *,
        epochs: float | None = None,
        steps: int | None = None,
        minutes: float | None = None,
        batch_size: int | None = None,
        patience: int | None = None,
        validation_fraction: float = 0.1,
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        random_state: Any = 0,
    ) -> None:
        super().__init__(
            model, settings, epochs=epochs, steps=steps, minutes=minutes, batch_size=batch_size, patience=patience,
            validation_fraction=validation_fraction, device=device, precision=precision, threads=threads, random_state=random_state,
        )  # fmt: skip

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, device: str = "auto", precision: str = "auto", threads: int | None = None
    ) -> LanguageModel:
        """The language model of a folder, fitted: a public checkpoint of GPT-2's kind (a repository owner/name of the hub too), or one that
        weft trained. Trained on by `fit`, it starts from the folder again. Raises InputError where there is no such."""
        from weft.estimators.language_network import LanguageNetwork

        made = cls("pretrained", {"pretrained": str(source)}, device=device, precision=precision, threads=threads)
        made.seed_, made.task_, made.columns_, made.history_ = made._seed(), RAW[0], {}, None
        engine = LanguageNetwork(made._settings(made._rung()), made._compute(), made.seed_)
        engine.start_from(str(source))
        made.engine_ = engine
        return made

    def fit(
        self,
        texts: Texts,
        y: Any = None,
        validation: Texts | None = None,
        *,
        checkpoint: str | Path | None = None,
        resume: bool = False,
        callbacks: Sequence[Any] = (),
    ) -> LanguageModel:
        """Trains on a text, or on several; returns self. y is ignored.

        validation: text for the choice of the best weights; without it a `validation_fraction` at the end of the texts is set aside. Raises
        InputError where there is no text, or less than one block of it.
        """
        rung, data = self._rung(), checked(texts, "texts")
        self.seed_, self.task_ = self._seed(), RAW[0]
        if rung.engine != "neural":
            from weft.estimators.ngram_language import NgramLanguage

            self.engine_ = NgramLanguage(rung.name, {**rung.settings, **self._own_settings(rung)}).fit(data)
            self.history_ = None
            return self
        from weft.estimators.engine import Budget
        from weft.estimators.language_network import LanguageNetwork

        self._check_budget()
        held: list[str] | None = None
        if validation is not None:
            held = checked(validation, "validation")
        elif self.validation_fraction:
            data, held = cut_end(data, self.validation_fraction)
        engine = LanguageNetwork(self._settings(rung), self._compute(), self.seed_)
        self.history_ = engine.fit(
            data, held, Budget(self.steps, self.epochs, self.minutes), checkpoint=None if checkpoint is None else Path(checkpoint),
            resume=resume, callbacks=callbacks,
        )  # fmt: skip
        self.engine_ = engine
        return self

    def perplexity(self, texts: Texts, *, window: int | None = None, stride: int | None = None) -> float:
        """exp of the mean of −log p over all tokens, ends of texts included (E80): a tokenizer's unit; `evaluate` has others."""
        return self.evaluate(texts, window=window, stride=stride)["perplexity"]

    def evaluate(self, texts: Texts, y: Any = None, *, window: int | None = None, stride: int | None = None) -> dict[str, float]:
        """perplexity a token and its logarithm, loss; word_perplexity, the same −log p shared out over words and ends of lines;
        bits_per_character.

        The texts are read as one stream, in windows of `window` tokens that begin `stride` apart; each token is counted once, from at least
        window − stride tokens before it where there are as many. stride = window is the quickest, windows side by side; the less it is, the
        more every token sees. Usual: of a Transformer, all it sees at once and half of that; of a recurrent network 1,024 tokens that count
        after 256 that warm its state; of n-grams all that they see. What shares a batch changes nothing.
        """
        self._check_fitted()
        data = checked(texts, "texts")
        losses = self.engine_.losses(data, window, stride)
        spelling = self.engine_.spelling
        total, words = float(losses.sum()), spelling.words(data)
        characters = sum(map(len, data))
        mean = total / len(losses)
        found = {"perplexity": _exp(mean), "loss": mean, "word_perplexity": _exp(total / words)}
        return found | ({"bits_per_character": total / math.log(2) / characters} if characters else {})

    def log_probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """log p of each text, and that it ends there, as a text that stands alone: (N,)."""
        self._check_fitted()
        found: np.ndarray = -self.engine_.losses_by_text(checked(texts, "texts", empty=True))
        return found

    def score(self, X: Texts, y: Any = None) -> float:
        """The mean of log p over all tokens: the more, the better."""
        return -self.evaluate(X)["loss"]

    def generate(
        self,
        prompt: str = "",
        *,
        tokens: int = TOKENS,
        search: Search | None = None,
        limits: Mapping[str, Any] | None = None,
        stream: Callable[[str], None] | None = None,
    ) -> str:
        """What follows a prompt, up to its end or so many tokens; drawn at temperature 0.8 from the 50 likeliest unless a search of
        weft.generation is given. stream: called with each piece of text as it comes.

        limits: fields of weft.generation.Limits. Where lines are texts (`lines`), an end is a line's, and more lines follow.
        """
        return self.continuations([prompt], tokens=tokens, search=search, limits=limits, stream=stream)[0][0].text

    def continuations(
        self,
        prompts: Sequence[str],
        *,
        tokens: int = TOKENS,
        search: Search | None = None,
        limits: Mapping[str, Any] | None = None,
        stream: Callable[[str], None] | None = None,
    ) -> list[list[Continued]]:
        """What follows each prompt, best first: one, or as many as a beam's n_best. A prompt that is there twice is gone on with in two
        ways, where what follows is drawn. stream: of one prompt alone.
        """
        from weft.generation.search import Beam, Greedy, Limits, Sample

        self._check_fitted()
        given = checked(prompts, "prompts", empty=True)
        if not isinstance(search, Beam | Greedy | Sample | None):
            raise InputError(f"must be a Beam, Greedy or Sample of weft.generation, not {search!r:.60}", "search")
        there = [item.name for item in fields(Limits)]
        if wrong := next((name for name in limits or {} if name not in there), None):
            raise InputError(f"there is no {wrong!r}{meant(wrong, there)}; there are {', '.join(there)}", "limits")
        if stream is not None and len(given) != 1:
            raise InputError(f"is for one prompt, not {len(given)}", "stream")
        spelling = self.engine_.spelling
        ids = [spelling.prompt(text) for text in given]
        told = None if stream is None else _Telling(spelling, ids[0], stream)
        found = self.engine_.generated(
            ids, Sample(temperature=0.8, top_k=50) if search is None else search, limits={"maximum": tokens, **(limits or {})},
            endless=spelling.lines, numbers=range(len(given)), stream=told,
        )  # fmt: skip
        return [
            [
                Continued(
                    spelling.after(prompt, one.ids), one.log_probability, [spelling.text([number]) for number in one.ids], one.finished
                )
                for one in answers
            ]
            for prompt, answers in zip(ids, found, strict=True)
        ]

    def _take_up(self, config: dict[str, Any], saved: SavedModel) -> None:
        engine = config["engine"]
        if self._rung().engine != "neural":
            from weft.estimators.ngram_language import NgramLanguage

            self.engine_ = NgramLanguage.restore(saved.arrays, engine, saved.tokenizer or {})
            return
        from weft.estimators.language_network import LanguageNetwork
        from weft.estimators.settings import resolve

        self.engine_ = LanguageNetwork(resolve(engine["settings"], network=self._rung().network), self._compute(), self.seed_)
        self.engine_.take(engine["network"], saved.tokenizer or {}, saved.arrays)
        self.engine_.pretrained_facts = engine.get("pretrained")


class _Telling:
    """A search's stream as pieces of text: what the new tokens add to what was told."""

    def __init__(self, spelling: Any, prompt: np.ndarray, tell: Callable[[str], None]) -> None:
        self.spelling, self.prompt, self.tell, self.told = spelling, prompt, tell, ""

    def __call__(self, number: int, ids: tuple[int, ...], last: bool) -> None:
        text = self.spelling.after(self.prompt, ids, whole=last)
        if text.startswith(self.told) and len(text) > len(self.told):  # a beam's best may turn out to be another: told at its end
            self.tell(text[len(self.told) :])
            self.told = text


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))


def checked(texts: Any, place: str, *, empty: bool = False) -> list[str]:
    """Texts as a list. Raises InputError for what is none, and unless `empty` where there is nothing in them."""
    if not isinstance(texts, Iterable):
        raise InputError(f"must be a text, or a list of texts, not {texts!r:.60}", place)
    made = [texts] if isinstance(texts, str) else list(texts)
    if (wrong := next((i for i, text in enumerate(made) if not isinstance(text, str)), None)) is not None:
        raise InputError(f"text {wrong + 1} is {type(made[wrong]).__name__}, not a text", place)
    if not empty and not any(text.strip() for text in made):
        raise InputError("is empty: there is no text to read", place)
    return made
