"""`weft vectors train|compare|neighbors|analogy|evaluate|map`: the last four ask word vectors that are already trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weft.cli import vectors_train
from weft.cli.options import Json, check_seed
from weft.cli.output import print_json, print_table
from weft.errors import InputError

if TYPE_CHECKING:
    from weft.vectors.keyed import KeyedVectors

app = typer.Typer(
    help="Word vectors: training, every method compared, neighbours, analogies, how good they are, a map.", rich_markup_mode=None
)
File = Annotated[Path, typer.Argument(metavar="V", help="A file of vectors: .vec, .bin, .txt (GloVe), .safetensors, or fasttext's model.")]
Word = Annotated[str, typer.Argument(metavar="WORD")]
Topn = Annotated[int, typer.Option(help="How many words to name.")]
Method = Annotated[str, typer.Option(help="add: 3CosAdd, cos(v, c - a + b); multiply: 3CosMul.")]
PAGES, PICTURES = (".html", ".htm"), (".png",)


@app.callback(invoke_without_command=True)
def vectors(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


app.command("train", short_help="Train word vectors on a corpus.")(vectors_train.train)
app.command("compare", short_help="Train by every method on one corpus; measure them all.")(vectors_train.compare)


@app.command("neighbors", short_help="The words nearest to a word, or to several taken together.")
def neighbors(
    file: File,
    words: Annotated[list[str], typer.Argument(metavar="WORD...", help="One word; or several, whose unit vectors are added.")],
    negative: Annotated[list[str] | None, typer.Option(metavar="WORD", help="Taken away instead of added. May be given again.")] = None,
    topn: Topn = 10,
    json: Json = False,
) -> None:
    """The nearest words, by cosine."""
    found = _load(file).most_similar(words, negative or [], topn)
    _answer({"words": words, "negative": negative or [], "neighbors": _named(found)}, found, "cosine", json)


@app.command("analogy", short_help="What is to C as B is to A.")
def analogy(file: File, a: Word, b: Word, c: Word, method: Method = "add", topn: Topn = 10, json: Json = False) -> None:
    """A is to B as C is to what? The best words but these three.

    `weft vectors analogy V man king woman` should say queen.
    """
    found = _load(file).analogy(a, b, c, method, topn)
    _answer({"a": a, "b": b, "c": c, "method": method, "answers": _named(found)}, found, "score", json)


@app.command("evaluate", short_help="Word similarity, analogies and categories: how good the vectors are.")
def evaluate(
    file: File,
    sets: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME,…", help="Named sets (an unknown name lists them), or all. Without files of yours: all."),
    ] = None,
    similarity: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Yours: word TAB word TAB score. May be given again.")
    ] = None,
    analogies: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Yours: four words a line, `: section` above; or MSR's csv. May be given again."),
    ] = None,
    categories: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Yours: word TAB class, or csv with category and word. May be given again.")
    ] = None,
    method: Method = "add",
    among: Annotated[int | None, typer.Option(help="Ask analogies of the first so many words alone; faster for large files.")] = None,
    json: Json = False,
) -> None:
    """Measure vectors on published sets that are on this machine, and on files of yours."""
    from weft.vectors import evaluation, evaluation_sets

    names = None if sets is None else [name.strip() for some in sets for name in some.split(",") if name.strip()]
    if names and "all" in names:
        names = [*evaluation_sets.find(None), *(name for name in names if name != "all")]
    files = {"similarity": similarity or (), "analogies": analogies or (), "categories": categories or ()}
    kv = _load(file)
    metrics = evaluation.evaluate(kv, sets=names, **files, method=method, among=among)
    if json:
        print_json({"vectors": str(file), "words": len(kv), "size": kv.size, "method": method, "metrics": metrics})
        return
    print_table(["set", "measure", "value", "known", "of"], _rows(metrics), right=["value", "known", "of"])


@app.command("map", short_help="Words in two dimensions, as a page, a picture, or TensorBoard's files.")
def map_(
    file: File,
    words: Annotated[list[str] | None, typer.Argument(metavar="[WORD]...", help="Which words; without any, the first --top.")] = None,
    words_file: Annotated[Path | None, typer.Option(metavar="FILE", help="Which words, one a line; unknown ones are left out.")] = None,
    top: Annotated[int, typer.Option(help="So many words from the file's beginning, where none are named.")] = 200,
    method: Annotated[str, typer.Option(help="pca or tsne.")] = "pca",
    out: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help=".html or .png; map.html if not given. May be given again.")
    ] = None,
    projector: Annotated[Path | None, typer.Option(metavar="DIR", help="Also files for TensorBoard's projector; alone, no map.")] = None,
    seed: Annotated[int, typer.Option(help="Of t-SNE.")] = 0,
    json: Json = False,
) -> None:
    """Draw a map of words: who is near whom."""
    from weft.explain.map_page import write_page
    from weft.explain.map_picture import write_picture
    from weft.explain.projector import write_projector
    from weft.explain.word_map import word_map

    check_seed(seed)
    targets = out or ([] if projector else [Path("map.html")])
    for target in targets:
        if target.suffix.lower() not in PAGES + PICTURES:
            raise InputError("a map's name ends in .html or .png", str(target))
    kv = _load(file)
    chosen = _chosen(kv, words or [], words_file, top)
    written: list[Path] = []
    facts: dict[str, Any] = {"words": len(chosen), "method": method}
    if targets:
        drawn = word_map(kv, chosen, method=method, seed=seed)
        facts = {"words": len(drawn.words), "method": method, "explained": drawn.explained}
        for target in targets:
            (write_page if target.suffix.lower() in PAGES else write_picture)(drawn, target, file.name)
            written.append(target)
    if projector:
        written += write_projector(kv, chosen, projector)
    if json:
        print_json({**facts, "files": written})
    else:
        print(f"{facts['words']:,} words: {', '.join(map(str, written))}")


def _load(file: Path) -> KeyedVectors:
    from weft.vectors.keyed import KeyedVectors

    return KeyedVectors.load(file)


def _chosen(kv: KeyedVectors, words: list[str], words_file: Path | None, top: int) -> list[str]:
    """The words asked for, each once. One named on the command line must be known; of a file unknown ones are left out, with a count."""
    import logging

    if top < 1:
        raise InputError(f"must be at least 1, not {top}", "--top")
    kv[words]  # an error where one is unknown
    chosen = list(words)
    if words_file is not None:
        from weft.data.formats import Source, line_rows

        listed = [cells[0].strip() for _, cells in line_rows(Source(words_file)) if cells[0].strip()]
        known = [word for word in listed if kv.get(word) is not None]
        if len(known) < len(listed):
            log = logging.getLogger("weft")
            log.warning("%s: %d of %d words have no vector and were left out", words_file, len(listed) - len(known), len(listed))
        chosen += known
    return list(dict.fromkeys(chosen)) if words or words_file is not None else kv.words[:top]


def _named(found: list[tuple[str, float]]) -> list[dict[str, Any]]:
    return [{"word": word, "score": score} for word, score in found]


def _answer(facts: dict[str, Any], found: list[tuple[str, float]], column: str, json: bool) -> None:
    if json:
        print_json(facts)
    else:
        print_table(["word", column], [[word, f"{score:.4f}"] for word, score in found], right=[column])


def _rows(metrics: dict[str, Any]) -> list[list[str]]:
    """A line a set, and one a section of analogies."""

    def row(name: str, measure: str, value: float | None, known: int, of: int) -> list[str]:
        return [name, measure, "–" if value is None else f"{value:.4f}", f"{known:,}", f"{of:,}"]

    rows = [row(name, "Spearman", one["spearman"], one["known"], one["pairs"]) for name, one in metrics["similarity"].items()]
    if metrics["mean_similarity"] is not None:
        rows.append(["mean of ws353, simlex999, men", "Spearman", f"{metrics['mean_similarity']:.4f}", "", ""])
    for name, one in metrics["analogy"].items():
        rows.append(row(name, "accuracy", one["accuracy"], one["known"], one["questions"]))
        rows += [row(f"  {part}", "", its["accuracy"], its["known"], its["questions"]) for part, its in one["sections"].items() if part]
    rows += [row(name, "purity", one["purity"], one["known"], one["words"]) for name, one in metrics["categorisation"].items()]
    return rows
