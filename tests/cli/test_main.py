from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

from weft import __version__
from weft.cli import main as cli
from weft.cli.output import print_json, print_table
from weft.data.datasets import DATASETS
from weft.errors import InputError
from weft.estimators.rungs import LADDERS

HEAVY = {"torch", "sklearn", "scipy", "numba", "pandas", "pyarrow", "tokenizers"}


def python(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Another Python, so that what this one has loaded does not count."""
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env={**os.environ, **variables}, check=False)


def loaded_by(code: str) -> set[str]:
    done = python("-c", f"import sys\n{code}\nprint(*{{name.split('.')[0] for name in sys.modules}}, file=sys.stderr)")
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split())


@pytest.fixture
def command(monkeypatch):
    """Runs `weft fails`, which raises what it is given."""

    def run(error: BaseException) -> int:
        def fails() -> None:
            raise error

        application = typer.Typer()
        application.callback()(lambda: None)
        application.command("fails")(fails)
        monkeypatch.setattr(cli, "app", application)
        return cli.main(["fails"])

    return run


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["models"], ["data", "--help"], ["vectors", "--help"], ["explain", "--help"], ["train", "--help"], ["compare", "--help"]],
)
def test_help_loads_nothing_heavy(arguments):
    assert loaded_by(f"from weft.cli.main import main; main({arguments})") & HEAVY == set()


def test_import_weft_loads_nothing_heavy_until_an_estimator_is_asked_for():
    assert loaded_by("import weft; weft.__version__") & (HEAVY | {"numpy"}) == set()
    assert "sklearn" in loaded_by("from weft import TextClassifier")


def test_what_weft_exports_is_there():
    import weft

    assert all(getattr(weft, name) is not None for name in weft.__all__)
    assert set(weft.__all__) <= set(dir(weft))
    assert weft.InputError is InputError
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        weft.nonsense  # noqa: B018


@pytest.mark.parametrize("module", ["weft", "weft.cli.main"])
def test_a_broken_command_line_has_no_traceback(module):
    start = ["-m", "weft"] if module == "weft" else ["-c", "import sys; from weft.cli.main import main; sys.exit(main())"]
    done = python(*start, "data", "get", "no-such-dataset")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: no-such-dataset: there is no dataset of this name; there are movie-reviews")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputError("no label column", "reviews.csv:1"), 2, "error: reviews.csv:1: no label column"),
        (InputError("two\nlines"), 2, "error: two lines"),
        (OSError(28, "No space left on device", "out/model"), 2, "error: out/model: No space left on device"),
        (ValueError("oops\n  indeed"), 1, "internal error: ValueError: oops indeed (WEFT_TRACEBACK=1 shows where)"),
        (OSError(5, "Input/output error"), 1, "internal error: OSError: [Errno 5] Input/output error (WEFT_TRACEBACK=1 shows where)"),
        (AssertionError(), 1, "internal error: AssertionError (WEFT_TRACEBACK=1 shows where)"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)  # fmt: skip
def test_every_error_is_one_line_and_an_exit_code(command, capsys, monkeypatch, error, code, said):
    monkeypatch.delenv("WEFT_TRACEBACK", raising=False)
    assert command(error) == code
    captured = capsys.readouterr()
    assert captured.err == said + "\n"
    assert captured.out == ""


def test_the_traceback_can_be_asked_for(command, capsys, monkeypatch):
    monkeypatch.setenv("WEFT_TRACEBACK", "1")
    assert command(ZeroDivisionError("here")) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "raise error" in said
    assert said.endswith("internal error: ZeroDivisionError: here\n")
    assert command(InputError("wrong", "x.csv:3")) == 2
    assert capsys.readouterr().err == "error: x.csv:3: wrong\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["modls"], "models"),
        (["models", "--nonsense"], "--nonsense"),
        (["data", "get"], "NAME"),
        (["data", "nonsense"], "nonsense"),
        (["models", "more"], "more"),
    ],
)
def test_usage_errors_are_the_callers(capsys, arguments, said):
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert said in captured.err
    assert captured.err.count("\n") == 1


def test_help_and_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"weft {__version__}\n"
    assert cli.main(["--help"]) == 0
    helped = capsys.readouterr().out
    assert cli.main([]) == 0
    assert capsys.readouterr().out == helped
    assert all(f"\n  {name} " in helped for name in ("models", "data", "train", "evaluate", "predict", "compare", "explain"))
    assert "..." not in helped.split("Commands:")[1]  # every command's line fits


def test_notes_go_to_stderr_and_the_logger_is_left_as_it_was(command, capsys):
    log = logging.getLogger("weft")
    before = log.level, log.propagate, list(log.handlers)
    with cli.notes_on_stderr():
        log.info("%d texts", 3)
        log.warning("2 texts are empty")
        log.debug("unheard")
    assert capsys.readouterr() == ("", "3 texts\nwarning: 2 texts are empty\n")
    assert (log.level, log.propagate, list(log.handlers)) == before


def test_only_the_first_of_many_processes_speaks(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with cli.notes_on_stderr():
        logging.getLogger("weft").warning("said by every process")
    assert capsys.readouterr().err == ""


def test_a_closed_pipe_ends_quietly():
    program = "import sys\nfrom weft.cli.main import main\nsys.exit(main(['models', '--json']))"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", program], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.returncode == cli.PIPE_CLOSED
    assert done.stderr == ""


def test_json_is_strict_and_one_object(capsys):
    print_json({"nan": float("nan"), "inf": np.float32("inf"), "array": np.arange(3), "text": "é", "path": Path("a/b")})
    captured = capsys.readouterr().out
    assert captured.count("\n") == 1
    assert json.loads(captured, parse_constant=pytest.fail) == {"nan": None, "inf": None, "array": [0, 1, 2], "text": "é", "path": "a/b"}


def test_json_survives_half_a_surrogate_and_a_narrow_encoding():
    program = (
        "from weft.cli.main import *\nfrom weft.cli.output import print_json\nmain(['--version'])\nprint_json({'text': 'é' + chr(0xD800)})"
    )
    for encoding in ("utf-8", "latin-1", "ascii"):
        done = python("-c", program, PYTHONIOENCODING=encoding)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout.splitlines()[-1]) == {"text": "é\ud800"}


def test_tables_are_not_folded_in_a_pipe(capsys):
    print_table(["name", "what"], [["[bold]", "x" * 300]])
    captured = capsys.readouterr().out
    assert "[bold]  " + "x" * 300 in captured


def test_models_lists_every_rung(capsys):
    assert cli.main(["models", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["models"]
    rungs = [rung for ladder in LADDERS for rung in ladder.values()]
    assert [(one["name"], one["paper"], tuple(one["tasks"])) for one in listed] == [(rung.name, rung.paper, rung.tasks) for rung in rungs]
    assert cli.main(["models"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in table[1:]] == [rung.name for rung in rungs] and {"cnn", "minilm", "char-bilstm"} <= {
        rung.name for rung in rungs
    }
    assert all(rung.paper in line and rung.line in line for rung, line in zip(rungs, table[1:], strict=True))


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """A machine without any data."""
    monkeypatch.setenv("WEFT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("WEFT_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_data_list_tells_what_is_here(capsys, nowhere):
    assert cli.main(["data", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["datasets"]
    assert [one["name"] for one in listed] == list(DATASETS)
    assert [one["where"] for one in listed] == [None] * len(DATASETS)
    assert all(one["rows"] == dict(DATASETS[one["name"]].rows) and one["licence"] for one in listed)
    assert cli.main(["data", "list"]) == 0
    assert capsys.readouterr().out.count("not here: weft data get ") == len(DATASETS)


def test_data_check_finds_what_is_missing_or_wrong(capsys, nowhere):
    assert cli.main(["data", "check"]) == 0  # nothing here, nothing wrong
    assert "weft data get" in capsys.readouterr().out
    assert cli.main(["data", "check", "trec", "--json"]) == 2
    (checked,) = json.loads(capsys.readouterr().out)["datasets"]
    assert not checked["ok"]
    (nowhere / "data" / "trec").mkdir(parents=True)
    for part in ("train", "test"):
        (nowhere / "data" / "trec" / f"{part}.tsv").write_text("LOC\tLOC:city\tWhere ?\n")
    assert cli.main(["data", "check"]) == 2
    assert "train.tsv: its sha256" in capsys.readouterr().out


def test_data_get_says_what_it_got(capsys, monkeypatch):
    from weft.data import datasets

    if datasets.available("trec") is None:
        pytest.skip("needs the TREC files in a folder of data")
    assert cli.main(["data", "get", "trec", "--json"]) == 0
    got = json.loads(capsys.readouterr().out)
    splits = datasets.load("trec")
    assert {part: facts["examples"] for part, facts in got["splits"].items()} == {
        "train": len(splits.train),
        "dev": len(splits.dev),
        "test": 500,
    }
    assert got["splits"]["test"]["labels"]["description"] == 138  # as published
    assert cli.main(["data", "get", "trec"]) == 0
    assert "test: 500 examples (description 138, " in capsys.readouterr().out


def test_data_get_counts_the_words_of_both_sides(capsys):
    from weft.data import datasets

    if datasets.available("multi30k") is None:
        pytest.skip("needs Multi30k's files in a folder of data")
    assert cli.main(["data", "get", "multi30k", "--json"]) == 0
    got = json.loads(capsys.readouterr().out)
    assert got["splits"]["dev"] == {"examples": 1014, "words": {"source": 12167, "target": 11568}}  # as `wc -w` counts them
