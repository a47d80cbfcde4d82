"""The rungs of the ladder: every model there is, from the share of the largest class to a Transformer, with what is particular to each.

A literal table, free of torch, so that `weft models` answers at once. Adding a row puts the model on the ladder, in the command line,
and under the contracts' tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from weft.data.examples import RAW, TAGGED
from weft.estimators.fine_tuning import CONTINUED, FINE_TUNED, FINE_TUNED_TAGGER, ULMFIT, holds_language_model

SINGLE = ("classification", "multi-label")
ALL = ("classification", "multi-label", "regression")
PAIRS = ("translation",)
# small initial vectors, whole columns of them dropped, few epochs: what held on the development data of all of TREC, MR, SST-2 and AG News
EMBEDDED: dict[str, Any] = {"embedding_size": 128, "embedding_std": 0.05, "embedding_dropout": 0.2, "epochs": 5}


@dataclass(frozen=True)
class Rung:
    """engine: "baseline" (scikit-learn), "fasttext" or "neural". tasks: what it is trained for. line: what it is. settings: its own."""

    name: str
    engine: str
    tasks: tuple[str, ...]
    paper: str
    line: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def tagging(self) -> bool:
        """Whether it stands on the taggers' ladder."""
        return self.tasks == TAGGED

    @property
    def network(self) -> str:
        """Whose settings it has, where its engine is neural."""
        if self.tasks == RAW:
            return "continued" if self.starts else "language-model"
        if self.starts:
            if self.tagging:
                return "pretrained-tagger"
            return "ulmfit" if "language_epochs" in self.settings else "pretrained"
        if "class_size" in self.settings:
            return "generative"
        return "tagger" if self.tagging else "seq2seq" if self.tasks == PAIRS else "classifier"

    @property
    def starts(self) -> bool:
        """Whether it starts from a network that was trained before."""
        return "pretrained" in self.settings

    @property
    def takes_vectors(self) -> bool:
        """Whether it can start from word vectors."""
        return self.engine == "neural" and self.network in ("classifier", "generative", "tagger")

    @property
    def has_head(self) -> bool:
        """Whether it is a classifier's head over an encoder, which a teacher can be followed with."""
        return self.engine == "neural" and self.network in ("classifier", "pretrained")

    @property
    def reads_pairs(self) -> bool:
        """Whether it can be trained on pairs of texts."""
        return self.name == "majority" or self.has_head or self.network == "ulmfit"


