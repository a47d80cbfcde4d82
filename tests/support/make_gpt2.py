"""Made tests/support/gpt2: a tiny random GPT-2 and its tokenizer as `transformers` writes them, and what it answers with them.

Two steps, as weft trains the pieces: python tests/support/make_gpt2.py train FOLDER; then, by a Python that has transformers (5.24.0 made
what is there): python tests/support/make_gpt2.py ask FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

POSITIONS, STRIDE, TOKENS = 64, 32, 24
END = "<|endoftext|>"
TEXTS = ("It was the best of times", "", "the age of wisdom,\n\nthe epoch of belief ", "Light é 東京 \x00")
PROMPTS = ("It was the", "", "the season of Light.\nit")


def train(folder: Path) -> None:
    from language_models import PARAGRAPH

    from weft.data.checkpoint_files import write_tokenizer
    from weft.data.checkpoints import GPT2, ByteLevelTokenizer
    from weft.data.subwords import BytePairTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    pieces = BytePairTokenizer.train([PARAGRAPH], maximum_size=300, lowercase=False)
    write_tokenizer(folder, ByteLevelTokenizer([*pieces.vocabulary.tokens[2:], END], pieces.merges, GPT2))


def ask(folder: Path) -> None:
    import torch
    import transformers as theirs

    tokenizer = theirs.GPT2TokenizerFast.from_pretrained(folder)
    end = tokenizer.eos_token_id
    sizes = {"n_embd": 24, "n_layer": 2, "n_head": 2, "n_positions": POSITIONS, "bos_token_id": end, "eos_token_id": end}
    torch.manual_seed(0)
    model = theirs.GPT2LMHeadModel(theirs.GPT2Config(vocab_size=len(tokenizer), **sizes)).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    (folder / "expected.json").write_text(json.dumps(answered(model, tokenizer, end)) + "\n")


def losses(model: Any, ids: list[int], window: int, stride: int) -> list[float]:
    """−log p of all but the first id, each from the first window that has it."""
    import torch

    found: list[float] = []
    for begin in range(0, len(ids) - 1, stride):
        read, targets = torch.tensor([ids[begin : begin + window]]), ids[begin + 1 : begin + window + 1]
        with torch.no_grad():
            logp = model(read).logits[0].double().log_softmax(-1)
        every = [-float(logp[place, target]) for place, target in enumerate(targets)]
        found += every[len(found) - begin :]
        if begin + window >= len(ids) - 1:
            break
    return found


def answered(model: Any, tokenizer: Any, end: int) -> dict[str, Any]:
    """Of texts their ids and −log p, each alone; of a long one, −log p by windows; what follows prompts, greedily."""
    import torch

    long = " ".join(TEXTS) * 4
    rows = [[end, *tokenizer(text).input_ids, end] for text in TEXTS]
    following = []
    for prompt in PROMPTS:
        given = torch.tensor([[end, *tokenizer(prompt).input_ids]], dtype=torch.long)
        out = model.generate(
            given, attention_mask=torch.ones_like(given), max_new_tokens=TOKENS, do_sample=False, pad_token_id=end, eos_token_id=end
        )
        following.append(out[0, given.shape[1] :].tolist())
    by_windows = losses(model, [end, *tokenizer(long).input_ids, end], POSITIONS, STRIDE)
    return {
        "texts": TEXTS, "ids": rows, "losses": [sum(losses(model, row, POSITIONS, POSITIONS)) for row in rows],
        "long": long, "window": POSITIONS, "stride": STRIDE, "by_windows": by_windows,
        "prompts": PROMPTS, "following": following,
    }  # fmt: skip


if __name__ == "__main__":
    {"train": train, "ask": ask}[sys.argv[1]](Path(sys.argv[2]))
