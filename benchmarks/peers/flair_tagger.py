"""Flair's SequenceTagger, timed: `python flair_tagger.py request.json answer.json`, in the peer's own environment.

Words (OneHotEmbeddings) and characters (CharacterEmbeddings) are learnt from the training file alone; nothing pretrained is loaded.

Request: train, dev (or null), test: files of two columns between which is a tab, word and tag, a blank line after each sentence; tag
("ner", its tags BIO, of which Flair makes BIOES; or "upos"); settings: embedding_length, min_freq, character_embedding,
character_hidden, hidden_size, rnn_layers, use_crf, reproject_embeddings; optimizer ("SGD", "Adam" or "AdamW"), learning_rate,
mini_batch_size, max_epochs, anneal (its own plateau scheduler; else the rate stays), patience; bulk_batch_size; repeats (of the
prediction of test); seed; threads; faster (flair_faster's arithmetic in the place of Flair's own, for training). With dev the weights of
the best epoch on dev are taken, without it the last.

Seconds are pairs, by the clock and of processors, but for start-up and reading.

Answer: seconds of start-up and of reading; the seconds of each epoch's training (without reading and without the evaluation on dev), the
tokens of an epoch; dev's score by epoch, Flair's own; for each repeat the seconds of making test's sentences and of predicting them;
tokens of test; predictions of dev and test, a tag a token (BIO for ner); parameters; magnitude, the sum of their absolute values (of
at most 100); sizes; whose the arithmetic was; versions.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()
CACHE = tempfile.TemporaryDirectory(prefix="flair-")
os.environ.setdefault("FLAIR_CACHE_ROOT", CACHE.name)

import flair  # noqa: E402  # the import is what is timed
import flair_faster  # noqa: E402
import torch  # noqa: E402
from flair.data import Dictionary, Sentence  # noqa: E402
from flair.datasets import ColumnCorpus  # noqa: E402
from flair.embeddings import CharacterEmbeddings, OneHotEmbeddings, StackedEmbeddings  # noqa: E402
from flair.models import SequenceTagger  # noqa: E402
from flair.models.sequence_tagger_utils.crf import CRF  # noqa: E402
from flair.trainers import ModelTrainer  # noqa: E402
from flair.trainers.plugins.base import TrainerPlugin  # noqa: E402

STARTUP = time.perf_counter() - STARTED
Sentences = list[list[str]]
Times = tuple[float, float]  # seconds by the clock, and of processors


def now() -> Times:
    return time.perf_counter(), time.process_time()


def since(started: Times) -> Times:
    return time.perf_counter() - started[0], time.process_time() - started[1]


class Watch(TrainerPlugin):  # type: ignore[misc, unused-ignore]
    """The seconds of each epoch's training, and dev's score after it."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[Times] = []
        self.scores: list[float] = []
        self.started = now()

    @TrainerPlugin.hook  # type: ignore[untyped-decorator, unused-ignore]
    def before_training_epoch(self, **_: Any) -> None:
        self.started = now()

    @TrainerPlugin.hook  # type: ignore[untyped-decorator, unused-ignore]
    def after_training_epoch(self, **_: Any) -> None:
        self.seconds.append(since(self.started))

    @TrainerPlugin.hook  # type: ignore[untyped-decorator, unused-ignore]
    def after_evaluation(self, validation_scores: tuple[float, ...], **_: Any) -> None:
        self.scores.append(float(validation_scores[0]))
        print(f"epoch {len(self.scores)}: {self.scores[-1]:.4f} ({self.seconds[-1][0]:.1f} s)", file=sys.stderr, flush=True)


def words_of(path: str) -> Sentences:
    """The words of each sentence of a file."""
    blocks = Path(path).read_text(encoding="utf-8").split("\n\n")
    found = [[line.split("\t")[0] for line in block.split("\n") if line] for block in blocks]
    return [words for words in found if words]


def corpus_of(request: dict[str, Any]) -> ColumnCorpus:
    """Flair's corpus of train and dev; test stays outside, so that nothing looks at it."""
    return ColumnCorpus(
        Path(request["train"]).parent,
        {0: "text", 1: request["tag"]},
        train_file=request["train"],
        dev_file=request["dev"],
        autofind_splits=False,
        sample_missing_splits=False,
        column_delimiter="\t",
        comment_symbol=None,
    )


