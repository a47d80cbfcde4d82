"""`WordVectors`: every method behind one door, from the same corpus to the same KeyedVectors. The table METHODS names them."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from weft.errors import InputError, meant
from weft.vectors.corpus import Corpus, read_corpus
from weft.vectors.keyed import KeyedVectors

log = logging.getLogger("weft")
Watch = Callable[[float, float], None]


@dataclass(frozen=True)
class Method:
    """A way to make vectors. losses: what --loss may be, the first if not given. defaults: what differs from word2vec's; settings: its
    own, with defaults."""

    name: str
    paper: str
    line: str
    losses: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


PREDICTIVE = ("ns", "hs", "softmax")
_WORD2VEC = {"exponent": 0.75, "dynamic": True}
_CBOW = {**_WORD2VEC, "mean": True, "exact_mean": False}
_SUBWORDS = {"min_n": 3, "max_n": 6, "buckets": 2_000_000}
_COUNTED = {"weight": "harmonic"}
METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("skipgram", "Mikolov et al., 2013", "a word predicts the words around it", PREDICTIVE, {"rate": 0.025}, _WORD2VEC),
        Method("cbow", "Mikolov et al., 2013", "the words around it predict a word", PREDICTIVE, {"rate": 0.05}, _CBOW),
        Method(
            "fasttext", "Bojanowski et al., 2017", "skip-gram over character n-grams; vectors for unseen words", PREDICTIVE,
            {"rate": 0.05}, {**_WORD2VEC, **_SUBWORDS},
        ),
        Method(
            "fasttext-cbow", "Bojanowski et al., 2017", "CBOW over character n-grams; vectors for unseen words", PREDICTIVE,
            {"rate": 0.05}, {**_CBOW, **_SUBWORDS},
        ),
        Method(
            "glove", "Pennington et al., 2014", "logarithms of counts, factorised by AdaGrad", (),
            {"window": 15, "epochs": 25, "rate": 0.1}, {**_COUNTED, "x_max": 10.0, "alpha": 0.75, "contexts": True},
        ),
        Method(
            "svd", "Levy & Goldberg, 2014", "positive pointwise mutual information, its singular vectors", (),
            {"window": 10, "sample": 1e-4}, {**_COUNTED, "shift": 1.0, "smoothing": 0.75, "power": 0.5},
        ),
        Method(
            "ngram", "Bengio et al., 2003", "a neural n-gram model: the words before it predict a word (PyTorch)", (),
            {"rate": 2e-3, "dim": 50}, {"hidden": 100, "direct": False, "examples": 256, "each": None},
        ),
        Method(
            "ranking", "Collobert & Weston, 2008", "a window scores above one with another word in its middle (PyTorch)", (),
            {"rate": 2e-3, "dim": 50}, {"hidden": 100, "noise": "uniform", "examples": 256, "each": None},
        ),
    )
}  # fmt: skip
WHOLE = {  # whole numbers, from … to
    "dim": (1, 1 << 20), "negative": (1, 100_000), "epochs": (1, 10**9), "min_count": (1, 10**18), "threads": (1, 1024),
    "seed": (0, 2**32 - 1),
}  # fmt: skip
DEFAULTS: dict[str, Any] = {"dim": 100, "window": 5, "negative": 5, "epochs": 5, "min_count": 5, "sample": 1e-3}
UNUSED = {  # what a method does not take, as said to who gives it
    "glove": ("loss", "negative", "sample"), "svd": ("loss", "negative", "epochs", "rate"),
    "ngram": ("loss", "negative", "sample"), "ranking": ("loss", "negative", "sample"),
}  # fmt: skip


class WordVectors:
    """Word vectors from a corpus: WordVectors("skipgram", dim=100).fit("corpus.txt").vectors_.most_similar("king").

    method: a name in METHODS. loss: "ns" (negative sampling), "hs" (hierarchical softmax), "softmax" (the full one, O(V) a pair, for small
    vocabularies). window: words on either side, or "all" for sets without order, where everything is everything's context. sample: t of
    the subsampling, 0 for none. rate: the learning rate at the start. contexts: "window", or "syntax" with a CoNLL-U file (skipgram and
    svd). tokenizer, lowercase: as for `read_corpus`. settings: the method's own (METHODS[method].settings). What is None is the method's
    default.

    The constructor only stores. After `fit`: vectors_ (KeyedVectors), losses_ (of each epoch, in nats a training pair; J a cell for
    glove), corpus_, seconds_ ("read", "compile", "train"). One thread is exact: the same seed gives the same bytes.
    """

    def __init__(
        self, method: str = "skipgram", *, loss: str | None = None, dim: int | None = None, window: int | str | None = None,
        negative: int | None = None, epochs: int | None = None, min_count: int = 5, sample: float | None = None, rate: float | None = None,
        threads: int | None = None, seed: int = 1, tokenizer: str | Callable[[str], Sequence[str]] = "whitespace", lowercase: bool = False,
        contexts: str = "window", settings: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.method, self.loss, self.dim, self.window, self.negative, self.epochs = method, loss, dim, window, negative, epochs
        self.min_count, self.sample, self.rate, self.threads, self.seed = min_count, sample, rate, threads, seed
        self.tokenizer, self.lowercase, self.contexts, self.settings = tokenizer, lowercase, contexts, settings

    def fit(self, source: Any, watch: Watch | None = None) -> WordVectors:
        """Reads the corpus and trains; returns self. source: as for `read_corpus`, or a Corpus. watch: told (share done, words a second)
        now and then.

        Raises InputError for a corpus without two frequent words, an unknown method or setting, a value that cannot be.
        """
        method, chosen = self.chosen()
        started = time.perf_counter()
        if self.contexts == "syntax":
            self.corpus_: Any = self._dependencies(source)
        else:
            self.corpus_ = source if isinstance(source, Corpus) else self._read(source)
        self.seconds_ = {"read": time.perf_counter() - started, "compile": 0.0}
        started = time.perf_counter()
        fit = _fit_syntax if self.contexts == "syntax" else FITS[method.name]
        vectors, subwords, self.losses_, measured = fit(self.corpus_, method.name, chosen, watch)
        self.seconds_["train"] = time.perf_counter() - started
        self.seconds_.update(measured)
        self.vectors_ = KeyedVectors(self.corpus_.words, vectors, counts=self.corpus_.counts, subwords=subwords)
        return self

    def _read(self, source: Any) -> Corpus:
        return read_corpus(source, tokenizer=self.tokenizer, lowercase=self.lowercase, minimum_count=self.min_count)

    def _dependencies(self, source: Any) -> Any:
        from weft.vectors.syntax import is_conllu, read_dependencies

        if not is_conllu(source):
            raise InputError("syntactic contexts are read from a CoNLL-U file, NAME.conllu or NAME.conllu.gz", "contexts")
        if self.method not in ("skipgram", "svd") or self.loss not in (None, "ns"):
            raise InputError(
                f"syntax works with skipgram (negative sampling) and svd, not {self.method} {self.loss or ''}".rstrip(), "contexts"
            )
        return read_dependencies(source, lowercase=self.lowercase, minimum_count=self.min_count)

    def chosen(self) -> tuple[Method, dict[str, Any]]:
        """The method, and every value that training takes: what was given, else the method's default. Raises InputError for what cannot
        be."""
        if not isinstance(self.method, str) or self.method not in METHODS:
            raise InputError(f"there is no {self.method!r}{meant(str(self.method), METHODS)}; there are {', '.join(METHODS)}", "method")
        method = METHODS[self.method]
        if self.contexts not in ("window", "syntax"):
            raise InputError(f'must be "window" or "syntax", not {self.contexts!r}', "contexts")
        given = {name: getattr(self, name) for name in ("loss", "dim", "window", "negative", "epochs", "sample", "rate")}
        given = {name: value for name, value in given.items() if value is not None}
        if unused := [name for name in UNUSED.get(method.name, ()) if name in given]:
            log.warning("%s takes no %s: not used", method.name, " and no ".join(unused))
        chosen = {**DEFAULTS, "loss": method.losses[0] if method.losses else None, **method.defaults, **given, "seed": self.seed}
        chosen["threads"] = allowed_threads() if self.threads is None else self.threads
        if method.losses and chosen["loss"] not in method.losses:
            near = meant(str(chosen["loss"]).lower(), method.losses)
            raise InputError(f"must be {', '.join(method.losses)}, not {chosen['loss']!r}{near}", "loss")
        chosen["window"] = _window(chosen["window"])
        for name, (least, most) in WHOLE.items():
            value = {**chosen, "min_count": self.min_count}[name]
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value <= most:
                raise InputError(f"must be a whole number from {least} to {most}, not {value!r}", name)
            chosen[name] = int(value)
        for name, bounds in (("sample", "from 0 (no subsampling) to below 1"), ("rate", "above 0 and below 100")):
            value = chosen.get(name, 1e-3)
            fits = isinstance(value, int | float | np.number) and not isinstance(value, bool)
            if not (fits and (0 <= value < 1 if name == "sample" else 0 < value < 100)):
                raise InputError(f"must be {bounds}, not {value!r}", name)
            chosen[name] = float(value)
        return method, {**chosen, **self._own_settings(method)}

    def _own_settings(self, method: Method) -> dict[str, Any]:
        own = dict(method.settings)
        if not isinstance(self.settings, Mapping | None):
            raise InputError(f"must be a dict of names and values, not a {type(self.settings).__name__}", "settings")
        for name, value in (self.settings or {}).items():
            if name not in own:
                raise InputError(f"{method.name} has no setting {name!r}{meant(str(name), own)}; it has {', '.join(own)}", "settings")
            own[name] = _as(name, value, own[name])
        return own


def allowed_threads() -> int:
    """As many threads as this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _window(window: Any) -> int:
    """0 for "all". A number may be typed."""
    if isinstance(window, str) and window == "all":
        return 0
    typed = isinstance(window, str) and window.isascii() and window.isdigit() and len(window) < 10
    number = int(window) if typed or (isinstance(window, int | np.integer) and not isinstance(window, bool)) else 0
    if not 1 <= number < 10**9:
        raise InputError(f'must be a whole number of at least 1, or "all", not {window!r}', "window")
    return number


