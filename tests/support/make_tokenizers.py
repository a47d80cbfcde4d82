"""Made tests/data/checkpoints: small vocabularies in the files of three families, and what `transformers` makes of a thousand strings.

Two steps, as weft trains the pieces and transformers reads them:
python tests/support/make_tokenizers.py train FOLDER; then, with transformers (5.24.0): python tests/support/make_tokenizers.py ask FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from strings import digests, strings

COUNT = 1000


def train(folder: Path) -> None:
    from weft.data.checkpoint_files import write_tokenizer
    from weft.data.checkpoints import GPT2, BertTokenizer, ByteLevelTokenizer
    from weft.data.subwords import BytePairTokenizer, WordPieceTokenizer

    texts = strings(600, seed=1)
    bert = BertTokenizer.of(WordPieceTokenizer.train(texts, maximum_size=900))
    cased = BertTokenizer.of(WordPieceTokenizer.train(texts, maximum_size=700, lowercase=False))
    roberta = ByteLevelTokenizer.of(BytePairTokenizer.train(texts, maximum_size=420, lowercase=False))
    roberta.blank = False
    gpt2 = ByteLevelTokenizer([*roberta.tokens[4:-1], "<|endoftext|>"], roberta.merges, GPT2)
    for name, made in {"bert": bert, "bert-cased": cased, "roberta": roberta, "gpt2": gpt2}.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        write_tokenizer(folder / name, made)


def ask(folder: Path) -> None:
    import transformers

    for name in ("bert", "bert-cased", "roberta", "gpt2"):
        kind = {"roberta": transformers.RobertaTokenizerFast, "gpt2": transformers.GPT2TokenizerFast}.get(
            name, transformers.BertTokenizerFast
        )
        made = kind.from_pretrained(folder / name)
        texts = strings(COUNT)
        single = made(texts)["input_ids"]
        answer = {"single": digests(single)}
        if name != "gpt2":
            answer["pairs"] = digests(made(texts, texts[1:] + texts[:1], truncation="longest_first", max_length=16)["input_ids"])
        (folder / name / "expected.json").write_text(json.dumps(answer))
        made.save_pretrained(folder / name / "saved")
        (folder / name / "saved" / "tokenizer.json").replace(folder / name / "described.json")
        for left in (folder / name / "saved").iterdir():
            left.unlink()
        (folder / name / "saved").rmdir()


if __name__ == "__main__":
    {"train": train, "ask": ask}[sys.argv[1]](Path(sys.argv[2]))
