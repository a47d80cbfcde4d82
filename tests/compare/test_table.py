"""The tables: legible on any terminal, whole in a file, and the same figures as results.json."""

from __future__ import annotations

import copy
import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from weft.compare.ladder import Plan, Standing
from weft.compare.runs import Run
from weft.compare.table import EXPENDABLE, curve_text, final_table, finished_line, live_table
from weft.estimators.rungs import RUNGS

NAMES = list(RUNGS)


def row(name: str, mean: float, **more) -> dict:
    made = {
        "name": name, "paper": "", "line": "", "status": "done", "error": None, "settings": {}, "steps": 100, "epochs": 2.0,
        "dev": {"mean": mean, "sd": 0.0123, "values": [mean] * 3}, "p_value": 0.02, "p_holm": 0.0412,
        "test": {"mean": mean - 0.01, "sd": 0.0456, "values": [mean] * 3, "interval": [mean - 0.04, mean + 0.03]}, "test_metrics": {},
        "train_seconds": 123.44, "texts_per_second": 12345.6, "latency_ms": 3.456, "parameters": 1_234_567, "bytes": 4_938_268,
    }  # fmt: skip
    return {**made, **more}


def results(**more) -> dict:
    rows = [row(name, 0.6 + i / 100) for i, name in enumerate(NAMES)]
    made = {
        "weft": "", "command": "", "started": "", "machine": {}, "metric": "accuracy", "rungs": rows, "curve": None,
        "dataset": {"name": "t", "task": "classification", "train": 8, "dev": 8, "test": 8, "labels": [], "checks": []},
        "budget": {"minutes": 5, "seeds": [0, 1, 2], "note": ""}, "best": {"name": "bilstm", "split": "test"},
    }  # fmt: skip
    return {**made, **more}


def shown(renderable, width: int, terminal: bool = False) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=terminal, highlight=False).print(renderable)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def headings(lines: list[str]) -> list[str]:
    return [heading.strip() for heading in lines[0].replace("  ", "\t").split("\t") if heading.strip()]


@pytest.mark.parametrize("width", [40, 60, 72, 80, 100, 120, 132, 200, 10_000])
@pytest.mark.parametrize("metric", ["accuracy", "micro_f1", "r2"])
def test_the_final_table_fits_and_cuts_nothing(width, metric):
    given = results(metric=metric)
    lines = shown(final_table(given, width), width)
    assert all(cell_len(line) <= width for line in lines)
    if width >= 60:
        assert len([line for line in lines if line.split(" ")[0] in NAMES]) == len(NAMES)  # a line for each, none folded
        assert "…" not in "".join(lines)
    if width >= 80:  # what matters most is there: how good on both sides, and how sure
        assert [heading.split()[0] for heading in headings(lines)[:5]] == ["model", "dev", "test", "95%", "p"]
        assert "ms/text" in headings(lines) or metric == "r2"
    if width >= 120:
        assert {"train s", "texts/s"} <= set(headings(lines))
    if width >= 132:
        assert headings(lines)[4:] == ["p (Holm)", "train s", "texts/s", "ms/text", "parameters", "size"]


def test_what_had_no_room_is_named():
    lines = shown(final_table(results(), 80), 80)
    left_out = [name for name in EXPENDABLE if name not in headings(lines)]
    assert left_out
    told = " ".join(line for line in lines if "results.json" in line)
    assert told and all(name in told for name in left_out)
    assert "results.json" not in " ".join(shown(final_table(results(), 200), 200))


def test_figures_are_those_of_the_results():
    given = results()
    given["rungs"][0]["p_holm"] = 0.00001
    lines = {line.split()[0]: line for line in shown(final_table(given, 200), 200)[1:]}
    assert "60.0 ± 1.2" in lines["majority"] and "59.0 ± 4.6" in lines["majority"] and "56.0–63.0" in lines["majority"]
    assert "< 0.001" in lines["majority"]
    assert "0.041" in lines["svm"]
    assert "best on dev" in lines["bilstm"] and sum("best on dev" in line for line in lines.values()) == 1
    for figure in ("123.4", "12,346", "3.46", "1.23\u00a0M", "4.94\u00a0MB"):
        assert figure in lines["cnn"]