def _as(name: str, value: Any, default: Any) -> Any:
    """A setting as typed, in the type of its default."""
    if isinstance(default, bool):
        words = {"true": True, "yes": True, "false": False, "no": False}
        if isinstance(value, bool) or str(value).lower() in words:
            return value if isinstance(value, bool) else words[str(value).lower()]
        raise InputError(f"must be true or false, not {value!r}", name)
    if default is None and (value is None or str(value).lower() == "none"):
        return None
    kind: Any = int if default is None else type(default)
    try:
        made = None if isinstance(value, bool) else kind(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"must be {_like(default)}, not {value!r}", name) from None
    if made is None or (isinstance(made, float) and not np.isfinite(made)) or (kind is int and str(value) != str(made)):
        raise InputError(f"must be {_like(default)}, not {value!r}", name)
    return made


def _like(default: Any) -> str:
    if default is None:
        return "a whole number, or none"
    return f"{'a whole number' if isinstance(default, int) else 'a number' if isinstance(default, float) else 'a name'} like {default}"


Fitted = tuple[np.ndarray, Any, list[float], dict[str, float]]


def _fit_predictive(corpus: Corpus, method: str, chosen: dict[str, Any], watch: Watch | None) -> Fitted:
    from weft.vectors.fasttext import Subwords, mean_rows, subword_rows
    from weft.vectors.word2vec import Plan, train_word2vec

    names = (
        "loss",
        "dim",
        "window",
        "negative",
        "epochs",
        "sample",
        "rate",
        "threads",
        "seed",
        "exponent",
        "dynamic",
        "mean",
        "exact_mean",
    )
    plan = Plan(cbow=method.endswith("cbow"), **{name: chosen[name] for name in names if name in chosen})
    count = len(corpus.words)
    if not method.startswith("fasttext"):
        trained = train_word2vec(corpus, plan, watch=watch)
        return trained.inputs[:count], None, trained.losses, {"compile": trained.compile, "train": trained.seconds}
    shape = {"buckets": chosen["buckets"], "shortest": chosen["min_n"], "longest": chosen["max_n"]}
    rows, used = subword_rows(corpus.words, **shape)
    trained = train_word2vec(corpus, plan, rows=rows, watch=watch)
    vectors = mean_rows(trained.inputs, *rows)
    return vectors, Subwords(trained.inputs[count:], used, **shape), trained.losses, {"compile": trained.compile, "train": trained.seconds}


