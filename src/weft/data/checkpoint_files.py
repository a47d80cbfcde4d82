"""A checkpoint's folder ↔ its tokenizer: tokenizer.json, or vocab.txt (WordPiece), or vocab.json with merges.txt (byte-level BPE).

tokenizer.json is read for its numbers and names, and what weft would not do the same is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from weft.data.checkpoints import BERT, GPT2, ROBERTA, BertTokenizer, ByteLevelTokenizer, CheckpointTokenizer, Special
from weft.errors import InputError
from weft.files import atomic_write, read_json, write_json

FORMS = {"bert": BERT, "distilbert": BERT, "roberta": ROBERTA, "gpt2": GPT2}  # by family: what stands around texts
TOKENIZER, SAID = "tokenizer.json", "tokenizer_config.json"
ROLES = {
    "padding": "pad_token", "unknown": "unk_token", "first": "cls_token", "separator": "sep_token", "mask": "mask_token",
    "end": "eos_token",
}  # fmt: skip


def read_tokenizer(folder: Path, family: str) -> CheckpointTokenizer:
    """The tokenizer of a checkpoint of one of FORMS. Raises InputError where it is missing, or another one than its family has."""
    said = read_json(folder / SAID) if (folder / SAID).exists() else {}
    special = _special(FORMS[family], said)
    if (folder / TOKENIZER).exists():
        return _from_tokenizer_json(folder / TOKENIZER, family, special)
    if FORMS[family] is BERT:
        return _from_vocab_txt(folder, said, special)
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    if not vocabulary.exists() or not merges.exists():
        raise InputError("has no tokenizer: tokenizer.json, or vocab.json and merges.txt, were expected", str(folder))
    pairs = [line.split(" ") for line in _lines(merges) if line and not line.startswith("#version")]
    if wrong := next((pair for pair in pairs if len(pair) != 2), None):
        raise InputError(f"has a line {' '.join(wrong)!r:.40}; two pieces with a blank between them were expected", str(merges))
    try:
        return ByteLevelTokenizer(_ordered(read_json(vocabulary), vocabulary), pairs, special, blank=bool(said.get("add_prefix_space")))
    except InputError as error:
        raise _at(error, vocabulary) from error


def write_tokenizer(folder: Path, tokenizer: CheckpointTokenizer) -> None:
    """vocab.txt, or vocab.json with merges.txt, and tokenizer_config.json, from which `read_tokenizer` makes the same one."""
    special = tokenizer.special
    said: dict[str, Any] = {theirs: value for ours, theirs in ROLES.items() if (value := getattr(special, ours)) is not None}
    if isinstance(tokenizer, BertTokenizer):
        with atomic_write(folder / "vocab.txt") as file:
            file.write("".join(f"{token}\n" for token in tokenizer.tokens))
        said |= {"tokenizer_class": "BertTokenizer", "do_lower_case": tokenizer.lowercase, "tokenize_chinese_chars": tokenizer.ideographs}
        said["strip_accents"] = None if tokenizer.accents is None else not tokenizer.accents
    elif isinstance(tokenizer, ByteLevelTokenizer):
        write_json(folder / "vocab.json", tokenizer.ids)
        with atomic_write(folder / "merges.txt") as file:
            file.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in tokenizer.merges))
        kind = "RobertaTokenizer" if special.separator is not None else "GPT2Tokenizer"
        said |= {"tokenizer_class": kind, "add_prefix_space": tokenizer.blank}
    write_json(folder / SAID, said)


def _special(usual: Special, said: Mapping[str, Any]) -> Special:
    """The family's special tokens, by the names that tokenizer_config.json gives them."""
    named: dict[str, Any] = {}
    for ours, theirs in ROLES.items():
        value = said.get(theirs)
        value = value.get("content") if isinstance(value, Mapping) else value
        if isinstance(value, str) and getattr(usual, ours) is not None:
            named[ours] = value
    return replace(usual, **named)


def _from_vocab_txt(folder: Path, said: Mapping[str, Any], special: Special) -> BertTokenizer:
    path = folder / "vocab.txt"
    if not path.exists():
        raise InputError("has no tokenizer: tokenizer.json, or vocab.txt, was expected", str(folder))
    strip = said.get("strip_accents")
    try:
        return BertTokenizer(
            _lines(path), special, lowercase=bool(said.get("do_lower_case", True)), accents=None if strip is None else not strip,
            ideographs=bool(said.get("tokenize_chinese_chars", True)),
        )  # fmt: skip
    except InputError as error:
        raise _at(error, path) from error


def _from_tokenizer_json(path: Path, family: str, special: Special) -> CheckpointTokenizer:
    """From the library's own description. Raises InputError where a part of it is of another kind than the family has."""
    read = read_json(path)
    model = read.get("model") if isinstance(read, Mapping) else None
    if not isinstance(model, Mapping) or not isinstance(model.get("vocab"), Mapping):
        raise InputError("describes no model with a vocabulary", str(path))
    wordpiece = FORMS[family] is BERT
    kind = model.get("type") or ("BPE" if "merges" in model else "WordPiece")
    if kind != ("WordPiece" if wordpiece else "BPE"):
        raise InputError(f"describes a tokenizer of the kind {kind!r}; a {family} has {'WordPiece' if wordpiece else 'BPE'}", str(path))
    numbers = dict(model["vocab"])
    numbers |= {token["content"]: token["id"] for token in read.get("added_tokens") or () if token.get("content") not in numbers}
    tokens = _ordered(numbers, path)
    try:
        if wordpiece:
            part = _part(read, "normalizer", "BertNormalizer", path)
            _part(read, "pre_tokenizer", "BertPreTokenizer", path)
            strip = part.get("strip_accents")
            return BertTokenizer(
                tokens, special, lowercase=bool(part.get("lowercase", True)), accents=None if strip is None else not strip,
                ideographs=bool(part.get("handle_chinese_chars", True)),
            )  # fmt: skip
        if read.get("normalizer") is not None:
            raise InputError("changes texts before it cuts them, which no byte-level checkpoint of these families does")
        blank = bool(_part(read, "pre_tokenizer", "ByteLevel", path).get("add_prefix_space"))
        pairs = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in model.get("merges") or ()]
        return ByteLevelTokenizer(tokens, pairs, special, blank=blank)
    except InputError as error:
        raise _at(error, path) from error
    except (TypeError, ValueError) as error:  # merges that are no pairs
        raise InputError(f"is no description of a tokenizer ({error})", str(path)) from error


def _part(read: Mapping[str, Any], name: str, kind: str, path: Path) -> Mapping[str, Any]:
    part = read.get(name)
    found = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(part, Mapping) or found != kind:
        raise InputError(f"has the {name} {found!r}, and weft does what a {kind} does", str(path))
    return part


def _ordered(numbers: Any, path: Path) -> list[str]:
    """Tokens in the order of their ids. Raises InputError where these are not 0 … n − 1."""
    if not isinstance(numbers, Mapping) or sorted(map(str, numbers.values())) != sorted(map(str, range(len(numbers)))):
        raise InputError("has no vocabulary with the ids 0, 1, 2 … each once", str(path))
    return sorted(numbers, key=lambda token: int(numbers[token]))


def _lines(path: Path) -> list[str]:
    """The lines of a vocabulary, by line feeds alone: other ends of lines are tokens."""
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError("is no UTF-8", str(path)) from error
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines and not lines[-1] else lines


def _at(error: InputError, path: Path) -> InputError:
    return InputError(error.message, error.place or str(path))
