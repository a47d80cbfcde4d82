"""Formats: the bytes of a file → rows of cells, each with its line.

CSV, TSV, JSON lines, Parquet, `__label__` lines, plain lines, gzip of each; all but Parquet are read as streams.
What cannot be read ends in an InputError "FILE:LINE: what, and what would be right".
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from weft.errors import InputError, MissingExtra

Row = tuple[int, Sequence[Any]]  # line, cells
HEAD = 1 << 16
SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}
LABEL = re.compile(r"(?:^|(?<=\s))__label__(\S+)\s*")
BROKEN = (EOFError, zlib.error, gzip.BadGzipFile)


class Source:
    """The bytes of a file, unzipped where it is gzip, from the start as often as asked. "-" is standard input.

    head: the first bytes, at most 64 KiB. Raises InputError for a folder, a missing, unreadable or empty file, and for UTF-16.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.name = "standard input" if str(path) == "-" else str(path)
        self.path = Path(path)
        self.kept: bytes | None = None
        try:
            if str(path) == "-":
                self.kept = sys.stdin.buffer.read()
            elif self.path.is_dir():
                raise InputError("is a folder; a file of examples was expected", self.name)
            elif self.path.is_char_device() or self.path.is_block_device():
                raise InputError("is a device; a file of examples was expected", self.name)
            elif self.path.exists() and not self.path.is_file():
                self.kept = self.path.read_bytes()  # a pipe can be read only once
            with self._raw() as file:
                start = file.read(2)
        except FileNotFoundError as error:
            raise InputError("there is no such file", self.name) from error
        except (OSError, ValueError) as error:  # a ValueError: a NUL in the file's name
            if isinstance(error, InputError):
                raise
            raise InputError(f"cannot be read ({getattr(error, 'strerror', None) or error})", self.name) from error
        self.zipped = start == b"\x1f\x8b"
        if self.path.suffix.lower() == ".gz" and start and not self.zipped:
            raise InputError("is no gzip file, though its name ends in .gz; rename it, or compress it", self.name)
        self.head = self._read_head()
        if not self.head.removeprefix(b"\xef\xbb\xbf").strip():
            raise InputError("the file is empty; a line for each example was expected", self.name)

    def _raw(self) -> IO[bytes]:
        return io.BytesIO(self.kept) if self.kept is not None else open(self.path, "rb")

    def open(self) -> IO[bytes]:
        """The bytes, unzipped, from the start."""
        if not self.zipped:
            return self._raw()
        return gzip.open(self.path if self.kept is None else io.BytesIO(self.kept), "rb")  # type: ignore[return-value]

    def _read_head(self) -> bytes:
        parts: list[bytes] = []
        with self.open() as file:
            try:
                while sum(map(len, parts)) < HEAD and (part := file.read1(HEAD)):  # type: ignore[attr-defined]
                    parts.append(part)
            except BROKEN as error:
                if not parts:
                    raise self._cut_off(1) from error
        return b"".join(parts)[:HEAD]

    def _cut_off(self, line: int) -> InputError:
        return InputError("the gzip data is cut off or damaged here; fetch or compress the file again", f"{self.name}:{line}")

    @property
    def kind(self) -> str:
        """csv, tsv, jsonl, json, parquet, labelled (`__label__x text`) or lines: by the content where it says so, else by the suffix."""
        if self.head.startswith(b"PAR1"):
            return "parquet"
        start = self.head.removeprefix(b"\xef\xbb\xbf").lstrip()
        if start.startswith(b"__label__"):
            return "labelled"
        suffixes = [suffix.lower() for suffix in self.path.suffixes]
        suffix = next((suffix for suffix in reversed(suffixes) if suffix != ".gz"), "")
        if suffix in SUFFIXES:
            return SUFFIXES[suffix]
        if start.startswith(b"{"):
            return "jsonl"
        lines = [line for line in self.head.split(b"\n")[:50] if line.strip()]
        tabs = {line.count(b"\t") for line in (lines[:-1] if len(self.head) == HEAD and len(lines) > 1 else lines)}
        return "tsv" if len(tabs) == 1 and tabs != {0} else "lines"

    def check_encoding(self) -> None:
        """Raises InputError where the text is UTF-16 or UTF-32: by its byte order mark, or by NULs in every other place."""
        for mark, name in ((b"\xff\xfe\0\0", "UTF-32"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"), (b"\0\0\xfe\xff", "UTF-32")):
            if self.head.startswith(mark):
                raise InputError(f"the file is {name}; save it as UTF-8 (iconv -f {name} -t UTF-8)", f"{self.name}:1")
        even, odd = self.head[0:4096:2], self.head[1:4096:2]
        for zeros, others, name in ((odd, even, "UTF-16LE"), (even, odd, "UTF-16BE")):
            if zeros.count(0) > 0.3 * len(zeros) and others.count(0) < 0.05 * len(others):
                raise InputError(f"the file looks like {name}; save it as UTF-8 (iconv -f {name} -t UTF-8)", f"{self.name}:1")

    def lines(self, newline: str = "\n") -> Iterator[str]:
        """The lines of a UTF-8 text, each with its end, a byte order mark dropped. newline as in open(); old line ends "\\r" are seen."""
        self.check_encoding()
        old = b"\n" not in self.head and b"\r" in self.head.strip(b"\r")  # line ends of the Macintosh before 2001
        if newline == "\n" and old:
            newline = "\r"
        number = 0
        with self.open() as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline=newline) as file:
            try:
                for number, line in enumerate(file, start=1):
                    if "\0" in line:
                        found = f"there is a NUL byte at character {line.index(chr(0)) + 1}"
                        raise InputError(f"{found}; text has none: take it out, or is this no text file?", f"{self.name}:{number}")
                    yield line
            except UnicodeDecodeError as error:
                raise self._bad_byte(old) from error
            except BROKEN as error:
                raise self._cut_off(number + 1) from error
            except OSError as error:
                raise InputError(f"cannot be read on ({error.strerror})", f"{self.name}:{number + 1}") from error

    def _bad_byte(self, old: bool) -> InputError:
        """Where the first byte is that is no UTF-8: a second reading, as the decoder works in blocks and knows no lines."""
        number = 1
        try:
            with self.open() as file:
                for line in io.BytesIO(file.read().replace(b"\r", b"\n")) if old else file:
                    line.decode("utf-8")
                    number += 1
        except UnicodeDecodeError as error:
            found = f"byte 0x{error.object[error.start]:02x} (byte {error.start + 1} of the line) is no UTF-8"
            message = f"{found}; save the file as UTF-8 (if it is Latin-1: iconv -f WINDOWS-1252 -t UTF-8)"
            return InputError(message, f"{self.name}:{number}")
        except BROKEN:
            return self._cut_off(number)
        return InputError("the file is no UTF-8; save it as UTF-8", self.name)


@contextmanager
def long_fields() -> Iterator[None]:
    """The csv module's limit of 128 KiB a field lifted while the block runs (the limit belongs to the whole process)."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def csv_delimiter(head: bytes) -> str:
    """The comma, unless the first line has none outside quotes but has semicolons, tabs or bars."""
    first = head.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n").replace(b"\r", b"\n").split(b"\n", 1)[0].decode("utf-8", "replace")
    bare = re.sub(r'"[^"]*"?', "", first)
    return next((mark for mark in ",;\t|" if mark in bare), ",")


def csv_rows(source: Source) -> Iterator[Row]:
    """RFC 4180: fields in double quotes may hold the delimiter, line ends and doubled quotes. line: where the record starts."""
    reader = csv.reader(source.lines(newline=""), delimiter=csv_delimiter(source.head), strict=True)
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            open_end = "unexpected end" in str(error)
            message = "a quoted field that starts here never ends" if open_end else f"broken quoting in line {reader.line_num} ({error})"
            raise InputError(
                f'{message}; a quote inside a quoted field is written twice: "she said ""no"""', f"{source.name}:{start}"
            ) from error
        yield start, cells


