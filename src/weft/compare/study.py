"""The whole comparison: data checks, the climb with its live table, the summary, the learning curve, results.json and report.html."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from weft.compare.checks import check_data
from weft.compare.curve import learning_curve
from weft.compare.ladder import Plan, Standing, climb
from weft.compare.report import write_report
from weft.compare.results import Results
from weft.compare.summary import summarise
from weft.compare.table import curve_text, final_table, finished_line, live_table
from weft.compare.wording import advice, verdict
from weft.data.examples import Splits
from weft.device import choose
from weft.errors import InputError
from weft.files import write_json

log = logging.getLogger("weft")


def run_study(
    splits: Splits, plan: Plan, folder: Path, *, name: str, command: str, started: str, split_note: str, curve: bool = False, console: Any
) -> Results:
    """Runs the plan, showing the table on `console` (rich's, of stderr), and writes folder/results.json and folder/report.html.

    Ctrl-C passes through after what is finished has been summarised and written. Raises InputError where not one rung could be run.
    """
    plan = plan.of(splits.train.task)
    compute = choose(**plan.options)
    findings = check_data(splits)
    for finding in findings:
        (log.warning if finding["level"] == "warning" else log.info)("%s", finding["message"])
    if plan.note:
        log.warning("%s", plan.note)
    folder.mkdir(parents=True, exist_ok=True)
    facts: dict[str, Any] = {
        "name": name, "command": command, "started": started, "split_note": split_note, "checks": findings,
        "device": f"{compute.device} {compute.precision}, {compute.threads} threads",
    }  # fmt: skip
    shown = Standing(plan)

    def finish() -> Results:
        results = summarise(splits, shown, **facts)
        _write(results, folder)
        return results

    try:
        with _live(console) as show:

            def follow(standing: Standing) -> None:
                nonlocal shown
                shown = standing
                show(standing)

            climb(splits, plan, folder, follow)
        results = finish()
        if curve and results["best"] is not None:
            best = results["best"]["name"]
            try:
                results["curve"] = learning_curve(splits, best, plan, shown, folder)
            except InputError as error:  # too few texts, say: the comparison stands without it
                log.warning("no learning curve: %s", error)
            _write(results, folder)
    except KeyboardInterrupt:
        if shown.runs:
            console.print(final_table(finish(), console.width))
            console.print(f"interrupted; what is finished is in {folder}, and the same command goes on from there", soft_wrap=True)
        raise
    console.print(final_table(results, console.width))
    if vectors := results.get("vectors"):
        console.print(f"the neural models started from {vectors['sentence']}", soft_wrap=True, markup=False)
    if results["best"] is None:
        raise InputError("; ".join(f"{rung}: {error}" for rung, error in shown.errors.items()) or "nothing was run", "models")
    console.print(f"\n{verdict(results)}", *(f"\n{hint}" for hint in [advice(results)] if hint), sep="")
    if (said := curve_text(results)) is not None:
        console.print(f"\n{said}")
    console.print(f"\nresults: {folder / 'results.json'}\nreport:  {folder / 'report.html'}", soft_wrap=True)
    return results


def _write(results: Results, folder: Path) -> None:
    write_json(folder / "results.json", results)
    write_report(results, folder / "report.html")


class _live:
    """The table redrawn in place on a terminal; elsewhere one line for each finished rung."""

    def __init__(self, console: Any) -> None:
        self.console = console
        self.said: set[str] = set()
        self.live: Any = None

    def __enter__(self) -> Any:
        if self.console.is_terminal:
            from rich.live import Live

            self.live = Live(console=self.console, refresh_per_second=4, transient=True)
            self.live.start()
        return self.show

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def show(self, standing: Standing) -> None:
        if self.live is not None:
            self.live.update(live_table(standing, self.console.width))
            return
        for rung in standing.plan.rungs:
            line = finished_line(rung, standing)
            if line is not None and rung not in self.said:
                self.console.print(line, soft_wrap=True, markup=False)
                self.said.add(rung)
