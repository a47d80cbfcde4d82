"""weft generate: what follows a prompt, as it comes."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from weft.cli import options
from weft.cli.output import print_json
from weft.data.examples import RAW
from weft.errors import InputError


def generate(
    folder: options.Folder,
    prompt: Annotated[str, typer.Option(help="What to go on with; - reads it from standard input.")] = "",
    tokens: Annotated[int, typer.Option(help="So many tokens at most.")] = 200,
    samples: Annotated[int, typer.Option(help="So many answers, each drawn anew.")] = 1,
    sample: Annotated[bool, typer.Option("--sample", help="Draw each token, which is what is done unless --beam is given.")] = False,
    temperature: Annotated[float | None, typer.Option(help="Of what is drawn; 0.8 if not given, 0 takes the likeliest token.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw from the k likeliest tokens; 50 if not given.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw from the fewest tokens that reach this probability together.")] = None,
    beam: Annotated[int | None, typer.Option(help="Search for the likeliest text with so many hypotheses, instead of drawing.")] = None,
    no_repeat_ngrams: Annotated[int | None, typer.Option(help="No n tokens stand twice in an answer.")] = None,
    seed: Annotated[int | None, typer.Option(help="What is drawn; 0 if not given.")] = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = None,
    as_json: options.Json = False,
) -> None:
    """Go on with a prompt, by a language model that weft train --task language-model made, or by a public GPT-2 in its folder: text on
    stdout, as it comes."""
    drawn = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
    _check(tokens, samples, sample, beam, drawn)
    from weft.estimators.loading import load

    estimator = load(folder, device=device, precision=precision, threads=threads)
    if estimator.task_ not in RAW:
        raise InputError(f"does {estimator.task_}; weft predict {folder} FILE asks it", str(folder))
    text = sys.stdin.read() if prompt == "-" else prompt
    asked = {"search": _search(beam, drawn), "tokens": tokens, "limits": {"no_repeat_ngrams": no_repeat_ngrams or 0}}
    if as_json:
        answers = [
            {"text": found.text, "tokens": len(found.tokens), "log_probability": found.log_probability, "finished": found.finished}
            for found, *_ in estimator.continuations([text] * samples, **asked)
        ]
        print_json({"model": estimator.model, "folder": str(folder), "prompt": text, "answers": answers})
        return
    if samples == 1:
        _say(text)
        estimator.generate(text, **asked, stream=_say)
        _say("\n")
        return
    for number, (found, *_) in enumerate(estimator.continuations([text] * samples, **asked), 1):
        _say(f"{'' if number == 1 else chr(10)}--- {number}\n{text}{found.text}\n")


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _check(tokens: int, samples: int, sample: bool, beam: int | None, drawn: dict[str, Any]) -> None:
    """Raises InputError for options that cannot be, or do not go together."""
    for option, value in (("--tokens", tokens), ("--samples", samples), ("--beam", beam)):
        if value is not None and value < 1:
            raise InputError(f"must be at least 1, not {value}", option)
    if beam is None:
        return
    if wrong := next((name for name, value in drawn.items() if value is not None), None):
        raise InputError("is for texts that are drawn, and --beam searches", f"--{wrong.replace('_', '-')}")
    if sample or samples > 1:
        raise InputError("draws, and --beam searches: leave one of them out", "--sample" if sample else "--samples")


def _search(beam: int | None, drawn: dict[str, Any]) -> Any:
    """The search that was asked for."""
    from weft.generation.search import Beam, Greedy, Sample

    if beam is not None:
        return Greedy() if beam == 1 else Beam(beam)
    given = {name: value for name, value in drawn.items() if value is not None}
    if not given.keys() & {"top_k", "top_p"}:
        given["top_k"] = 50
    return Sample(**{"temperature": 0.8, **given})
