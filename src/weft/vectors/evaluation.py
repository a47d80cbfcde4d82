"""How good word vectors are: word similarity, analogies, categorisation (E53, E56, E57).

A word of a set is looked up as it stands, then lower-cased. What has no vector is left out of a measure, and counted.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from weft.errors import InputError, meant
from weft.vectors.evaluation_sets import (
    ANALOGIES,
    CATEGORIES,
    SIMILARITY,
    Member,
    Pair,
    Question,
    find,
    read_classes,
    read_pairs,
    read_questions,
)
from weft.vectors.keyed import METHODS, KeyedVectors

Files = Iterable[str | os.PathLike[str]]
MEAN = ("ws353", "simlex999", "men")
RESTARTS = 10  # of k-means, the best one counts


def evaluate(
    vectors: KeyedVectors,
    *,
    sets: Sequence[str] | None = None,
    similarity: Files = (),
    analogies: Files = (),
    categories: Files = (),
    method: str = "add",
    among: int | None = None,
) -> dict[str, Any]:
    """Measures of named sets and of files.

    sets: names as in evaluation_sets.SETS; None: all that are on this machine, or none where files are given. similarity, analogies,
    categories: files, whose measures stand under their paths. method: "add" (3CosAdd) or "multiply" (3CosMul). among: analogies are asked
    of the first so many words alone, those with others are left out.

    {"similarity": {name: {"spearman", "spearman_known", "pairs", "known", "scored"}},
     "analogy": {name: {"accuracy", "questions", "known", "sections": {section: {"accuracy", "questions", "known"}}}},
     "categorisation": {name: {"purity", "words", "known", "scored", "classes"}},
     "mean_similarity"}

    known: of how many every word has a vector of its own; scored: on how many the measure is (with subwords, most). A measure of nothing is
    None; mean_similarity is the mean Spearman of WS353, SimLex-999 and MEN, None unless all three are there.
    Raises InputError for an unknown set or method, and "FILE:LINE: …" for a file that is not what it should be.
    """
    if method not in METHODS:
        raise InputError(f'{method!r} is not known; "add" or "multiply"{meant(method, METHODS)}', "method")
    if isinstance(sets, str):
        raise InputError(f"a list of names was expected, not {sets!r}", "sets")
    own = [[os.fspath(path) for path in files] for files in (similarity, analogies, categories)]
    named = {} if sets is None and any(own) else find(sets)
    if not named and not any(own):
        raise InputError("neither a set nor a file is named, so there is nothing to measure", "sets")
    chosen = [
        {name: named[name] for name in table if name in named} | {path: path for path in files}
        for table, files in zip((SIMILARITY, ANALOGIES, CATEGORIES), own, strict=True)
    ]
    pairs = {name: read_pairs(path) for name, path in chosen[0].items()}
    questions = {name: read_questions(path) for name, path in chosen[1].items()}
    classes = {name: read_classes(path) for name, path in chosen[2].items()}
    scores = {name: word_similarity(vectors, read) for name, read in pairs.items()}
    mean = [scores[name]["spearman"] for name in MEAN if name in scores and scores[name]["spearman"] is not None]
    return {
        "similarity": scores,
        "analogy": {name: analogy_accuracy(vectors, read, method=method, among=among) for name, read in questions.items()},
        "categorisation": {name: categorisation(vectors, read) for name, read in classes.items()},
        "mean_similarity": float(np.mean(mean)) if len(mean) == len(MEAN) else None,
    }


def word_similarity(vectors: KeyedVectors, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Spearman's ρ between cosines and people's scores, over the pairs whose two words have vectors (with subwords, nearly all do).

    spearman_known: over those whose words have vectors of their own, which is what compares with models that have no subwords.
    """
    find_word = _lookup(vectors)
    found = [(find_word(pair.first), find_word(pair.second), pair.score) for pair in pairs]
    scored = [(first, second, score) for first, second, score in found if first is not None and second is not None]
    cosines = np.array([vectors.similarity(first, second) for first, second, _ in scored])
    scores = np.array([score for *_, score in scored])
    known = np.array([first in vectors and second in vectors for first, second, _ in scored], bool)
    counts = {"pairs": len(pairs), "known": int(known.sum()), "scored": len(scored)}
    return {"spearman": spearman(cosines, scores), "spearman_known": spearman(cosines[known], scores[known]), **counts}


