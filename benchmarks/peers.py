"""Peers to be measured against, each in a virtual environment of its own, made once and kept in the user's cache.

A peer's script reads a JSON request and writes a JSON answer; it times itself, so that starting Python is never counted as work.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weft.files import atomic_write, cache_folder, read_json, write_json

log = logging.getLogger("weft")
SCRIPTS = Path(__file__).with_name("peers")


@dataclass(frozen=True)
class Peer:
    """requirements: what pip installs, pinned. build: what has to be there before it, where a peer's own build asks for too little."""

    name: str
    requirements: tuple[str, ...]
    build: tuple[str, ...] = ()


PEERS: Mapping[str, Peer] = {
    # fastText 0.9.3 asks np.array(…, copy=False) for the answer to a single text, which NumPy 2 refuses. Python 3.13 has no NumPy 1:
    # there only its answers to lists of texts are used, which are made without NumPy.
    "fasttext": Peer(
        "fasttext",
        ("fasttext==0.9.3", "numpy==1.26.4; python_version < '3.13'", "numpy>=2.1; python_version >= '3.13'"),
        ("setuptools==80.9.0", "wheel==0.45.1", "pybind11==2.13.6"),
    ),
    # Trained without labels, 0.9.3 built with GCC 12 stops with NaN under negative sampling and softmax; the wheels of 0.9.2 do not.
    "fasttext-wheel": Peer("fasttext-wheel", ("fasttext-wheel==0.9.2", "numpy==1.26.4")),
    "gensim": Peer("gensim", ("gensim==4.4.0", "numpy==2.4.6", "scipy==1.17.1")),
    "pytorch-crf": Peer("pytorch-crf", ("pytorch-crf==0.7.2", "torch==2.13.0", "numpy==2.4.6")),
    # Flair takes transformers below 5, which takes huggingface-hub below 1: named here, or pip tries every release of both.
    "flair": Peer(
        "flair",
        (
            "flair==0.15.1",
            "torch==2.13.0",
            "transformers==4.57.6",
            "huggingface-hub==0.36.0",
            "tokenizers==0.22.2",
            "numpy==2.4.6",
            "scipy==1.17.1",
        ),
    ),
    # JoeyNMT takes protobuf below 3.21, and imports importlib_metadata without asking for it; what else pip would search long for is named.
    "joeynmt": Peer(
        "joeynmt",
        (
            "joeynmt==2.3.0",
            "torch==2.13.0",
            "numpy==2.4.6",
            "importlib-metadata==10.2.0",
            "protobuf==3.20.3",
            "tensorboard==2.20.0",
            "datasets==5.2.0",
        ),
    ),
    "sentence-transformers": Peer(
        "sentence-transformers",
        (
            "sentence-transformers==6.2.0",
            "transformers==5.24.0",
            "huggingface-hub==2.4.0",
            "tokenizers==0.23.3",
            "torch==2.13.0",
            "numpy==2.4.6",
            "scipy==1.17.1",
            "scikit-learn==1.9.1",
        ),
    ),
    "transformers": Peer(
        "transformers", ("transformers==5.24.0", "huggingface-hub==2.4.0", "tokenizers==0.23.3", "torch==2.13.0", "numpy==2.4.6")
    ),
}


def environment(name: str) -> Path:
    """The Python of a peer's environment, made where it is not there yet (fastText is compiled: a C++ compiler, two minutes).

    It lies in WEFT's cache under peers/, named after the peer, the Python version and what is installed in it.
    Raises KeyError for an unknown peer, RuntimeError with pip's last words where it cannot be installed.
    """
    peer, folder = PEERS[name], _folder(name)
    python, finished = folder / "bin" / "python", folder / "installed.txt"
    if finished.is_file():
        return python
    log.info("making an environment for %s in %s", name, folder)
    shutil.rmtree(folder, ignore_errors=True)  # what an interrupted installation left
    venv.create(folder, with_pip=True)
    if peer.build:
        _pip(python, peer.build)
    _pip(python, ("--no-build-isolation", *peer.requirements) if peer.build else peer.requirements)
    installed = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout
    with atomic_write(finished) as file:
        file.write(installed)
    return python


def installed(name: str) -> bool:
    """Whether a peer's environment is there already."""
    return (_folder(name) / "installed.txt").is_file()


def _folder(name: str) -> Path:
    peer = PEERS[name]
    digest = hashlib.sha256(json.dumps([peer.requirements, peer.build]).encode()).hexdigest()[:8]
    return cache_folder() / "peers" / f"{name}-py{sys.version_info.major}.{sys.version_info.minor}-{digest}"


def _pip(python: Path, arguments: tuple[str, ...]) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"pip install {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")


def run(name: str, script: str, request: Mapping[str, Any], *, threads: int) -> dict[str, Any]:
    """The answer of benchmarks/peers/<script> to the request, run by the peer's Python with so many threads.

    Raises RuntimeError with the end of what the script said where it fails.
    """
    python = environment(name)
    variables = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": ""}
    with tempfile.TemporaryDirectory(prefix="weft-peer-") as folder:
        asked, answered = Path(folder) / "request.json", Path(folder) / "answer.json"
        write_json(asked, {**request, "threads": threads}, indent=None)
        command = [python, SCRIPTS / script, asked, answered]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=variables, check=False)
        if done.returncode:
            raise RuntimeError(f"{script} failed:\n{done.stderr[-2000:]}")
        answer = read_json(answered)
    return dict(answer)
