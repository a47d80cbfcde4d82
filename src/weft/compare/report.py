"""report.html: the comparison on one page that needs nothing but itself (no script, no request), in light and in dark."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from weft.compare import charts, wording
from weft.compare.results import Best, Curve, Finding, Results, RungResult
from weft.files import atomic_write
from weft.markup import Html, element, join, page

CELLS = 12  # classes that still make a legible confusion matrix; with more, the commonest confusions are listed
CONFUSIONS = 15
CLIP = 500  # characters of a text shown
SIZES = (("wide", 1060), ("narrow", 380))  # each picture is drawn twice, for wide and for narrow windows: its letters stay legible
TITLES = {
    "best": "Best on development data",
    "worse": "Worse than the best, beyond chance",
    "better": "Better than the best, beyond chance",
    "equal": "Cannot be told apart from the best",
}
MARKS = {"worse": "▾ ", "better": "▴ ", "equal": "≈ "}


def write_report(results: Results, path: str | Path) -> None:
    """Writes the results as one self-contained HTML file, atomically. Every text in them is escaped."""
    with atomic_write(path) as file:
        file.write(render(results))


def render(results: Results) -> str:
    """The page as a string."""
    style = files("weft.compare").joinpath("report.css").read_text(encoding="utf-8")
    sections = (_header, _ladder, _picture, _mistakes, _curve, _checks, _method)
    footer = element("footer", f"Made by weft {results['weft']}. The same figures, for programs, are in results.json beside this file.")
    main = element("main", *(section(results) for section in sections), footer)
    return page(f"{results['dataset']['name']} · weft compare", style, main)


# Small parts


def _plural(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _section(title: str, *children: object, note: str | None = None, id_: str | None = None) -> Html:
    return element("section", element("h2", title, id_=id_), note and element("p", note, class_="note"), *children)


def _number(value: object, class_: str = "", **attributes: object) -> Html:
    """A table cell set flush right."""
    return element("td", value, class_=f"number {class_}".strip(), **attributes)


def _heads(names: Sequence[str], left: Sequence[int] = (0,)) -> Html:
    """A table's head; the columns in `left` are set flush left."""
    cells = [element("th", name, scope="col", class_=None if i in left else "number") for i, name in enumerate(names)]
    return element("thead", element("tr", *cells))


def _scroll(child: Html, label: str, class_: str = "scroll") -> Html:
    """A region that can be scrolled sideways, by keyboard too."""
    return element("div", child, class_=class_, tabindex="0", role="region", aria_label=label)


def _axis_value(metric: str) -> Callable[[float], str]:
    """Tick labels of the metric: "76 %"."""
    return lambda value: wording.metric_value(metric, value).removesuffix(".0") + wording.unit(metric)


def _clipped(text: str) -> str:
    return text if len(text) <= CLIP else text[: CLIP - 1] + "…"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


# The sections, from top to bottom


def _header(results: Results) -> Html:
    """What was compared, the verdict in a sentence, and whether the data want a look first."""
    data = results["dataset"]
    facts = [wording.TASKS.get(data["task"], data["task"])]
    facts += [_plural(len(data["labels"]), "label")] if data["labels"] else []
    test = f", {data['test']:,} test" if data["test"] is not None else ", no test set"
    facts += [f"{data['train']:,} training, {data['dev']:,} development{test}", _plural(len(results["budget"]["seeds"]), "seed")]
    advice = wording.advice(results)
    return element(
        "header",
        element("p", "weft compare", class_="eyebrow"),
        element("h1", data["name"]),
        element("p", wording.verdict(results), class_="verdict"),
        advice and element("p", advice, class_="advice"),
        element("p", " · ".join(facts), class_="facts"),
        _alert([finding for finding in data["checks"] if finding["level"] == "warning"]),
    )


def _alert(warnings: Sequence[Finding]) -> Html | None:
    if not warnings:
        return None
    more = f" (and {len(warnings) - 1} more)" if len(warnings) > 1 else ""
    return element("a", element("b", "Look at the data first: "), f"{warnings[0]['message']}{more}", href="#checks", class_="alert")


