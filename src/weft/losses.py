"""Objectives: what a network is trained to make small, as named terms that are divided once.

A loss is called with a model and a batch, asks `model(batch)` for logits and answers terms, each a sum over examples and the
count it is to be divided by. Sum and count stay apart so that k micro-batches, or k processes, give exactly what one batch gives
(E11): whoever trains adds the sums and divides once, by the sum of `counts(batch)`, which is known before any forward pass.

Cross-entropy and its label smoothing: Szegedy et al., 2016. Multi-class margin: Crammer & Singer, 2001; its summed
form: Weston & Watkins, 1999.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from weft.errors import InputError, meant
from weft.nn.crf import chain_loss

IGNORED = -100


@dataclass
class Term:
    """One named part of an objective: `total`, a scalar sum over what was counted; `count`, what to divide it by; `weight`, its share."""

    total: Tensor
    count: float | Tensor
    weight: float = 1.0

    @property
    def value(self) -> Tensor:
        """total/count, a scalar; 0 (with a gradient of 0) where nothing was counted."""
        count = torch.as_tensor(self.count, dtype=self.total.dtype, device=self.total.device)
        return self.total / torch.where(count == 0, torch.ones_like(count), count) * (count != 0)


class Loss(Protocol):
    """What the training loop asks of an objective."""

    def __call__(self, model: Any, batch: Any) -> dict[str, Term]:
        """The terms of `batch` under `model`, by name."""
        ...

    def counts(self, batch: Any) -> dict[str, float]:
        """The count of each term, from the batch alone."""
        ...


@dataclass
class CrossEntropy:
    """Cross-entropy of softmax(logits), −Σ_k y_k log ŷ_k, from logits (E14).

    Targets: class ids (...), integers, where `ignore` marks positions that do not count; or soft labels (..., K), floats. Logits:
    (..., K). `smoothing` ε mixes each target with the uniform distribution: (1 − ε)·y + ε/K. `class_weights` w (K) weigh each
    class's part of the sum.

    The count is what `torch.nn.functional.cross_entropy` divides by: the targets counted or, with class weights and ids, Σ w of
    the targets; for soft labels the number of rows. Calling it raises InputError where targets and logits do not fit together, an
    id is not a class, or the first logits it sees are probabilities already.
    """

    smoothing: float = 0.0
    class_weights: Sequence[float] | Tensor | None = None
    ignore: int = IGNORED
    _checked: bool = field(default=False, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise InputError(f"label smoothing must lie in [0, 1), not {self.smoothing}")
        _check_weights(self.class_weights)

    def __call__(self, model: Any, batch: Any) -> dict[str, Term]:
        logits, targets = _widened(model(batch)), _targets(batch)
        if not self._checked:
            _refuse_probabilities(logits)
            self._checked = True
        if targets.is_floating_point():
            _check_same(logits, targets)
            flat = targets.reshape(-1, logits.shape[-1]).to(logits.dtype)
        else:
            _check_leading(logits, targets)
            flat = targets.reshape(-1).long()
        weights = _as_weights(self.class_weights, logits)
        settings: dict[str, Any] = {"weight": weights, "reduction": "sum", "label_smoothing": self.smoothing}
        try:
            total = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), flat, ignore_index=self.ignore, **settings)
        except IndexError as error:
            raise _not_a_class(targets, logits.shape[-1], self.ignore) from error
        return {"cross-entropy": Term(total, self._count(targets))}

    def counts(self, batch: Any) -> dict[str, float]:
        """What the term of `batch` is divided by, without a forward pass."""
        return {"cross-entropy": float(self._count(_targets(batch)))}

    def _count(self, targets: Tensor) -> float | Tensor:
        if targets.is_floating_point():
            return float(targets.numel() // targets.shape[-1])
        return _id_count(targets, self.class_weights, self.ignore)


@dataclass
class BinaryCrossEntropy:
    """Binary cross-entropy of σ(logits), softplus(o) − y·o, for labels that exclude one another or not (E14).

    Targets: floats in [0, 1], shaped as the logits (B, K), or (B) for logits (B, 1).
    The count is the number of entries, B·K, not of examples: total/count is torch's mean. Calling it raises InputError where
    shapes do not fit.
    """

    def __call__(self, model: Any, batch: Any) -> dict[str, Term]:
        targets = _targets(batch)
        logits = _aligned(_widened(model(batch)), targets)
        total = F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="sum")
        return {"binary": Term(total, float(targets.numel()))}

    def counts(self, batch: Any) -> dict[str, float]:
        """The number of entries, B·K."""
        return {"binary": float(_targets(batch).numel())}


@dataclass
class SquaredError:
    """Squared error Σ (o − y)², no factor of ½. Targets as the outputs, or (B) for outputs (B, 1); the count is their number of
    entries. Calling it raises InputError on other shapes."""

    def __call__(self, model: Any, batch: Any) -> dict[str, Term]:
        targets = _targets(batch)
        outputs = _aligned(_widened(model(batch)), targets)
        return {"squared": Term((outputs - targets.to(outputs.dtype)).square().sum(), float(targets.numel()))}

    def counts(self, batch: Any) -> dict[str, float]:
        """The number of target entries."""
        return {"squared": float(_targets(batch).numel())}


@dataclass
class Hinge:
    """Margin loss (E13). Its subgradient at the kink is 0.

    Targets that are ids (...) with logits (..., K): max(0, 1 − (o_t − max_{i≠t} o_i)), Crammer & Singer's; with form="sum",
    Σ_{i≠t} max(0, 1 − (o_t − o_i))/K, the one of torch's `multi_margin_loss`. Positions of id `ignore` do not count; with
    `class_weights` w the term of target t is multiplied by w_t and the count is Σ w_t.
    Targets that are floats 0 or 1, shaped as the logits (or (B) for (B, 1)): the binary form max(0, 1 − y·o) with y ∈ {−1, +1},
    counted by entry; no class weights there. Raises InputError where targets and logits do not fit, or an id is not a class.
    """

    form: str = "max"
    class_weights: Sequence[float] | Tensor | None = None
    ignore: int = IGNORED

    def __post_init__(self) -> None:
        if self.form not in ("max", "sum"):
            raise InputError(f"the hinge's form must be 'max' or 'sum', not {self.form!r}")
        _check_weights(self.class_weights)

    def __call__(self, model: Any, batch: Any) -> dict[str, Term]:
        logits, targets = _widened(model(batch)), _targets(batch)
        total = self._binary(logits, targets) if targets.is_floating_point() else self._classes(logits, targets)
        return {"hinge": Term(total, self._count(targets))}

    def counts(self, batch: Any) -> dict[str, float]:
        """What the term of `batch` is divided by, without a forward pass."""
        return {"hinge": float(self._count(_targets(batch)))}

    def _count(self, targets: Tensor) -> float | Tensor:
        if targets.is_floating_point():
            return float(targets.numel())
        return _id_count(targets, self.class_weights, self.ignore)

    def _binary(self, logits: Tensor, targets: Tensor) -> Tensor:
        if self.class_weights is not None:
            raise InputError("class weights need targets that are class ids; these are floats")
        sign = 2 * targets.to(logits.dtype) - 1
        return F.relu(1 - sign * _aligned(logits, targets)).sum()

    def _classes(self, logits: Tensor, targets: Tensor) -> Tensor:
        _check_leading(logits, targets)
        logits, targets = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1).long()
        real = targets != self.ignore
        own = targets.masked_fill(~real, 0)[:, None]
        try:
            lead = 1 - logits.gather(-1, own) + logits  # (N, K)
        except RuntimeError as error:
            raise _not_a_class(targets, logits.shape[-1], self.ignore) from error
        wrong = torch.ones_like(lead, dtype=torch.bool).scatter(-1, own, False)
        lead = F.relu(lead.masked_fill(~wrong, -torch.inf))  # relu rather than clamp: clamp passes a gradient at the kink
        each = lead.max(-1).values if self.form == "max" else lead.mean(-1)
        weights = _as_weights(self.class_weights, logits)
        if weights is not None:
            each = each * weights[own[:, 0]]
        return each.masked_fill(~real, 0).sum()


@dataclass
class TagLoss:
    """−log P of the tags of a sentence, for one column of tags or several, each a term under its name (E64, E65).

    The model gives {column: Emissions}; targets (B, T, columns) are ids in the order of `columns`, `IGNORED` where there is none. Without a
    chain each token is by itself, and `smoothing` as in CrossEntropy; `chained`: log Z − score, of the sentences that are tagged
    throughout. weights: each column's share, 1 where none is given. The count is the tokens that take part.
    """

    columns: tuple[str, ...]
    chained: bool = False
    weights: Mapping[str, float] = field(default_factory=dict)
    smoothing: float = 0.0

    def __call__(self, model: Any, batch: Any) -> dict[str, Term]:
        found, targets = model(batch), _targets(batch)
        counts = self.counts(batch)
        terms = {}
        for place, column in enumerate(self.columns):
            emissions, tags = found[column], targets[..., place]
            if self.chained:
                counted = batch.mask & self._whole(tags, batch.mask)[:, None]  # a row without tokens has a loss of 0
                total = chain_loss(replace(emissions, mask=counted), tags.masked_fill(~counted, 0)).sum()
            else:
                logits = _widened(emissions.logits)
                settings: dict[str, Any] = {"ignore_index": IGNORED, "reduction": "sum", "label_smoothing": self.smoothing}
                total = F.cross_entropy(logits.flatten(0, 1), tags.flatten(), **settings)
            terms[column] = Term(total, counts[column], self.weights.get(column, 1.0))
        return terms

    def counts(self, batch: Any) -> dict[str, float]:
        """How many tokens take part in each term."""
        targets, counts = _targets(batch), {}
        for place, column in enumerate(self.columns):
            counted = targets[..., place] != IGNORED
            if self.chained:
                counted &= self._whole(targets[..., place], batch.mask)[:, None]
            counts[column] = float(counted.sum())
        return counts

    @staticmethod
    def _whole(tags: Tensor, mask: Tensor) -> Tensor:
        return ((tags != IGNORED) | ~mask).all(1)


@dataclass
class TargetLoss:
    """−Σ_j log p(t_j | t_{<j}, x) of the targets of pairs, their end symbol included (E82).

    The model gives Predicted, logits (M, V) of all tokens of a batch's targets; `smoothing` as in CrossEntropy; the count is M. Under hard
    attention two terms more: "choice", whose gradient is the score-function estimate for what attention chose, what a choice is worth
    being the log-likelihood of the target from there on less the model's guess of it (E91); and "guess", the guess's squared error.
    """

    smoothing: float = 0.0

    def __call__(self, model: Any, batch: Any) -> dict[str, Term]:
        found, mask = model(batch), batch.pair.mask
        logits, targets = _widened(found.logits), batch.pair.inputs[mask]
        count = float(len(targets))
        terms = {"cross-entropy": Term(F.cross_entropy(logits, targets, reduction="sum", label_smoothing=self.smoothing), count)}
        if found.log_choice is not None:
            each = logits.new_zeros(mask.shape)
            each[mask] = -F.cross_entropy(logits.detach(), targets, reduction="none")
            rest = each.flip(1).cumsum(1).flip(1)[mask]  # (M,)
            terms["choice"] = Term(-((rest - found.guess.detach()) * found.log_choice).sum(), count)
            terms["guess"] = Term((found.guess - rest).square().sum(), count)
        return terms

    def counts(self, batch: Any) -> dict[str, float]:
        """The tokens of the targets."""
        return dict.fromkeys(("cross-entropy", "choice", "guess"), float(batch.pair.mask.sum()))


@dataclass
class NextToken:
    """−Σ_i log p(x_i | x_{<i}) of the tokens that count (E80), whose mean is the logarithm of the perplexity.

    The model gives Scored. Two penalties, where there is a gradient to take of them (Merity et al., 2018, section 4.5): activation ·
    mean h̃², of the last layer's states after dropout; temporal · mean (h_t − h_{t−1})², of those before it. Each a term of its own
    where it is not 0.
    """

    activation: float = 0.0
    temporal: float = 0.0

    def __call__(self, model: Any, batch: Any) -> dict[str, Term]:
        found, counts = model(batch), self.counts(batch)
        terms = {"cross-entropy": Term(found.losses.sum(), counts["cross-entropy"])}
        if found.hidden.requires_grad and self.activation:
            terms["activation"] = Term(found.dropped.float().square().mean(-1).sum(), counts["activation"], self.activation)
        if found.hidden.requires_grad and self.temporal:
            moved = (found.hidden[:, 1:] - found.hidden[:, :-1]).float().square().mean(-1).sum()
            terms["temporal"] = Term(moved, counts["temporal"], self.temporal)
        return terms

    def counts(self, batch: Any) -> dict[str, float]:
        """The tokens that count; positions; steps between them."""
        rows, length = batch.inputs.shape
        counted = float((_targets(batch) != IGNORED).sum())
        return {"cross-entropy": counted, "activation": float(rows * length), "temporal": float(rows * (length - 1))}


@dataclass
class Distillation:
    """What a teacher says beside what labels say, α·τ²·CE(softmax(z_t/τ), softmax(z_s/τ)) + (1 − α)·labels (E110; Hinton et al., 2015).

    logits (N, K): the teacher's, z_t, of every example by its number, `batch.source`. labels: the loss of the examples that have one;
    a target that is IGNORED, or NaN, is none. share: α. on="logits": the squared error of the logits, Σ(z_s − z_t)²/K, in the place of
    τ²·CE; it has no temperature (Ba & Caruana, 2014). several: labels do not exclude one another, and CE is the binary one of each.
    vectors (N, H): the model gives (logits, vectors (B, H)), and the squared error of these is a third term of weight `following` (Romero
    et al., 2015). Means are taken over rows (over entries, of several labels, logits and vectors), those of labels over what has one.
    Raises InputError for numbers that cannot be.
    """

    labels: Loss
    logits: Tensor = field(repr=False)
    temperature: float = 2.0
    share: float = 0.9
    on: str = "probabilities"
    several: bool = False
    vectors: Tensor | None = field(default=None, repr=False)
    following: float = 0.0
    digest: str = field(default="", init=False)  # of what the teacher said: another teacher's is another loss

    def __post_init__(self) -> None:
        check_distillation(self.temperature, self.share, self.on, self.following)
        told = [self.logits] if self.vectors is None else [self.logits, self.vectors]
        self.digest = hashlib.sha256(b"".join(part.numpy().tobytes() for part in told)).hexdigest()

    def __call__(self, model: Any, batch: Any) -> dict[str, Term]:
        outputs, counts = model(batch), self.counts(batch)
        logits = _widened(outputs if self.vectors is None else outputs[0])
        terms = {"teacher": Term(self._imitated(logits, self._of(self.logits, batch)), counts["teacher"], self.share)}
        known = self._labelled(batch)
        for name, term in self.labels(lambda _: logits[known], _Targets(batch.targets[known])).items():
            terms[name] = Term(term.total, term.count, (1 - self.share) * term.weight)
        if self.vectors is not None:
            far = (outputs[1].float() - self._of(self.vectors, batch)).square().sum()
            terms["vectors"] = Term(far, counts["vectors"], self.following)
        return terms

    def counts(self, batch: Any) -> dict[str, float]:
        """What each term is divided by."""
        rows, classes = len(batch.targets), self.logits.shape[1]
        entries = self.several or self.on == "logits"
        counts = {"teacher": float(rows * classes if entries else rows)}
        counts |= self.labels.counts(_Targets(batch.targets[self._labelled(batch)]))
        return counts if self.vectors is None else {**counts, "vectors": float(rows * self.vectors.shape[1])}

    def _imitated(self, student: Tensor, teacher: Tensor) -> Tensor:
        _check_same(student, teacher)
        if self.on == "logits":
            return (student - teacher).square().sum()
        heat = self.temperature
        if self.several:
            soft = F.binary_cross_entropy_with_logits(student / heat, (teacher / heat).sigmoid(), reduction="sum")
        else:
            soft = F.cross_entropy(student / heat, (teacher / heat).softmax(-1), reduction="sum")
        return heat**2 * soft

    @staticmethod
    def _of(told: Tensor, batch: Any) -> Tensor:
        """What was told of the examples of a batch, where its targets are."""
        return told[batch.source.to(told.device)].to(batch.targets.device)

    @staticmethod
    def _labelled(batch: Any) -> Tensor:
        targets = _targets(batch)
        known = ~targets.isnan() if targets.is_floating_point() else targets != IGNORED
        return known.reshape(len(known), -1).all(1)


@dataclass
class _Targets:
    """A batch of which only the targets are asked."""

    targets: Tensor


IMITATED = ("probabilities", "logits")


def check_distillation(temperature: float, share: float, on: str, following: float) -> None:
    """Raises InputError for settings of a Distillation that cannot be."""
    if not 0 < temperature < float("inf"):
        raise InputError(f"must be above 0, not {temperature}", "temperature")
    if not 0 <= share <= 1:
        raise InputError(f"must be from 0, labels alone, to 1, the teacher alone, not {share}", "share")
    if on not in IMITATED:
        raise InputError(f"there is no {on!r}{meant(on, IMITATED)}; there are {', '.join(IMITATED)}", "on")
    if not 0 <= following < float("inf"):
        raise InputError(f"must be finite and not negative, not {following}", "vectors")


@dataclass
class PretrainingLoss:
    """BERT's two objectives (E102, E103): "masked", −log p of each token that is asked for, and "next", of whether B follows A.

    The model gives PretrainingOutputs; targets as of models.pretraining. Each is divided by what it counts, tokens and pairs; with
    reduction="sum" both by the rows, so that a row's loss is the sum of its terms: three where two tokens are hidden. A batch in which
    nothing is asked, or no row has two texts, has a term of 0.
    """

    reduction: str = "mean"

    def __post_init__(self) -> None:
        if self.reduction not in ("mean", "sum"):
            raise InputError(f"must be 'mean' or 'sum', not {self.reduction!r}", "reduction")

    def __call__(self, model: Any, batch: Any) -> dict[str, Term]:
        found, counts = model(batch), self.counts(batch)
        terms = {"masked": Term(F.cross_entropy(_widened(found.logits), found.tokens, reduction="sum"), counts["masked"])}
        if found.following is not None:
            labels = _targets(batch)[:, 0]
            total = F.cross_entropy(_widened(found.following), labels, reduction="sum", ignore_index=IGNORED)
            terms["next"] = Term(total, counts["next"])
        return terms

    def counts(self, batch: Any) -> dict[str, float]:
        """The tokens and the pairs that are asked for; or the rows."""
        targets = _targets(batch)
        if self.reduction == "sum":
            return dict.fromkeys(("masked", "next"), float(len(targets)))
        return {"masked": float((targets[:, 1:] != IGNORED).sum()), "next": float((targets[:, 0] != IGNORED).sum())}


LOSSES: Mapping[str, type[CrossEntropy | BinaryCrossEntropy | SquaredError | Hinge]] = {
    "cross-entropy": CrossEntropy,
    "binary": BinaryCrossEntropy,
    "squared": SquaredError,
    "hinge": Hinge,
}


def _widened(logits: Tensor) -> Tensor:
    # Exponentials and long sums need more than half precision.
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def _targets(batch: Any) -> Tensor:
    if batch.targets is None:
        raise InputError("the batch has no targets to learn from")
    return batch.targets


def _check_weights(weights: Sequence[float] | Tensor | None) -> None:
    if weights is not None and any(not 0 <= float(weight) < float("inf") for weight in weights):
        raise InputError(f"class weights must be finite and not negative, not {list(weights)}")


def _as_weights(weights: Sequence[float] | Tensor | None, logits: Tensor) -> Tensor | None:
    if weights is None:
        return None
    if len(weights) != logits.shape[-1]:
        raise InputError(f"there are {len(weights)} class weights for logits of {logits.shape[-1]} classes")
    return torch.as_tensor(weights, dtype=logits.dtype, device=logits.device)


def _id_count(ids: Tensor, weights: Sequence[float] | Tensor | None, ignore: int) -> Tensor:
    real = ids != ignore
    if weights is None:
        return real.sum()
    table = torch.as_tensor(weights, dtype=torch.float64, device=ids.device)
    return table[ids.masked_fill(~real, 0).clamp(0, len(table) - 1)].masked_fill(~real, 0).sum()


def _aligned(outputs: Tensor, targets: Tensor) -> Tensor:
    """Outputs in the shape of the targets: (B, 1) meets (B). Anything else that differs would broadcast into nonsense."""
    if outputs.shape == (*targets.shape, 1):
        return outputs.squeeze(-1)
    _check_same(outputs, targets)
    return outputs


def _check_same(outputs: Tensor, targets: Tensor) -> None:
    if outputs.shape != targets.shape:
        found, needed = tuple(outputs.shape), tuple(targets.shape)
        raise InputError(f"the model's outputs have shape {found}, the targets {needed}; they must be the same")


def _check_leading(logits: Tensor, ids: Tensor) -> None:
    if logits.shape[:-1] != ids.shape:
        needed, found = (*ids.shape, "K"), tuple(logits.shape)
        raise InputError(f"targets of shape {tuple(ids.shape)} are ids and need logits of shape {needed}, not {found}")


def _not_a_class(ids: Tensor, classes: int, ignore: int) -> InputError:
    wrong = ids[(ids != ignore) & ((ids < 0) | (ids >= classes))]
    return InputError(f"target {int(wrong[0])} is not a class: ids go from 0 to {classes - 1}; {ignore} is for what does not count")


def _refuse_probabilities(logits: Tensor) -> None:
    """A softmax before this loss would be a second one: gradients shrink and nothing says so. Positive rows summing to 1 show it."""
    rows = logits.detach().reshape(-1, logits.shape[-1])
    if rows.shape[-1] > 1 and len(rows) and bool((rows >= 0).all()) and bool(((rows.sum(-1) - 1).abs() < 1e-5).all()):
        raise InputError("the model gave probabilities (each row sums to 1) where logits are needed: leave out its softmax")
