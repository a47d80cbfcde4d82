"""weft pretrain: an encoder from raw text."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from weft.cli import options
from weft.cli.output import console, print_json
from weft.errors import InputError, meant

MODELS = ("bert", "roberta", "elmo")
NAMES = {
    "masked_accuracy": "hidden tokens found", "unigram_accuracy": "found by guessing the commonest", "next_accuracy": "neighbours told",
    "perplexity": "perplexity, a direction", "loss": "loss",
}  # fmt: skip


def pretrain(
    model: Annotated[
        str, typer.Argument(metavar="bert|roberta|elmo", help="Hidden tokens and next sentences; hidden tokens alone; next and last words.")
    ],
    corpus: Annotated[str, typer.Argument(metavar="CORPUS", help="A text file (.gz too): a sentence, paragraph or document a line.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write: a checkpoint that --from reads; that --elmo reads.")],
    valid: Annotated[str | None, typer.Option(metavar="FILE", help="Text to measure on; without it a twentieth of the documents.")] = None,
    documents: Annotated[
        str | None,
        typer.Option(help="How documents are told apart: headings, blank-lines or lines. Guessed, and said, if not given."),
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="How often to see the whole text; 10 if nothing is given.")] = None,
    steps: Annotated[int | None, typer.Option(help="Gradient steps, instead of --epochs.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Time, instead of --epochs: turned into steps once, by a few of them.")] = None,
    batch_tokens: options.BatchTokens = None,
    set_: options.Set = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint that an interrupted run left in DIR.")] = False,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = None,
    as_json: options.Json = False,
) -> None:
    """Learn an encoder from raw text: vocabulary, weights, and a folder that weft train --from DIR starts from.

    Ctrl-C leaves a checkpoint; --resume goes on from it, to the same bytes.
    """
    from weft.data.documents import read_documents
    from weft.saving import check_folder

    if model not in MODELS:
        raise InputError(f"there is no {model!r} to pretrain{meant(model, MODELS)}; there are {', '.join(MODELS)}", "model")
    options.check_seed(seed)
    check_folder(out)
    given: dict[str, Any] = dict(options.settings(set_))
    if batch_tokens is not None:
        given["batch_tokens"] = batch_tokens
    text = read_documents(corpus, documents)
    dev = None if valid is None else read_documents(valid, documents)
    learn: Any  # its module imports torch: after what can be wrong with the file
    if model == "elmo":
        from weft.estimators.elmo_pretraining import pretrain as learn_elmo

        learn = learn_elmo
    else:
        from weft.estimators.pretraining import pretrain as learn_checkpoint

        learn = partial(learn_checkpoint, model=model)
    record = learn(
        text, out, dev=dev, settings=given, epochs=epochs, steps=steps, minutes=minutes, resume=resume, data=corpus,
        console=console(), random_state=seed, device=device, precision=precision, threads=threads,
    )  # fmt: skip
    if record is None:
        return  # another rank writes and speaks
    if as_json:
        print_json({"model": model, "folder": str(out), **record})
    else:
        _show(model, out, record)


def _show(model: str, out: Path, record: dict[str, Any]) -> None:
    """The metrics as a table on stderr."""
    from rich.table import Table

    table = Table(
        box=None, pad_edge=False, show_header=False, title=f"{model}: {record['rows']:,} rows to measure on", title_justify="left"
    )
    for name, value in record["metrics"].items():
        low, high = record["intervals"].get(name, (None, None))
        table.add_row(NAMES[name], f"{value:.4f}", "" if low is None else f"{low:.4f} – {high:.4f} (95 %)")
    console().print(table)
    use = "--elmo" if model == "elmo" else "--from"
    length = f" --set maximum_length={record['maximum_length']}" if "maximum_length" in record else ""
    does = "reads it" if model == "elmo" else "fine-tunes it"
    console().print(f"saved to {out}; weft train DATA {use} {out}{length} --out DIR {does}", soft_wrap=True)