_RUNGS = (
    Rung("majority", "baseline", ALL, "no paper", "always the most frequent class, or the mean: the floor that every model must leave"),
    Rung("naive-bayes", "baseline", SINGLE, "McCallum & Nigam, 1998", "multinomial naive Bayes on counts of words and bigrams"),
    Rung("logistic", "baseline", SINGLE, "Wang & Manning, 2012", "logistic regression on TF-IDF of words and bigrams"),
    Rung("svm", "baseline", SINGLE, "Joachims, 1998", "linear support vector machine on TF-IDF of words and bigrams"),
    Rung("perceptron", "baseline", SINGLE, "Freund & Schapire, 1999", "averaged perceptron on TF-IDF of words and bigrams"),
    Rung(
        "fasttext", "fasttext", SINGLE, "Joulin et al., 2017", "mean of word and hashed bigram vectors, then a linear layer, text by text",
        {"ngrams": 2},
    ),
    Rung(
        "bag", "neural", ALL, "Joulin et al., 2017", "mean of word and hashed bigram vectors, then a linear layer",
        {
            "encoder": "bag", "pooling": "mean", "ngrams": 2, "buckets": 100_000, "maximum_length": 2000,
            "embedding_size": 64, "dropout": 0.0,
            "learning_rate": 5e-3, "epochs": 6,
        },
    ),
    Rung(
        "mlp", "neural", ALL, "Iyyer et al., 2015", "deep averaging network: mean of word vectors, word dropout, hidden layers",
        {
            "encoder": "bag", "pooling": "mean", "embedding_size": 200, "head": (200, 200), "dropout": 0.3, "word_dropout": 0.3,
            "learning_rate": 2e-3, "epochs": 8,
        },
    ),
    Rung(
        "window", "neural", ALL, "Collobert et al., 2011", "a hidden layer over windows of five words, then the maximum over time",
        {"encoder": "window", "pooling": "max", "hidden_size": 300, **EMBEDDED, "learning_rate": 2e-3},
    ),
    Rung(
        "cnn", "neural", ALL, "Kim, 2014", "filters over three, four and five words, then the maximum over time",
        {"encoder": "cnn", "pooling": "max", "embedding_size": 200, "embedding_std": 0.03, "learning_rate": 2e-3, "epochs": 5},
    ),
    Rung(
        "dcnn", "neural", ALL, "Kalchbrenner et al., 2014; Yu & Koltun, 2016",
        "stacked dilated convolutions, then the k largest values over time",
        {"encoder": "dilated-cnn", "pooling": "k-max", "k": 3, **EMBEDDED, "learning_rate": 2e-3},
    ),
    Rung(
        "rnn", "neural", ALL, "Elman, 1990", "simple recurrent network, its last state",
        {"encoder": "recurrent", "cell": "elman", "pooling": "last", **EMBEDDED, "learning_rate": 1e-3},
    ),
    Rung(
        "lstm", "neural", ALL, "Hochreiter & Schmidhuber, 1997; Gers et al., 2000", "long short-term memory, its last state",
        {"encoder": "recurrent", "cell": "lstm", "pooling": "last", **EMBEDDED, "learning_rate": 3e-3},
    ),
    Rung(
        "peephole-lstm", "neural", ALL, "Gers & Schmidhuber, 2000", "an LSTM whose gates see its cell, its last state",
        {"encoder": "recurrent", "cell": "peephole-lstm", "pooling": "last", **EMBEDDED, "learning_rate": 3e-3},
    ),
    Rung(
        "coupled-lstm", "neural", ALL, "Greff et al., 2017", "an LSTM that forgets only where it writes, its last state",
        {"encoder": "recurrent", "cell": "coupled-lstm", "pooling": "last", **EMBEDDED, "learning_rate": 3e-3},
    ),
    Rung(
        "bilstm", "neural", ALL, "Graves & Schmidhuber, 2005; Howard & Ruder, 2018",
        "LSTMs from both ends; last state, maximum and mean, concatenated",
        {
            "encoder": "recurrent", "cell": "lstm", "bidirectional": True, "pooling": "concat", "hidden_size": 128,
            "embedding_size": 200, "embedding_std": 0.05, "embedding_dropout": 0.5, "learning_rate": 3e-3, "epochs": 5,
        },
    ),
    Rung(
        "deep-bilstm", "neural", ALL, "Graves et al., 2013; Merity et al., 2018",
        "two layers of LSTMs from both ends, residual, with dropout between them",
        {
            "encoder": "recurrent", "cell": "lstm", "bidirectional": True, "layers": 2, "residual": True, "layer_dropout": 0.3,
            "pooling": "concat", "hidden_size": 128,
            "embedding_size": 200, "embedding_std": 0.05, "embedding_dropout": 0.5, "learning_rate": 2e-3, "epochs": 5,
        },
    ),
    Rung(
        "gru", "neural", ALL, "Cho et al., 2014", "gated recurrent unit, its last state",
        {"encoder": "recurrent", "cell": "gru", "pooling": "last", **EMBEDDED, "learning_rate": 3e-3},
    ),
    Rung(
        "attention-lstm", "neural", ALL, "Lin et al., 2017; Yang et al., 2016",
        "LSTMs from both ends under learnt attention over the words",
        {
            "encoder": "recurrent", "cell": "lstm", "bidirectional": True, "pooling": "attentive", **EMBEDDED, "embedding_dropout": 0.3,
            "learning_rate": 2e-3,
        },
    ),
    Rung(
        "generative-lstm", "neural", ("classification",), "Yogatama et al., 2017",
        "a language model for each class, of one LSTM; the class whose text is likeliest",
        {
            "encoder": "recurrent", "cell": "lstm", "class_size": 32, "maximum_size": 5000, "embedding_size": 128, "embedding_std": 0.1,
            "learning_rate": 3e-3, "epochs": 6, "checks": 6,
        },
    ),
    Rung(
        "transformer", "neural", ALL, "Vaswani et al., 2017", "self-attention blocks, then the mean over time",
        {"encoder": "transformer", "pooling": "mean", "positions": "learned", **EMBEDDED, "learning_rate": 1e-3, "warmup": 0.1},
    ),
)  # fmt: skip