def tagger_of(corpus: ColumnCorpus, request: dict[str, Any]) -> SequenceTagger:
    """The network, its words and characters those of train."""
    settings = request["settings"]
    characters = Dictionary(add_unk=True)
    for character in sorted({c for sentence in corpus.train for token in sentence for c in token.text}):
        characters.add_item(character)
    words = OneHotEmbeddings.from_corpus(corpus, min_freq=settings["min_freq"], embedding_length=settings["embedding_length"])
    spelling = CharacterEmbeddings(characters, settings["character_embedding"], settings["character_hidden"])
    return SequenceTagger(
        embeddings=StackedEmbeddings([words, spelling]),
        tag_dictionary=corpus.make_label_dictionary(request["tag"], add_unk=False),
        tag_type=request["tag"],
        hidden_size=settings["hidden_size"],
        rnn_layers=settings["rnn_layers"],
        use_crf=settings["use_crf"],
        reproject_embeddings=settings["reproject_embeddings"],
    )


def trained(tagger: SequenceTagger, corpus: ColumnCorpus, request: dict[str, Any], folder: Path) -> Watch:
    """Trains; the tagger then has the weights that were best on dev, or the last ones."""
    watch = Watch()
    ModelTrainer(tagger, corpus).train(
        folder,
        optimizer=getattr(torch.optim, request["optimizer"]),
        learning_rate=request["learning_rate"],
        mini_batch_size=request["mini_batch_size"],
        max_epochs=request["max_epochs"],
        patience=request.get("patience", 3),
        attach_default_scheduler=request["anneal"],
        use_final_model_for_eval=request["dev"] is None,
        embeddings_storage_mode="none",  # "cpu", the default, keeps dev's vectors of the first epoch for all later scores
        save_final_model=False,
        create_file_logs=False,
        create_loss_file=False,
        plugins=[watch],
    )
    tagger.eval()
    return watch


def tags_of(sentence: Sentence, kind: str) -> list[str]:
    """A tag a token; spans as BIO."""
    if kind != "ner":
        return [token.get_label(kind).value for token in sentence]
    tags = ["O"] * len(sentence)
    for span in sentence.get_spans(kind):
        first, *rest = (token.idx - 1 for token in span)
        tags[first] = f"B-{span.get_label(kind).value}"
        for position in rest:
            tags[position] = f"I-{span.get_label(kind).value}"
    return tags


def predicted(tagger: SequenceTagger, words: Sentences, request: dict[str, Any]) -> tuple[Times, Times, Sentences]:
    """Seconds of making the sentences, seconds of predicting them, and the tags."""
    started = now()
    sentences = [Sentence(each) for each in words]
    making, started = since(started), now()
    tagger.predict(sentences, mini_batch_size=request["bulk_batch_size"])
    predicting = since(started)
    tags = [tags_of(sentence, request["tag"]) for sentence in sentences]
    if [len(each) for each in tags] != [len(each) for each in words]:
        raise ValueError("Flair's sentences have other tokens than those given")
    return making, predicting, tags


def measure(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Reads, trains, predicts."""
    flair.device = torch.device("cpu")
    torch.set_num_threads(request["threads"])
    flair.set_seed(request["seed"])
    logging.getLogger("flair").setLevel(logging.WARNING)
    if request.get("faster"):
        flair_faster.install()
    started = time.perf_counter()
    corpus = corpus_of(request)
    reading = time.perf_counter() - started
    tagger = tagger_of(corpus, request)
    watch = trained(tagger, corpus, request, folder)
    test = words_of(request["test"])
    turns = [predicted(tagger, test, request) for _ in range(request["repeats"])]
    dev = predicted(tagger, words_of(request["dev"]), request)[2] if request["dev"] else None
    words, _ = tagger.embeddings.embeddings
    return {
        "reading_seconds": reading,
        "epoch_seconds": watch.seconds,
        "tokens": sum(len(sentence) for sentence in corpus.train),
        "dev_scores": watch.scores if request["dev"] else None,
        "making_seconds": [making for making, _, _ in turns],
        "predict_seconds": [seconds for _, seconds, _ in turns],
        "test_tokens": sum(map(len, test)),
        "predictions": {"dev": dev, "test": turns[-1][2]},
        "parameters": sum(parameter.numel() for parameter in tagger.parameters()),
        "magnitude": sum(float(parameter.detach().double().abs().clamp(max=100).sum()) for parameter in tagger.parameters()),
        "sizes": {name: list(parameter.shape) for name, parameter in tagger.named_parameters()},
        "arithmetic": CRF.forward.__module__,
        "words": len(words.vocab_dictionary),
        "tags": tagger.label_dictionary.get_items(),
    }


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        answer = measure(request, Path(folder))
    versions = {name: metadata.version(name) for name in ("flair", "torch", "numpy")} | {"python": sys.version.split()[0]}
    Path(sys.argv[2]).write_text(json.dumps({"startup_seconds": STARTUP, **answer, "versions": versions}), encoding="utf-8")


if __name__ == "__main__":
    main()
