"""`weft data list|get|check`: the named datasets."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weft.cli.options import Json
from weft.cli.output import print_json, print_table

if TYPE_CHECKING:
    from weft.data.datasets import Report
    from weft.data.examples import Table

app = typer.Typer(help="Named public datasets: list them, fetch one, check what is here.", rich_markup_mode=None)
Name = Annotated[str, typer.Argument(metavar="NAME", help="As in `weft data list`.")]
Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="As in `weft data list`; without any, all that are here.")]


@app.callback(invoke_without_command=True)
def data(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command("list")
def list_(json: Json = False) -> None:
    """List the datasets, and where each is on this machine.

    Their licences are in --json, and in what `weft data get` says.
    """
    from weft.data.datasets import listing

    reports = listing()
    if json:
        print_json({"datasets": [_facts(report) for report in reports]})
        return
    rows = [[r.name, r.task, _sizes(r.rows), r.description, r.where or "not here: weft data get " + r.name] for r in reports]
    print_table(["name", "task", "examples", "what it is", "where"], rows)


@app.command("get")
def get(name: Name, json: Json = False) -> None:
    """Fetch a dataset, where it is not here yet.

    It comes into the user's cache, checked against its published hash.
    """
    from weft.data.datasets import check, load

    splits = load(name)
    report = check(name)
    tables = {"train": splits.train, "dev": splits.dev} | ({} if splits.test is None else {"test": splits.test})
    described = {part: {"examples": len(table), **_labels(table)} for part, table in tables.items()}
    if json:
        print_json({"name": name, "task": report.task, "licence": report.licence, "where": report.where, "splits": described})
        return
    print(f"{name}: {report.description}")
    print(f"licence: {report.licence}")
    print(f"where: {report.where or 'the cache of the Hugging Face hub'}")
    for part, facts in described.items():
        counts = facts.get("labels", facts.get("words", {}))
        labels = "words: " * ("words" in facts) + ", ".join(f"{label} {count}" for label, count in list(counts.items())[:8])
        print(f"{part}: {facts['examples']} examples{f' ({labels})' if labels else ''}")


@app.command("check")
def check_(names: Names = None, json: Json = False) -> None:
    """Check the files of datasets that are here.

    Against their published hashes and sizes; exits with 2 where one is missing or is not what it should be.
    """
    from weft.data.datasets import check, listing

    here = [report.name for report in listing() if report.where is not None]
    reports = [check(name) for name in names or here]
    if json:
        print_json({"datasets": [_facts(report) | {"ok": report.ok, "wrong": report.wrong} for report in reports]})
    else:
        for report in reports:
            print(f"{report.name}: {'good, ' + str(report.where) if report.ok else '; '.join(report.wrong)}")
        if not reports:
            print("no dataset is on this machine; `weft data get NAME` fetches one")
    if not all(report.ok for report in reports):
        raise typer.Exit(2)


def _facts(report: Report) -> dict[str, Any]:
    return {name: getattr(report, name) for name in ("name", "description", "task", "licence", "rows", "where")}


def _sizes(rows: Any) -> str:
    """`train 5,452, test 500`, or `8,530` where there is one part."""
    return ", ".join(f"{count:,}" if part == "all" else f"{part} {count:,}" for part, count in rows.items())


def _labels(table: Table) -> dict[str, Any]:
    """How often each label occurs, the most frequent first; of numbers, their range; of translation, words (between blanks) a side."""
    if table.task == "translation":
        targets = [target for label in table.labels for target in (label if isinstance(label, tuple) else (label,))]
        return {
            "words": {"source": sum(len(text.split()) for text in table.texts), "target": sum(len(str(one).split()) for one in targets)}
        }
    if table.task == "regression":
        numbers = [float(label) for label in table.labels if isinstance(label, int | float)]
        return {"range": [min(numbers), max(numbers)]}
    flat = [one for label in table.labels for one in (label if isinstance(label, tuple) else (label,))]
    return {"labels": dict(Counter(map(str, flat)).most_common())}
