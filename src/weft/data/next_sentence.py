"""Rows for pretraining out of documents: pairs of neighbours and of strangers (E103; Devlin et al., 2019), or sentences without pairs.

A pair is one row, [CLS] A [SEP] B [SEP] (E104): A some sentences of a document, B with probability ½ those that follow, else some from
elsewhere. What pairs there are is a function of (seed, epoch) alone, so that no two epochs have the same strangers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from weft.data.checkpoints import fitted
from weft.errors import InputError

NEXT, OTHER = 0, 1  # whether B follows A, as published checkpoints number the two
Documents = Sequence[Sequence[np.ndarray]]


class Pair(NamedTuple):
    """Sentences by number, counted through all documents: A is first … middle − 1, B is begin … end − 1, the true neighbour if label is
    NEXT."""

    first: int
    middle: int
    begin: int
    end: int
    label: int


class _Sentences:
    """All sentences of all documents, one after another; starts: where each document begins, and where the last one ends."""

    def __init__(self, documents: Documents) -> None:
        self.ids = [sentence for document in documents for sentence in document if len(sentence)]
        counts = [sum(len(sentence) > 0 for sentence in document) for document in documents]
        self.starts = np.concatenate([[0], np.cumsum([count for count in counts if count])]).astype(np.int64)
        self.lengths = np.array([len(sentence) for sentence in self.ids], np.int64)
        self.document = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def joined(self, first: int, end: int) -> np.ndarray:
        return np.concatenate(self.ids[first:end])

    def digest(self, about: str) -> str:
        found = hashlib.sha256(about.encode())
        found.update(self.starts.tobytes() + self.lengths.tobytes())
        for sentence in self.ids:
            found.update(sentence.astype(np.int32, copy=False).tobytes())
        return found.hexdigest()


class NextSentence:
    """Rows [first] A [separator] B [separator] of at most `maximum_length` tokens and whether B follows A.

    documents: each the ids of its sentences, without special tokens. Sentences of a document are gathered until they fill a row, two at
    least, and cut in two anywhere between sentences; a fair coin says whether the second part stays or a stranger takes its place, in
    which case it is still to come. short: the share of pairs that are to be of any length from 2. What is too long loses the beginning of A
    and the end of B, so that neighbours stay neighbours. A stranger begins where a neighbour could, never with a document's first sentence,
    which would give it away; it is of another document unless same_document, and never A's true neighbour. It is as
    long as the neighbour would have been, to a sentence. A last sentence that nothing follows is no A.

    Raises InputError where there are no two documents of two sentences (with same_document: not two sentences that follow another).
    """

    def __init__(
        self,
        documents: Documents,
        *,
        maximum_length: int,
        first: int,
        separator: int,
        seed: int = 0,
        short: float = 0.1,
        same_document: bool = False,
    ) -> None:
        if maximum_length < 5:
            raise InputError(f"must be at least 5, two texts of a token and three special ones, not {maximum_length}", "maximum_length")
        if not 0 <= short <= 1:
            raise ValueError(f"{short=} must be from 0 to 1")
        self.room, self.first, self.separator = maximum_length - 3, np.array([first]), np.array([separator])
        self.seed, self.short, self.same_document = seed, short, same_document
        self.sentences = _Sentences(documents)
        following = np.ones(len(self.sentences.ids), bool)
        following[self.sentences.starts[:-1]] = False
        self.following = np.nonzero(following)[0]  # the sentences that a B can begin with
        if len(self.following) < 2 or (not same_document and len(set(self.sentences.document[self.following].tolist())) < 2):
            need = "two sentences that follow another" if same_document else "two documents of two sentences or more"
            raise InputError(f"pairs of sentences need {need}; there are {len(self.sentences.starts) - 1} documents", "corpus")

    def rows(self, epoch: int) -> tuple[list[np.ndarray], np.ndarray]:
        """The rows of this epoch, in the documents' order, and their labels (N,)."""
        pairs = self.pairs(epoch)
        rows = []
        for pair in pairs:
            a, b = self.sentences.joined(pair.first, pair.middle), self.sentences.joined(pair.begin, pair.end)
            backwards, b = fitted(a[::-1], b, self.room)  # type: ignore[arg-type,assignment]
            rows.append(np.concatenate([self.first, backwards[::-1], self.separator, b, self.separator]).astype(np.int32))
        return rows, np.array([pair.label for pair in pairs], np.int64)

    def pairs(self, epoch: int) -> list[Pair]:
        """The pairs of this epoch, in the documents' order."""
        random, found = np.random.default_rng([self.seed, epoch]), []
        starts = self.sentences.starts.tolist()
        for begin, end in pairwise(starts):
            place = begin
            while place < end - 1:
                pair = self._pair(place, end, random)
                found.append(pair)
                place = pair.end if pair.label == NEXT else pair.middle
        return found

    def _pair(self, place: int, end: int, random: np.random.Generator) -> Pair:
        """The pair whose A begins at `place`, of a document that ends at `end`."""
        room = self.room if random.random() >= self.short else int(random.integers(2, self.room + 1))
        last = max(place + 2, self._filled(place, end, room))
        middle = int(random.integers(place + 1, last))
        if random.random() < 0.5:
            return Pair(place, middle, middle, last, NEXT)
        begin = self._stranger(place, middle, random)
        finish = int(self.sentences.starts[self.sentences.document[begin] + 1])
        left = int(self.sentences.lengths[middle:last].sum())  # as long as the neighbour: lengths give nothing away
        return Pair(place, middle, begin, max(begin + 1, self._filled(begin, finish, left)), OTHER)

    def _filled(self, place: int, end: int, room: int) -> int:
        """Where the sentences from `place` on first reach `room` tokens, or `end`."""
        total = 0
        while place < end and total < room:
            total += int(self.sentences.lengths[place])
            place += 1
        return place

    def _stranger(self, place: int, middle: int, random: np.random.Generator) -> int:
        """Where a false B begins."""
        document, tries = self.sentences.document, 0
        while True:
            found = int(self.following[random.integers(len(self.following))])
            tries += 1
            if self.same_document:
                # a sentence of A itself only where hardly anything else is there
                if found != middle and (tries > 100 or not place <= found < middle):
                    return found
            elif document[found] != document[place]:
                return found

    def fingerprint(self) -> str:
        """A digest of what the rows are made from and how."""
        about = (self.room, self.first.tolist(), self.separator.tolist(), self.seed, self.short, self.same_document)
        return self.sentences.digest(repr(("pairs", *about)))


