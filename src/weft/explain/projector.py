"""Files for TensorBoard's embedding projector: vectors.tsv, metadata.tsv, projector_config.pbtxt."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from weft.errors import InputError
from weft.files import atomic_write

if TYPE_CHECKING:
    from weft.vectors.keyed import KeyedVectors

CONFIG = 'embeddings {\n  tensor_name: "words"\n  tensor_path: "vectors.tsv"\n  metadata_path: "metadata.tsv"\n}\n'
BLANK = re.compile(r"[\t\r\n\x0b\x0c\x1c-\x1e\x85\u2028\u2029]+")


def write_projector(vectors: KeyedVectors, words: Sequence[str], folder: str | os.PathLike[str]) -> list[Path]:
    """Writes the three files for these words, and returns their paths. `tensorboard --logdir FOLDER`, tab Projector, shows them.

    metadata.tsv has a line a word, and its count where known (then with a first line of names: the projector wants none for one column).
    Numbers are float32's shortest decimals. Raises InputError where the folder cannot be made, and for an unknown word.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be made a folder ({error.strerror})", str(folder)) from error
    rows = vectors[list(words)]
    with atomic_write(folder / "vectors.tsv") as file:
        file.writelines("\t".join(map(str, row)) + "\n" for row in rows)
    counts = vectors.counts
    with atomic_write(folder / "metadata.tsv") as file:
        if counts is not None:
            file.write("word\tcount\n")
        for word in words:
            name = BLANK.sub(" ", word).encode("utf-8", "replace").decode("utf-8")
            row = vectors.key_to_index.get(word)
            file.write(f"{name}\n" if counts is None else f"{name}\t{0 if row is None else counts[row]}\n")
    with atomic_write(folder / "projector_config.pbtxt") as file:
        file.write(CONFIG)
    return [folder / name for name in ("vectors.tsv", "metadata.tsv", "projector_config.pbtxt")]
