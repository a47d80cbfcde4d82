"""`python ranks.py COUNT OUT`: trains every neural rung of texts, some taggers and translators, on COUNT ranks of this machine (gloo) and
writes what came of it as JSON."""

from __future__ import annotations

import json
import os
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import language_models
import taggers
import torch
import translators
from tiny import CASES as RUNGS
from tiny import corpus, network
from torch import multiprocessing, nn

from weft.estimators.translator import each_target
from weft.losses import CrossEntropy
from weft.models.classifier import Classifier
from weft.nn.dropout import Dropout
from weft.training import distributed
from weft.training.loop import TrainConfig, train

CASES: dict[str, dict[str, Any]] = {
    **{rung: {"rung": rung} for rung in RUNGS},
    "bag, sparse": {"rung": "bag", "sparse": True},
    "lstm, sparse": {"rung": "lstm", "sparse": True},
    "bag, multichannel, sparse": {"rung": "bag, multichannel", "sparse": True},
    "cnn, multichannel, sparse": {"rung": "cnn, multichannel", "sparse": True},
    "cnn, static, sparse": {"rung": "cnn, static", "sparse": True},
    "cnn, pairs": {"rung": "cnn", "kind": "pair"},
    "gru, micro-batches": {"rung": "gru", "micro_batches": 3},
    "cnn, class weights": {"rung": "cnn", "loss": CrossEntropy(class_weights=(1.0, 4.0, 0.2))},
    "transformer, layers freed, weights averaged": {
        "rung": "transformer",
        "tune": "gradual",
        "layer_decay": 2.6,
        "averaging": "exponential",
    },
    "window, batches of fewer rows than ranks": {"rung": "window", "rows": 7, "size": 2},
    "window, a rank of empty texts": {"rung": "window", "sparse": True, "rows": 6, "size": 2, "empty": True},
    "tagger of spans": {"tagger": "char-bilstm-crf, spans"},
    "tagger of two columns": {"tagger": "levels the other way, crf", "micro_batches": 2},
    "tagger, batches of fewer rows than ranks": {"tagger": "sum", "rows": 7, "size": 2},
    "translator": {"translator": "cnn-rnn", "micro_batches": 2},
    "language model, states carried": {"language": "lstm", "rows": 120, "size": 3, "micro_batches": 2},
    "translator, batches of fewer rows than ranks": {"translator": "several targets, untied", "rows": 5, "size": 3},
}


def trained(case: str) -> dict[str, Any]:
    """Six steps of momentum on unequal batches: loss terms of each step, losses of the checks, weights before and after."""
    options = dict(CASES[case])
    made, data = made_for(options)
    if options.pop("sparse", False):
        before, made.model = made.model, Classifier(replace(made.model.config, sparse=True))
        made.model.load_state_dict(before.state_dict())
    loss = options.pop("loss", None) or made.loss(data)
    losses: list[dict[str, float]] = []

    def follow(moment: Any) -> None:
        if moment.metrics is None:
            losses.append(dict(moment.losses))

    def validate(model: nn.Module) -> dict[str, float]:
        return {"loss": float(sum(parameter.double().square().sum() for parameter in model.parameters()))}

    start = weights_of(made.model)
    config = TrainConfig(steps=6, optimizer="momentum", learning_rate=0.1, clip=0.5, evaluate_every=3, **options)
    history = train(made.model, made.batches(data, shuffled=True), loss, config, validate=validate, callbacks=[follow])
    return {"losses": losses, "checks": [check["loss"] for check in history.checks], "start": start, "weights": weights_of(made.model)}


def made_for(options: dict[str, Any]) -> tuple[Any, Any]:
    """The network of a case and its data; takes what says so out of the options."""
    rows, size = options.pop("rows", 24), options.pop("size", 7)
    if "tagger" in options:
        tagger = taggers.CASES[options.pop("tagger")]
        return taggers.network(tagger, dropout=0.0, batch_size=size), taggers.corpus(tagger, count=rows)
    if "translator" in options:
        translator = translators.CASES[options.pop("translator")]
        return translators.network(translator, dropout=0.0, batch_size=size), each_target(translators.corpus(translator, count=rows))
    if "language" in options:
        data = [language_models.text(rows)]
        return language_models.network(options.pop("language"), dropout=0.0, batch_size=size, data=data), data
    rung, kind = options.pop("rung"), options.pop("kind", "classes")
    data = corpus(kind, count=rows)
    if options.pop("empty", False):
        data.texts = ["" if row % 2 else text for row, text in enumerate(data.texts)]
    return network(rung, kind, dropout=0.0, batch_size=size), data


def weights_of(model: nn.Module) -> dict[str, Any]:
    return {name: tensor.double().tolist() for name, tensor in model.state_dict().items()}  # what a chain allows is bool


class Listener(nn.Module):
    """Answers one weight per row, and keeps what its dropout did to a row of ones."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout, self.weight, self.drawn = Dropout(0.5), nn.Parameter(torch.zeros(3)), torch.zeros(0)

    def forward(self, batch: Any) -> torch.Tensor:
        self.drawn = self.dropout(torch.ones(64))
        return self.weight.expand(len(batch), 3)


def draw(seed: int) -> list[float]:
    """What dropout drew in the first step of a run of that seed."""
    made, data, model = network("cnn"), corpus(), Listener()
    train(model, made.batches(data, shuffled=True), made.loss(data), TrainConfig(steps=1, seed=seed))
    return model.drawn.tolist()


def work(rank: int, count: int, port: int, out: str) -> None:
    """What one rank does; the first one writes."""
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    with distributed.process_group(torch.device("cpu")):
        found: dict[str, Any] = {case: trained(case) for case in CASES}
        drawn = draw(0)
        found["draws"] = [
            [float(number) for number in distributed.sum_over_ranks(turn(drawn, one), torch.device("cpu")).values()] for one in range(count)
        ]
        if distributed.is_main():
            Path(out).write_text(json.dumps(found), encoding="utf-8")


def turn(drawn: list[float], one: int) -> dict[str, float]:
    """This rank's numbers where it is `one`'s turn, else zeros, so that their sum over the ranks is that one's."""
    mine = distributed.rank() == one
    return {f"{place:03d}": number if mine else 0.0 for place, number in enumerate(drawn)}


if __name__ == "__main__":
    ranks, target = int(sys.argv[1]), sys.argv[2]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    multiprocessing.spawn(work, (ranks, number, target), nprocs=ranks)
