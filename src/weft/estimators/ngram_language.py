"""Kneser–Ney as an engine: texts → ids → counts; log-probabilities and texts out, as the neural engine of language models has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from weft.data.tokenizers import TOKENIZERS
from weft.data.vocabulary import PADDING, UNKNOWN
from weft.errors import InputError, meant
from weft.estimators.ngram_model import KneserNey
from weft.estimators.spelling import Spelling
from weft.estimators.values import coerce
from weft.generation.search import Beam, Greedy, Hypothesis, Limits, Sample, Stream, generate
from weft.models.decoders import Step

SETTINGS: dict[str, tuple[Any, Any]] = {
    "tokenizer": ("words", str), "lines": (None, bool | None), "lowercase": (False, bool), "minimum_count": (None, int | None),
    "maximum_size": (None, int | None), "pattern": (None, str | None), "order": (5, int), "discounts": (3, int),
}  # fmt: skip


def checked_settings(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings. Raises InputError for an unknown one, naming those there are, or a value that cannot be."""
    if wrong := next((setting for setting in settings if setting not in SETTINGS), None):
        raise InputError(f"no such setting for this model{meant(wrong, SETTINGS)}; there are {', '.join(sorted(SETTINGS))}", wrong)
    found = {setting: coerce(setting, settings.get(setting, usual), usual, kind) for setting, (usual, kind) in SETTINGS.items()}
    if found["tokenizer"] not in TOKENIZERS:
        raise InputError(f"there is no {found['tokenizer']!r}; there are {', '.join(TOKENIZERS)}", "tokenizer")
    return found


class NgramLanguage:
    """An engine without a network. The end is an id like others; after it counts go on as at the start of a text."""

    vectors_facts = None

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        self.name, self.settings = name, checked_settings(name, settings)

    def fit(self, texts: Sequence[str]) -> Self:
        """Learns the vocabulary, and counts. Raises InputError where there is nothing to count."""
        self.spelling = Spelling.learnt(self.settings, texts)
        order, discounts = self.settings["order"], self.settings["discounts"]
        self.model = KneserNey.fit(self._rows(texts), vocabulary_size=self.spelling.size, order=order, discounts=discounts)
        return self

    def _rows(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each text, or line, and its end."""
        return [np.append(row, self.spelling.end) for row in self.spelling.rows(texts)]

    def losses(self, texts: Sequence[str], window: int | None = None, stride: int | None = None) -> np.ndarray:
        """−log p of every token of the texts and of their ends (n,). Raises InputError for a window or a stride, which it does not have."""
        for place, value in (("window", window), ("stride", stride)):
            if value is not None:
                raise InputError(f"{self.name} sees the {self.settings['order'] - 1} tokens before, always: leave it out", place)
        return np.concatenate([-self.model.log_probabilities(row) for row in self._rows(texts)])

    def losses_by_text(self, texts: Sequence[str]) -> np.ndarray:
        """−log p of each text and its end (N,)."""
        return np.array([self.losses([text]).sum() for text in texts])

    def generated(
        self,
        prompts: Sequence[np.ndarray],
        search: Greedy | Sample | Beam,
        *,
        limits: Mapping[str, Any],
        endless: bool,
        numbers: Sequence[int],
        stream: Stream | None = None,
    ) -> list[list[Hypothesis]]:
        """As LanguageNetwork.generated."""
        found = []
        limits = {**limits, "forbidden": (PADDING, UNKNOWN, *limits.get("forbidden", ()))}
        for prompt, number in zip(prompts, numbers, strict=True):
            reader = _Reader(self.model, self.spelling.end, endless)
            found += generate(reader, prompt, search, count=1, limits=Limits(**limits), numbers=[number], stream=stream)
        return found

    def parameters(self) -> int:
        """How many counts there are."""
        return sum(array.size for name, array in self.model.arrays().items() if name.startswith("counts"))

    def saved(self) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
        """All there is to keep: arrays, a configuration for JSON, the tokenizer."""
        return self.model.arrays(), {"name": self.name, "settings": self.settings}, self.spelling.to_dict()

    @classmethod
    def restore(cls, arrays: Mapping[str, np.ndarray], described: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> Self:
        """The engine that `saved` took apart. Raises InputError where something is missing or sizes do not agree."""
        made = cls(str(described["name"]), described["settings"])
        made.spelling, made.model = Spelling.from_dict(tokenizer), KneserNey.from_arrays(arrays)
        if made.model.vocabulary_size != made.spelling.size:
            message = f"has {made.spelling.size} tokens, the end among them, but there are counts of {made.model.vocabulary_size}"
            raise InputError(message, "tokenizer.json")
        return made


class _Reader:
    """The counts as searches see them. A state is the ids that each row has read since the last end, and whether the next step is the
    first, whose token, a start symbol, is in the prompt already."""

    def __init__(self, model: KneserNey, end: int, endless: bool) -> None:
        self.model, self.end = model, end
        self.start_symbol, self.end_symbol = end, model.vocabulary_size if endless else end

    def start(self, source: np.ndarray) -> tuple[list[list[int]], bool]:
        """As Decoder.start: one prompt, an end first."""
        ids = source.tolist()
        return [ids[len(ids) - ids[::-1].index(self.end) :]], True

    def step(self, ids: Tensor, state: tuple[list[list[int]], bool]) -> Step:
        """As Decoder.step."""
        contexts, first = state
        if not first:
            contexts = [
                [] if number == self.end else [*context, number][-self.model.order :]
                for context, number in zip(contexts, ids.tolist(), strict=True)
            ]
        shares = np.stack([self.model.next(context) for context in contexts])
        return Step(torch.from_numpy(np.log(shares)), (contexts, False))

    def reorder(self, state: tuple[list[list[int]], bool], rows: Tensor, sources: Tensor | None = None) -> tuple[list[list[int]], bool]:
        """As Decoder.reorder."""
        return [state[0][row] for row in rows.tolist()], state[1]
