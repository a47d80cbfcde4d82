"""Word vectors by every method, from one reading of one corpus, under the same benchmarks: what `weft vectors compare` prints."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from weft.errors import InputError, meant
from weft.files import write_json
from weft.vectors.corpus import read_corpus
from weft.vectors.evaluation import evaluate
from weft.vectors.evaluation_sets import find
from weft.vectors.methods import METHODS, WordVectors

log = logging.getLogger("weft")
COMPARED = ("skipgram", "skipgram+hs", "cbow", "cbow+hs", "fasttext", "glove", "svd")  # ngram and ranking take minutes: when asked for
SHOWN = ("ws353", "simlex999", "men")
SETS = [*SHOWN, "google"]


def compare_methods(
    source: Any,
    names: Sequence[str],
    options: Mapping[str, Any],
    *,
    seeds: Iterable[int] = (1,),
    reading: Mapping[str, Any] | None = None,
    out: Path | None = None,
    bar: Callable[[str], Any] | None = None,
) -> dict[str, Any]:
    """Trains and measures each of `names` ("skipgram", "cbow+hs", …) with each seed; options: of WordVectors, None for the method's own.

    reading: of read_corpus. out: a folder that gets NAME-SEED.safetensors and results.json. bar: title → a context manager that gives
    what `fit` calls. Raises InputError for an unknown name, or where a benchmark is not on this machine, before anything is trained.
    """
    models = {name: model_of(name, options) for name in names}
    for model in models.values():
        model.chosen()
    find(SETS)  # what is not on this machine is said before hours of training
    corpus = read_corpus(source, **(reading or {}))
    if out is not None and out.exists() and not out.is_dir():
        raise InputError("is there and no folder; the folder to write to was expected", str(out))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    runs = [_run(name, options, seed, corpus, out, bar) for name in models for seed in seeds]
    results: dict[str, Any] = {"words": len(corpus.words), "tokens": corpus.tokens, "options": dict(options)}
    results |= {"runs": runs, "methods": _means(runs)}
    results["metrics"] = {row["name"]: {"mean_similarity": row["mean_similarity"], "analogy": row["analogy"]} for row in results["methods"]}
    if out is not None:
        write_json(out / "results.json", results)
    return results


def model_of(name: str, options: Mapping[str, Any], seed: int = 1) -> WordVectors:
    """ "cbow+hs" → the estimator, unfitted. Options that the method does not take are left out."""
    from weft.vectors.methods import UNUSED

    method, _, loss = name.partition("+")
    if method not in METHODS:
        raise InputError(f"there is no {method!r}{meant(method, METHODS)}; there are {', '.join(METHODS)}", "methods")
    taken = {key: value for key, value in options.items() if key not in UNUSED.get(method, ())}
    return WordVectors(method, loss=loss or None, seed=seed, **taken)


def _run(name: str, options: Mapping[str, Any], seed: int, corpus: Any, out: Path | None, bar: Any) -> dict[str, Any]:
    model = model_of(name, options, seed)
    if bar is None:
        model.fit(corpus)
    else:
        with bar(name) as watch:
            model.fit(corpus, watch)
    if out is not None:
        model.vectors_.save(out / f"{name}-{seed}.safetensors")
    scores = evaluate(model.vectors_, sets=SETS)
    similarity = {key: scores["similarity"][key]["spearman"] for key in SHOWN if key in scores["similarity"]}
    analogy = scores["analogy"]["google"]["accuracy"] if "google" in scores["analogy"] else None
    found = shown(scores["mean_similarity"], 4), shown(analogy, 4), model.seconds_["train"]
    log.info("%s, seed %d: mean similarity %s, analogies %s, %.1f s", name, seed, *found)
    return {
        "name": name, "seed": seed, "similarity": similarity, "mean_similarity": scores["mean_similarity"], "analogy": analogy,
        "losses": model.losses_, "seconds": model.seconds_,
    }  # fmt: skip


def _means(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a method: the mean over its seeds, and the standard deviation of the two scores that are summed up."""
    table = []
    for name in dict.fromkeys(run["name"] for run in runs):
        own = [run for run in runs if run["name"] == name]
        row: dict[str, Any] = {"name": name, "seeds": len(own)}
        for key in ("mean_similarity", "analogy"):
            values = [run[key] for run in own if run[key] is not None]
            row[key] = statistics.fmean(values) if len(values) == len(own) else None
            row[f"{key}_sd"] = statistics.stdev(values) if len(values) == len(own) > 1 else None
        every: dict[str, list[Any]] = {key: [run["similarity"][key] for run in own] for key in own[0]["similarity"]}
        row["similarity"] = {key: None if None in values else statistics.fmean(values) for key, values in every.items()}
        row["train_seconds"] = statistics.median(run["seconds"]["train"] for run in own)
        table.append(row)
    return table


def shown(value: float | None, digits: int = 3, spread: float | None = None) -> str:
    """A measure for people; – where nothing was measured, as where the corpus has no word of a benchmark."""
    return "–" if value is None else f"{value:.{digits}f}" + (f" ± {spread:.{digits}f}" if spread is not None else "")


def rows(results: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """(columns, cells) of the table for people."""
    cells = []
    for row in results["methods"]:
        similarity = [shown(row["similarity"].get(key)) for key in SHOWN]
        scores = [shown(row[key], spread=row[f"{key}_sd"]) for key in ("mean_similarity", "analogy")]
        cells.append([row["name"], *similarity, *scores, f"{row['train_seconds']:.1f}"])
    return ["method", *SHOWN, "mean", "analogies", "train s"], cells
