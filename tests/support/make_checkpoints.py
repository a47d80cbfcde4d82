"""Made tests/models/data/checkpoints: a tiny random checkpoint of each family, and what `transformers` answers with it.

Run by a Python that has transformers (5.24.0 made what is there): python tests/support/make_checkpoints.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers as theirs

SEPARATOR, VOCABULARY = 4, 30
SIZES = {"num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 12, "max_position_embeddings": 18}


def made() -> dict[str, tuple[type, Any]]:
    """The class and the config of each."""
    bert = {"vocab_size": VOCABULARY, **SIZES}
    gpt = {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 16, "bos_token_id": 4, "eos_token_id": 4}
    distil = {"dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 12, "max_position_embeddings": 16}
    return {
        "bert": (theirs.BertModel, theirs.BertConfig(**bert)),
        "bert-other": (
            theirs.BertModel,
            theirs.BertConfig(**{**bert, "num_hidden_layers": 3}, hidden_act="gelu_new", layer_norm_eps=1e-2, type_vocab_size=3),
        ),
        "bert-head": (theirs.BertForMaskedLM, theirs.BertConfig(**bert)),
        "roberta": (theirs.RobertaModel, theirs.RobertaConfig(**bert, type_vocab_size=1, pad_token_id=1)),
        "gpt2": (theirs.GPT2LMHeadModel, theirs.GPT2Config(vocab_size=VOCABULARY, **gpt)),
        "distilbert": (theirs.DistilBertModel, theirs.DistilBertConfig(vocab_size=VOCABULARY, **distil)),
    }


def answered(name: str, model: Any) -> dict[str, Any]:
    """Three rows, the first of them a pair, and the hidden states over them."""
    mask = torch.arange(9) < torch.tensor([9, 6, 1])[:, None]
    ids = torch.randint(5, VOCABULARY, (3, 9), generator=torch.Generator().manual_seed(1))
    ids = ids.masked_fill(~mask, 1 if name == "roberta" else 0)
    ids[0, 4] = ids[0, 8] = SEPARATOR
    ends = (ids == SEPARATOR).long()
    segments = {"token_type_ids": (ends.cumsum(1) - ends).clamp(max=1)} if name.startswith("bert") else {}
    encoder = getattr(model, "bert", getattr(model, "transformer", model)) if name in ("bert-head", "gpt2") else model
    with torch.no_grad():
        hidden = encoder(ids, attention_mask=mask.long(), **segments).last_hidden_state
    return {"ids": ids.tolist(), "mask": mask.tolist(), "hidden": hidden.tolist()}


def main(folder: Path) -> None:
    torch.manual_seed(0)
    for name, (kind, config) in made().items():
        model = kind(config).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(folder / name)
        (folder / name / "generation_config.json").unlink(missing_ok=True)
        (folder / name / "expected.json").write_text(json.dumps(answered(name, model)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