RUNGS: dict[str, Rung] = {rung.name: rung for rung in _RUNGS}
# Those that start from a checkpoint, which has to be fetched first: on the ladder where they are named.
_PRETRAINED = (
    Rung(
        "minilm", "neural", ALL, "Devlin et al., 2019; Wang et al., 2020", "a pretrained Transformer of six layers, fine-tuned",
        {"pretrained": "minilm", **FINE_TUNED},
    ),
    Rung(
        "ulmfit", "neural", ALL, "Howard & Ruder, 2018", "a language model of yours, tuned on the texts, then its layers freed one by one",
        {"pretrained": "", **ULMFIT},
    ),
)  # fmt: skip
PRETRAINED_RUNGS: dict[str, Rung] = {rung.name: rung for rung in _PRETRAINED}
TEXT_RUNGS = RUNGS | PRETRAINED_RUNGS

# Chosen on the development data of UD English-EWT (parts of speech): words made unknown often and much dropped, else rare words are learnt
# by heart; what a word's form says brings more than a larger network.
_WORDS: dict[str, Any] = {
    "embedding_size": 100, "embedding_std": 0.3, "minimum_count": 2, "word_dropout": 0.25, "feature_size": 30, "dropout": 0.5,
    "batch_size": 16, "learning_rate": 3e-3, "epochs": 7,
}  # fmt: skip
_PLAIN: dict[str, Any] = {**_WORDS, "features": "case,suffix2"}
_FORM: dict[str, Any] = {**_WORDS, "features": "prefix,suffix2,suffix3,suffix4,shape"}
_CHARACTERS: dict[str, Any] = {**_FORM, "characters": "cnn", "character_hidden": 100}
_BILSTM: dict[str, Any] = {"encoder": "recurrent", "cell": "lstm", "bidirectional": True, "hidden_size": 128}
_TAGGING = (
    Rung("majority", "baseline", TAGGED, "no paper", "each word's most frequent tag; of a word never seen, the most frequent of all"),
    Rung("averaged-perceptron", "baseline", TAGGED, "Collins, 2002", "word by word, features of the words around and the tags before"),
    Rung("crf", "baseline", TAGGED, "Lafferty et al., 2001", "conditional random field over features of the words around"),
    Rung(
        "window", "neural", TAGGED, "Collobert et al., 2011", "a hidden layer over windows of five words, their case and suffixes",
        {**_PLAIN, "encoder": "window", "hidden_size": 300},
    ),
    Rung(
        "cnn", "neural", TAGGED, "Strubell et al., 2017", "stacked dilated convolutions over words, their case and suffixes",
        {**_PLAIN, "encoder": "dilated-cnn"},
    ),
    Rung(
        "bilstm", "neural", TAGGED, "Graves & Schmidhuber, 2005", "LSTMs from both ends over words and features of their form",
        {**_FORM, **_BILSTM},
    ),
    Rung(
        "bilstm-crf", "neural", TAGGED, "Huang et al., 2015", "LSTMs from both ends over words and features, tags chosen together",
        {**_FORM, **_BILSTM, "crf": True},
    ),
    Rung(
        "char-bilstm", "neural", TAGGED, "Ling et al., 2015", "LSTMs from both ends over words and their characters",
        {**_CHARACTERS, **_BILSTM},
    ),
    Rung(
        "char-bilstm-crf", "neural", TAGGED, "Lample et al., 2016", "LSTMs from both ends over words and characters, tags chosen together",
        {**_CHARACTERS, **_BILSTM, "crf": True},
    ),
    Rung(
        "transformer-crf", "neural", TAGGED, "Vaswani et al., 2017; Yan et al., 2019",
        "self-attention over words and their characters, tags chosen together",
        {**_CHARACTERS, "encoder": "transformer", "crf": True, "learning_rate": 1e-3, "warmup": 0.1, "dropout": 0.3},
    ),
)  # fmt: skip
TAGGING_RUNGS: dict[str, Rung] = {rung.name: rung for rung in _TAGGING}
_PRETRAINED_TAGGING = (
    Rung(
        "minilm", "neural", TAGGED, "Devlin et al., 2019; Wang et al., 2020",
        "a pretrained Transformer of six layers, fine-tuned, and how words are written",
        {"pretrained": "minilm", **FINE_TUNED_TAGGER},
    ),
)  # fmt: skip
PRETRAINED_TAGGING_RUNGS: dict[str, Rung] = {rung.name: rung for rung in _PRETRAINED_TAGGING}
TAGGER_RUNGS = TAGGING_RUNGS | PRETRAINED_TAGGING_RUNGS

