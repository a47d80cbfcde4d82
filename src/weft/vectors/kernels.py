"""The arithmetic that every predictive method shares, as Numba kernels: random draws, σ and its loss, and products over a few rows of a
large table.

A block is some examples that are trained at once: H (B, D) their hidden vectors, G (B, M) numbers for M rows of a table that `rows`
names, in turn scores, probabilities and gradients; A (B, D) the gradient of H. Four rows are taken in one sweep, since a processor can
multiply faster than it can load: three quarters of the loads and stores are saved. Only rows that are named are read or written. All is
float32; sums may be reordered by the compiler.

The three products are those of backpropagation through one linear layer (E27): scores H·Uᵀ, G·U for the inputs, Gᵀ·H for the table.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from weft.vectors.compiled import compiled, inlined, prefetched

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_UNIT = np.float32(2.0**-24)

LINE = 16  # numbers in a line of the processor's cache
LIMIT = np.float32(16)  # beyond ±16 σ is 0 or 1, to within 2e-7


@inlined
def mixed(state: Any) -> Any:
    """The random 64 bits of this state: SplitMix64 (Steele et al., 2014). The caller adds GOLDEN to the state before each draw."""
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    return state ^ (state >> np.uint64(31))


@inlined
def uniform(bits: Any) -> Any:
    """A float32 in [0, 1) of the lower 24 bits."""
    return np.float32(bits & np.uint64(0xFFFFFF)) * _UNIT


@inlined
def below(bits: Any, count: Any) -> Any:
    """A whole number in [0, count) of the upper 32 bits, count < 2³²."""
    return np.int64(((bits >> np.uint64(32)) * np.uint64(count)) >> np.uint64(32))


@inlined
def drawn(bits: Any, probability: Any, alias: Any) -> Any:
    """A draw from the distribution whose alias table (Walker, 1977) this is, in constant time."""
    row = below(bits, probability.shape[0])
    return row if uniform(bits) < probability[row] else np.int64(alias[row])


@compiled
def alias_table(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(probability float32, alias int32), both (V,), from which `drawn` draws row i with probability weights_i / Σ weights (Vose, 1991)."""
    count = weights.shape[0]
    scaled = weights * (count / weights.sum())
    probability, alias = np.ones(count, np.float32), np.arange(count).astype(np.int32)
    small, large = np.empty(count, np.int64), np.empty(count, np.int64)
    smalls = larges = 0
    for i in range(count):
        if scaled[i] < 1:
            small[smalls] = i
            smalls += 1
        else:
            large[larges] = i
            larges += 1
    while smalls and larges:
        smalls -= 1
        low, high = small[smalls], large[larges - 1]
        probability[low], alias[low] = scaled[low], high
        scaled[high] -= 1 - scaled[low]
        if scaled[high] < 1:
            larges -= 1
            small[smalls] = high
            smalls += 1
    return probability, alias


@inlined
def half_tanh(x: Any) -> Any:
    """tanh(x/2), x cut to ±16, by multiplications and divisions alone, so that a loop over it is vectorised.

    Lambert's continued fraction for tanh(x/8), to seven terms, then twice tanh 2y = 2 tanh y / (1 + tanh² y).
    """
    y = min(max(x, -LIMIT), LIMIT) * np.float32(0.125)
    square = y * y
    above = np.float32(135135) + square * (np.float32(17325) + square * (np.float32(378) + square))
    under = np.float32(135135) + square * (np.float32(62370) + square * (np.float32(3150) + square * np.float32(28)))
    t = y * above / under
    t = (t + t) / (np.float32(1) + t * t)
    return (t + t) / (np.float32(1) + t * t)


@inlined
def sigmoid(x: Any) -> Any:
    """σ(x) to within 3e-7 (E2)."""
    return np.float32(0.5) + np.float32(0.5) * half_tanh(x)


