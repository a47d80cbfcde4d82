"""What goes to stdout: one JSON object, or a table for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from weft.files import plain

WIDE = 10_000  # columns of a pipe or a file: nothing is folded there


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on one line of stdout. NumPy values become JSON's own; NaN and ±inf become null."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print(json.dumps(plain(value), ensure_ascii=not unicode, allow_nan=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
    """A table on stdout, folded to a terminal's width. right: the columns that hold numbers."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else WIDE, highlight=False).print(table)


def console() -> Any:
    """What people read while a command works: a console on stderr, as wide as the terminal; nothing is folded in a file."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else WIDE)


def metrics_table(metrics: Mapping[str, float], title: str) -> Any:
    """Metrics by name, as a table."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from weft.compare.wording import metric_title

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="right")
    for name, value in metrics.items():
        table.add_row(metric_title(name), f"{value:.4f}")
    return Group(Text(title, "italic"), table)
