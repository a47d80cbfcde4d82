"""The shape of results.json: what the ladder writes, and the terminal table and the HTML report read.

Every rate is between 0 and 1 (accuracy 0.771), BLEU and chrF between 0 and 100 as everywhere; every time is in seconds unless its name says
`_ms`, every size in bytes. None means not measured, not asked for, or not defined (the standard deviation of one seed); numbers are finite.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

Status = Literal["done", "failed", "pending"]


class Finding(TypedDict):
    """One thing that a data check found; see weft.compare.checks."""

    kind: str  # "duplicates", "leakage-test", …
    level: Literal["warning", "note"]  # a warning can make the comparison's numbers wrong; a note is worth knowing
    count: int  # how many examples (or classes) it concerns
    examples: list[str]  # a few of them, with their lines where they have some
    message: str  # one line that a person understands


class Spread(TypedDict):
    """A metric over the seeds. `interval` is over examples: 95 %, seeds averaged first."""

    mean: float
    sd: float | None  # sample standard deviation over seeds; None for one seed
    values: list[float]  # one a seed
    interval: NotRequired[list[float] | None]  # [low, high]


class RungResult(TypedDict):
    """One row of the ladder. What comes after `settings` is None, or not there, until there are runs; "pending" may have some seeds."""

    name: str
    paper: str
    line: str  # what it is, in a line
    engine: NotRequired[str]  # "baseline", "fasttext" or "neural"
    status: Status
    error: str | None  # the failure in one line
    settings: dict[str, Any]
    steps: NotRequired[int | None]
    epochs: NotRequired[float | None]
    dev: NotRequired[Spread | None]
    test: NotRequired[Spread | None]  # None without a test set
    test_metrics: NotRequired[dict[str, float]]  # the other metrics, means over seeds
    p_value: NotRequired[float | None]  # paired against the best rung, on test (else dev); None for the best itself
    p_holm: NotRequired[float | None]
    train_seconds: NotRequired[float | None]  # mean over seeds
    texts_per_second: NotRequired[float | None]  # predicting in bulk
    latency_ms: NotRequired[float | None]  # median of one text by itself
    parameters: NotRequired[int | None]
    bytes: NotRequired[int | None]  # the saved model on disk


class Mistake(TypedDict):
    """An example that the best rung gets wrong; `confidence` in its wrong answer (None for regression). Of translation: source, reference,
    answer."""

    text: str
    label: str
    predicted: str
    confidence: float | None
    line: NotRequired[int]


class Best(TypedDict):
    """A closer look at the rung that is best on development data, on `split` ("test", or "dev" where there is no test set)."""

    name: str
    split: Literal["test", "dev"]
    seed: NotRequired[int]  # the run that is looked at
    confusion: list[list[int]] | None  # rows: true class, columns: predicted; None unless each text has one label
    labels: NotRequired[list[str]]  # the names of the confusion's rows and columns; dataset.labels when not there
    mistakes: list[Mistake]  # the most confident first
    report: dict[str, dict[str, float]]  # class → precision, recall, f1, support


class Projection(TypedDict):
    """What the learning curve promises for more examples."""

    size: int
    mean: float
    interval: list[float] | None
    sentence: str  # "500 more labelled texts would bring about +0.4 points (−0.2 to +1.1)"


class Curve(TypedDict):
    """Metric against the number of training examples, on development data."""

    rung: str
    sizes: list[int]
    mean: list[float]
    sd: list[float | None]
    projection: Projection | None


class DatasetFacts(TypedDict):
    """What was learned from and measured on."""

    name: str
    task: str
    train: int
    dev: int
    test: int | None
    labels: list[str]
    checks: list[Finding]
    split: NotRequired[str]  # where the split came from: "files given" or "80/10/10 at random, stratified, seed 0"


class Budget(TypedDict):
    """What each rung was given."""

    minutes: float | None
    seeds: list[int]
    trials: NotRequired[int | None]
    note: str


class VectorsFacts(TypedDict):
    """The word vectors that the neural rungs started from."""

    file: str
    sha256: str
    size: int  # of a vector
    words: int  # of the training data's vocabulary, as the first neural rung cuts it
    found: int  # how many of these have a vector
    by_subwords: int  # how many of those that were found are only made up from their characters
    sentence: str  # "vectors.vec: 12,345 of 15,000 words found (82%), 100-dimensional"
    modes: dict[str, str]  # each neural rung → "non-static", "static" or "multichannel"


class Results(TypedDict):
    """The whole of results.json. `rungs` stand in the ladder's order; `best` is None until a rung is done."""

    weft: str  # version
    command: str
    started: str  # ISO 8601
    dataset: DatasetFacts
    machine: dict[str, Any]
    budget: Budget
    metric: str  # the metric of dev and test, greater is better: a name of weft.metrics
    rungs: list[RungResult]
    best: Best | None
    curve: Curve | None
    note: NotRequired[str]  # why the rungs are compared by another metric than is usual; not there where it is the usual one
    vectors: NotRequired[VectorsFacts | None]  # None where no rung that started from them is done; not there where none were given