def test_without_a_test_set_there_are_no_test_columns():
    given = results()
    given["dataset"]["test"] = None
    for one in given["rungs"]:
        one["test"] = None
    assert headings(shown(final_table(given, 200), 200))[:3] == ["model", "dev accuracy", "p (Holm)"]


def test_failures_and_rungs_that_were_not_run_are_told_from_figures():
    given = results()
    error = "RuntimeError: [bold]not markup[/bold] " + "and so on " * 30
    given["rungs"][2] = {"name": "logistic", "status": "failed", "error": error, "settings": {}}
    given["rungs"][3] = {"name": "svm", "status": "pending", "error": None, "settings": {}}
    given["rungs"][4].update(status="pending", dev={"mean": 0.5, "sd": None, "values": [0.5]})
    lines = shown(final_table(given, 200), 200)
    by_name = {line.split()[0]: line for line in reversed(lines[1:])}
    assert by_name["logistic"].split() == ["logistic", "failed"]
    assert by_name["svm"].split() == ["svm", "not", "run"]
    assert "1 of 3 seeds" in by_name["perceptron"]
    assert "logistic: RuntimeError: [bold]not markup[/bold]" in "\n".join(lines)
    narrow = shown(final_table(given, 80), 80)
    assert headings(narrow)[:3] == ["model", "dev accuracy", "test accuracy"]  # a long error does not push the figures out


def run(rung: str, seed: int, dev: float) -> Run:
    return Run(rung, seed, {}, 10, 1.0, 10, 12.34, {"accuracy": dev}, {"accuracy": 0.1}, [], [], [], 4321.0, 1.234, 30_500, 1)


@pytest.fixture
def standing() -> Standing:
    made = Standing(Plan(tuple(NAMES)))
    made.runs = {"majority": [run("majority", s, 0.5) for s in range(3)], "cnn": [run("cnn", s, 0.8 + s / 100) for s in range(2)]}
    made.errors = {"svm": "RuntimeError: " + "a very long story " * 20, "bag": "no"}
    made.now, made.progress = "cnn, seed 2", 0.4
    return made


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_live_table_fits_and_shows_development_figures_only(standing, width):
    lines = shown(live_table(standing, width), width)
    assert all(cell_len(line) <= width for line in lines)
    by_name = {line.split()[0]: line for line in lines if line}
    assert [line.split()[0] for line in lines[1 : len(NAMES) + 1]] == NAMES
    assert "50.0 ± 0.0" in by_name["majority"]
    assert "80.5 ± 0.7" in by_name["cnn"] and "2 of 3 seeds" in by_name["cnn"]
    assert "failed: no" in by_name["bag"]
    assert "failed: R" in by_name["svm"] and by_name["svm"].endswith("…")
    assert "test" not in lines[0]
    assert lines[-1].startswith("cnn, seed 2  ━━━━━━━━──────")
    assert " 40%" in lines[-1]
    assert "5 of 57 trainings" in lines[-1] or width < 80
    assert len(lines) <= 24  # a terminal of the usual height shows all of it


def test_a_line_for_a_log_when_a_rung_is_done_or_failed(standing):
    assert finished_line("cnn", standing) is None
    said = finished_line("majority", standing)
    assert said.split() == ["majority", "dev", "accuracy", "50.0", "±", "0.0", "12.3", "s", "to", "train", "1.23", "ms", "a", "text"]
    assert finished_line("bag", standing).split() == ["bag", "failed:", "no"]
    assert finished_line("gru", standing) is None


def test_the_learning_curve_in_words():
    given = results()
    assert curve_text(given) is None
    curve = {"rung": "cnn", "sizes": [1000, 2000], "mean": [0.7, 0.75], "sd": [None, None], "projection": None}
    given = copy.deepcopy({**given, "curve": curve})
    assert curve_text(given) == "learning curve of cnn, dev accuracy by the number of training texts: 1,000: 70.0, 2,000: 75.0"
    given["curve"]["projection"] = {"size": 2500, "mean": 0.76, "interval": None, "sentence": "500 more would help"}
    assert curve_text(given).endswith("75.0\n500 more would help")