def _fit_glove(corpus: Corpus, method: str, chosen: dict[str, Any], watch: Watch | None) -> Fitted:
    from weft.vectors.glove import train_glove

    own = {name: chosen[name] for name in ("dim", "epochs", "x_max", "alpha", "contexts", "seed", "threads")}
    window = chosen["window"] or None
    weight = "flat" if window is None else chosen["weight"]
    vectors, info = train_glove(corpus.chunks, corpus.counts, window=window, weight=weight, learning_rate=chosen["rate"], **own)
    return vectors, None, info["losses"], {}


def _fit_svd(corpus: Corpus, method: str, chosen: dict[str, Any], watch: Watch | None) -> Fitted:
    from weft.vectors.counts import train_svd

    own = {name: chosen[name] for name in ("dim", "shift", "smoothing", "power", "sample", "seed", "threads")}
    window = chosen["window"] or None
    vectors, _ = train_svd(corpus.chunks, corpus.counts, window=window, weight="flat" if window is None else chosen["weight"], **own)
    return vectors, None, [], {}


def _fit_neural(corpus: Corpus, method: str, chosen: dict[str, Any], watch: Watch | None) -> Fitted:
    from weft.vectors.neural import train_neural

    if not chosen["window"]:
        raise InputError(f"{method} needs words in order: a number, not all", "window")
    names = ("dim", "window", "hidden", "epochs", "each", "examples", "direct", "noise", "seed", "threads")
    own = {name: chosen[name] for name in names if name in chosen}
    vectors, info = train_neural(method, corpus.chunks, corpus.counts, learning_rate=chosen["rate"], **own)
    return vectors, None, info["losses"], {}