# Chosen on the development data of Multi30k (English to German).
_SPELT: dict[str, Any] = {"maximum_size": 4000, "shared": True, "label_smoothing": 0.1, "batch_size": 64, "checks": 20}
_RNN: dict[str, Any] = {
    **_SPELT, "encoder": "recurrent", "decoder": "recurrent", "cell": "gru", "bidirectional": True, "encoder_hidden_size": 192,
    "decoder_hidden_size": 384, "embedding_size": 192, "tied": "all", "embedding_std": 0.06, "embedding_scale": 4.0, "pooling": "ends",
    "dropout": 0.3, "learning_rate": 2e-3, "warmup": 0.05, "epochs": 9,
}  # fmt: skip
_BLOCKS: dict[str, Any] = {"hidden_size": 256, "layers": 3, "heads": 4, "inner": 1024, "activation": "relu"}
_TRANSLATION = (
    Rung("copy", "baseline", PAIRS, "no paper", "the source itself: what names, numbers and untranslated words bring"),
    Rung("nearest", "baseline", PAIRS, "Salton & Buckley, 1988", "the target of the training source that is nearest by TF-IDF of words"),
    Rung(
        "rnn", "neural", PAIRS, "Cho et al., 2014; Sutskever et al., 2014", "GRUs; all that the decoder has of a source is one vector",
        {**_RNN, "attention": "none", "condition": "every"},
    ),
    Rung(
        "rnn-attention", "neural", PAIRS, "Bahdanau et al., 2015", "GRUs; additive attention over the source before every step",
        {**_RNN, "attention": "additive", "attend": "before", "attention_size": 192},
    ),
    Rung(
        "rnn-luong", "neural", PAIRS, "Luong et al., 2015", "LSTMs; bilinear attention after every step, fed to the next",
        {**_RNN, "cell": "lstm", "attention": "general", "attend": "after", "feed": True},
    ),
    Rung(
        "cnn-rnn", "neural", PAIRS, "Gehring et al., 2017; Bahdanau et al., 2015", "convolutions over the source under a GRU's attention",
        {
            **{name: value for name, value in _RNN.items() if name not in ("bidirectional", "encoder_hidden_size")},
            "encoder": "dilated-cnn", "filters": 256, "pooling": "mean", "attention": "additive", "attend": "before", "attention_size": 192,
        },
    ),
    Rung(
        "transformer", "neural", PAIRS, "Vaswani et al., 2017", "self-attention on both sides, and from the target to the source",
        {
            **_SPELT, "encoder": "transformer", "decoder": "transformer", **_BLOCKS, "layer_dropout": 0.2, "dropout": 0.2, "tied": "all",
            "embedding_size": 256, "embedding_std": 0.0625, "embedding_scale": 16.0, "norm": "pre", "positions": "sinusoidal",
            "learning_rate": 1e-3, "warmup": 0.1, "epochs": 22,
        },
    ),
)  # fmt: skip
TRANSLATION_RUNGS: dict[str, Rung] = {rung.name: rung for rung in _TRANSLATION}

