"""A tiny random checkpoint of BERT's kind in the place of a real one: tests/support/minilm, which `write()` made."""

from __future__ import annotations

import sys
from pathlib import Path

MINILM = Path(__file__).with_name("minilm")


def write(folder: Path = MINILM) -> None:
    """Two layers of 16 over the words of tiny.py, random weights."""
    import torch
    from tiny import WORDS

    from weft.data.checkpoints import BertTokenizer
    from weft.estimators.pretrained import write_checkpoint
    from weft.models.bert import Bert, BertConfig

    tokenizer = BertTokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])
    config = BertConfig(
        vocabulary_size=tokenizer.size, hidden_size=16, layers=2, heads=2, inner=24, maximum_positions=96, separator=tokenizer.ids["[SEP]"]
    )
    torch.manual_seed(0)
    bert = Bert(config)
    for parameter in bert.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    write_checkpoint(folder, "bert", config, bert.state_dict(), tokenizer)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else MINILM)