class Packed:
    """Rows [first] sentences [separator] of at most `maximum_length` tokens, as many whole sentences of one document as fit, no pairs
    (Liu et al., 2019, section 4.2, DOC-SENTENCES). A sentence that is longer than a row goes on in the next. The same in every epoch.

    Raises InputError where there is no sentence.
    """

    def __init__(self, documents: Documents, *, maximum_length: int, first: int, separator: int) -> None:
        if maximum_length < 3:
            raise InputError(f"must be at least 3, a token and two special ones, not {maximum_length}", "maximum_length")
        self.room, self.first, self.separator = maximum_length - 2, first, separator
        self.sentences = _Sentences(documents)
        if not self.sentences.ids:
            raise InputError("has no sentences to learn from", "corpus")
        self._rows: list[np.ndarray] | None = None

    def rows(self, epoch: int) -> tuple[list[np.ndarray], None]:
        """The rows of every epoch; there are no labels."""
        if self._rows is None:
            starts = self.sentences.starts.tolist()
            self._rows = [row for begin, end in pairwise(starts) for row in self._document(begin, end)]
        return self._rows, None

    def _document(self, begin: int, end: int) -> list[np.ndarray]:
        found: list[list[int]] = [[]]
        for sentence in self.sentences.ids[begin:end]:
            ids = sentence.tolist()
            if found[-1] and len(found[-1]) + len(ids) > self.room:
                found.append([])
            for start in range(0, len(ids), self.room):
                if start:
                    found.append([])
                found[-1] += ids[start : start + self.room]
        return [np.array([self.first, *ids, self.separator], np.int32) for ids in found]

    def fingerprint(self) -> str:
        """A digest of what the rows are made from and how."""
        return self.sentences.digest(repr(("packed", self.room, self.first, self.separator)))
