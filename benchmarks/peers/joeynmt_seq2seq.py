"""JoeyNMT's Transformer, timed: `python joeynmt_seq2seq.py request.json answer.json`, in the peer's own environment.

The network is JoeyNMT's, from its build_model; a training step is the body of its TrainManager's loop (its _train_step, its optimizer, its
clipping), decoding its search(). Ids are weft's: V tokens, of which 0 is padding and 1 unknown, the end V, the start V + 1; they are
renumbered to JoeyNMT's (unknown 0, padding 1, start 2, end 3), and so are the rows of the embeddings.

Request: network (tokens, layers, size, heads, inner, dropout); weights (.npz, by weft's names); precisions ("fp32", "bf16"); threads; seed;
training, or null: batches (of pairs, a source and a target, lists of ids), learning_rate, clip, smoothing; decoding, or null: batches (of
sources), maximum (tokens of a batch's answers), width, alpha.

Batches are padded before the clock runs. Seconds are pairs, by the clock and of processors, but for start-up.

Answer: startup_seconds; by precision, "training": the seconds and target tokens of each step, "decoding": the seconds of all batches
and the answers (weft's ids, without the end); loss: the mean −log p of the first batch's target tokens, without dropout, among the
tokens that weft has too; parameters; versions.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

STARTED = time.perf_counter()

import torch  # noqa: E402  # the import is what is timed
from exchange import PRECISIONS, blocks, now, padded, put, since, weights_of  # noqa: E402
from joeynmt.batch import Batch  # noqa: E402
from joeynmt.config import parse_train_args  # noqa: E402
from joeynmt.model import build_model  # noqa: E402
from joeynmt.search import search  # noqa: E402
from joeynmt.training import TrainManager  # noqa: E402
from joeynmt.vocabulary import Vocabulary  # noqa: E402
from torch import Tensor  # noqa: E402

STARTUP = time.perf_counter() - STARTED
UNKNOWN, PAD, START, END = range(4)
SYMBOLS: dict[str, Any] = {
    "unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "sep_token": None, "lang_tags": [],
    "unk_id": UNKNOWN, "pad_id": PAD, "bos_id": START, "eos_id": END, "sep_id": None,
}  # fmt: skip
CPU = torch.device("cpu")


def renumbered(tokens: int) -> list[int]:
    """JoeyNMT's number of each of weft's: of padding, unknown, the other tokens, the end, the start."""
    return [PAD, UNKNOWN, *range(4, tokens + 2), END, START]


def model_of(request: dict[str, Any]) -> Any:
    """JoeyNMT's model with weft's weights."""
    given = request["network"]
    vocabulary = Vocabulary([f"t{number}" for number in range(given["tokens"] - 2)], SimpleNamespace(**SYMBOLS))
    side = {
        "type": "transformer", "num_layers": given["layers"], "num_heads": given["heads"], "hidden_size": given["size"],
        "ff_size": given["inner"], "dropout": given["dropout"], "layer_norm": "post", "activation": "relu",
        "embeddings": {"embedding_dim": given["size"], "scale": True, "dropout": given["dropout"]},
    }  # fmt: skip
    config = {"encoder": dict(side), "decoder": dict(side), "tied_embeddings": True, "tied_softmax": True}
    model = build_model(config, vocabulary, vocabulary)
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-5  # as in weft; JoeyNMT's own is 1e-6
    weights = weights_of(request["weights"])
    with torch.no_grad():
        model.src_embed.lut.weight[renumbered(given["tokens"])] = weights["source.weight"]
    layers = {
        "encoder": {"self": "src_src_att", "self_norm": "layer_norm"},
        "decoder": {"self": "trg_trg_att", "cross": "src_trg_att", "self_norm": "x_layer_norm", "cross_norm": "dec_layer_norm"},
    }
    both = {"enter": "feed_forward.pwff_layer.0", "leave": "feed_forward.pwff_layer.3", "feed_norm": "feed_forward.layer_norm"}
    for coder, own in layers.items():
        for number, name, tensor in blocks(weights, coder):
            layer, *projection, kind = name.split(".")
            path = [{**own, **both}[layer], *(f"{'output' if part == 'out' else part}_layer" for part in projection), kind]
            put(model, f"{coder}.layers.{number}.{'.'.join(path)}", tensor)
    return model


def batch_of(sources: list[list[int]], targets: list[list[int]] | None, numbers: list[int]) -> tuple[Tensor, Tensor, Tensor | None]:
    """(source, its lengths, target with start and end), padded. Targets end with weft's end symbol."""
    source = padded([[numbers[each] for each in row] for row in sources], PAD)
    target = None if targets is None else padded([[START, *(numbers[each] for each in row)] for row in targets], PAD)
    return source, torch.tensor([len(row) for row in sources]), target


