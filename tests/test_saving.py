"""Model folders: whole or refused, never code, byte for byte what was saved. That answers stay the same is contract 5's."""

from __future__ import annotations

import json
import pickle
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from weft import saving
from weft.errors import InputError
from weft.saving import FORMAT, folder_bytes, read_model, write_model

ARRAYS = {
    "embedding.weight": np.arange(12, dtype=np.float32).reshape(4, 3),
    "turned": np.arange(6, dtype=np.float64).reshape(2, 3).T,  # not contiguous
    "count": np.array(7, np.int64),
    "none": np.zeros((0, 5), np.float32),
}
CONFIG = {"estimator": "TextClassifier", "engine": {"widths": [3, 4, 5], "rate": 0.1}, "name": "naïve 東京"}
TOKENIZER, METRICS = {"kind": "words", "words": ["a", "é"]}, {"split": "test", "test": {"accuracy": 0.5}}


@pytest.fixture
def folder(tmp_path):
    return write_model(tmp_path / "deep" / "model", config=CONFIG, arrays=ARRAYS, card="# card\n", tokenizer=TOKENIZER, metrics=METRICS)


def test_what_is_read_is_what_was_written(folder):
    saved = read_model(str(folder))
    assert {name: value for name, value in saved.config.items() if name not in ("format", "files")} == CONFIG
    assert saved.config["format"] == FORMAT
    assert (saved.tokenizer, saved.metrics) == (TOKENIZER, METRICS)
    assert saved.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert saved.arrays[name].dtype == array.dtype and saved.arrays[name].shape == array.shape
        assert np.array_equal(saved.arrays[name], array)
    assert (folder / "README.md").read_text(encoding="utf-8") == "# card\n"


def test_others_can_read_it_without_us(folder):
    arrays = load_file(folder / "model.safetensors")
    assert np.array_equal(arrays["turned"], ARRAYS["turned"])
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["name"] == "naïve 東京"


def test_without_tokenizer_and_metrics(tmp_path):
    saved = read_model(write_model(tmp_path / "model", config={}, arrays={"a": np.ones(2)}, card=""))
    assert (saved.tokenizer, saved.metrics) == (None, {})


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_an_altered_file_is_refused_wherever_it_was_altered(folder, name):
    whole = (folder / name).read_bytes()
    step = max(1, len(whole) // 25)
    for place in [*range(0, len(whole), step), len(whole) - 1]:
        (folder / name).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(InputError, match=f"{name}: differs from what config.json says"):
            read_model(folder)
    for changed in (whole[:-1], whole + b" ", b""):
        (folder / name).write_bytes(changed)
        with pytest.raises(InputError, match=f"{name}: differs"):
            read_model(folder)
    (folder / name).write_bytes(whole)
    read_model(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_an_incomplete_folder_is_refused(folder, name):
    (folder / name).unlink()
    with pytest.raises(InputError, match=r"no config.json in it" if name == "config.json" else f"{name}: is missing"):
        read_model(folder)


def test_metrics_and_the_card_may_go(folder):
    (folder / "metrics.json").unlink()
    (folder / "README.md").unlink()
    assert read_model(folder).metrics == {}


@pytest.mark.parametrize(
    "config,said",
    [
        ("{", "broken JSON"),
        ("[]", "not a weft model"),
        ("{}", "not a weft model"),
        ('{"format": "weft-model-0", "files": {}}', "not a weft model of format weft-model-1"),
        (f'{{"format": "{FORMAT}"}}', "does not say which files"),
        (f'{{"format": "{FORMAT}", "files": {{}}}}', "does not say which files"),
        (f'{{"format": "{FORMAT}", "files": ["model.safetensors"]}}', "does not say which files"),
        ("\xff", "config.json:1"),
    ],
)
def test_a_config_that_is_none_is_refused(folder, config, said):
    (folder / "config.json").write_bytes(config.encode("latin-1"))
    with pytest.raises(InputError, match=said):
        read_model(folder)


def test_what_is_no_folder_of_a_model_is_refused(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for path in (tmp_path / "missing", tmp_path / "file", tmp_path):
        with pytest.raises(InputError, match="is not a model folder"):
            read_model(path)
    with pytest.raises(InputError, match="is a file; a model is saved as a folder"):
        write_model(tmp_path / "file", config={}, arrays={}, card="")


def test_a_pickle_in_its_place_is_never_opened(folder, tmp_path):
    """Even where the digest was made to fit, what is no safetensors file is refused, and nothing in it runs."""

    class Bomb:
        def __reduce__(self):
            return (tmp_path.joinpath("exploded").touch, ())

    from weft.files import sha256

    (folder / "model.safetensors").write_bytes(pickle.dumps(Bomb()))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["files"]["model.safetensors"] = sha256(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InputError, match="not readable as safetensors"):
        read_model(folder)
    assert not (tmp_path / "exploded").exists()


def test_nothing_in_a_folder_can_be_unpickled(folder):
    for path in folder.iterdir():
        with pytest.raises((pickle.UnpicklingError, ValueError, EOFError, KeyError, IndexError, AttributeError)):
            pickle.loads(path.read_bytes())


@pytest.mark.parametrize("broken", range(5))
def test_writing_over_a_model_and_failing_leaves_it_whole_or_refused(folder, broken, monkeypatch, tmp_path):
    """Stopped before any of the five files: the old model, or a refusal, but never old config with new weights."""
    calls = 0
    original = saving.atomic_write

    def counted(path, *arguments, **options):
        nonlocal calls
        calls += 1
        if calls - 1 == broken:
            raise KeyboardInterrupt
        return original(path, *arguments, **options)

    import weft.files

    before = tmp_path / "before"
    shutil.copytree(folder, before)
    with monkeypatch.context() as patch:
        patch.setattr(saving, "atomic_write", counted)
        patch.setattr(weft.files, "atomic_write", counted)  # write_json's
        with pytest.raises(KeyboardInterrupt):
            write_model(folder, config={}, arrays={"other": np.ones(3)}, card="", tokenizer={"kind": "bytes"})
    if broken == 0:
        assert read_model(folder).config == read_model(before).config
    else:
        with pytest.raises(InputError, match="differs"):
            read_model(folder)
    assert set(read_model(write_model(folder, config={}, arrays={"other": np.ones(3)}, card="")).arrays) == {"other"}


def test_leftovers_of_killed_writes_go(folder):
    (folder / ".model.safetensors.00ff.tmp").write_bytes(b"half")
    (folder / ".config.json.00ff.tmp").write_bytes(b"half")
    (folder / ".mine.tmp").write_bytes(b"not ours")
    write_model(folder, config={}, arrays={}, card="")
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == [".mine.tmp"]


def test_an_old_tokenizer_is_not_taken_for_the_new_models(folder):
    assert read_model(write_model(folder, config={}, arrays={}, card="")).tokenizer is None


def test_the_size_is_that_of_what_predicting_needs(folder):
    names = ("model.safetensors", "tokenizer.json", "config.json")
    assert folder_bytes(folder) == sum((folder / name).stat().st_size for name in names)
    (folder / "tokenizer.json").unlink()
    assert folder_bytes(folder) == sum((folder / name).stat().st_size for name in ("model.safetensors", "config.json"))


def test_the_same_model_is_the_same_bytes(tmp_path):
    one, two = (write_model(tmp_path / name, config=CONFIG, arrays=ARRAYS, card="c", tokenizer=TOKENIZER) for name in ("one", "two"))
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes()


def test_safetensors_of_others_are_refused_without_our_config(tmp_path):
    save_file({"a": np.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="not a model folder"):
        read_model(tmp_path)
