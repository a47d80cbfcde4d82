"""`weft explain`: what is in a trained model, seen: single neurons, alignments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weft.cli import options
from weft.cli.output import print_json, print_table
from weft.data.examples import TAGGED
from weft.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from weft.estimators.decoding import Alignment
    from weft.explain.neurons import Neuron, States

EACH = "each"


class ByModel(typer.core.TyperGroup):
    """`weft explain DIR TEXT` is `weft explain alignment DIR TEXT`: a folder is no command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and Path(args[0]).is_dir():
            args = ["alignment", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(help="What is in a trained model, seen.", rich_markup_mode=None, cls=ByModel)


@app.callback(invoke_without_command=True)
def explain(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command("neurons", short_help="Single neurons of a recurrent model, coloured over texts.")
def neurons(
    folder: options.Folder,
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE|TEXT|-]...", help="Texts to read: as they stand, files as weft predict reads them, or - for stdin."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page, .html.")] = Path("neurons.html"),
    numbers: Annotated[
        str | None, typer.Option("--neurons", metavar="N[,N …]", help="Which neurons, from 0. Else chosen by --top.")
    ] = None,
    top: Annotated[int, typer.Option(help="So many neurons: those that follow --by best, else those that vary most.")] = 12,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="TAG",
            help="What neurons should follow: quotes, brackets, parentheses, braces, url; for taggers also a tag, a type of "
            "span, or each (the best neuron for every tag). Tags are the model's own.",
        ),
    ] = None,
    layer: Annotated[int | None, typer.Option(help="Which layer, from 1, the lowest; the top one if not given.")] = None,
    cell: Annotated[bool, typer.Option("--cell", help="The memory tanh(c) of an LSTM instead of its state h.")] = False,
    text_column: options.TextColumn = None,
    json: options.Json = False,
) -> None:
    """Colour texts by single neurons of a recurrent model: one page, blue for −1, red for +1 (Karpathy et al., 2016)."""
    from weft.estimators.loading import load
    from weft.explain.neurons import chance, chosen, stacked, states_of, with_notes
    from weft.explain.neurons_page import write_page

    if out.suffix.lower() not in (".html", ".htm"):
        raise InputError("a page's name ends in .html", str(out))
    wanted = _numbers(numbers)
    estimator = load(folder)
    given = _texts(estimator, texts or ["-"], text_column)
    found = [states_of(estimator, text, layer=layer, cell=cell) for text in given]
    tags = _tags(estimator, given, found) if estimator.task_ in TAGGED else None
    if tags is not None:
        found = [with_notes(states, one) for states, one in zip(found, tags, strict=True)]
    masks = {} if by is None else _masks(by, found, tags)
    picked = chosen(found, numbers=wanted, top=top, masks=masks)
    chances = {name: chance(stacked(found), mask) for name, mask in masks.items()}
    write_page(found, picked, out, title=f"Neurons of {folder.resolve().name}", masks=masks, chances=chances)
    _say(picked, chances, found, out, json)


