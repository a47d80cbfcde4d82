"""weft compare: the whole ladder on one dataset, fairly; a table, results.json and report.html."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from weft.cli import options
from weft.cli.output import console, print_json
from weft.compare.results import Results
from weft.compare.wording import best_rung, reported
from weft.data.examples import RAW
from weft.errors import InputError, meant
from weft.estimators.rungs import ladder


def compare(
    data: options.Data,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where results, report and finished runs go; weft-compare-DATA if not given.")
    ] = None,
    models: Annotated[
        str | None, typer.Option(help="Which models, as in cnn,bilstm,svm; all that suit the task if not given, but pretrained ones.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of each model, from different initial weights.")] = 3,
    minutes: Annotated[float, typer.Option(help="Time for the whole ladder: shared out equally and turned into steps once.")] = 5.0,
    steps: Annotated[
        int | None, typer.Option(help="The same number of gradient steps for each neural model, instead of --minutes.")
    ] = None,
    trials: Annotated[int, typer.Option(help="Choices of settings tried on development data first: a model's own and random ones.")] = 1,
    curve: Annotated[bool, typer.Option("--curve", help="Train the best model on parts of the data too: would more labels help?")] = False,
    valid: options.Valid = None,
    test: options.Test = None,
    set_: options.Set = None,
    vectors: options.Vectors = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = None,
    text_column: options.TextColumn = None,
    pair_column: options.PairColumn = None,
    label_column: options.LabelColumn = None,
    column: options.Column = None,
    task: options.Task = None,
    as_json: options.Json = False,
) -> None:
    """Train every model on the same split of DATA, from the same seeds, on the same budget, and say which is best and how sure that is.

    The best is chosen on development data; the test set is only reported. Ctrl-C keeps what is finished; the same command goes on.
    Settings: --set dropout=0.3 for every model that has it, --set cnn.filters=200 for one.
    """
    from weft.data.opening import open_splits

    started = datetime.now(UTC).isoformat(timespec="seconds")
    folder = out or Path(f"weft-compare-{Path(data).name.split('.')[0]}")
    if folder.exists() and not folder.is_dir():
        raise InputError("is a file; the comparison writes a folder", str(folder))
    options.check_seed(seed)
    splits, note = open_splits(
        data, valid=valid, test=test, seed=seed, **options.columns(text_column, pair_column, label_column, task, column)
    )
    if splits.train.task in RAW:
        raise InputError("perplexities of different tokens cannot be compared; weft train and weft evaluate go one by one", "--task")
    from weft.compare.ladder import Plan, suits  # scikit-learn and torch: after what can be wrong with the file
    from weft.compare.study import run_study

    task_ladder = ladder(splits.train.task)
    suited = [rung for rung in task_ladder if suits(rung, splits.train) and not task_ladder[rung].starts]
    chosen = tuple(name.strip() for name in models.split(",")) if models else tuple(suited)
    computing = {"device": device, "precision": precision, "threads": threads}
    set_by_rung = _settings(set_, task_ladder)
    plan = Plan(chosen, tuple(range(seed, seed + seeds)), minutes, steps, trials, set_by_rung, computing, vectors, splits.train.task)
    command = "weft " + shlex.join(sys.argv[1:])
    results = run_study(splits, plan, folder, name=data, command=command, started=started, split_note=note, curve=curve, console=console())
    if as_json:
        print_json({**results, **_metrics(results)})


def _metrics(results: Results) -> dict[str, Any]:
    """The best model's metrics, means over its seeds, and the split that they are of."""
    best = best_rung(results)
    spread = reported(best) if best else None
    if best is None or spread is None or results["best"] is None:
        return {"metrics": {}, "split": None}
    return {"metrics": {results["metric"]: spread["mean"], **best.get("test_metrics", {})}, "split": results["best"]["split"]}


def _settings(pairs: list[str] | None, rungs: Collection[str]) -> dict[str, dict[str, str]]:
    """ "dropout=0.3" → for all, "cnn.filters=200" → for one."""
    chosen: dict[str, dict[str, str]] = {}
    for key, value in options.settings(pairs).items():
        rung, dot, name = key.partition(".")
        rung = rung.replace("_", "-")
        if dot and rung not in rungs:
            raise InputError(f"there is no model {rung!r}{meant(rung, rungs)}; there are {', '.join(rungs)}", "--set")
        chosen.setdefault(rung if dot else "", {})[name if dot else key] = value
    return chosen
