"""`weft models`: the rungs of the ladder."""

from __future__ import annotations

from weft.cli.options import Json
from weft.cli.output import print_json, print_table
from weft.estimators.rungs import LADDERS


def models(json: Json = False) -> None:
    """List the models: task, paper, what each is.

    Those of texts, of tagged words, of pairs of texts; each ladder from the simplest to the Transformer, as `weft compare` climbs it.
    """
    every = [rung for ladder in LADDERS for rung in ladder.values()]
    if json:
        names = ("name", "engine", "tasks", "paper", "line", "settings")
        print_json({"models": [{name: getattr(rung, name) for name in names} for rung in every]})
        return
    rows = [[rung.name, ", ".join(rung.tasks), rung.line, rung.paper] for rung in every]
    print_table(["model", "task", "what it is", "paper"], rows)
