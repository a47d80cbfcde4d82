"""A setting's value, as typed on the command line or given in Python, in the type of its default."""

from __future__ import annotations

import json
from typing import Any

from weft.errors import InputError


def coerce(name: str, value: Any, default: Any) -> Any:
    """`value` as the type of `default`; texts are read as JSON-like ("3,4,5" is a list where the default is one)."""
    if isinstance(value, str) and default is None:
        try:
            return _read(name, value, default)
        except InputError:
            return value
    if isinstance(value, str) and not isinstance(default, str):
        value = _read(name, value, default)
    if isinstance(default, tuple):
        return tuple(value) if isinstance(value, list | tuple) else (value,)
    if default is None or value is None:
        return value
    if isinstance(default, bool) != isinstance(value, bool) or (isinstance(default, str) and not isinstance(value, str)):
        raise InputError(f"must be like {default!r}, not {value!r}", name)
    if isinstance(default, int) and not isinstance(default, bool):
        if int(value) != value:
            raise InputError(f"must be a whole number, not {value!r}", name)
        return int(value)
    if isinstance(default, float):
        return float(value)
    return value


def _read(name: str, text: str, default: Any) -> Any:
    words = {"true": True, "false": False, "none": None, "yes": True, "no": False}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return json.loads(f"[{text}]") if isinstance(default, tuple) and not text.startswith("[") else json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"must be like {default!r}, not {text!r}", name) from error