def _ladder(results: Results) -> Html:
    """The table of rungs, in the ladder's order."""
    metric, best = results["metric"], wording.best_rung(results)
    on_test = any(rung.get("test") for rung in results["rungs"])
    others = {name for rung in results["rungs"] for name in rung.get("test_metrics", {})} - {metric}
    extra = next((name for name in ("macro_f1", "chrf") if name in others), None)
    names = ["rung", f"dev {wording.metric_title(metric)}"] + (["test"] if on_test else [])
    names += ["95\u00a0% interval", "", "p (Holm)"] + ([wording.metric_title(extra)] if extra else [])
    names += ["training", "texts/s", "one text", "parameters", "size"]
    domain = _domain(results)
    rows = [_row(rung, best, metric, on_test, extra, domain, len(names)) for rung in results["rungs"]]
    table = element("table", _heads(names, (0, 2 + on_test)), element("tbody", *rows), class_="ladder")
    return _section("The rungs", _scroll(table, "Table of rungs", "card scroll"), note=_how_to_read(results, on_test))


def _how_to_read(results: Results, on_test: bool) -> str:
    where = "test" if on_test else "development"
    choice = "Chosen on development data, reported on test." if on_test else "No test set: the best rung's figure flatters it a little."
    choice = f"{results['note']}. {choice}" if results.get("note") else choice
    many = len(results["budget"]["seeds"]) > 1
    spread = "± is the standard deviation over seeds" if many else "One seed: how much trainings differ is not known"
    return (
        f"{choice} {spread}; the interval is a 95\u00a0% bootstrap over the {where} texts. p compares each rung with the best on the "
        "same texts, corrected for the number of rungs (Holm): ≈\u00a0cannot be told apart, ▾\u00a0worse and ▴\u00a0better beyond chance. "
        "One text: the median time to answer a single text."
    )


def _domain(results: Results) -> tuple[float, float]:
    """The range that the intervals are drawn in; a rung far below the others does not stretch it."""
    given = [figures for rung in wording.done(results) if (figures := wording.reported(rung))]
    if not given:
        return 0.0, 1.0
    low, high = charts.focus([figures["mean"] for figures in given])
    bounds = [bound for figures in given if figures["mean"] >= low for bound in (figures.get("interval") or ())]
    return min([low, *bounds]), max([high, *bounds])


def _row(
    rung: RungResult, best: RungResult | None, metric: str, on_test: bool, extra: str | None, domain: tuple[float, float], columns: int
) -> Html:
    name = element("th", rung["name"], scope="row", title=f"{rung['line']} ({rung['paper']})" if rung["paper"] else rung["line"])
    figures = wording.reported(rung)
    if rung["status"] == "failed" or figures is None:
        badge = element("span", rung["status"], class_=f"badge {rung['status']}")
        words = rung["error"] or ("for a reason that was not recorded" if rung["status"] == "failed" else "not run yet")
        return element("tr", name, element("td", badge, words, colspan=columns - 1), class_=rung["status"])
    standing = wording.standing(rung, best) if best else ""
    bounds = figures.get("interval")
    shown = wording.interval(metric, bounds)
    cells = [_number(wording.spread(metric, rung.get("dev")))] + ([_number(wording.spread(metric, rung.get("test")))] if on_test else [])
    drawn = charts.whisker(figures["mean"], bounds, domain, _style(rung, best), f"{rung['name']}: {shown}")
    cells += [element("td", drawn), _number(shown, "soft"), _tested(rung, standing)]
    if extra:
        cells.append(_number(wording.metric_value(extra, rung.get("test_metrics", {}).get(extra))))
    costs = [wording.duration(rung.get("train_seconds")), wording.count(rung.get("texts_per_second"))]
    costs += [wording.milliseconds(rung.get("latency_ms")), wording.count(rung.get("parameters")), wording.size(rung.get("bytes"))]
    return element("tr", name, *cells, *map(_number, costs), class_="best" if standing == "best" else None)