@inlined
def softplus_of(x: Any, t: Any) -> Any:
    """log(1 + eˣ) = −log σ(−x) of x whose half_tanh is t, to within 1e-6 (absolute up to 16, relative beyond).

    max(x, 0) − log σ(|x|), the logarithm by its series in s = (σ − 1)/(σ + 1), of which s² ≤ 1/9.
    """
    s = max(t, -t)
    s = (s - np.float32(1)) / (s + np.float32(3))
    square = s * s
    series = np.float32(1 / 7) + square * (np.float32(1 / 9) + square * np.float32(1 / 11))
    series = np.float32(1 / 3) + square * (np.float32(1 / 5) + square * series)
    return max(x, np.float32(0)) - (s + s) * (np.float32(1) + square * series)


@inlined
def softplus(x: Any) -> Any:
    """log(1 + eˣ), as `softplus_of`."""
    return softplus_of(x, half_tanh(x))


@compiled
def logistic(X: np.ndarray, count: int, width: int, sign: float, lost: np.ndarray) -> None:
    """X[b, m] = σ(sign · X[b, m]) and lost[b, m] = log(1 + e^(sign · X[b, m])), b < count, m < width.

    Few numbers are soon multiplied, but wait long for their divisions: where the rows are not much wider than what is asked for, all are
    taken in one sweep.
    """
    columns = X.shape[1]
    if columns <= 4 * width:
        flat, out = X.reshape(X.size), lost.reshape(lost.size)
        for i in range(count * columns):
            x = sign * flat[i]
            t = half_tanh(x)
            out[i] = softplus_of(x, t)
            flat[i] = np.float32(0.5) + np.float32(0.5) * t
        return
    for b in range(count):
        for m in range(width):
            x = sign * X[b, m]
            t = half_tanh(x)
            lost[b, m] = softplus_of(x, t)
            X[b, m] = np.float32(0.5) + np.float32(0.5) * t


@compiled
def add_rows(H: np.ndarray, A: np.ndarray, b: int, table: np.ndarray, rows: np.ndarray, low: int, high: int, share: float) -> None:
    """H[b] = share · Σ table[rows[i]], low ≤ i < high; A[b] = 0."""
    for d in range(H.shape[1]):
        H[b, d] = A[b, d] = np.float32(0)
    whole = low + (high - low) // 4 * 4
    for i in range(low, whole, 4):
        r0, r1, r2, r3 = rows[i], rows[i + 1], rows[i + 2], rows[i + 3]
        for d in range(H.shape[1]):
            H[b, d] += share * ((table[r0, d] + table[r1, d]) + (table[r2, d] + table[r3, d]))
    if high - whole >= 2:
        r0, r1 = rows[whole], rows[whole + 1]
        for d in range(H.shape[1]):
            H[b, d] += share * (table[r0, d] + table[r1, d])
    if (high - whole) % 2:
        r0 = rows[high - 1]
        for d in range(H.shape[1]):
            H[b, d] += share * table[r0, d]


@inlined
def fetch(table: Any, row: Any) -> Any:
    """Has a row of a table on its way from memory, which takes as long as multiplying several of them."""
    for d in range(0, table.shape[1], LINE):
        prefetched(table, row, d)


@compiled
def scores(H: np.ndarray, b: int, table: np.ndarray, rows: np.ndarray, low: int, high: int, G: np.ndarray) -> None:
    """G[b, m] = H[b] · table[rows[m]] for low ≤ m < high."""
    whole = low + (high - low) // 4 * 4
    for m in range(low, whole, 4):
        r0, r1, r2, r3 = rows[m], rows[m + 1], rows[m + 2], rows[m + 3]
        s0 = s1 = s2 = s3 = np.float32(0)
        for d in range(H.shape[1]):
            h = H[b, d]
            s0 += h * table[r0, d]
            s1 += h * table[r1, d]
            s2 += h * table[r2, d]
            s3 += h * table[r3, d]
        G[b, m], G[b, m + 1], G[b, m + 2], G[b, m + 3] = s0, s1, s2, s3
    if high - whole >= 2:
        r0, r1 = rows[whole], rows[whole + 1]
        s0 = s1 = np.float32(0)
        for d in range(H.shape[1]):
            s0 += H[b, d] * table[r0, d]
            s1 += H[b, d] * table[r1, d]
        G[b, whole], G[b, whole + 1] = s0, s1
    if (high - whole) % 2:
        r0, s0 = rows[high - 1], np.float32(0)
        for d in range(H.shape[1]):
            s0 += H[b, d] * table[r0, d]
        G[b, high - 1] = s0


