"""The command line's frame: the commands, what is said on stderr, and how every run ends (0 fine, 1 our fault, 2 the caller's, 130 Ctrl-C).

Commands import what they need when they run: `weft --help` loads neither torch nor scikit-learn.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from weft import __version__
from weft.cli import compare, data, distill, explain, generate, models, pretrain, train, vectors
from weft.cli.options import spread_settings
from weft.errors import InputError

FINE, OURS, CALLERS, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141
# What the machine refuses whoever asks: no room, no right to write there.
REFUSED = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM})

app = typer.Typer(
    name="weft",
    help="From word embeddings to fine-tuned Transformers: the best small neural model for your text, compared fairly.",
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("compare", short_help="Train every model on the same split; say which is best.")(compare.compare)
app.command("train")(train.train)
app.command("evaluate", short_help="Measure a saved model on labelled data.")(train.evaluate)
app.command("predict", short_help="Answer texts with a saved model, as JSON lines.")(train.predict)
app.command("distill", short_help="Teach a small model what a large one knows.")(distill.distill)
app.command("pretrain", short_help="Learn an encoder from raw text.")(pretrain.pretrain)
app.command("generate", short_help="Go on with a prompt, by a language model.")(generate.generate)
app.command("models")(models.models)
app.add_typer(data.app, name="data")
app.add_typer(vectors.app, name="vectors", short_help="Word vectors: train, compare, ask, measure, draw.")
app.add_typer(explain.app, name="explain", short_help="What is in a trained model, seen.")


@app.callback(invoke_without_command=True)
def weft(context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Say the version and leave.")] = False) -> None:
    if version:
        print(f"weft {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())
    if version or context.invoked_subcommand is None:
        raise typer.Exit()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line (`sys.argv` by default) and returns its exit code. Nothing that is raised gets past it as a traceback.

    WEFT_TRACEBACK=1 shows the traceback of an error that is not the caller's.
    """
    # Threads that spin while they wait for one another take four times as long where other work has the cores (60 steps of a CNN on two
    # busy cores: 40 s, asleep 10 s), and gain nothing on idle ones. OpenMP reads this when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # half a surrogate in a text must not end the run
    with notes_on_stderr():
        try:
            code = _run(list(sys.argv[1:] if arguments is None else arguments))
            sys.stdout.flush()
        except Exception as error:
            code, lines = _verdict(error)
            for line in lines:
                print(line, file=sys.stderr)
        except KeyboardInterrupt:
            code = INTERRUPTED
            print("interrupted", file=sys.stderr)
    if code == PIPE_CLOSED:
        # whoever read our output has left; what is still buffered must not be tried again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _run(arguments: list[str]) -> int:
    """The command itself. Typer's own `main` is left out: it would swallow Ctrl-C and closed pipes in its own way."""
    command = typer.main.get_command(app)
    try:
        with command.make_context("weft", spread_settings(arguments)) as context:
            command.invoke(context)
    except typer.Exit as ended:
        return ended.exit_code
    return FINE


def _verdict(error: Exception) -> tuple[int, list[str]]:
    """(exit code, what is printed) for what a command raised."""
    if isinstance(error, InputError):
        return CALLERS, [f"error: {error}"]
    if hasattr(error, "format_message"):  # a usage error: of click's, or of the copy of it inside newer versions of typer
        return CALLERS, [f"error: {_usage(error)}"]
    if isinstance(error, BrokenPipeError):
        return PIPE_CLOSED, []
    if isinstance(error, OSError) and error.errno in REFUSED:
        return CALLERS, [f"error: {error.filename or 'this machine'}: {error.strerror}"]
    if os.environ.get("WEFT_TRACEBACK"):
        return OURS, ["".join(traceback.format_exception(error)).rstrip(), _internal(error)]
    return OURS, [f"{_internal(error)} (WEFT_TRACEBACK=1 shows where)"]


def _internal(error: Exception) -> str:
    said = " ".join(str(error).split())
    return f"internal error: {type(error).__name__}: {said[:500]}" if said else f"internal error: {type(error).__name__}"


def _usage(error: Any) -> str:
    """`no such option: --foo (weft train --help says what there is)`, on one line."""
    said = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{said[:1].lower()}{said[1:]} ({context.command_path if context else 'weft'} --help says what there is)"


class Notes(logging.Handler):
    """What weft says aloud, as plain lines on the stderr of the moment (a live table moves it)."""

    def emit(self, record: logging.LogRecord) -> None:
        before = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        print(f"{before}{record.getMessage()}", file=sys.stderr)


@contextmanager
def notes_on_stderr() -> Iterator[None]:
    """While it lasts, weft's notes go to stderr; under torchrun only those of the first process, which speaks for all."""
    log = logging.getLogger("weft")
    handler, level, propagate = Notes(), log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate
