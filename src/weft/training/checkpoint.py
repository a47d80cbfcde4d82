"""Everything a resumed run needs, in one file that is either whole or absent: tensors as safetensors, the rest as JSON in its header."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from weft.errors import InputError
from weft.files import atomic_write, remove_leftovers

FORMAT = "weft-checkpoint-1"


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes a nest of dicts, lists, tensors and JSON values atomically: a reader sees the old file or the new one, never half."""
    tensors: dict[str, Tensor] = {}
    header = json.dumps(_take_tensors(state, tensors, ""), allow_nan=True)
    data = to_bytes(tensors, {"format": FORMAT, "state": header})
    with atomic_write(path, "wb") as file:
        file.write(data)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` was given, bit for bit. Raises InputError if the file is not such a checkpoint."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise InputError("not a weft checkpoint; start without --resume", str(path))
            return _put_tensors(json.loads(metadata["state"]), {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except InputError:
        raise
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:  # the last three: a header that was tampered with
        raise InputError(f"unreadable checkpoint ({error}); start without --resume", str(path)) from error


def _take_tensors(value: Any, tensors: dict[str, Tensor], name: str) -> Any:
    if isinstance(value, Tensor):
        name = f"{len(tensors)}{name}"  # "a/b" in one dict and "b" in the "a" of another are two
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"$tensor": name}
    if isinstance(value, dict):
        return {"$dict": [[key, _take_tensors(item, tensors, f"{name}/{key}")] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_take_tensors(item, tensors, f"{name}/{i}") for i, item in enumerate(value)]
    return value


def _put_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if "$tensor" in value:
            return tensors[value["$tensor"]]
        return {key: _put_tensors(item, tensors) for key, item in value["$dict"]}
    if isinstance(value, list):
        return [_put_tensors(item, tensors) for item in value]
    return value


def snapshot(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A copy of a state dict that later training steps do not change."""
    return {name: torch.clone(tensor.detach()) for name, tensor in state.items()}


def checkpoint_steps(path: Path) -> int:
    """The steps that the run which left this checkpoint had planned. Raises InputError if the file is not such a checkpoint."""
    try:
        return int(load_checkpoint(path)["config"]["steps"])
    except (KeyError, TypeError) as error:
        raise InputError("this checkpoint is of another version; start without --resume", str(path)) from error


def remove_checkpoint(path: Path) -> None:
    """Takes away the checkpoint, and what writes that were killed half-way left beside it."""
    path.unlink(missing_ok=True)
    remove_leftovers(path)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until the block is done, so that what belongs together changes together. Only the main thread gets Ctrl-C at all."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    pending: list[tuple[Any, ...]] = []
    signal.signal(signal.SIGINT, lambda *arguments: pending.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if pending:
        handler(*pending[0])