def analogy_accuracy(
    vectors: KeyedVectors, questions: Sequence[Question], *, method: str = "add", among: int | None = None
) -> dict[str, Any]:
    """How many questions a : b → c : ? get the very word, of those whose four words are among the vectors' words; in all and by section.

    among: the first so many words are all there is.
    """
    find_row = _lookup(vectors, rows=True)
    rows = [[find_row(word) for word in question.words] for question in questions]
    if among is not None:
        rows = [[row if row is not None and row < among else None for row in each] for each in rows]
    known = np.array([None not in each for each in rows], bool)
    asked = np.array([each for each in rows if None not in each], np.int64).reshape(-1, 4)
    right = np.zeros(len(questions), bool)
    right[known] = vectors.analogies(asked[:, :3], method, among=among) == asked[:, 3]
    names = np.array([question.section for question in questions], object)
    sections = {name: _share(right, known, names == name) for name in dict.fromkeys(names.tolist())}
    return _share(right, known, np.ones(len(questions), bool)) | {"sections": sections}


def _share(right: np.ndarray, known: np.ndarray, part: np.ndarray) -> dict[str, Any]:
    count = int((known & part).sum())
    accuracy = float((right & part).sum() / count) if count else None
    return {"accuracy": accuracy, "questions": int(part.sum()), "known": count}


def categorisation(vectors: KeyedVectors, members: Sequence[Member], seed: int = 0) -> dict[str, Any]:
    """Purity of k-means on unit vectors, with as many clusters as the words that have vectors have classes (the best of RESTARTS)."""
    from sklearn.cluster import KMeans

    find_word = _lookup(vectors)
    found = [(word, member.kind) for member in members if (word := find_word(member.word)) is not None]
    kinds = [kind for _, kind in found]
    counted = {"words": len(members), "known": sum(word in vectors for word, _ in found), "scored": len(found), "classes": len(set(kinds))}
    if not found:
        return {"purity": None, **counted}
    directions = vectors[[word for word, _ in found]].astype(np.float64)
    length = np.linalg.norm(directions, axis=1, keepdims=True)
    directions /= np.where(length > 0, length, 1)
    with warnings.catch_warnings():  # fewer different vectors than classes: then the rest of the clusters are empty
        warnings.simplefilter("ignore")
        clusters = KMeans(len(set(kinds)), n_init=RESTARTS, random_state=seed).fit_predict(directions)
    return {"purity": purity(clusters.tolist(), kinds), **counted}


def purity(clusters: Sequence[Hashable], classes: Sequence[Hashable]) -> float | None:
    """Σ over clusters of the count of its most frequent class, by the number of members: 1 where no cluster mixes classes."""
    together = Counter(zip(clusters, classes, strict=True))
    largest: dict[Hashable, int] = {}
    for (cluster, _), count in together.items():
        largest[cluster] = max(largest.get(cluster, 0), count)
    return sum(largest.values()) / len(clusters) if clusters else None


def spearman(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> float | None:
    """Spearman's ρ: Pearson's correlation of ranks, equal values sharing the mean of theirs. None for under two, or where all are equal."""
    if len(first) != len(second):
        raise ValueError(f"as many values on both sides were expected, not {len(first)} and {len(second)}")
    if len(first) < 2:
        return None
    one, other = (ranks - ranks.mean() for ranks in (_ranks(first), _ranks(second)))
    spread = float(np.sqrt((one @ one) * (other @ other)))
    return float(np.clip(one @ other / spread, -1, 1)) if spread else None


def _ranks(values: Sequence[float] | np.ndarray) -> np.ndarray:
    _, place, counts = np.unique(np.asarray(values, np.float64), return_inverse=True, return_counts=True)
    ranks: np.ndarray = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks


def _lookup(vectors: KeyedVectors, *, rows: bool = False) -> Callable[[str], Any]:
    """A word of a set → the word to ask the vectors for (rows: its row), or None where there is none."""
    index = vectors.key_to_index

    def find_word(word: str) -> Any:
        for form in (word, word.lower()):
            if form in index:
                return index[form] if rows else form
        return word if not rows and vectors.get(word) is not None else None  # by its subwords, where one of them is known

    return find_word
