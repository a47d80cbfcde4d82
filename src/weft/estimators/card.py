"""The model card that a model folder carries as its README.md: what it is, what it was trained on, how well it does, how to use it."""

from __future__ import annotations

import json
from typing import Any

from weft import __version__
from weft.estimators.vectors import sentence
from weft.files import plain

KINDS = {
    "regression": "text-regression",
    "translation": "text2text-generation",
    "language-model": "text-generation",
}  # where neither classes nor tags tell


def model_card(estimator: Any, metrics: dict[str, Any], data: str) -> str:
    """Markdown with Hugging Face's header."""
    rung, history = estimator._rung(), estimator.history_
    columns, pair = getattr(estimator, "labels_", {}), getattr(estimator, "pair_", False)
    classes = [str(label) for label in getattr(estimator, "classes_", [])]
    kind = "token-classification" if columns else "text-classification" if classes else KINDS[estimator.task_]
    lines = ["---", "library_name: weft", f"tags: [{kind}]", "---", ""]
    lines += [f"# {rung.name}: {estimator.task_}{' of pairs of texts' if pair else ''}", ""]
    lines += [f"{rung.line} ({rung.paper}).", "", "| | |", "|---|---|", f"| made by | weft {__version__} |"]
    lines += [f"| data | {data or 'given in Python'} |", f"| seed | {estimator.seed_} |", f"| parameters | {estimator.parameters_:,} |"]
    named = {"classes": classes} if classes else {f"tags of {column}": labels for column, labels in columns.items()}
    for name, labels in named.items():
        lines += [f"| {name} | {', '.join(labels[:20])}{f' and {len(labels) - 20} more' if len(labels) > 20 else ''} |"]
    if history is not None:
        spent = f"{history.steps} steps ({history.epochs:.1f} epochs), best at step {history.best_step}, {history.seconds:.1f} s"
        lines += [f"| training | {spent} |"]
    if vectors := getattr(estimator.engine_, "vectors_facts", None):
        lines += [f"| word vectors | {sentence(vectors)}, {vectors['mode']}; sha256 {vectors['sha256'][:16]} |"]
    if start := getattr(estimator.engine_, "pretrained_facts", None):
        lines += [f"| pretrained | {start['name']}, of the family {start['family']}; sha256 {start['sha256'][:16]} |"]
    if beside := getattr(estimator.engine_, "elmo_facts", None):
        lines += [f"| ELMo | {beside['name']}; sha256 {beside['sha256'][:16]} |"]
    if estimator.settings:
        lines += [f"| settings | `{json.dumps(plain(estimator.settings), ensure_ascii=False)}` |"]
    split = metrics.get("split")
    scores = metrics.get(split, metrics) if isinstance(split, str) else metrics
    numbers = {name: value for name, value in scores.items() if isinstance(value, int | float)}
    if numbers:
        lines += ["", f"## Metrics{f' on {split}' if split else ''}", "", "| metric | value |", "|---|---|"]
        lines += [f"| {name} | {value:.4f} |" for name, value in numbers.items()]
    lines += ["", "## Use", "", "```python", "import weft", "", 'model = weft.load("this-folder")']
    example = '("a text", "another")' if pair else '"a text"'
    lines += ['model.generate("Once")' if estimator.task_ == "language-model" else f"model.predict([{example}])", "```", ""]
    return "\n".join(lines)