def tsv_rows(source: Source) -> Iterator[Row]:
    """Cells between tabs; quotes mean nothing, so a cell holds neither tabs nor line ends."""
    for number, line in enumerate(source.lines(), start=1):
        yield number, line.rstrip("\r\n").split("\t")


def line_rows(source: Source) -> Iterator[Row]:
    """A text a line."""
    for number, line in enumerate(source.lines(), start=1):
        yield number, [line.rstrip("\r\n")]


def labelled_rows(source: Source) -> Iterator[Row]:
    """[text, labels] of fastText's lines: `__label__a __label__b the text`. Blank lines are passed over."""
    for number, line in enumerate(source.lines(), start=1):
        if line.strip():
            labels = LABEL.findall(line)
            yield number, [LABEL.sub("", line).strip(), labels or None]


def json_records(source: Source) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of JSON lines, or of one array of objects where the file starts with a bracket and is named .json."""
    array = source.kind == "json" and source.head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    for number, value in _array(source) if array else _values(source):
        if not isinstance(value, dict):
            message = f'a {_kind(value)} where an object was expected, like {{"text": "…", "label": "…"}}'
            raise InputError(message, f"{source.name}:{number}")
        yield number, value


def _kind(value: object) -> str:
    names = {list: "list", str: "string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "number")


def _values(source: Source) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(source.lines(), start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as error:
            message = f'broken JSON at character {error.pos + 1} ({error.msg}); each line is one object, like {{"text": "…", "label": "…"}}'
            raise InputError(message, f"{source.name}:{number}") from error
        except (ValueError, RecursionError) as error:  # a number of too many digits, brackets nested too deep
            raise InputError(f"unreadable JSON ({error})", f"{source.name}:{number}") from error


def _array(source: Source) -> Iterator[tuple[int, Any]]:
    text = "".join(source.lines())
    decoder, blank = json.JSONDecoder(), re.compile(r"\s*")
    place, line, counted = text.index("[") + 1, 1, 0
    while True:
        place = blank.match(text, place).end()  # type: ignore[union-attr]
        line, counted = line + text.count("\n", counted, place), place
        if text[place : place + 1] == "]":
            rest = blank.match(text, place + 1).end()  # type: ignore[union-attr]
            if rest < len(text):
                raise InputError("there is more after the end of the array", f"{source.name}:{line}")
            return
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            at = line + text.count("\n", counted, error.pos) if isinstance(error, json.JSONDecodeError) else line
            raise InputError(f"broken JSON ({what}); an array of objects was expected", f"{source.name}:{at}") from error
        yield line, value
        place = blank.match(text, place).end()  # type: ignore[union-attr]
        if text[place : place + 1] == ",":
            place += 1
        elif text[place : place + 1] != "]":
            at = text.count("\n", 0, place) + 1
            raise InputError("broken JSON (a comma or a closing bracket was expected)", f"{source.name}:{at}")


def parquet_rows(source: Source) -> tuple[list[str], Iterator[Row]]:
    """The columns' names and the rows, counted from 1. Raises MissingExtra without pyarrow."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("data", "reading Parquet") from error
    try:
        where = io.BytesIO(source.open().read()) if source.zipped or source.kept is not None else source.path
        file = pyarrow.parquet.ParquetFile(where)
        names = file.schema_arrow.names
    except (pyarrow.ArrowException, OSError, EOFError, zlib.error) as error:
        raise InputError(f"is no readable Parquet file ({_first_line(error)})", source.name) from error

    def rows() -> Iterator[Row]:
        number = 0
        try:
            for batch in file.iter_batches(batch_size=8192):
                for cells in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    number += 1
                    yield number, cells
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise InputError(f"the Parquet data is damaged ({_first_line(error)})", f"{source.name}:{number + 1}") from error

    return names, rows()


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
