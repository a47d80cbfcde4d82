"""The options that commands share, so that each is spelt and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from weft.errors import InputError

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA", help="A file (.csv .tsv .jsonl .parquet .txt .conll .conllu, also .gz) or a dataset's name (weft data list)."
    ),
]
TextColumn = Annotated[str | None, typer.Option(help="Column of the text, by name or number from 1. Guessed, and said, if not given.")]
PairColumn = Annotated[str | None, typer.Option(help="Column of the second text, where two texts are compared.")]
LabelColumn = Annotated[str | None, typer.Option(help="Column of the label.")]
Column = Annotated[
    str | None,
    typer.Option(metavar="NAME[,NAME …]", help="Column of the tags, where a file has a word a line; several are learnt together."),
]
Task = Annotated[
    str | None,
    typer.Option(
        help="classification, multi-label, regression, translate, tag (a tag a word), spans, language-model. Guessed if not given."
    ),
]
Valid = Annotated[str | None, typer.Option(metavar="FILE", help="Development data; without it a tenth of DATA is split off.")]
Test = Annotated[str | None, typer.Option(metavar="FILE", help="Test data, looked at once, at the end.")]
Seed = Annotated[int, typer.Option(help="Decides the split, the initial weights and the order of examples.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Precision = Annotated[str, typer.Option(help="auto, fp32 or bf16.")]
Threads = Annotated[int | None, typer.Option(help="Processor threads; all if not given.")]
BatchSize = Annotated[int | None, typer.Option(help="Examples a batch; 1 is online, the number of examples full-batch descent.")]
BatchTokens = Annotated[int | None, typer.Option(help="Tokens a batch, padding included, instead of --batch-size.")]
Patience = Annotated[int | None, typer.Option(help="Stop after this many checks on development data without a better one.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE …", help="Settings of a model, as in: --set filters=200 dropout=0.3")
]
Vectors = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Word vectors (.vec, .bin, .txt, .safetensors) that a neural model starts from; "
        "--set vectors_mode=static keeps them, multichannel does both.",
    ),
]
Elmo = Annotated[
    str | None, typer.Option(metavar="DIR", help="An ELMo, as weft pretrain elmo made it, whose vectors stand beside the words' own.")
]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="NAME|DIR",
        help="What to fine-tune: minilm, or the folder of a public checkpoint (of BERT's kind; for raw text, a GPT-2) or of a language "
        "model of yours; tune=head freezes it.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout; what is said to people goes to stderr.")]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A model folder, as weft train --out made it.")]


def columns(
    text_column: str | None, pair_column: str | None, label_column: str | None, task: str | None, column: str | None = None
) -> dict[str, Any]:
    """Column options as the readers take them: digits are numbers."""

    def number(name: str | None) -> str | int | None:
        return int(name) if name is not None and name.isdigit() else name

    chosen = {"text_column": number(text_column), "pair_column": number(pair_column), "label_column": number(label_column), "task": task}
    return chosen if column is None else {**chosen, "column": column}


def check_seed(seed: int) -> None:
    """Raises InputError for a seed that NumPy would not take."""
    if not 0 <= seed < 2**32:
        raise InputError(f"must be from 0 to {2**32 - 1}, not {seed}", "--seed")


def settings(pairs: list[str] | None) -> dict[str, str]:
    """["filters=200"] → {"filters": "200"}. Raises InputError where there is no `=`."""
    chosen = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InputError(f"must be KEY=VALUE, not {pair!r}", "--set")
        chosen[name.replace("-", "_")] = value
    return chosen


def spread_settings(arguments: list[str]) -> list[str]:
    """`--set a=1 b=2` as the parser wants it, `--set a=1 --set b=2`."""
    spread: list[str] = []
    inside = False
    for argument in arguments:
        if argument == "--set":
            inside, after = True, "--set"
            continue
        if inside and "=" in argument and not argument.startswith("-"):
            spread += ["--set", argument]
            after = ""
            continue
        if inside and after:
            spread.append("--set")  # nothing followed it: the parser says so
        inside = False
        spread.append(argument)
    if inside and after:
        spread.append("--set")
    return spread
