"""Hugging Face's GPT2LMHeadModel.generate, timed: `python gpt2_generate.py request.json answer.json`, in the peer's own environment.

The model is built from a configuration and given weft's weights; nothing is fetched. Request and answer: as generation in nanogpt.py.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from exchange import now, since, weights_of
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.utils import logging

WARM = 3
PARTS = {"ln_1": "attention_norm", "ln_2": "feed_forward_norm", "attn.c_attn": "attention.input", "attn.c_proj": "attention.output",
         "mlp.c_fc": "feed_forward.enter", "mlp.c_proj": "feed_forward.leave"}  # fmt: skip


def model_of(request: dict[str, Any]) -> Any:
    """GPT-2 with weft's weights; its linear layers are the other way round."""
    shape, weights = request["shape"], weights_of(request["weights"])
    config = GPT2Config(
        vocab_size=request["vocabulary"], n_positions=shape["block"], n_embd=shape["size"], n_layer=shape["layers"], n_head=shape["heads"],
        activation_function="gelu", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=request["end"], eos_token_id=None,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).eval()
    named = {"transformer.wte.weight": weights["embedding.weight"], "transformer.wpe.weight": weights["encoder.positions.table"]}
    named["lm_head.weight"] = weights["embedding.weight"]
    for kind in ("weight", "bias"):
        named[f"transformer.ln_f.{kind}"] = weights[f"encoder.encoder.norm.{kind}"]
        for layer in range(shape["layers"]):
            for theirs, ours in PARTS.items():
                found = weights[f"encoder.encoder.blocks.{layer}.{ours}.{kind}"]
                named[f"transformer.h.{layer}.{theirs}.{kind}"] = found.T if "." in theirs and kind == "weight" else found
    model.load_state_dict(named, strict=True)
    return model


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(request["threads"])
    logging.set_verbosity_error()
    model, prompt, tokens = model_of(request), torch.tensor([request["prompt"]]), request["tokens"]
    seen = torch.ones_like(prompt)

    def answered(count: int, **how: Any) -> list[int]:
        with torch.inference_mode():
            made = model.generate(prompt, attention_mask=seen, max_new_tokens=count, min_new_tokens=count, pad_token_id=0, **how)
        return list(made[0, prompt.shape[1] :].tolist())

    torch.manual_seed(0)
    answered(WARM, do_sample=True, temperature=0.8, top_k=50)
    started = now()
    answered(tokens, do_sample=True, temperature=0.8, top_k=50)
    seconds = since(started)
    Path(sys.argv[2]).write_text(json.dumps({"seconds": seconds, "greedy": answered(tokens, do_sample=False)}))


if __name__ == "__main__":
    main()
