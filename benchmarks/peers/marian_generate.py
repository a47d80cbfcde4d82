"""Hugging Face's MarianMTModel.generate, timed: `python marian_generate.py request.json answer.json`, in the peer's own environment.

The model is built from a configuration; nothing is fetched. Marian's Transformer is post-norm, its embeddings one table scaled by √size,
so weft's weights fit it; its positions are weft's interleaved sines and cosines.

Request: network (tokens, layers, size, heads, inner); weights (.npz, by weft's names); positions (.npz: table (T, size)); precisions;
threads; decoding: batches (of sources, lists of ids), maximum (tokens of a batch's answers), width, length_penalty; training, or null:
batches (of pairs, a source and a target), of which the first is looked at.

Batches are padded before the clock runs. early_stopping=True: a source is done with as many complete hypotheses as the beam is wide, as in
weft; generate() is slower without. Seconds are pairs, by the clock and of processors, but for start-up.

Answer: startup_seconds; decoding, by precision: the seconds of all batches, after one that warms up, and the answers (ids without the
end); loss, or null: the mean −log p of the first pairs' target tokens, among the tokens that weft has too; parameters; versions.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402  # the import is what is timed
from exchange import PRECISIONS, blocks, now, padded, put, since, weights_of  # noqa: E402
from transformers import MarianConfig, MarianMTModel  # noqa: E402
from transformers.utils import logging  # noqa: E402

STARTUP = time.perf_counter() - STARTED
PAD = 0
NEVER = -1e9  # a logit


def model_of(request: dict[str, Any]) -> Any:
    """Marian's model with weft's weights; padding and the start symbol never come."""
    given = request["network"]
    sides: dict[str, int] = {}
    for side in ("encoder", "decoder"):
        sides |= {f"{side}_layers": given["layers"], f"{side}_attention_heads": given["heads"], f"{side}_ffn_dim": given["inner"]}
    weights, positions = weights_of(request["weights"]), weights_of(request["positions"])["table"]
    end, start = given["tokens"], given["tokens"] + 1
    config = MarianConfig(
        vocab_size=start + 1, d_model=given["size"], activation_function="relu", dropout=0.0, scale_embedding=True,
        max_position_embeddings=len(positions), share_encoder_decoder_embeddings=True, tie_word_embeddings=True,
        pad_token_id=PAD, eos_token_id=end, forced_eos_token_id=None, decoder_start_token_id=start, **sides,
    )  # fmt: skip
    model = MarianMTModel(config).eval()
    put(model, "model.shared.weight", weights["source.weight"])
    layers = {"self": "self_attn", "cross": "encoder_attn", "enter": "fc1", "leave": "fc2", "self_norm": "self_attn_layer_norm",
              "cross_norm": "encoder_attn_layer_norm", "feed_norm": "final_layer_norm"}  # fmt: skip
    for side in ("encoder", "decoder"):
        put(model, f"model.{side}.embed_positions.weight", positions)
        for number, name, tensor in blocks(weights, side):
            layer, *projection, kind = name.split(".")
            put(model, ".".join([f"model.{side}.layers.{number}", layers[layer], *(f"{part}_proj" for part in projection), kind]), tensor)
    with torch.no_grad():
        model.final_logits_bias.zero_()
        model.final_logits_bias[0, [PAD, start]] = NEVER
        if not torch.equal(model.lm_head.weight, weights["source.weight"]):
            raise ValueError("Marian's output weights are not its embeddings")
    return model


def first_loss(request: dict[str, Any]) -> float:
    """The mean −log p of the first training batch's target tokens."""
    model, pairs, start = model_of(request), request["training"]["batches"][0], request["network"]["tokens"] + 1
    model.final_logits_bias[0, PAD] = 0.0  # weft's softmax has padding, and its searches forbid it
    source, target = (padded([pair[place] for pair in pairs], PAD) for place in range(2))
    read = torch.cat([torch.full_like(target[:, :1], start), target[:, :-1]], 1)
    with torch.inference_mode():
        logits = model(input_ids=source, attention_mask=(source != PAD).long(), decoder_input_ids=read).logits
    return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=PAD))


def decoded(request: dict[str, Any], precision: str) -> dict[str, Any]:
    """The seconds of all batches, after one that warms up, and the answers."""
    asked = request["decoding"]
    model = model_of(request).to(PRECISIONS[precision])
    batches = [padded(batch, PAD) for batch in asked["batches"]]
    options = {"num_beams": asked["width"], "length_penalty": asked["length_penalty"], "early_stopping": True, "do_sample": False}

    def answered(ids: torch.Tensor, most: int) -> list[list[int]]:
        return model.generate(ids, attention_mask=(ids != PAD).long(), max_new_tokens=most, **options).tolist()

    with torch.inference_mode():
        answered(batches[0], asked["maximum"][0])
        started = now()
        found = [answered(batch, most) for batch, most in zip(batches, asked["maximum"])]
        seconds = since(started)
    symbols = {PAD, request["network"]["tokens"], request["network"]["tokens"] + 1}
    answers = [[each for each in row if each not in symbols] for batch in found for row in batch]
    return {"seconds": seconds, "answers": answers}


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(request["threads"])
    logging.set_verbosity_error()
    answer = {
        "startup_seconds": STARTUP,
        "decoding": {each: decoded(request, each) for each in request["precisions"]},
        "loss": first_loss(request) if request["training"] else None,
        "parameters": sum(parameter.numel() for parameter in model_of(request).parameters() if parameter.requires_grad),
        "versions": {name: metadata.version(name) for name in ("transformers", "torch", "numpy")},
    }
    Path(sys.argv[2]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
