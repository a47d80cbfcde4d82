"""The ladder as a table in the terminal: filling while it runs, complete at the end. Tabs and JSON are in results.json."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from weft.compare.ladder import Standing
from weft.compare.results import Results, RungResult, Spread
from weft.compare.summary import best_rung
from weft.estimators.scoring import MAIN_METRIC


def live_table(standing: Standing, task: str) -> Table:
    """What is known so far: development scores only, for nothing is chosen yet."""
    metric = MAIN_METRIC[task]
    best = best_rung(standing, metric)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("model", f"dev {metric}", "train s", "texts/s", "ms/text", "parameters", ""):
        table.add_column(heading, justify="left" if heading in ("model", "") else "right")
    for rung in standing.plan.rungs:
        runs = standing.runs.get(rung, [])
        if rung in standing.errors:
            table.add_row(rung, *[""] * 5, f"[red]{_escaped(standing.errors[rung])}[/red]")
        elif runs:
            seconds = sum(run.train_seconds for run in runs) / len(runs)
            score = _points([run.dev[metric] for run in runs], metric)
            note = "" if len(runs) == len(standing.plan.seeds) else f"[dim]{len(runs)} of {len(standing.plan.seeds)} seeds[/dim]"
            style = "bold green" if rung == best else None
            table.add_row(rung, score, f"{seconds:.1f}", f"{runs[-1].texts_per_second:,.0f}", f"{runs[-1].latency_ms:.2f}", compact(runs[-1].parameters), note, style=style)
        else:
            table.add_row(rung, *[""] * 5, "", style="dim")
    if standing.now:
        table.add_row("", *[""] * 5, "")
        table.add_row(f"[cyan]{standing.now}[/cyan]", f"[cyan]{standing.progress:.0%}[/cyan]" if standing.progress else "", *[""] * 5)
    return table


def final_table(results: Results) -> Table:
    """The finished comparison: dev, test with its interval, the paired test against the best, cost."""
    metric, has_test = results["metric"], results["dataset"]["test"] is not None
    best = results["best"]["name"] if results["best"] else None
    table = Table(box=None, pad_edge=False, header_style="bold")
    headings = ["model", f"dev {metric}"] + ([f"test {metric}", "95% interval"] if has_test else []) + ["p (Holm)", "train s", "texts/s", "ms/text", "parameters", "size"]
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "model" else "right", no_wrap=True)
    for row in results["rungs"]:
        if row["status"] == "failed":
            table.add_row(row["name"], f"[red]{_escaped(row['error'] or 'failed')}[/red]")
            continue
        if "train_seconds" not in row:
            table.add_row(row["name"], "[dim]not run[/dim]")
            continue
        table.add_row(*_cells(row, metric, has_test, best), style="bold green" if row["name"] == best else None)
    return table


def _cells(row: RungResult, metric: str, has_test: bool, best: str | None) -> list[str]:
    dev, test = row.get("dev"), row.get("test")
    cells = [row["name"], _spread(dev, metric)]
    if has_test:
        interval = test.get("interval") if test else None
        cells += [_spread(test, metric), f"{_number(interval[0], metric)} – {_number(interval[1], metric)}" if interval else ""]
    p = row.get("p_holm")
    cells.append("best on dev" if row["name"] == best else "" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}")
    cells += [f"{row.get('train_seconds') or 0:.1f}", f"{row.get('texts_per_second') or 0:,.0f}", f"{row.get('latency_ms') or 0:.2f}"]
    cells += [compact(row.get("parameters") or 0), f"{(row.get('bytes') or 0) / 1e6:.1f} MB"]
    return cells


def _spread(spread: Spread | None, metric: str) -> str:
    return "" if spread is None else _points(spread["values"], metric)


def _points(values: list[float], metric: str) -> str:
    mean = sum(values) / len(values)
    if len(values) == 1:
        return _number(mean, metric)
    sd = (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5
    return f"{_number(mean, metric)} ± {_number(sd, metric)}"


def _number(value: float, metric: str) -> str:
    """Shares in points of a hundred, R² as it is."""
    return f"{value:.3f}" if metric == "r2" else f"{100 * value:.1f}"


def compact(count: float) -> str:
    """1234567 → 1.2M."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.1f}{letter}"
    return f"{count:.0f}"


def _escaped(text: Any) -> str:
    from rich.markup import escape

    return escape(str(text))


def finished_line(rung: str, standing: Standing, task: str) -> str | None:
    """A line for a rung whose seeds are all done or that failed, None before: for logs, where a table cannot be redrawn."""
    if rung in standing.errors:
        return f"{rung:<16} failed: {standing.errors[rung]}"
    runs = standing.runs.get(rung, [])
    if len(runs) < len(standing.plan.seeds):
        return None
    metric = MAIN_METRIC[task]
    seconds = sum(run.train_seconds for run in runs) / len(runs)
    return f"{rung:<16} dev {metric} {_points([run.dev[metric] for run in runs], metric):<12} {seconds:6.1f} s to train  {runs[-1].latency_ms:.2f} ms a text"
