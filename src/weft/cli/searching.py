"""The options of a search, which `weft predict` takes for models that answer with texts."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weft.errors import InputError

if TYPE_CHECKING:
    from weft.generation.search import Beam, Greedy, Sample

PANEL = "Search (translators)"


def _option(kind: Any, help: str, name: str | None = None) -> Any:
    return Annotated[kind, typer.Option(*([name] if name else []), help=help, rich_help_panel=PANEL)]


Width = _option(int | None, "Hypotheses that a beam search keeps, 4 if not given; 1 is greedy.")
NBest = _option(int | None, "So many targets a source, best first.")
LengthPenalty = _option(float | None, "α: the more, the longer the answers; 1 if not given.")
CoveragePenalty = _option(float | None, "β: what a source's tokens cost that nothing looked at.")
Sampled = _option(bool, "Draw each token at random instead of searching for the likeliest target.", "--sample")
Temperature = _option(float | None, "Of what is drawn: below 1 likelier tokens, above 1 less likely ones.")
TopK = _option(int | None, "Draw from the k likeliest tokens.")
TopP = _option(float | None, "Draw from the fewest tokens that reach this probability together.")
Maximum = _option(int | None, "Tokens of a target at most; twice the source's and ten if not given.", "--max-length")
Minimum = _option(int | None, "Tokens of a target at least.", "--min-length")
NoRepeat = _option(int | None, "No n tokens stand twice in a target.", "--no-repeat-ngrams")
Seed = _option(int | None, "What is drawn; 0 if not given.")
_SAMPLING = ("temperature", "top_k", "top_p", "seed")
_BEAM = ("beam", "n_best", "length_penalty", "coverage_penalty")


@dataclass(frozen=True)
class Asked:
    """What was given of these options; None and False where nothing was."""

    beam: int | None
    n_best: int | None
    length_penalty: float | None
    coverage_penalty: float | None
    sample: bool
    temperature: float | None
    top_k: int | None
    top_p: float | None
    max_length: int | None
    min_length: int | None
    no_repeat_ngrams: int | None
    seed: int | None

    def given(self, names: tuple[str, ...] | None = None) -> list[str]:
        """The options that were given, of these names or of all, as they are spelt."""
        every = names or tuple(field.name for field in fields(self))
        return [f"--{name.replace('_', '-')}" for name in every if not any(getattr(self, name) is none for none in (None, False))]

    def refuse(self, task: str) -> None:
        """Raises InputError where an option was given: a model of this task does not search."""
        if given := self.given():
            raise InputError(f"is for models that answer with texts; this one does {task}", given[0])

    def search(self) -> Greedy | Sample | Beam | None:
        """The search that was asked for; None for the usual one. Raises InputError for options that do not go together."""
        from weft.estimators.translator import WIDTH
        from weft.generation.search import Beam, Greedy, Sample

        if self.sample:
            if wrong := self.given(_BEAM):
                raise InputError("is of a beam search, and --sample draws", wrong[0])
            named = {name: getattr(self, name) for name in _SAMPLING if getattr(self, name) is not None}
            return Sample(**named)
        if wrong := self.given(_SAMPLING):
            raise InputError("is for targets that are drawn: give --sample too", wrong[0])
        if not self.given(_BEAM):
            return None
        width = self.beam or max(WIDTH, self.n_best or 1)
        if self.beam is not None and self.beam < 1:
            raise InputError(f"must be at least 1, not {self.beam}", "--beam")
        if (self.n_best or 1) > width:
            raise InputError(f"{self.n_best} targets need a --beam of as many, not {width}", "--n-best")
        if width == 1:
            return Greedy()
        penalty = 1.0 if self.length_penalty is None else self.length_penalty
        return Beam(width, length_penalty=penalty, coverage_penalty=self.coverage_penalty or 0.0, n_best=self.n_best or 1)

    def limits(self) -> dict[str, Any]:
        """Fields of Limits."""
        named = {"maximum": self.max_length, "minimum": self.min_length, "no_repeat_ngrams": self.no_repeat_ngrams}
        return {name: value for name, value in named.items() if value is not None}