def _tested(rung: RungResult, standing: str) -> Html:
    """The cell of the paired test against the best."""
    title = TITLES.get(standing)
    if standing == "best":
        return _number(element("span", "best", class_="badge"), title=title)
    if rung["status"] == "pending":
        runs = len((rung.get("dev") or {"values": []})["values"])
        return _number(element("span", f"{_plural(runs, 'seed')} so far", class_="badge pending"))
    return _number(MARKS.get(standing, "") + wording.p_value(rung.get("p_holm")), "soft" if standing == "equal" else "", title=title)


def _style(rung: RungResult, best: RungResult | None) -> str:
    """How its dot is drawn: as the best, as a neural rung, or as a baseline."""
    return "best" if best and rung["name"] == best["name"] else "neural" if rung.get("engine", "neural") == "neural" else "baseline"


def _picture(results: Results) -> Html | None:
    """The metric against latency."""
    metric, best = results["metric"], wording.best_rung(results)
    points = [point for rung in wording.done(results) if (point := _point(rung, best, metric))]
    if not points:
        return None
    title = wording.metric_title(metric)
    where = "test" if best and best.get("test") else "development"
    leader = wording.reported(best) if best else None
    interval = leader.get("interval") if leader else None
    drawn = [
        charts.scatter(
            points,
            x_title="median time for one text (logarithmic)",
            y_title=f"{title} on {where} data",
            show_x=lambda value: f"{value / 1000:g} s" if value >= 1000 else f"{value:g} ms",
            show_y=_axis_value(metric),
            label=f"{title} against the time for one text, of each rung",
            strip=interval,
            width=width,
            height=480 if name == "wide" else 400,
            class_=name,
        )
        for name, width in SIZES
    ]
    keys = {"best": "best on development data", "neural": "neural rung", "baseline": "baseline"}
    dots = {style: element("svg", element("circle", cx=6, cy=6, r=5, class_=f"dot {style}"), width=12, height=12) for style in keys}
    legend = element("ul", *(element("li", dots[style], words) for style, words in keys.items()), class_="legend")
    note = "Up is better, left is faster; nothing is both better and faster than the rungs on the dashed line."
    note += " Shaded: the best rung's 95\u00a0% interval." if interval else ""
    return _section(f"{title[0].upper()}{title[1:]} against latency", element("div", *drawn, legend, class_="card picture"), note=note)


def _point(rung: RungResult, best: RungResult | None, metric: str) -> charts.Point | None:
    figures, latency = wording.reported(rung), rung.get("latency_ms")
    if not figures or not latency or not math.isfinite(latency):
        return None
    hint = f"{rung['name']}: {wording.spread(metric, figures)}{wording.unit(metric)}, {wording.milliseconds(latency)}"
    return charts.Point(rung["name"], latency, figures["mean"], _style(rung, best), hint)


def _mistakes(results: Results) -> Html | None:
    """Where the best rung goes wrong: confusion, the figures of each class, its most confident mistakes."""
    best = results["best"]
    if best is None:
        return None
    parts = []
    if best["confusion"]:
        labels = best.get("labels", results["dataset"]["labels"])
        matrix = _matrix if len(best["confusion"]) <= CELLS else _commonest
        parts.append(element("div", *matrix(best["confusion"], labels), class_="card"))
    if best["report"]:
        classes = _scroll(_classes(best["report"]), "Class by class")
        parts.append(element("div", element("h3", "Class by class"), classes, class_="card fill"))
    run = f", the run with seed {best['seed']}" if "seed" in best else ""
    where = f"On {'test' if best['split'] == 'test' else 'development'} data{run}."
    if not parts and not best["mistakes"]:
        return None
    looked = element("div", *parts, class_="pair") if parts else None
    return _section(f"Where {best['name']} goes wrong", looked, _listed_mistakes(best, results["dataset"]["task"]), note=where)


