"""Hidden tokens for masked language models (E102): a row of ids → what a network reads, and what it is to find at the hidden places.

Each token is chosen with probability 0.15; of those chosen 80 % become the mask, 10 % another token drawn at random, 10 % stay as they are:
masks never occur when the network is used (Devlin et al., 2019, section 3.1). Special tokens are neither chosen nor drawn. What becomes of
a row is a function of seed, epoch and the row's number alone: fresh in every epoch (Liu et al., 2019), the same in every run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

IGNORED = -100  # the target of what is not asked


@dataclass(frozen=True)
class Masking:
    """rate: the share of tokens that are chosen. masked, replaced: the shares of those that become the mask, and another token.

    exact: as many of a row as its share, rounded, one at least, instead of a coin for each. whole_words: all pieces of a word or none (with
    exact: words in any order, those left out that would be too many). dynamic: anew in every epoch. Raises ValueError for no shares.
    """

    rate: float = 0.15
    masked: float = 0.8
    replaced: float = 0.1
    exact: bool = False
    whole_words: bool = False
    dynamic: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise ValueError(f"rate={self.rate} must be above 0 and at most 1")
        if min(self.masked, self.replaced) < 0 or self.masked + self.replaced > 1:
            raise ValueError(f"masked={self.masked} and replaced={self.replaced} must be shares of 1 together")


class Masker:
    """Rows of ids below `vocabulary_size` → (inputs, targets), targets IGNORED where nothing is asked.

    mask: the mask's id; special: ids that are never chosen nor drawn; continues (V,): which ids go on with the word before, for whole
    words. Raises ValueError where no id is left to be drawn, or whole words are asked for and nobody says what continues one.
    """

    def __init__(
        self,
        masking: Masking,
        *,
        vocabulary_size: int,
        mask: int,
        special: Iterable[int],
        continues: np.ndarray | None = None,
        seed: int = 0,
    ) -> None:
        if masking.whole_words and continues is None:
            raise ValueError("whole words need to know which tokens go on with the word before them")
        self.masking, self.mask, self.seed, self.continues = masking, mask, seed, continues
        self.open = np.ones(vocabulary_size, bool)
        self.open[[*special, mask]] = False
        self.drawn = np.nonzero(self.open)[0]
        if not len(self.drawn):
            raise ValueError(f"all {vocabulary_size} tokens are special: none is left to be hidden")

    def __call__(self, row: np.ndarray, epoch: int, number: int) -> tuple[np.ndarray, np.ndarray]:
        """What is read and what is asked of this row, (T,) int64 each. number: the row's in its table."""
        random = np.random.default_rng([self.seed, epoch if self.masking.dynamic else 0, number])
        inputs, targets = row.astype(np.int64), np.full(len(row), IGNORED, np.int64)
        chosen = self._chosen(inputs, random)
        targets[chosen] = inputs[chosen]
        kind = random.random(len(chosen))
        inputs[chosen[kind < self.masking.masked]] = self.mask
        others = chosen[(kind >= self.masking.masked) & (kind < self.masking.masked + self.masking.replaced)]
        inputs[others] = self.drawn[random.integers(len(self.drawn), size=len(others))]
        return inputs, targets

    def _chosen(self, row: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """The places that are asked for."""
        places = np.nonzero(self.open[row])[0]
        if not len(places):
            return places
        words = np.arange(len(places))
        if self.masking.whole_words:
            assert self.continues is not None
            begins = ~self.continues[row[places]]
            begins[1:] |= np.diff(places) > 1  # what follows a special token begins a word
            begins[0] = True
            words = np.cumsum(begins) - 1
        sizes = np.bincount(words)
        if not self.masking.exact:
            return places[(random.random(len(sizes)) < self.masking.rate)[words]]
        left = max(1, round(self.masking.rate * len(places)))
        taken = np.zeros(len(sizes), bool)
        for word in random.permutation(len(sizes)).tolist():
            if sizes[word] <= left:
                taken[word] = True
                left -= sizes[word]
            if not left:
                break
        return places[taken[words]]
