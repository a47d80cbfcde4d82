"""word2vec: skip-gram and CBOW under negative sampling, hierarchical softmax or the full softmax, on all threads (E39–E47; Mikolov et
al., 2013).

The rate falls in a line with the share of tokens read (true progress, of all threads). One thread is exact and repeatable: every draw is
a function of the seed, the epoch and the chunk of the corpus. Several threads write into the same tables without locks (Niu et al.,
2011), and end a little differently each time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from weft.errors import InputError
from weft.huffman import huffman_paths
from weft.vectors import steps
from weft.vectors.corpus import BOUNDARY, Corpus, keep_probabilities
from weft.vectors.kernels import alias_table
from weft.vectors.ranks import Ranks, shared_work
from weft.vectors.syntax import Dependencies

log = logging.getLogger("weft")

POOL = 4  # times `negative` words are drawn for a block of eight centres of skip-gram
LOSSES = ("ns", "hs", "softmax")
GIVEN = 20_000  # words whose contexts are given, trained as one chunk
Work = Callable[[int, int, np.uint64, np.ndarray], tuple[float, int]]  # (chunk, thread, random state, progress) → (loss, pairs)
Watch = Callable[[float, float], None]  # (share of the work that is done, words a second)


@dataclass
class Trained:
    """inputs (R, D): word vectors first, then those of character n-grams; outputs (O, D): of words, or of the tree's inner nodes. losses:
    the mean loss of a training pair in each epoch, in nats; seconds: of the training loop alone; words: tokens read in it; compile:
    seconds until the kernels were there."""

    inputs: np.ndarray
    outputs: np.ndarray
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    words: int = 0
    compile: float = 0.0


@dataclass(frozen=True)
class Plan:
    """How to train. window: 0 for all of a sentence (a set, without order). exponent: of the noise's counts; dynamic: the window of each
    centre is drawn from 1 … window; mean: CBOW's and n-grams' vectors are averaged, not summed; exact_mean: their gradient is divided too
    (E41)."""

    cbow: bool = False
    loss: str = "ns"
    dim: int = 100
    window: int = 5
    negative: int = 5
    epochs: int = 5
    sample: float = 1e-3
    rate: float = 0.025
    threads: int = 1
    seed: int = 1
    exponent: float = 0.75
    dynamic: bool = True
    mean: bool = True
    exact_mean: bool = False


def keep_probability(counts: np.ndarray, sample: float) -> np.ndarray:
    """The chance of each word to survive subsampling, min(1, √(t/f) + t/f), float32; all 1 with sample = 0 (E47)."""
    if not sample:
        return np.ones(len(counts), np.float32)
    return keep_probabilities(counts, sample).astype(np.float32)


def noise_weights(counts: np.ndarray, exponent: float = 0.75) -> np.ndarray:
    """count^exponent, of which negatives are drawn in proportion (E47). Raises InputError where that is too large or small for a number."""
    with np.errstate(over="ignore"):
        weights = np.asarray(counts, np.float64) ** exponent
    if not (np.isfinite(weights.sum()) and weights.sum() > 0):
        raise InputError(f"counts to the power of {exponent} are no numbers any more; 0.75 is usual", "exponent")
    return weights


def identity_rows(count: int) -> tuple[np.ndarray, np.ndarray]:
    """(starts, rows) where every word has one row, its own."""
    return np.arange(count + 1, dtype=np.int64), np.arange(count, dtype=np.int32)


def make_tables(
    plan: Plan,
    counts: np.ndarray,
    rows: tuple[np.ndarray, np.ndarray],
    targets: np.ndarray | None = None,
    generator: np.random.Generator | None = None,
) -> steps.Tables:
    """Fresh tables: inputs uniform in ±½/dim, outputs 0, as the original program starts. targets: counts of what is predicted, where it
    is not the words."""
    targets = counts if targets is None else targets
    starts, ids = rows
    generator = np.random.default_rng(plan.seed) if generator is None else generator
    inputs = generator.random((int(ids.max()) + 1, plan.dim), np.float32)
    inputs -= np.float32(0.5)
    inputs /= np.float32(plan.dim)
    paths, nodes, bits = (
        huffman_paths(targets) if plan.loss == "hs" else (np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.uint8))
    )
    probability, alias = alias_table(noise_weights(targets, plan.exponent))
    outputs = np.zeros((max(1, len(targets) - (plan.loss == "hs")), plan.dim), np.float32)
    keep = keep_probability(counts, plan.sample)
    return steps.Tables(inputs, outputs, starts, ids, keep, probability, alias, paths, nodes, (1 - bits).astype(np.float32))


def train_word2vec(corpus: Corpus, plan: Plan, *, rows: tuple[np.ndarray, np.ndarray] | None = None, watch: Watch | None = None) -> Trained:
    """Trains on a corpus. rows: (starts (V + 1,), rows of the input table), those of word w at starts[w]:starts[w + 1]; its own if not
    given.

    watch is called now and then with the share that is done. Under torchrun every process takes its share of the corpus (`ranks`).
    Raises InputError for a plan that cannot be, a corpus of one word, or a loss that is no number any more.
    """
    check_plan(plan, len(corpus.words))
    tables = make_tables(plan, corpus.counts, identity_rows(len(corpus.words)) if rows is None else rows)
    longest = max(longest_sentence(chunk) for chunk in corpus.chunks())
    pool = drawn_for_block(plan)
    spaces = [steps.space(tables, window=plan.window, longest=longest, pool=pool, loss=plan.loss) for _ in range(plan.threads)]

    def call(ids: np.ndarray, options: steps.Options, thread: int, state: np.uint64, progress: np.ndarray) -> tuple[float, int]:
        arguments = ids, tables, options, spaces[thread], progress, thread, state
        found = steps.train_paths(*arguments) if plan.loss == "hs" else steps.train_blocks(*arguments, plan.loss == "softmax")
        return float(found[0]), int(found[1])

    compiled = first_call(lambda: call(np.empty(0, np.int32), _options(plan, 1.0), 0, np.uint64(0), np.zeros((1, 8), np.int64)))
    with shared_work() as ranks:
        numbers = ranks.mine(len(corpus))
        total = (
            plan.epochs * sum(int((corpus.chunk(number) >= 0).sum()) for number in numbers) if ranks.many else plan.epochs * corpus.tokens
        )
        options = _options(plan, max(total, 1))
        trained = run_epochs(lambda number, *rest: call(corpus.chunk(number), options, *rest), numbers, tables, plan, total, watch, ranks)
    trained.compile = compiled
    return trained


def train_given(found: Dependencies, plan: Plan, *, watch: Watch | None = None) -> Trained:
    """Skip-gram with negative sampling on words and contexts that are given, the contexts with a vocabulary of their own (Levy &
    Goldberg, 2014)."""
    check_plan(plan, len(found.words))
    if plan.loss != "ns":
        raise InputError(f"must be ns where contexts are given, not {plan.loss!r}", "loss")
    tables = make_tables(plan, found.counts, identity_rows(len(found.words)), found.context_counts)
    pool = drawn_for_block(plan)
    spaces = [steps.space(tables, window=1, longest=1, pool=pool, loss="ns") for _ in range(plan.threads)]
    widest = int(np.diff(found.starts).max()) * steps.BLOCK  # no block has more contexts
    spaces = [
        space._replace(P=np.zeros((steps.BLOCK, widest), np.float32), lost=np.zeros((steps.BLOCK, widest), np.float32)) for space in spaces
    ]
    bounds = [*range(0, len(found.ids), GIVEN), len(found.ids)]
    options = _options(plan, plan.epochs * len(found.ids))

    def work(number: int, thread: int, state: np.uint64, progress: np.ndarray) -> tuple[float, int]:
        first, last = bounds[number], bounds[number + 1]
        starts = found.starts[first : last + 1]
        targets = found.targets[starts[0] : starts[-1]]
        own = spaces[thread]
        loss, pairs = steps.train_pairs(found.ids[first:last], starts - starts[0], targets, tables, options, own, progress, thread, state)
        return float(loss), int(pairs)

    with shared_work() as ranks:
        return run_epochs(work, ranks.mine(len(bounds) - 1), tables, plan, options.total, watch, ranks)


def drawn_for_block(plan: Plan) -> int:
    """Negatives that eight centres of skip-gram share, or that each of CBOW has to itself."""
    return plan.negative if plan.cbow else POOL * plan.negative


def first_call(call: Callable[[], object]) -> float:
    """Seconds until the kernels are there: found on disk, or compiled, which is said where it takes longer than a second."""
    started = time.perf_counter()
    said = threading.Timer(1.0, log.info, ("compiling the training kernels: some seconds, once on this machine",))
    said.daemon = True
    said.start()
    call()
    said.cancel()
    return time.perf_counter() - started


def longest_sentence(chunk: np.ndarray) -> int:
    """Tokens of the longest sentence of a chunk, at least 1 and at most what is trained as one."""
    ends = np.flatnonzero(chunk == BOUNDARY)
    longest = np.diff(np.concatenate([[-1], ends, [len(chunk)]])).max()
    return int(min(max(longest, 1), steps.LONGEST))


def _options(plan: Plan, total: float) -> steps.Options:
    return steps.Options(plan.window, plan.dynamic, plan.cbow, plan.mean, plan.exact_mean, plan.negative, float(plan.rate), float(total))


def check_plan(plan: Plan, words: int) -> None:
    """Raises InputError, naming the argument, for what cannot be."""
    if plan.loss not in LOSSES:
        raise InputError(f"must be {', '.join(LOSSES)}, not {plan.loss!r}", "loss")
    least = {"dim": 1, "window": 0, "negative": 1, "epochs": 1, "threads": 1, "seed": 0}
    for name, low in least.items():
        if getattr(plan, name) < low:
            raise InputError(f"must be at least {low}, not {getattr(plan, name)}", name)
    if not 0 <= plan.sample < 1:
        raise InputError(f"must be from 0 (no subsampling) to below 1, not {plan.sample}", "sample")
    if not 0 < plan.rate < 100:
        raise InputError(f"must be above 0 and below 100, not {plan.rate}", "rate")
    if words < 2:
        raise InputError("one word alone has nothing to be told from: a larger corpus or a lower min_count is wanted", "the corpus")


def run_epochs(
    work: Work, chunks: Sequence[int], tables: steps.Tables, plan: Plan, total: float, watch: Watch | None, ranks: Ranks
) -> Trained:
    """Every epoch goes through all chunks, each handed to the next free thread. Raises InputError where the loss is no number any more."""
    progress = np.zeros((plan.threads, 8), np.int64)  # a cache line for each thread
    trained = Trained(tables.inputs, tables.outputs)
    started = time.perf_counter()

    def say() -> None:
        if watch is not None:
            done = int(progress[:, 0].sum())
            watch(min(1.0, done / max(total, 1)), done / (time.perf_counter() - started))

    for epoch in range(plan.epochs):
        sums = np.zeros(2)
        for part in np.array_split(np.asarray(chunks, np.int64), ranks.rounds):
            before = ranks.remember(tables)
            sums += _threads(work, part.tolist(), plan, epoch, progress, say)
            ranks.join(tables, before)
        sums = ranks.summed(sums)
        if not np.isfinite(sums[0]):
            raise InputError(f"the loss is {sums[0]} in epoch {epoch + 1}: a lower learning rate keeps it finite", "rate")
        trained.losses.append(float(sums[0] / max(sums[1], 1)))
    trained.seconds, trained.words = time.perf_counter() - started, int(progress[:, 0].sum())
    return trained


def _threads(work: Work, chunks: list[int], plan: Plan, epoch: int, progress: np.ndarray, say: Callable[[], None]) -> np.ndarray:
    """(loss, pairs) of the chunks, summed over the threads that shared them."""
    waiting: Iterator[int] = iter(chunks)
    lock, stop = threading.Lock(), threading.Event()
    sums = np.zeros((plan.threads, 2))
    failures: list[BaseException] = []

    def worker(thread: int) -> None:
        try:
            while not stop.is_set():
                with lock:
                    number = next(waiting, None)
                if number is None:
                    return
                state = np.random.SeedSequence([plan.seed, epoch, number]).generate_state(1, np.uint64)[0]
                sums[thread] += work(number, thread, state, progress)
        except BaseException as error:
            failures.append(error)
            stop.set()

    threads = [threading.Thread(target=worker, args=(thread,), daemon=True) for thread in range(plan.threads)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(0.2)
                say()
    except KeyboardInterrupt:
        stop.set()
        raise
    if failures:
        raise failures[0]
    total: np.ndarray = sums.sum(0)
    return total
