"""Numbers and verdicts as people read them: shared by the terminal table and the report, so that both say the same."""

from __future__ import annotations

import math
from collections.abc import Sequence

from weft.compare.results import Results, RungResult, Spread
from weft.data.examples import TAGGED

SIGNIFICANT = 0.05
PERCENT = frozenset(
    {"accuracy", "macro_f1", "micro_f1", "roc_auc", "pr_auc", "calibration_error"}
    | {"span_f1", "span_precision", "span_recall", "unknown_accuracy", "exact_match", "word_error_rate", "token_error_rate"}
)
POINTS = frozenset({"bleu", "chrf"})  # from 0 to 100 as they are
TITLES = {
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "log_loss": "log loss",
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
    "calibration_error": "calibration error",
    "mean_squared_error": "mean squared error",
    "mean_absolute_error": "mean absolute error",
    "r2": "R²",
    "pearson": "Pearson's r",
    "spearman": "Spearman's ρ",
    "span_f1": "span F1",
    "span_precision": "span precision",
    "span_recall": "span recall",
    "unknown_accuracy": "accuracy on unseen words",
    "bleu": "BLEU",
    "chrf": "chrF",
}
TASKS = {
    "classification": "classification",
    "multi-label": "several labels a text",
    "regression": "regression",
    "translation": "a text for a text",
    "tagging": "a tag a word",
    "spans": "spans of words",
}


def metric_title(metric: str) -> str:
    """What a metric is called in running text: "macro_f1" → "macro F1"."""
    return TITLES.get(metric, metric.replace("_", " "))


def metric_value(metric: str, value: float | None) -> str:
    """A metric's value as shown: rates as percentages with one decimal, BLEU and chrF with one, others with three; "–" for None."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{100 * value:.1f}" if metric in PERCENT else f"{value:.1f}" if metric in POINTS else f"{value:.3f}"


def unit(metric: str) -> str:
    """ " %" (with a no-break space) for rates, else nothing."""
    return "\u00a0%" if metric in PERCENT else ""


def spread(metric: str, given: Spread | None) -> str:
    """Mean and standard deviation over seeds: "77.1 ± 0.5"; the mean alone for one seed."""
    if given is None:
        return "–"
    mean = metric_value(metric, given["mean"])
    return mean if given["sd"] is None else f"{mean} ± {metric_value(metric, given['sd'])}"


def interval(metric: str, bounds: Sequence[float] | None) -> str:
    """ "75.2–78.9"; "–" for None. Bounds that may be negative are parted by a word."""
    if bounds is None:
        return "–"
    low, high = (metric_value(metric, bound) for bound in bounds)
    return f"{low}–{high}" if metric in PERCENT | POINTS else f"{low} to {high}"


def p_value(p: float | None) -> str:
    """ "0.031", "< 0.001", "1"; "–" for None."""
    if p is None or not math.isfinite(p):
        return "–"
    if p < 0.001:
        return "< 0.001"
    return f"{p:.3f}" if p < 0.0995 else f"{p:.2f}".replace("1.00", "1")


def significant(p: float | None) -> str:
    """Its figure for a sentence: "p = 0.031", "p < 0.001"."""
    shown = p_value(p)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"


def _scaled(value: float, units: Sequence[tuple[float, str]]) -> str:
    """Three figures of the value in the largest unit that leaves at least 1 of it (after rounding, so that 999.9 is 1 of the next)."""
    factor, name = units[-1]
    if 0 < value < 0.005 * factor:
        return f"< 0.01\u00a0{name}".rstrip("\u00a0")
    for factor, name in units:
        if value >= 0.9995 * factor or (factor, name) == units[-1]:
            number = value / factor
            digits = 0 if number >= 99.95 else 1 if number >= 9.995 else 2
            shown = f"{number:.{digits}f}"
            return f"{shown.rstrip('0').rstrip('.') if '.' in shown else shown}\u00a0{name}".rstrip("\u00a0")
    raise AssertionError("units end with the smallest")


def count(value: float | None) -> str:
    """ "812", "30.5 k", "1.2 M"."""
    return "–" if value is None else _scaled(value, [(1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")])


def size(value: float | None) -> str:
    """Bytes as "812 B", "3.4 MB" (powers of 1,000)."""
    return "–" if value is None else _scaled(value, [(1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")])


def milliseconds(value: float | None) -> str:
    """ "0.08 ms", "12.3 ms", "1.2 s"."""
    return "–" if value is None else _scaled(value, [(1000, "s"), (1, "ms")])


def duration(value: float | None) -> str:
    """Seconds as "0.42 s", "12.3 s", "2 min 5 s", "1 h 20 min"."""
    if value is None:
        return "–"
    if value < 59.95:
        return _scaled(value, [(1, "s")])
    minutes, seconds = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}\u00a0min {seconds}\u00a0s" if seconds else f"{minutes}\u00a0min"
    hours, minutes = divmod(round(value / 60), 60)
    return f"{hours}\u00a0h {minutes}\u00a0min" if minutes else f"{hours}\u00a0h"


def listed(names: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1] if names else ""


def done(results: Results) -> list[RungResult]:
    """The rungs that finished, in the ladder's order."""
    return [rung for rung in results["rungs"] if rung["status"] == "done"]


