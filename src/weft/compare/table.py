"""The ladder as a table in the terminal: filling while it runs, complete at the end. All of it is in results.json."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from weft.compare.ladder import Standing
from weft.compare.results import Results, RungResult
from weft.compare.runs import Run
from weft.compare.statistics import mean_sd
from weft.compare.summary import best_rung
from weft.compare.wording import count, duration, interval, listed, metric_title, metric_value, p_value, size, spread, things

GAP = 2  # blanks between two columns
# What a narrow terminal does without, the first of these first.
EXPENDABLE = ("parameters", "size", "texts/s", "train s", "ms/text", "p (Holm)", "95% interval")
BAR = 20
Row = tuple[list[str], str]  # cells, style


def live_table(standing: Standing, width: int) -> Group:
    """What is known so far, on `width` columns: development scores only, for nothing is chosen yet; and what is running."""
    metric = standing.plan.metric
    best = best_rung(standing, metric)
    headings = ["model", f"dev {metric_title(metric)}", "train s", "texts/s", "ms/text", "parameters", "note"]
    rows: list[Row] = []
    for rung in standing.plan.rungs:
        runs = standing.runs.get(rung, [])
        if rung in standing.errors:
            rows.append(([rung, *[""] * 5, f"failed: {standing.errors[rung]}"], "red"))
        elif runs:
            note = "" if len(runs) == len(standing.plan.seeds) else _of_seeds(len(runs), len(standing.plan.seeds))
            rows.append(([rung, *_figures(runs, metric), note], "bold green" if rung == best else ""))
        else:
            rows.append(([rung, *[""] * 6], "dim"))
    said = [Text(standing.plan.note, "yellow")] if standing.plan.note else []
    progress = Text(_progress(standing), "cyan", no_wrap=True, overflow="ellipsis")
    return Group(_table(headings, rows, width)[0], *said, Text(""), progress)


def _figures(runs: Sequence[Run], metric: str) -> list[str]:
    mean, sd = mean_sd([run.dev[metric] for run in runs])
    score = spread(metric, {"mean": mean, "sd": sd, "values": []})
    seconds = sum(run.train_seconds for run in runs) / len(runs)
    return [score, f"{seconds:.1f}", f"{runs[-1].texts_per_second:,.0f}", f"{runs[-1].latency_ms:.2f}", count(runs[-1].parameters)]


def _progress(standing: Standing) -> str:
    """What runs now and how far it is; how much of the whole is done."""
    finished, passed = sum(map(len, standing.runs.values())), time.monotonic() - standing.started
    whole = len(standing.plan.seeds) * (len(standing.plan.rungs) - len(standing.errors))
    total = f"{finished} of {whole} trainings, {duration(float(round(passed)))}"
    if not standing.now:
        return total
    filled = round(BAR * standing.progress)
    return f"{standing.now}  {'━' * filled}{'─' * (BAR - filled)} {standing.progress:4.0%}   {total}"


def final_table(results: Results, width: int) -> Group:
    """The finished comparison on `width` columns: dev, test with its interval, the paired test against the best, cost; then what failed."""
    title, has_test = metric_title(results["metric"]), results["dataset"]["test"] is not None
    best = results["best"]["name"] if results["best"] else None
    headings = ["model", f"dev {title}"] + ([f"test {title}", "95% interval"] if has_test else [])
    headings += ["p (Holm)", "train s", "texts/s", "ms/text", "parameters", "size"]
    rows = [_final_row(row, results, best, len(headings)) for row in results["rungs"]]
    table, dropped = _table(headings, rows, width)
    parts: list[Table | Text] = [table]
    if dropped:
        parts.append(Text(f"(in results.json, for want of room here: {listed(dropped)})", "dim"))
    if note := results.get("note"):
        parts.append(Text(note, "yellow"))
    parts += [Text(f"{row['name']}: {row['error']}", "red") for row in results["rungs"] if row["status"] == "failed"]
    return Group(*parts)


def _final_row(row: RungResult, results: Results, best: str | None, width: int) -> Row:
    name, seeds = row["name"], len(results["budget"]["seeds"])
    dev, test = row.get("dev"), row.get("test")
    if row["status"] == "failed" or dev is None:
        said, style = ("failed", "red") if row["status"] == "failed" else ("not run", "dim")
        return [name, said, *[""] * (width - 2)], style
    metric = results["metric"]
    cells = [name, spread(metric, dev)]
    if results["dataset"]["test"] is not None:
        cells += [spread(metric, test), interval(metric, test.get("interval") if test else None)]
    if row["status"] == "pending":
        cells.append(_of_seeds(len(dev["values"]), seeds))
    else:
        cells.append("best on dev" if name == best else p_value(row.get("p_holm")))
    cells += [f"{row.get('train_seconds') or 0:.1f}", f"{row.get('texts_per_second') or 0:,.0f}", f"{row.get('latency_ms') or 0:.2f}"]
    return [*cells, count(row.get("parameters")), size(row.get("bytes"))], "bold green" if name == best else ""


def curve_text(results: Results) -> str | None:
    """The learning curve in two lines: the sizes and what came of them, and what more labels would bring; None where none was asked for."""
    curve = results["curve"]
    if curve is None:
        return None
    metric, what = results["metric"], things(results["dataset"]["task"])
    points = ", ".join(f"{texts:,}: {metric_value(metric, mean)}" for texts, mean in zip(curve["sizes"], curve["mean"], strict=True))
    said = f"learning curve of {curve['rung']}, dev {metric_title(metric)} by the number of training {what}: {points}"
    return said if curve["projection"] is None else f"{said}\n{curve['projection']['sentence']}"


def _table(headings: Sequence[str], rows: Sequence[Row], width: int) -> tuple[Table, list[str]]:
    """The table, and the columns that were left out of it so that it fits; a last column of notes gets what room there is."""
    notes = headings[-1] == "note"
    fixed = list(range(len(headings) - notes))
    widths = [max([len(heading), *(len(cells[i]) for cells, _ in rows)]) for i, heading in enumerate(headings)]
    dropped: list[str] = []
    for name in EXPENDABLE:
        if sum(widths[i] + GAP for i in fixed) - GAP + (GAP + 12 if notes else 0) <= width:
            break
        if name in headings:
            fixed.remove(headings.index(name))
            dropped.append(name)
    room = width - sum(widths[i] + GAP for i in fixed)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for i in fixed:
        table.add_column(headings[i], justify="left" if i == 0 else "right", no_wrap=True)
    if notes:
        table.add_column("", no_wrap=True)
    for cells, style in rows:
        shown = [cells[i] for i in fixed] + ([_cut(cells[-1], room)] if notes else [])
        table.add_row(*(Text(cell) for cell in shown), style=style)
    return table, [name for name in headings if name in dropped]


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: max(0, room - 1)]}…"


def _of_seeds(done: int, planned: int) -> str:
    return f"{done} of {planned} seeds"


def finished_line(rung: str, standing: Standing) -> str | None:
    """A line for a rung whose seeds are all done or that failed, None before: for logs, where a table cannot be redrawn."""
    if rung in standing.errors:
        return f"{rung:<16} failed: {standing.errors[rung]}"
    runs = standing.runs.get(rung, [])
    if len(runs) < len(standing.plan.seeds):
        return None
    metric = standing.plan.metric
    score, seconds, _, latency, _ = _figures(runs, metric)
    return f"{rung:<16} dev {metric_title(metric)} {score:<12} {seconds:>7} s to train  {latency} ms a text"
