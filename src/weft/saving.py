"""A model folder ↔ what is in it: config.json, model.safetensors, tokenizer.json, metrics.json, README.md. Numbers and text, never code.

config.json is written last and holds the sha256 of the others, so that a folder is either whole or refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from weft.errors import InputError
from weft.files import atomic_write, read_json, remove_leftovers, sha256, write_json

FORMAT = "weft-model-1"
CHECKPOINT = "checkpoint.safetensors"  # of a training that is under way, in the folder that it will fill


@dataclass
class SavedModel:
    """What a model folder holds: the config, arrays by name, and what the tokenizer and the metrics files say (None, {} where absent)."""

    config: dict[str, Any]
    arrays: dict[str, np.ndarray]
    tokenizer: dict[str, Any] | None
    metrics: dict[str, Any]


def check_folder(folder: Path) -> None:
    """Raises InputError where a model would be written over files that are not one's: a file, or a folder with something else in it."""
    if folder.exists() and not folder.is_dir():
        raise InputError("is a file; a model is saved as a folder", str(folder))
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")} if folder.is_dir() else set()
    if names and not names & {CHECKPOINT, "model.safetensors"}:
        raise InputError(f"is a folder with other files in it ({sorted(names)[0]}); give a new one for the model", str(folder))


def write_model(
    folder: str | Path,
    *,
    config: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    card: str,
    tokenizer: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> Path:
    """Writes the folder, each file atomically, config.json last. Raises InputError where `folder` is a file."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError("is a file; a model is saved as a folder", str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / "model.safetensors", "wb") as file:
        file.write(save({name: np.asarray(array, order="C") for name, array in arrays.items()}, {"format": "pt"}))
    if tokenizer is not None:
        write_json(folder / "tokenizer.json", dict(tokenizer))
    write_json(folder / "metrics.json", dict(metrics or {}))
    with atomic_write(folder / "README.md") as file:
        file.write(card)
    names = ["model.safetensors"] + (["tokenizer.json"] if tokenizer is not None else [])
    write_json(folder / "config.json", {"format": FORMAT, **config, "files": {name: sha256(folder / name) for name in names}})
    for name in (*names, "metrics.json", "README.md", "config.json"):
        remove_leftovers(folder / name)
    return folder


def read_model(folder: str | Path) -> SavedModel:
    """Reads and checks a model folder. Raises InputError where it is absent, not a weft model, incomplete or altered."""
    folder = Path(folder)
    if not folder.is_dir() or not (folder / "config.json").exists():
        raise InputError("is not a model folder (no config.json in it); weft train DATA --out FOLDER makes one", str(folder))
    config = read_json(folder / "config.json")
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise InputError(f"is not a weft model of format {FORMAT}", str(folder / "config.json"))
    files = config.get("files")
    if not isinstance(files, dict) or "model.safetensors" not in files:
        raise InputError("does not say which files were saved", str(folder / "config.json"))
    for name, digest in files.items():
        if not (folder / name).exists():
            raise InputError("is missing: the model folder is incomplete", str(folder / name))
        if sha256(folder / name) != digest:
            raise InputError("differs from what config.json says was saved: the folder was altered or half copied", str(folder / name))
    try:
        arrays = load_file(folder / "model.safetensors")
    except SafetensorError as error:
        raise InputError(f"is not readable as safetensors ({error})", str(folder / "model.safetensors")) from error
    tokenizer = read_json(folder / "tokenizer.json") if "tokenizer.json" in files else None
    metrics = read_json(folder / "metrics.json") if (folder / "metrics.json").exists() else {}
    return SavedModel(config, arrays, tokenizer, metrics)


def folder_bytes(folder: str | Path) -> int:
    """The size on disk of what prediction needs, in bytes: weights, tokenizer, config."""
    paths = [Path(folder) / name for name in ("model.safetensors", "tokenizer.json", "config.json")]
    return sum(path.stat().st_size for path in paths if path.exists())