def best_rung(results: Results) -> RungResult | None:
    """The row of the rung that is best on development data; None until one has figures."""
    name = results["best"]["name"] if results["best"] else None
    return next((rung for rung in results["rungs"] if rung["name"] == name and rung.get("dev")), None)


def reported(rung: RungResult) -> Spread | None:
    """The figures that are reported: on test, or on development data where there is no test set."""
    return rung.get("test") or rung.get("dev")


def standing(rung: RungResult, best: RungResult) -> str:
    """How a rung's reported figure compares with the best's: "best", "worse" or "better" (beyond chance), "equal" (not told apart), ""."""
    if rung["name"] == best["name"]:
        return "best"
    p, own, other = rung.get("p_holm"), reported(rung), reported(best)
    if p is None or own is None or other is None:
        return ""
    if p >= SIGNIFICANT:
        return "equal"
    return "worse" if own["mean"] < other["mean"] else "better"


def verdict(results: Results) -> str:
    """One sentence: which rung is best on development data, how good it is on test, and from which others it cannot be told apart."""
    best = best_rung(results)
    if best is None:
        failed = [rung["name"] for rung in results["rungs"] if rung["status"] == "failed"]
        return f"No rung has finished{'; ' + listed(failed) + ' failed' if failed else ''}."
    title, figures = metric_title(results["metric"]), reported(best)
    value = f"{spread(results['metric'], figures)}{unit(results['metric'])}"
    where = "on test" if best.get("test") else "there (no test set was given)"
    opening = f"{best['name']} is best on development data; {where} its {title} is {value}"
    compared = [(standing(rung, best), rung) for rung in done(results) if rung["name"] != best["name"]]
    parts = []
    for how, words in (("better", "yet worse than"), ("equal", "not distinguishable from")):
        found = sorted((rung for stand, rung in compared if stand == how), key=lambda rung: -(rung.get("p_holm") or 0))
        if found:
            parts.append(f"{words} {_with_p(found)}")
    if not parts and compared and all(stand == "worse" for stand, _ in compared):
        parts = ["better than every other rung beyond chance"]
    return ", ".join([opening, *parts]) + "."


def _with_p(rungs: Sequence[RungResult]) -> str:
    """Up to three with their p-values, of more their number."""
    if len(rungs) > 3:
        return f"{', '.join(rung['name'] for rung in rungs[:3])} and {len(rungs) - 3} more"
    return listed([f"{rung['name']} ({significant(rung.get('p_holm'))})" for rung in rungs])


def advice(results: Results) -> str | None:
    """A sentence when nothing is shown to have learned, or when a much faster rung cannot be told from the best one; None otherwise."""
    best = best_rung(results)
    if best is None:
        return None
    equals = [rung for rung in done(results) if standing(rung, best) == "equal"]
    floors = _floors(results["dataset"]["task"])
    if (floor := next((rung["name"] for rung in equals if rung["name"] in floors), None)) is not None:
        return f"Even {floor}, which {floors[floor]}, cannot be told from it: nothing here is shown to have learned anything yet."
    return _faster(best, [rung for rung in equals if rung.get("latency_ms")])


def _floors(task: str) -> dict[str, str]:
    """The rungs that have learned next to nothing, and what each does."""
    if task == "translation":
        return {"copy": "answers with the source itself", "nearest": "answers with the target of the nearest training source"}
    floors = {"regression": "always answers the mean", **dict.fromkeys(TAGGED, "gives each word its commonest tag")}
    return {"majority": floors.get(task, "always answers the commonest label")}


def things(task: str) -> str:
    """What examples are called: "texts", "pairs"."""
    return "pairs" if task == "translation" else "texts"


def _faster(best: RungResult, equals: Sequence[RungResult]) -> str | None:
    """What the fastest of the rungs that are as good would gain, where that is much."""
    fastest = min(equals, key=lambda rung: rung.get("latency_ms") or math.inf, default=None)
    if fastest is None:
        return None
    slow, fast = best.get("latency_ms") or 0.0, fastest.get("latency_ms") or math.inf
    if slow < 1.5 * fast:
        return None
    ratio = f"{slow / fast:.0f}" if slow / fast >= 9.5 else f"{slow / fast:.1f}"
    compared = f"{milliseconds(fast)} against {milliseconds(slow)}"
    return f"Where speed counts: {fastest['name']} cannot be told from it here and answers {ratio} times faster ({compared} a text)."