FITS: dict[str, Callable[..., Fitted]] = {
    "skipgram": _fit_predictive, "cbow": _fit_predictive, "fasttext": _fit_predictive, "fasttext-cbow": _fit_predictive,
    "glove": _fit_glove, "svd": _fit_svd, "ngram": _fit_neural, "ranking": _fit_neural,
}  # fmt: skip


def _fit_syntax(found: Any, method: str, chosen: dict[str, Any], watch: Watch | None) -> Fitted:
    if method == "skipgram":
        from weft.vectors.word2vec import Plan, train_given

        names = ("dim", "negative", "epochs", "rate", "threads", "seed", "exponent")
        trained = train_given(found, Plan(sample=0, **{name: chosen[name] for name in names}), watch=watch)
        return trained.inputs, None, trained.losses, {"compile": trained.compile, "train": trained.seconds}
    from weft.vectors.counts import count_pairs, ppmi, truncated_svd

    words = np.repeat(found.ids, np.diff(found.starts))
    matrix = count_pairs(np.stack([words, found.targets], 1), len(found.words), len(found.contexts))
    factors = truncated_svd(ppmi(matrix, shift=chosen["shift"], smoothing=chosen["smoothing"]), chosen["dim"], seed=chosen["seed"])
    return factors.words(chosen["power"]).astype(np.float32), None, [], {}
