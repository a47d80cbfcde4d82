"""nanoGPT, timed: `python nanogpt.py request.json answer.json`, in the peer's own environment.

Its model.py (or what stands in for it) is what request["model"] names; the loop is that of its train.py, in its CPU setting: random blocks
with replacement, AdamW (0.9, 0.99), decay 0.1, a gradient of norm 1 at most, a hundred steps of warming up, a cosine to a tenth.

Request: model; what; shape (layers, heads, size, block, batch); vocabulary; threads; and
    training: ids, steps; bf16, compile: whether to try them. Answer: seconds, by way (fp32, bf16, compiled), pairs of the clock's and the
        processors'; compiling: what the first compiled step took longer; parameters.
    shakespeare: ids, held, steps, every, rate. Answer: curve, [step, seconds of training, loss over all of held in blocks side by side].
    generation: weights (.npz, by weft's names), prompt, tokens, end. Answer: seconds, of drawn tokens; greedy, the likeliest ones.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from exchange import now, since, weights_of
from torch import Tensor

WARM = 3
BETAS, DECAY, CLIP, WARMUP = (0.9, 0.99), 0.1, 1.0, 100


def model_of(request: dict[str, Any], bias: bool = False) -> Any:
    """The network as nanoGPT draws it. bias=False is train.py's own choice."""
    specification = importlib.util.spec_from_file_location("nanogpt_model", request["model"])
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["nanogpt_model"] = module
    specification.loader.exec_module(module)
    shape = request["shape"]
    torch.manual_seed(1337)
    with contextlib.redirect_stdout(io.StringIO()):
        return module.GPT(
            module.GPTConfig(
                n_layer=shape["layers"], n_head=shape["heads"], n_embd=shape["size"], block_size=shape["block"],
                vocab_size=request["vocabulary"], dropout=0.0, bias=bias,
            )
        )  # fmt: skip


def optimizer_of(model: Any, rate: float) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        return model.configure_optimizers(DECAY, rate, BETAS, "cpu")


def batch_of(ids: np.ndarray, block: int, batch: int) -> tuple[Tensor, Tensor]:
    starts = torch.randint(len(ids) - block, (batch,))
    x = torch.stack([torch.from_numpy(ids[i : i + block].astype(np.int64)) for i in starts])
    y = torch.stack([torch.from_numpy(ids[i + 1 : i + 1 + block].astype(np.int64)) for i in starts])
    return x, y


def step(model: Any, optimizer: Any, x: Tensor, y: Tensor, half: bool = False) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        _, loss = model(x, y)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def training(request: dict[str, Any]) -> dict[str, Any]:
    ids, shape = np.array(request["ids"], np.uint16), request["shape"]
    ways = {"fp32": (False, False), **({"bf16": (True, False)} if request["bf16"] else {})}
    if request["compile"]:
        ways |= {"compiled": (False, True), **({"compiled, bf16": (True, True)} if request["bf16"] else {})}
    seconds: dict[str, Any] = {}
    compiling = parameters = 0.0
    for name, (half, compiled) in ways.items():
        drawn = model_of(request)
        parameters, optimizer = sum(each.numel() for each in drawn.parameters()), optimizer_of(drawn, 1e-3)
        model = torch.compile(drawn) if compiled else drawn
        began = time.perf_counter()
        for _ in range(WARM):
            step(model, optimizer, *batch_of(ids, shape["block"], shape["batch"]), half)
        compiling = max(compiling, time.perf_counter() - began) if compiled else compiling
        started = now()
        for _ in range(request["steps"]):
            step(model, optimizer, *batch_of(ids, shape["block"], shape["batch"]), half)
        seconds[name] = since(started)
    return {"seconds": seconds, "compiling": compiling, "parameters": parameters}


def shakespeare(request: dict[str, Any]) -> dict[str, Any]:
    ids, held = np.array(request["ids"], np.uint16), np.array(request["held"], np.int64)
    shape, steps, rate = request["shape"], request["steps"], request["rate"]
    model = model_of(request)
    optimizer = optimizer_of(model, rate)
    curve, spent = [], 0.0
    for number in range(steps):
        started = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = rate_at(number, steps, rate)
        step(model, optimizer, *batch_of(ids, shape["block"], shape["batch"]))
        spent += time.perf_counter() - started
        if (number + 1) % request["every"] == 0:
            curve.append([number + 1, spent, loss_of(model, held, shape["block"])])
    return {"curve": curve}


def rate_at(number: int, steps: int, rate: float) -> float:
    warmup = min(WARMUP, steps // 2)
    if number < warmup:
        return rate * (number + 1) / (warmup + 1)
    share = (number - warmup) / max(1, steps - warmup)
    return rate / 10 + 0.5 * (1 + math.cos(math.pi * share)) * (rate - rate / 10)


def loss_of(model: Any, held: np.ndarray, block: int) -> float:
    """Over all of a text, in blocks side by side, the last one shorter."""
    model.eval()
    total, targets = 0.0, len(held) - 1
    with torch.no_grad():
        for begin in range(0, targets, block):
            row = torch.from_numpy(held[begin : begin + block + 1])[None]
            total += float(model(row[:, :-1], row[:, 1:])[1]) * (row.shape[1] - 1)
    model.train()
    return total / targets


def generation(request: dict[str, Any]) -> dict[str, Any]:
    model = model_of(request, bias=True).eval()
    put(model, weights_of(request["weights"]), request["shape"]["layers"])
    prompt = torch.tensor([request["prompt"]])
    tokens = request["tokens"]
    torch.manual_seed(0)
    model.generate(prompt, WARM, temperature=0.8, top_k=50)
    started = now()
    model.generate(prompt, tokens, temperature=0.8, top_k=50)
    seconds = since(started)
    return {"seconds": seconds, "greedy": model.generate(prompt, tokens, top_k=1)[0, prompt.shape[1] :].tolist()}


def put(model: Any, weights: dict[str, Tensor], layers: int) -> None:
    """weft's weights in the places of GPT-2's."""
    named = {
        "transformer.wte.weight": "embedding.weight",
        "lm_head.weight": "embedding.weight",
        "transformer.wpe.weight": "encoder.positions.table",
    }
    named |= {f"transformer.ln_f.{kind}": f"encoder.encoder.norm.{kind}" for kind in ("weight", "bias")}
    parts = {"ln_1": "attention_norm", "ln_2": "feed_forward_norm", "attn.c_attn": "attention.input", "attn.c_proj": "attention.output",
             "mlp.c_fc": "feed_forward.enter", "mlp.c_proj": "feed_forward.leave"}  # fmt: skip
    for layer in range(layers):
        for theirs, ours in parts.items():
            for kind in ("weight", "bias"):
                named[f"transformer.h.{layer}.{theirs}.{kind}"] = f"encoder.encoder.blocks.{layer}.{ours}.{kind}"
    model.load_state_dict({theirs: weights[ours] for theirs, ours in named.items()}, strict=True)


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(request["threads"])
    does = {"training": training, "shakespeare": shakespeare, "generation": generation}
    Path(sys.argv[2]).write_text(json.dumps(does[request["what"]](request)))


if __name__ == "__main__":
    main()