_FORETOLD: dict[str, Any] = {
    "tokenizer": "words", "embedding_size": 256, "embedding_std": 0.1, "output_bias": True, "block": 35, "batch_size": 20, "dropout": 0.3,
    "embedding_dropout": 0.1, "learning_rate": 3e-3, "schedule": "cosine", "warmup": 0.05, "clip": 1.0, "epochs": 6,
}  # fmt: skip
_CELLS: dict[str, Any] = {**_FORETOLD, "encoder": "recurrent", "hidden_size": 256, "layers": 2, "layer_dropout": 0.2}
_LANGUAGE = (
    Rung("ngram", "baseline", RAW, "Kneser & Ney, 1995; Chen & Goodman, 1999", "counts of five tokens, smoothed by modified Kneser-Ney"),
    Rung(
        "ngram-neural", "neural", RAW, "Bengio et al., 2003", "a hidden layer over the five words before the next",
        {**_FORETOLD, "encoder": "window", "window": 4, "hidden_size": 512, "cut": "random"},
    ),
    Rung("rnn", "neural", RAW, "Mikolov et al., 2010", "simple recurrent network", {**_CELLS, "cell": "elman", "learning_rate": 1e-3}),
    Rung("gru", "neural", RAW, "Cho et al., 2014", "gated recurrent units, tied weights", {**_CELLS, "cell": "gru", "learning_rate": 2e-3}),
    Rung("lstm", "neural", RAW, "Merity et al., 2018", "long short-term memory, tied weights, weights between states dropped",
        {**_CELLS, "cell": "lstm", "weight_dropout": 0.2}),
    Rung(
        "gpt", "neural", RAW, "Radford et al., 2018, 2019", "decoder-only Transformer over characters",
        {
            "tokenizer": "characters", "encoder": "transformer", "hidden_size": 128, "embedding_size": 128, "layers": 4, "heads": 4,
            "layer_dropout": 0.0, "positions": "learned", "residual_std": 0.02, "block": 64, "batch_size": 12, "cut": "random",
            "learning_rate": 3e-3, "schedule": "cosine", "warmup": 0.05, "weight_decay": 0.1, "clip": 1.0, "epochs": 1,
            "minimum_steps": 2000,
        },
    ),
    Rung(
        "pretrained", "neural", RAW, "Radford et al., 2018, 2019", "a language model that is there, a GPT-2 or one of yours, trained on",
        {"pretrained": "", **CONTINUED},
    ),
)  # fmt: skip
LANGUAGE_RUNGS: dict[str, Rung] = {rung.name: rung for rung in _LANGUAGE}
LADDERS = (TEXT_RUNGS, TAGGER_RUNGS, TRANSLATION_RUNGS, LANGUAGE_RUNGS)


def ladder(task: str) -> dict[str, Rung]:
    """The rungs of a task: those of taggers for a label a token, those of translators for a text a text, those of language models for texts
    without labels, else those of texts."""
    if task in RAW:
        return LANGUAGE_RUNGS
    return TAGGER_RUNGS if task in TAGGED else TRANSLATION_RUNGS if task in PAIRS else TEXT_RUNGS


def that_starts_from(source: Any, rungs: Mapping[str, Rung]) -> str | None:
    """The rung of a ladder that starts from a name or a folder; None where none starts from anything."""
    kinds = ("continued", "ulmfit") if holds_language_model(source) else ("continued", "pretrained", "pretrained-tagger")
    return next((rung.name for rung in rungs.values() if rung.starts and rung.network in kinds), None)