def _matrix(confusion: Sequence[Sequence[int]], labels: Sequence[str]) -> list[Html]:
    """Rows: true class. A cell is shaded by its share of the row."""
    turned = len(labels) > 4 and max(map(len, labels)) > 4
    names = [element("th", name, scope="col", title=name) for name in labels]
    head = element("tr", element("th", "true ↓ predicted →", class_="corner"), *names)
    rows = []
    for i, row in enumerate(confusion):
        cells = []
        for j, value in enumerate(row):
            share = value / (sum(row) or 1)
            tint = f"background: rgb(var(--{'good' if i == j else 'bad'}) / {0.62 * math.sqrt(share):.2f})" if value else None
            hint = f"{labels[i]} taken for {labels[j]}: {value:,} of {sum(row):,}"
            cells.append(element("td", f"{value:,}" if value else "·", style=tint, title=hint, class_=None if value else "soft"))
        rows.append(element("tr", element("th", labels[i], scope="row", title=labels[i]), *cells))
    table = element("table", element("thead", head, class_="turned" if turned else None), element("tbody", *rows), class_="confusion")
    return [element("h3", "Confusion"), _scroll(table, "Confusion matrix")]


def _commonest(confusion: Sequence[Sequence[int]], labels: Sequence[str]) -> list[Html]:
    """For many classes: the commonest confusions, as a list."""
    wrong = [(value, i, j) for i, row in enumerate(confusion) for j, value in enumerate(row) if i != j and value]
    wrong.sort(key=lambda cell: (-cell[0], cell[1:]))
    rows = []
    for value, i, j in wrong[:CONFUSIONS]:
        share = f"{100 * value / sum(confusion[i]):.0f} %"
        rows.append(element("tr", element("td", labels[i]), element("td", labels[j]), _number(f"{value:,}"), _number(share)))
    table = element("table", _heads(["true", "predicted", "times", "of the class"], (0, 1)), element("tbody", *rows), class_="plain")
    return [element("h3", "The commonest confusions"), _scroll(table, "The commonest confusions")]


def _classes(report: dict[str, dict[str, float]]) -> Html:
    """Precision, recall, F1 and support of every class."""
    rows = []
    for name, row in report.items():
        rates = [_number(wording.metric_value("accuracy", row.get(key))) for key in ("precision", "recall", "f1")]
        rows.append(element("tr", element("th", name, scope="row"), *rates, _number(f"{row.get('support', 0):,.0f}")))
    return element("table", _heads(["class", "precision", "recall", "F1", "examples"]), element("tbody", *rows), class_="plain")


def _listed_mistakes(best: Best, task: str) -> Html | None:
    if not best["mistakes"]:
        return None
    texts = task == "translation"
    truth, given = ("reference: ", "; answer: ") if texts else ("labelled ", ", predicted ")
    items = []
    for mistake in best["mistakes"]:
        sure = "" if mistake["confidence"] is None else f" with {100 * mistake['confidence']:.0f} % confidence"
        line = f" · line {mistake['line']:,}" if mistake.get("line") else ""
        answer = element("b", _clipped(mistake["predicted"]), class_="wrong")
        said = element("p", truth, element("b", _clipped(mistake["label"])), given, answer, sure, line, class_="soft")
        text = element("p", _clipped(mistake["text"])) if mistake["text"].strip() else element("p", "(empty)", class_="soft")
        items.append(element("li", text, said))
    kind = "Its largest errors" if best["mistakes"][0]["confidence"] is None else "Its most confident mistakes"
    kind = "Far from the reference, and sure of it" if texts else kind
    doubt = "an answer may be right in other words, and a reference wrong" if texts else "some may be wrong labels in the data"
    note = element("p", f"Worth reading: {doubt}.", class_="note")
    return join(element("h3", kind, class_="after"), note, element("ol", *items, class_="card mistakes"))


def _curve(results: Results) -> Html | None:
    """The learning curve, when one was asked for."""
    given = results["curve"]
    if given is None or not given["sizes"]:
        return None
    drawn = [_drawn_curve(given, results["metric"], name, width) for name, width in SIZES]
    ahead = given["projection"]
    what = "pairs" if results["dataset"]["task"] == "translation" else "labels"
    note = f"{given['rung']} trained on parts of the training data, measured on development data; the band is ± one standard deviation."
    sentence = ahead and element("p", ahead["sentence"], class_="advice")
    return _section(f"Would more {what} help?", sentence, element("p", note, class_="note"), element("div", *drawn, class_="card picture"))


