"""What can be wrong with a user's input: every error says where (file:line, argument) and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """The caller's input cannot be used. `str()` is one line: "place: message", or the message where there is no place.

    message: what is wrong, and what would be right. place: "reviews.csv:17", an argument's name, or None.
    The command line prints `error: {e}` and exits with 2.
    """

    def __init__(self, message: str, place: str | None = None) -> None:
        super().__init__(message, place)
        self.message = message
        self.place = place

    def __str__(self) -> str:
        text = f"{self.place}: {self.message}" if self.place else self.message
        return " ".join(text.splitlines())


class MissingExtra(InputError):
    """An optional dependency is not installed: MissingExtra("data", "reading Parquet")."""

    def __init__(self, extra: str, what: str) -> None:
        super().__init__(f"{what} needs the extra: pip install 'weft[{extra}]'")
        self.args = (extra, what)  # what unpickling calls the class with, when it crosses a process border
        self.extra = extra


class DivergedError(InputError):
    """The loss is no number any more: DivergedError("loss is nan", step=120, batch=3) names where it happened.

    step: optimizer steps finished before, counted from 0; batch: which batch of the epoch, counted from 0.
    """

    def __init__(self, what: str, step: int, batch: int) -> None:
        super().__init__(f"{what} at step {step}, batch {batch}: a lower learning rate, a warm-up or clipping keeps it finite")
        self.args = (what, step, batch)
        self.step = step
        self.batch = batch


def meant(name: str, names: Iterable[str]) -> str:
    """ " (did you mean cnn?)", of `names` the nearest to one that is not among them; "" where none is near."""
    near = difflib.get_close_matches(name, names, n=1)
    return f" (did you mean {near[0]}?)" if near else ""
