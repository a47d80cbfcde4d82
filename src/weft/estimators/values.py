"""A setting's value, as typed on the command line or given in Python, in the type that the setting has."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from types import NoneType
from typing import Any, get_args, get_origin

from weft.errors import InputError, meant

WORDS = {"true": True, "yes": True, "false": False, "no": False, "none": None, "null": None}
WANTED = {bool: "true or false", int: "a whole number", float: "a number", str: "a word", tuple: "whole numbers with commas between"}


def coerce(name: str, value: Any, default: Any, kind: Any = None) -> Any:
    """`value` as `kind`: bool, int, float, str, tuple[int, ...], or one of them | None; without `kind`, the type of `default`.

    Texts are read: "3,4,5" as (3, 4, 5), "none" as None where None is allowed. Raises InputError "name: must be …" for anything else.
    """
    types = [one for one in get_args(kind) if one is not Ellipsis] if get_origin(kind) is not tuple else [kind]
    wanted = next((one for one in types if one is not NoneType), kind or type(default))
    base = get_origin(wanted) or wanted
    value = value.item() if hasattr(value, "item") and not getattr(value, "shape", ()) else value  # a NumPy number
    if isinstance(value, str) and base is not str:
        value = _read(value)
    if value is None and NoneType in types:
        return None
    made = _made(value, base)
    if made is None:
        example = "" if default is None or default == () else f", like {_shown(default)}"
        raise InputError(f"must be {WANTED[base]}{example}, not {_shown(value)!r}", name)
    return made


def _made(value: Any, base: type) -> Any:
    """`value` as `base`; None where it is no such thing."""
    if base is tuple:
        parts = list(value) if isinstance(value, list | tuple) else [value]
        whole = [_made(part, int) for part in parts]
        return None if None in whole else tuple(whole)
    if base in (int, float):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return None
        return None if base is int and value != int(value) else base(value)
    return value if isinstance(value, base) else None


def _read(text: str) -> Any:
    """A number, true, false, none, or a list of numbers; what is none of these stays a text."""
    text = text.strip()
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    for attempt in (text, f"[{text.strip('()[]')}]"):
        try:
            return json.loads(attempt)
        except ValueError:
            pass
    return text


def _shown(value: Any) -> Any:
    """(3, 4, 5) as it is typed, 3,4,5."""
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else value


def by_column(name: str, text: str, columns: Iterable[str]) -> dict[str, float]:
    """ "upos:1,deprel:2" → {"upos": 1.0, "deprel": 2.0}. Raises InputError for what is no such text, or a column that is not there."""
    found: dict[str, float] = {}
    known = list(columns)
    for part in filter(None, (part.strip() for part in text.split(","))):
        column, colon, value = part.rpartition(":")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not colon or not math.isfinite(number):
            raise InputError(f"must be columns with a number each, like {known[0]}:1, not {part!r}", name)
        if column not in known:
            raise InputError(f"no column {column!r}{meant(column, known)}; there are {', '.join(known)}", name)
        found[column] = number
    return found
