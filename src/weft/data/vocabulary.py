"""Tokens and their ids, fixed once from counts (E31: the columns of a one-hot vector, or the rows of an embedding).

Ids 0 and 1 are the same in every vocabulary: padding, and whatever the vocabulary does not know.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from weft.errors import InputError

log = logging.getLogger("weft")
PADDING, UNKNOWN = 0, 1
SPECIALS = ("<pad>", "<unk>")


class Vocabulary:
    """Tokens numbered from 2 in the order given; 0 is "<pad>", 1 is "<unk>".

    `ids` maps every token that a text can hold to its id. "<pad>" is not among them, so that no text can write padding into
    a row; a text's own "<unk>" means the unknown token. Raises InputError for a token given twice or a special one.
    """

    __slots__ = ("ids", "tokens")

    def __init__(self, tokens: Iterable[str]) -> None:
        self.tokens: list[str] = [*SPECIALS, *tokens]
        self.ids: dict[str, int] = {token: number for number, token in enumerate(self.tokens) if number != PADDING}
        if len(self.ids) != len(self.tokens) - 1 or SPECIALS[PADDING] in self.ids:
            seen: set[str] = set()
            twice = next(token for token in self.tokens if token in seen or seen.add(token))  # type: ignore[func-returns-value]
            raise InputError(f"a vocabulary holds each token once, {SPECIALS} among them, and {twice!r} came twice")

    @classmethod
    def build(cls, counts: Mapping[str, int], minimum_count: int = 1, maximum_size: int | None = None) -> Vocabulary:
        """The tokens counted at least `minimum_count` times, commonest first, ties in the order of their code points.

        maximum_size: the most ids there may be, the two special ones included (None: no limit). The order of `counts` changes
        nothing. Raises InputError where minimum_count < 1 or maximum_size < 2.
        """
        if minimum_count < 1:
            raise InputError(f"minimum_count must be at least 1, not {minimum_count}")
        if maximum_size is not None and maximum_size < len(SPECIALS):
            raise InputError(f"maximum_size counts {' and '.join(SPECIALS)} too: it must be at least 2, not {maximum_size}")
        kept = (token for token, count in counts.items() if count >= minimum_count and token not in SPECIALS)
        ordered = sorted(sorted(kept), key=counts.__getitem__, reverse=True)  # which leaves equal ones in their order
        if maximum_size is not None:
            ordered = ordered[: maximum_size - len(SPECIALS)]
        if len(ordered) < len(counts):
            log.info(
                "vocabulary: %d of %d distinct tokens kept (%s, %s)", len(ordered), len(counts), f"{minimum_count=}", f"{maximum_size=}"
            )
        return cls(ordered)

    def id(self, token: str) -> int:
        """The token's id, 1 where it is unknown."""
        return self.ids.get(token, UNKNOWN)

    def token(self, number: int) -> str:
        """The token of an id; InputError outside 0 … len − 1."""
        if not 0 <= number < len(self.tokens):
            raise InputError(f"there is no token {number}: this vocabulary has ids 0 to {len(self.tokens) - 1}")
        return self.tokens[number]

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self.ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.tokens == other.tokens

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} ids)"
