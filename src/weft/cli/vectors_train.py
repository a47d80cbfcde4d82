"""`weft vectors train` and `weft vectors compare`: from a corpus to vectors, by one method or by all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from weft.cli import options
from weft.cli.output import console, print_json, print_table
from weft.errors import InputError

Corpus = Annotated[
    str, typer.Argument(metavar="CORPUS", help="A text file (.gz too) or a folder of them, a sentence a line; .conllu for syntax.")
]
Dim = Annotated[int | None, typer.Option(help="Numbers a vector: 100; 50 for ngram and ranking.")]
Window = Annotated[str | None, typer.Option(help="Words on either side, or `all` for sets without order: 5; 10 for svd, 15 for glove.")]
Negative = Annotated[int | None, typer.Option(help="Wrong words for a right one under --loss ns: 5.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the corpus: 5; 25 for glove.")]
MinCount = Annotated[int, typer.Option(help="Rarer words are left out.")]
Sample = Annotated[float | None, typer.Option(help="Subsampling of frequent words: t, 0 for none: 1e-3; 1e-4 for svd.")]
Seed = Annotated[int, typer.Option(help="Decides the first vectors and every draw.")]
Threads = Annotated[int | None, typer.Option(help="Processor threads; all if not given. One is exact and repeatable.")]
Tokenizer = Annotated[str, typer.Option(help="whitespace, letters or words.")]
Lowercase = Annotated[bool, typer.Option("--lowercase", help="Lower-case every word.")]


Settings = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE …", help="The method's own, as in: --set min_n=2 max_n=5")]


def train(
    corpus: Corpus,
    out: Annotated[Path, typer.Option(metavar="FILE", help="To write: .vec, .txt, .bin or .safetensors (keeps subwords, counts).")],
    method: Annotated[str, typer.Option(help="skipgram, cbow, fasttext, fasttext-cbow, glove, svd, ngram or ranking.")] = "skipgram",
    loss: Annotated[
        str | None, typer.Option(help="ns (negative sampling), hs (hierarchical softmax) or softmax (the full one: small vocabularies).")
    ] = None,
    dim: Dim = None,
    window: Window = None,
    negative: Negative = None,
    epochs: Epochs = None,
    min_count: MinCount = 5,
    sample: Sample = None,
    rate: Annotated[float | None, typer.Option(help="The learning rate at the start; the method's own if not given.")] = None,
    threads: Threads = None,
    seed: Seed = 1,
    tokenizer: Tokenizer = "whitespace",
    lowercase: Lowercase = False,
    contexts: Annotated[str, typer.Option(help="window, or syntax: heads and relations of a CoNLL-U file (skipgram, svd).")] = "window",
    set_: Settings = None,
    as_json: options.Json = False,
) -> None:
    """Train word vectors on CORPUS.

    `torchrun --nproc-per-node 2 -m weft vectors train …` shares the corpus among processes. --set KEY=VALUE …: a method's own
    settings, such as min_n, max_n, buckets (fasttext), x_max (glove), shift, power (svd).
    """
    from weft.vectors.formats import form_of
    from weft.vectors.methods import WordVectors

    options.check_seed(seed)
    form_of(out, None)  # what cannot be written is said before hours of training
    if out.is_dir():
        raise InputError("is a folder; a file's name was expected", str(out))
    model = WordVectors(
        method, loss=loss, dim=dim, window=window, negative=negative, epochs=epochs, min_count=min_count, sample=sample, rate=rate,
        threads=threads, seed=seed, tokenizer=tokenizer, lowercase=lowercase, contexts=contexts, settings=options.settings(set_),
    )  # fmt: skip
    with _bar(method) as watch:
        model.fit(corpus, watch)
    if os.environ.get("RANK", "0") != "0":
        return  # another process writes and speaks
    model.vectors_.save(out)
    record = summary(model)
    if as_json:
        print_json({"file": str(out), "method": method, **record})
        return
    console().print(wording(record), soft_wrap=True, markup=False)
    console().print(
        f"saved to {out}; weft vectors neighbors {out} WORD asks, weft vectors evaluate {out} measures", soft_wrap=True, markup=False
    )


def compare(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS", help="A text file (.gz too) or a folder of them, a sentence a line.")],
    methods: Annotated[str, typer.Option(help="Names with commas between; skipgram+hs is skip-gram with hierarchical softmax.")] = "",
    dim: Dim = None,
    window: Window = None,
    negative: Negative = None,
    epochs: Epochs = None,
    min_count: MinCount = 5,
    sample: Sample = None,
    threads: Threads = None,
    seed: Seed = 1,
    seeds: Annotated[int, typer.Option(help="Trainings of each method, from --seed on.")] = 1,
    tokenizer: Tokenizer = "whitespace",
    lowercase: Lowercase = False,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="A folder for every method's vectors and results.json.")] = None,
    as_json: options.Json = False,
) -> None:
    """Train vectors by every method on the same corpus and measure them on the same benchmarks: one table.

    An option that is given holds for all methods; what is not given is each method's own.
    """
    from weft.compare.word_vectors import COMPARED, compare_methods, rows

    options.check_seed(seed)
    if seeds < 1:
        raise InputError(f"must be at least 1, not {seeds}", "--seeds")
    options.check_seed(seed + seeds - 1)
    given = {"dim": dim, "window": window, "negative": negative, "epochs": epochs, "sample": sample, "threads": threads}
    names = [name.strip() for name in methods.split(",") if name.strip()] or list(COMPARED)
    reading = {"tokenizer": tokenizer, "lowercase": lowercase, "minimum_count": min_count}
    first = os.environ.get("RANK", "0") == "0"
    results = compare_methods(corpus, names, given, seeds=range(seed, seed + seeds), reading=reading, out=out if first else None, bar=_bar)
    if not first:
        return  # another process writes and speaks
    if as_json:
        print_json(results)
    else:
        columns, cells = rows(results)
        print_table(columns, cells, right=columns[1:])


def summary(model: Any) -> dict[str, Any]:
    """What a training was, as --json says it."""
    read = model.corpus_
    return {
        "words": len(model.vectors_), "size": model.vectors_.size, "tokens": int(read.counts.sum()), "seed": model.seed,
        "seconds": {name: round(value, 3) for name, value in model.seconds_.items()},
        "metrics": {"losses": model.losses_} | ({"loss": model.losses_[-1]} if model.losses_ else {}),
    }  # fmt: skip


def wording(record: dict[str, Any]) -> str:
    """The same for people, on one line."""
    seconds = record["seconds"]
    loss = f", loss {record['metrics']['loss']:.4f}" if record["metrics"]["losses"] else ""
    kernels = f", kernels {seconds['compile']:.1f} s" if seconds["compile"] >= 0.1 else ""
    times = f"reading {seconds['read']:.1f} s{kernels}, training {seconds['train']:.1f} s"
    return f"{record['words']:,} words, vectors of {record['size']}{loss}; {times}"


@contextmanager
def _bar(title: str) -> Iterator[Any]:
    """A progress bar on a terminal: the share that is done, words a second, the time left. None elsewhere."""
    screen = console()
    if not screen.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    title_column, note = TextColumn("{task.description}"), TextColumn("{task.fields[note]}")
    with Progress(title_column, BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), note, console=screen, transient=True) as progress:
        task = progress.add_task(title, total=1.0, note="")
        yield lambda done, speed: progress.update(task, completed=done, note=f"{speed / 1e6:.2f} M words/s")