@app.command("alignment", short_help="What attention looks at: a translator's at each word of a target, a classifier's in each pass.")
def alignment(
    folder: options.Folder,
    source: Annotated[str, typer.Argument(metavar="TEXT", help="The source, or the text to classify.")],
    target: Annotated[
        str | None, typer.Option(metavar="TEXT", help="A translator's target; what the model makes of the source, if not given.")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page, .html, or a picture, .png.")] = Path("alignment.html"),
    json: options.Json = False,
) -> None:
    """Show attention as a grid for every map: a translator's between a source and a target, all heads of a Transformer; a classifier's
    over a text, a row a pass, where its pooling is attentive or in passes."""
    from weft.estimators.loading import load
    from weft.estimators.rungs import PAIRS
    from weft.explain.alignment_page import named_maps, write_page

    kind = out.suffix.lower()
    if kind not in (".html", ".htm", ".png"):
        raise InputError("the name of a page ends in .html, that of a picture in .png", str(out))
    estimator = load(folder)
    found, made = _aligned(estimator, folder, source, target)
    maps, title = named_maps(found.maps), f"{source.strip()} → {made}"
    if kind == ".png":
        from weft.explain.alignment_picture import write_picture

        write_picture(found.source, found.target, maps, out, title=title)
    else:
        rows = {} if estimator.task_ in PAIRS else {"rows": "the passes of attention over the text"}
        write_page(found.source, found.target, maps, out, title=title, **rows)
    if json:
        shown = [{"name": one.name, "weights": one.weights.round(4).tolist()} for one in maps]
        print_json({"source": found.source, "target": found.target, "maps": shown, "file": str(out)})
        return
    print(f"{len(maps)} map{'' if len(maps) == 1 else 's'} of {len(found.target)} by {len(found.source)} tokens: {out}")


def _aligned(estimator: Any, folder: Path, source: str, target: str | None) -> tuple[Alignment, Any]:
    """The alignment, and what it is an alignment with: the target, or what a classifier says of the text."""
    from weft.estimators.rungs import PAIRS

    if estimator.task_ in TAGGED:
        raise InputError(
            f"does {estimator.task_}; an alignment is of translators and classifiers, weft explain neurons of taggers", str(folder)
        )
    if estimator.task_ in PAIRS:
        made = target if target is not None or not source.strip() else estimator.predict([source])[0]
        return estimator.align(source, made), made
    if target is not None:
        raise InputError(f"is a translator's; this model does {estimator.task_}", "--target")
    found = estimator.align(source)
    label = estimator.predict([(source, source) if estimator.pair_ else source])[0]
    return found, ", ".join(label) if isinstance(label, tuple) else label


def _numbers(given: str | None) -> list[int] | None:
    """ "3,17" → [3, 17]."""
    if given is None:
        return None
    parts = [part.strip() for part in given.split(",") if part.strip()]
    if not parts or (wrong := next((part for part in parts if not part.isdecimal()), None)):
        raise InputError(f"are numbers from 0 with commas between, not {wrong if parts else given!r}", "--neurons")
    return [int(part) for part in parts]


def _texts(estimator: Any, given: list[str], text_column: str | None) -> list[Any]:
    """What to read: the words of files that there are, everything else as it stands; empty ones left out, aloud."""
    import logging

    from weft.data.opening import open_as_trained
    from weft.estimators.training import texts_of

    texts: list[Any] = []
    for one in given:
        if one == "-" or Path(one[:4000]).is_file() or (len(one.split()) == 1 and Path(one).suffix in (".txt", ".csv", ".tsv", ".conll")):
            chosen = options.columns(text_column, None, None, estimator.task_ if estimator.task_ in TAGGED else None)
            texts += texts_of(open_as_trained(one, estimator.columns_, **chosen))
        else:
            texts.append(one)
    texts = [text[0] if isinstance(text, tuple) else text for text in texts]
    full = [text for text in texts if (text.strip() if isinstance(text, str) else text)]
    if not full:
        raise InputError("there is nothing to read: no text with words in it", "texts")
    if len(full) < len(texts):
        logging.getLogger("weft").warning("%d of %d texts are empty and were left out", len(texts) - len(full), len(texts))
    return full


def _tags(estimator: Any, texts: list[Any], found: list[States]) -> list[list[str]]:
    """The first column's tags, as the model gives them, one a piece."""
    tags = estimator.predict(texts)
    tags = tags if isinstance(tags, list) else next(iter(tags.values()))
    return [list(one[: len(states)]) for one, states in zip(tags, found, strict=True)]


def _masks(by: str, found: list[States], tags: list[list[str]] | None) -> dict[str, np.ndarray]:
    """What neurons should follow, by name."""
    from weft.errors import meant
    from weft.explain.neurons import INSIDE, inside_masks, tag_masks

    there = {} if tags is None else tag_masks(tags)
    if by == EACH and there:
        return there
    if by in there:
        return {by: there[by]}
    if by in INSIDE:
        return {f"inside {by}": inside_masks(found, by)}
    known = [*there, *INSIDE, *([EACH] if there else [])]
    raise InputError(
        f"{by!r} is nothing that some of these words are and others are not{meant(by, known)}; there are {', '.join(known)}", "--by"
    )


def _say(picked: list[Neuron], chances: dict[str, float], found: list[States], out: Path, json: bool) -> None:
    pieces = sum(map(len, found))
    if json:
        rows = [
            {"number": one.number, "name": one.name, "variance": one.variance, "correlation": one.correlation, "by": one.asked or None,
             "by chance": chances.get(one.asked)}
            for one in picked
        ]  # fmt: skip
        print_json(
            {"what": found[0].what, "size": len(found[0].names), "texts": len(found), "pieces": pieces, "neurons": rows, "file": str(out)}
        )
        return
    rows_ = [
        [
            one.name,
            f"{one.variance:.3f}",
            *([f"{one.correlation:+.3f}", one.asked, f"{chances[one.asked]:.2f}"] if one.correlation is not None else []),
        ]
        for one in picked
    ]
    columns = ["neuron", "variance", *(["r", "with", "by chance"] if chances else [])]
    print_table(columns, rows_, right=["variance", "r", "by chance"])
    print(f"{found[0].what}, {pieces:,} pieces of {len(found):,} texts: {out}")