def _drawn_curve(given: Curve, metric: str, name: str, width: int) -> Html:
    ahead = given["projection"]
    return charts.curve(
        given["sizes"],
        given["mean"],
        given["sd"],
        projection=charts.Ahead(ahead["size"], ahead["mean"], ahead["interval"]) if ahead else None,
        x_title="training examples (logarithmic)",
        y_title=f"{wording.metric_title(metric)} on development data",
        show_y=_axis_value(metric),
        label=f"Learning curve of {given['rung']}",
        width=width,
        height=340 if name == "wide" else 320,
        class_=name,
    )


def _checks(results: Results) -> Html:
    """What the data checks found, each with some examples to look at."""
    findings, title = results["dataset"]["checks"], "The data, checked before training"
    if not findings:
        return _section(title, note="No duplicates, leakage, contradictions, empty texts or imbalance were found.", id_="checks")
    items = []
    for finding in findings:
        badge = element("span", finding["level"], class_=f"badge {finding['level']}")
        shown = [element("p", _clipped(example)) for example in finding["examples"]]
        left = finding["count"] - len(shown)
        if shown and left > 0:
            shown.append(element("p", f"… and {left:,} more"))
        details = element("details", element("summary", "show some"), *shown) if shown else None
        items.append(element("li", badge, finding["message"], details))
    return _section(title, element("ul", *items, class_="card checks"), id_="checks")


def _method(results: Results) -> Html:
    """How it was measured: all that is needed to do it again."""
    data, budget = results["dataset"], results["budget"]
    test = f"{data['test']:,} test" if data["test"] is not None else "no test set"
    split = f" ({data['split']})" if data.get("split") else ""
    trials = budget.get("trials") or 1
    spent = [f"{_plural(trials, 'trial')} of settings for each rung"] if trials > 1 else []
    minutes = f"{budget['minutes']:g} minutes for the whole ladder" if budget["minutes"] else "as each rung's settings say"
    spent.append(budget["note"] or minutes)
    pairs: list[tuple[str, object]] = [
        ("command", element("code", results["command"])),
        ("data", f"{data['name']}: {data['train']:,} training, {data['dev']:,} development, {test}{split}"),
        ("seeds", ", ".join(map(str, budget["seeds"]))),
        ("budget", "; ".join(spent)),
        ("word vectors", _word_vectors(results)),
        ("machine", ", ".join(f"{name}: {_plain(value)}" for name, value in results["machine"].items())),
        ("started", results["started"]),
        ("weft", results["weft"]),
    ]
    listed = element("dl", *(join(element("dt", name), element("dd", value)) for name, value in pairs if value))
    return _section("How it was measured", listed, _settings(results))


def _word_vectors(results: Results) -> str:
    """Which ones the neural rungs started from, and which of them did what with them."""
    vectors = results.get("vectors")
    if not vectors:
        return ""
    by_mode = {mode: [rung for rung, its in vectors["modes"].items() if its == mode] for mode in dict.fromkeys(vectors["modes"].values())}
    modes = "; ".join(f"{mode}: {', '.join(rungs)}" for mode, rungs in by_mode.items())
    return f"{vectors['sentence']} (sha256 {vectors['sha256'][:16]}); {modes}"


def _settings(results: Results) -> Html | None:
    """Each finished rung's settings, steps and further metrics, folded away."""
    rows = []
    for rung in wording.done(results):
        others = rung.get("test_metrics", {}).items()
        metrics = ", ".join(f"{wording.metric_title(name)} {wording.metric_value(name, value)}" for name, value in others)
        steps, epochs = rung.get("steps"), rung.get("epochs")
        trained = (f"{steps:,} steps" if steps else "to its end") + (f", {epochs:.3g} epochs" if epochs else "")
        settings = element("code", ", ".join(f"{name}={_plain(value)}" for name, value in rung["settings"].items()) or "defaults")
        cells = [element("td", cell) for cell in (rung["line"], rung["paper"], settings, trained, metrics)]
        rows.append(element("tr", element("th", rung["name"], scope="row"), *cells))
    if not rows:
        return None
    names = ["rung", "what it is", "after", "settings", "trained for", "further metrics"]
    table = element("table", _heads(names, range(len(names))), element("tbody", *rows), class_="plain settings")
    return element("details", element("summary", "Settings and further metrics of each rung"), _scroll(table, "Settings of each rung"))
