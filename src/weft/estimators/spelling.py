"""Texts ↔ rows of ids as a language model has them: one tokenizer, the end symbol, and whether every line is a text by itself."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from weft.data.checkpoints import CheckpointTokenizer
from weft.data.tokenizers import Tokenizer, chosen_tokenizer, tokenizer_from_dict
from weft.data.vocabulary import PADDING, UNKNOWN
from weft.errors import InputError

log = logging.getLogger("weft")
KEEP_LINES = ("characters", "bytes", "bpe")  # kinds whose tokens tell where a line ends
HALF = "\ufffd"  # what the first bytes of a character look like until the last is there


class Spelling:
    """texts → rows of ids, `end` after each (it is no part of a row); ids → text.

    lines: every line is a text that ends with the symbol, as word-level models have it (an empty one too); else a text is one row and its
    line ends are tokens of it. The end is an id after all of the tokenizer's; a checkpoint's has its own (<|endoftext|>). silent: ids that
    stand for no text; unknown: the one of what the vocabulary does not know, None where it knows every byte.

    Raises InputError for a checkpoint's tokenizer without an end.
    """

    def __init__(self, tokenizer: Tokenizer | CheckpointTokenizer, lines: bool) -> None:
        self.tokenizer, self.lines = tokenizer, lines
        self.end, self.size = tokenizer.size, tokenizer.size + 1
        self.unknown: int | None = UNKNOWN
        self.silent: tuple[int, ...] = (PADDING, UNKNOWN)
        self.borrowed = isinstance(tokenizer, CheckpointTokenizer)
        if isinstance(tokenizer, CheckpointTokenizer):
            end = tokenizer.id_of("end")
            if end is None:
                raise InputError("has no token that ends a text: it is an encoder's, and a language model's was expected", "tokenizer.json")
            self.end, self.size, self.unknown = end, tokenizer.size, tokenizer.id_of("unknown")
            self.silent = tuple(sorted(tokenizer.special_ids - {end}))

    @classmethod
    def learnt(cls, settings: Mapping[str, Any], texts: Sequence[str]) -> Self:
        """A tokenizer of the settings' kind, trained on texts. lines None: where the kind's tokens would not tell lines apart.

        Raises InputError for hashed tokens, which cannot be turned back into a text, and for lines that neither tells.
        """
        kind = settings["tokenizer"]
        if kind == "hashing":
            raise InputError("hashed ids cannot be turned back into a text; another kind for a language model", "tokenizer")
        lines = kind not in KEEP_LINES if settings["lines"] is None else settings["lines"]
        read = [line for text in texts for line in lines_of(text)] if lines else texts
        return cls(chosen_tokenizer(kind, read, settings), lines)

    def rows(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The ids of each text, or of each line; tokens that the vocabulary does not know are counted aloud."""
        rows = self.tokenizer.encode_ids([line for text in texts for line in lines_of(text)] if self.lines else texts)
        unknown, count = self.unknown_in(rows), sum(map(len, rows))
        if unknown and self.tokenizer.kind != "whitespace":  # a tokenised corpus has its own word for them
            log.warning("%d of %d tokens are unknown to the vocabulary, and count as one that is easily foretold", unknown, count)
        return rows

    def unknown_in(self, rows: Sequence[np.ndarray]) -> int:
        """How many tokens of the rows the vocabulary does not know."""
        return 0 if self.unknown is None else sum(int((row == self.unknown).sum()) for row in rows)

    def words(self, texts: Sequence[str]) -> int:
        """What is between blanks, and the ends of lines: what a loss is shared out over whatever the tokens are."""
        return sum(len(text.split()) + len(lines_of(text)) for text in texts)

    def prompt(self, text: str) -> np.ndarray:
        """What stands before what is to come: the end of what was before, and the prompt, ends of lines within it where lines are texts."""
        rows = self.tokenizer.encode_ids(text.split("\n") if self.lines else [text])
        symbol = np.array([self.end], np.int64)
        return np.concatenate([part for row in rows for part in (symbol, row.astype(np.int64))])

    def text(self, ids: Iterable[int]) -> str:
        """The text of ids, lines apart where an end stands."""
        lines: list[list[int]] = [[]]
        for number in ids:
            if number == self.end:
                lines.append([])
            else:
                lines[-1].append(number)
        return "\n".join(self.tokenizer.decode(line) for line in lines)

    def after(self, prompt: np.ndarray, ids: Sequence[int], *, whole: bool = True) -> str:
        """The text that ids add to a prompt's. whole False: more is to come, so the beginning of a character is left out."""
        before = self.text(prompt[1:].tolist())
        found = self.text([*prompt[1:].tolist(), *ids])[len(before) :]
        return found if whole else found.rstrip(HALF)

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` needs, as JSON can hold it."""
        return {"tokenizer": self.tokenizer.to_dict(), "lines": self.lines}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """What `to_dict` described."""
        return cls(tokenizer_from_dict(data["tokenizer"]), bool(data["lines"]))


def lines_of(text: str) -> list[str]:
    """The lines of a text, without their ends, at least one; what stands after the last end is one where it is not empty."""
    lines = text.split("\n")
    return lines if lines[-1] or len(lines) == 1 else lines[:-1]