@compiled
def block_scores(H: np.ndarray, count: int, table: np.ndarray, rows: np.ndarray, high: int, G: np.ndarray) -> None:
    """`scores` of the examples b < count and all rows m < high, two examples in one sweep."""
    whole = high // 4 * 4
    for b in range(0, count // 2 * 2, 2):
        for m in range(0, whole, 4):
            r0, r1, r2, r3 = rows[m], rows[m + 1], rows[m + 2], rows[m + 3]
            s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = np.float32(0)
            for d in range(H.shape[1]):
                h, k = H[b, d], H[b + 1, d]
                u0, u1, u2, u3 = table[r0, d], table[r1, d], table[r2, d], table[r3, d]
                s0 += h * u0
                s1 += h * u1
                s2 += h * u2
                s3 += h * u3
                t0 += k * u0
                t1 += k * u1
                t2 += k * u2
                t3 += k * u3
            G[b, m], G[b, m + 1], G[b, m + 2], G[b, m + 3] = s0, s1, s2, s3
            G[b + 1, m], G[b + 1, m + 1], G[b + 1, m + 2], G[b + 1, m + 3] = t0, t1, t2, t3
        scores(H, b, table, rows, whole, high, G)
        scores(H, b + 1, table, rows, whole, high, G)
    if count % 2:
        scores(H, count - 1, table, rows, 0, high, G)


@compiled
def pull(A: np.ndarray, b: int, table: np.ndarray, rows: np.ndarray, low: int, high: int, G: np.ndarray) -> None:
    """A[b] += Σ_m G[b, m] · table[rows[m]], low ≤ m < high."""
    whole = low + (high - low) // 4 * 4
    for m in range(low, whole, 4):
        r0, r1, r2, r3 = rows[m], rows[m + 1], rows[m + 2], rows[m + 3]
        g0, g1, g2, g3 = G[b, m], G[b, m + 1], G[b, m + 2], G[b, m + 3]
        for d in range(A.shape[1]):
            A[b, d] += g0 * table[r0, d] + g1 * table[r1, d] + g2 * table[r2, d] + g3 * table[r3, d]
    if high - whole >= 2:
        r0, r1, g0, g1 = rows[whole], rows[whole + 1], G[b, whole], G[b, whole + 1]
        for d in range(A.shape[1]):
            A[b, d] += g0 * table[r0, d] + g1 * table[r1, d]
    if (high - whole) % 2:
        r0, g0 = rows[high - 1], G[b, high - 1]
        for d in range(A.shape[1]):
            A[b, d] += g0 * table[r0, d]


@compiled
def push(table: np.ndarray, row: int, m: int, G: np.ndarray, H: np.ndarray, low: int, high: int) -> None:
    """table[row] += Σ_b G[b, m] · H[b], low ≤ b < high."""
    whole = low + (high - low) // 4 * 4
    for b in range(low, whole, 4):
        g0, g1, g2, g3 = G[b, m], G[b + 1, m], G[b + 2, m], G[b + 3, m]
        for d in range(H.shape[1]):
            table[row, d] += g0 * H[b, d] + g1 * H[b + 1, d] + g2 * H[b + 2, d] + g3 * H[b + 3, d]
    if high - whole >= 2:
        g0, g1 = G[whole, m], G[whole + 1, m]
        for d in range(H.shape[1]):
            table[row, d] += g0 * H[whole, d] + g1 * H[whole + 1, d]
    if (high - whole) % 2:
        g0 = G[high - 1, m]
        for d in range(H.shape[1]):
            table[row, d] += g0 * H[high - 1, d]