def joined(source: Tensor, lengths: Tensor, target: Tensor | None) -> Batch:
    return Batch(
        src=source, src_length=lengths, src_prompt_mask=None, trg=target, trg_prompt_mask=None, indices=torch.arange(len(source)),
        device=CPU, pad_index=PAD, eos_index=END, is_train=target is not None,
    )  # fmt: skip


def autocast(precision: str) -> dict[str, Any]:
    return {"device_type": "cpu", "enabled": precision != "fp32", "dtype": torch.bfloat16}


def trained(request: dict[str, Any], precision: str, folder: str) -> dict[str, Any]:
    """The seconds and the target tokens of each step."""
    asked = request["training"]
    model = model_of(request)
    model.loss_function = ("crossentropy", asked["smoothing"])
    settings = {
        "normalization": "tokens", "optimizer": "adam", "learning_rate": asked["learning_rate"], "clip_grad_norm": asked["clip"],
        "label_smoothing": asked["smoothing"], "batch_size": len(asked["batches"][0]), "scheduling": "decaying",  # by epoch: never here
    }  # fmt: skip
    manager = TrainManager(0, model, Path(folder), CPU, autocast=autocast(precision), train_args=parse_train_args(settings))
    numbers = renumbered(request["network"]["tokens"])
    batches = [batch_of([pair[0] for pair in batch], [pair[1] for pair in batch], numbers) for batch in asked["batches"]]
    seconds, tokens = [], []
    for ready in batches:
        started = now()
        batch = joined(*ready)
        manager._train_step(batch)
        if manager.clip_grad_fun is not None:
            manager.clip_grad_fun(parameters=model.parameters())
        manager.optimizer.step()
        model.zero_grad()
        seconds.append(since(started))
        tokens.append(batch.ntokens)
    manager.tb_writer.close()
    return {"seconds": seconds, "tokens": tokens}


def first_loss(request: dict[str, Any]) -> float:
    """The mean −log p of the first training batch's target tokens; the start symbol, which weft never gives, cannot come."""
    model = model_of(request).eval()
    pairs = request["training"]["batches"][0]
    batch = joined(*batch_of([pair[0] for pair in pairs], [pair[1] for pair in pairs], renumbered(request["network"]["tokens"])))
    with torch.inference_mode():
        logits = model._encode_decode(**vars(batch))[0]
        logits[..., START] = -torch.inf
        total = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.trg.flatten(), ignore_index=PAD, reduction="sum")
    return float(total) / batch.ntokens


def decoded(request: dict[str, Any], precision: str) -> dict[str, Any]:
    """The seconds of all batches, after one that warms up, and the answers."""
    asked = request["decoding"]
    model = model_of(request).eval()
    numbers = renumbered(request["network"]["tokens"])
    batches = [batch_of(batch, None, numbers) for batch in asked["batches"]]
    options = {"beam_size": asked["width"], "beam_alpha": asked["alpha"], "min_output_length": 0, "autocast": autocast(precision)}
    search(model, joined(*batches[0]), asked["maximum"][0], **options)
    started = now()
    found = [search(model, joined(*batch), most, **options)[0] for batch, most in zip(batches, asked["maximum"])]
    seconds = since(started)
    back = {joey: weft for weft, joey in enumerate(numbers)}
    answers = [[back[each] for each in row if each not in (PAD, END)] for batch in found for row in batch.astype(int).tolist()]
    return {"seconds": seconds, "answers": answers}


def measure(request: dict[str, Any], folder: str) -> dict[str, Any]:
    """Trains, decodes."""
    torch.set_num_threads(request["threads"])
    torch.manual_seed(request["seed"])
    logging.disable(logging.WARNING)
    wrong = set(request["precisions"]) - set(PRECISIONS)
    if wrong:
        raise ValueError(f"no precision {', '.join(sorted(wrong))}; there are {', '.join(PRECISIONS)}")
    training = {each: trained(request, each, folder) for each in request["precisions"]} if request["training"] else None
    decoding = {each: decoded(request, each) for each in request["precisions"]} if request["decoding"] else None
    return {
        "training": training,
        "decoding": decoding,
        "loss": first_loss(request) if request["training"] else None,
        "parameters": sum(parameter.numel() for parameter in model_of(request).parameters()),
    }


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="joeynmt-") as folder:
        answer = measure(request, folder)
    versions = {name: metadata.version(name) for name in ("joeynmt", "torch", "numpy")}
    Path(sys.argv[2]).write_text(json.dumps({"startup_seconds": STARTUP, "versions": versions, **answer}), encoding="utf-8")


if __name__ == "__main__":
    main()
