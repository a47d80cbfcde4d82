"""Looking in: the states of a recurrent network over a text, neuron by neuron, and which of them follow something (E78).

Karpathy, Johnson and Fei-Fei (2016). `states_of` reads taggers and text models; anything else that has pieces of text and an array of
values makes its own `States`. Drawn by neurons_page.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from weft.data.schemes import scheme_of
from weft.errors import InputError
from weft.estimators.rungs import ladder

if TYPE_CHECKING:
    from torch import Tensor

    from weft.nn.recurrent import Recurrent

log = logging.getLogger("weft")
SHIFTS = 200


@dataclass(frozen=True)
class States:
    """What H neurons hold after each of T pieces of a text.

    pieces: T; values: (T, H) float32; names: H, what the neurons are called. gaps: the text before each piece, and after the last (T + 1),
    blanks where not given; notes: something to say of each piece (T), its tag or what comes next, say; what: which state it is.
    Raises ValueError where these do not fit together.
    """

    pieces: tuple[str, ...]
    values: np.ndarray
    names: tuple[str, ...]
    gaps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    what: str = "hidden state h"

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.pieces), len(self.names)):
            raise ValueError(f"{len(self.pieces)} pieces and {len(self.names)} names, but values of shape {self.values.shape}")
        if self.notes and len(self.notes) != len(self.pieces):
            raise ValueError(f"{len(self.pieces)} pieces but {len(self.notes)} notes")
        if not self.gaps:
            object.__setattr__(self, "gaps", ("", *[" "] * (len(self.pieces) - 1), ""))
        if len(self.gaps) != len(self.pieces) + 1:
            raise ValueError(f"{len(self.pieces)} pieces need {len(self.pieces) + 1} gaps, not {len(self.gaps)}")

    def __len__(self) -> int:
        return len(self.pieces)

    @cached_property
    def text(self) -> str:
        """All of it, gaps included."""
        return "".join(gap + piece for gap, piece in zip(self.gaps, (*self.pieces, ""), strict=True))

    @cached_property
    def starts(self) -> np.ndarray:
        """(T,) where each piece begins in the text."""
        lengths = [len(gap) + len(piece) for gap, piece in zip(self.gaps[:-1], self.pieces, strict=True)]
        return np.cumsum(lengths) - np.fromiter(map(len, self.pieces), np.int64, len(self.pieces))


@dataclass(frozen=True)
class Neuron:
    """One neuron: its column and name, its variance over the texts, and its correlation with what was asked for, where something was.

    asked: what that is.
    """

    number: int
    name: str
    variance: float
    correlation: float | None = None
    asked: str = ""


@dataclass(frozen=True)
class _Reading:
    """A text as a model reads it: its pieces, the recurrent networks they go through, and runs of the model, each over some of them."""

    pieces: Sequence[str]
    gaps: Sequence[str]
    networks: Sequence[Recurrent]
    runs: Sequence[Callable[[], object]]


def states_of(estimator: Any, text: str | Sequence[str], *, layer: int | None = None, cell: bool = False) -> States:
    """The states of a fitted TextClassifier, TextRegressor or Tagger over a text; of a Tagger also over a list of words.

    layer: counted from 1, the lowest; the top one if not given. cell: tanh(c) of an LSTM's memory c rather than h. A network that reads
    both ways has its forward neurons first. Text beyond the model's `maximum_length` is left out, aloud; a tagger reads it in pieces.
    h is the recurrence's own, before what a residual connection or `output_depth` adds; it is worked out in float32, step by step.
    Raises InputError for a model without a recurrent state, naming those with one, an unknown layer, a cell that has no c, no words.
    """
    import torch

    estimator._check_fitted()
    reading = _read(estimator, text)
    layers = [(network, number) for network in reading.networks for number in range(network.layers)]
    if layer is not None and not 1 <= layer <= len(layers):
        raise InputError(f"must be from 1 to {len(layers)}, the model's layers, not {layer}", "layer")
    network, number = layers[-1 if layer is None else layer - 1]
    kind: Any = network.cells[0]
    if cell and kind.states < 2:
        raise InputError(f"a {type(kind).__name__} has no memory c beside its state h; LSTMs have", "cell")
    if not reading.pieces:
        raise InputError("there is nothing to read: no words in it", "text")
    found = []
    with torch.inference_mode():
        for run in reading.runs:
            parts = [parts[1 if cell else 0] for parts in traced(network, _entering(network, run))[number]]
            found.append(torch.cat(parts, -1).float().cpu())
    values = torch.cat(found).numpy()
    values = np.tanh(values) if cell else values
    size = network.hidden_size
    sides = ("",) if network.directions == 1 else (", forward", ", backward")
    names = tuple(f"neuron {place * size + i}{side}" for place, side in enumerate(sides) for i in range(size))
    height = "" if len(layers) == 1 else f", layer {layer or len(layers)} of {len(layers)}"
    return States(
        tuple(reading.pieces), values, names, tuple(reading.gaps), what=f"{'memory, tanh(c)' if cell else 'hidden state h'}{height}"
    )


def traced(network: Recurrent, x: Tensor) -> list[list[tuple[Tensor, ...]]]:
    """x (T, D), a row without padding → for each layer, for each direction, the parts of the state, h or (h, c), each (T, H).

    The same network as `network(x)`, in evaluation, by one step of its cells after another: PyTorch's kernels keep no c but the last.
    """
    import torch

    below, layers = x.unsqueeze(1), []
    for layer in range(network.layers):
        states, outputs = [], []
        for direction in range(network.directions):
            index = layer * network.directions + direction
            step: Any = network.cells[index]
            state = step.zeros(below) if network.initial is None else tuple(network.initial[:, index])
            steps = []
            for projected in step.project(below.flip(0) if direction else below):
                state = step.step(projected, state)
                steps.append(state)
            parts = [torch.cat(part) for part in zip(*steps, strict=True)]  # (T, H) each, in the direction's own order
            parts = [part.flip(0) for part in parts] if direction else parts
            states.append(tuple(parts))
            outputs.append(step.read(parts[0]))
        given = torch.cat(outputs, -1).unsqueeze(1)
        below = given + below if network.residual and given.shape == below.shape else given
        layers.append(states)
    return layers


def _entering(network: Recurrent, run: Callable[[], object]) -> Tensor:
    """What a network reads while its model runs on one row: (T, D), padding left out."""
    caught: list[Tensor] = []

    def look(_: Any, given: tuple[Any, ...]) -> None:
        x, mask = given[0], given[1]
        caught.append(x[0, : int(mask[0].sum())].float())

    handle = network.register_forward_pre_hook(look)
    try:
        run()
    finally:
        handle.remove()
    return caught[0]


def _read(estimator: Any, text: str | Sequence[str]) -> _Reading:
    """The text as this estimator reads it."""
    model = getattr(estimator.engine_, "model", None)
    kind = next((known for known in READERS if known in {base.__name__ for base in type(estimator).__mro__}), None)
    if kind is None:
        raise InputError(f"a {type(estimator).__name__} cannot be looked into; {', '.join(READERS)} can", "model")
    if getattr(getattr(model, "config", None), "encoder", None) != "recurrent":
        have = [name for name, rung in ladder(estimator.task_).items() if rung.settings.get("encoder") == "recurrent"]
        raise InputError(f"{estimator.model!r} has no recurrent state to look into; those that have one: {', '.join(have)}", "model")
    assert model is not None
    model.eval()
    return READERS[kind](estimator, model, text)


def _text_model(estimator: Any, model: Any, text: str | Sequence[str]) -> _Reading:
    from weft.data.batch import pad

    if not isinstance(text, str):
        raise InputError(f"a {type(estimator).__name__} reads texts, not {type(text).__name__}", "text")
    engine = estimator.engine_
    encoding, limit = engine.tokenizer.encode(text), engine.settings.tokenizer["maximum_length"] or None
    pieces, gaps = pieces_of(text, encoding.offsets[:limit])
    if len(pieces) < len(encoding):
        log.warning("the model reads the first %d of %d pieces of a text: the rest is left out", len(pieces), len(encoding))
        gaps[-1] = " …"
    batch = pad([np.array(encoding.ids[:limit], np.int64)], np.zeros(1, np.int64))
    return _Reading(pieces, gaps, [model.encoder.encoder.recurrent], [lambda: model.encode(batch.to(engine.compute.device))])


def _tagger(estimator: Any, model: Any, text: str | Sequence[str]) -> _Reading:
    from weft.estimators.tag_network import Tagged, cut
    from weft.estimators.tagger import tokens_of

    engine = estimator.engine_
    words, offsets = tokens_of(text)
    pieces, gaps = (words, ["", *[" "] * (len(words) - 1), ""]) if offsets is None else pieces_of(str(text), offsets)
    limit = engine.settings.tokenizer["maximum_length"]
    parts = [part for part in cut([words], limit)[0] if len(part)]
    if len(parts) > 1:
        log.warning("a sentence of %d words is read in pieces of %d: the states begin anew in each", len(words), limit)

    def running(part: Sequence[str]) -> Callable[[], None]:
        def run() -> None:
            for batch in engine.batches(Tagged([part]), shuffled=False):
                model.states(batch.to(engine.compute.device))

        return run

    return _Reading(pieces, gaps, [encoder.recurrent for encoder in model.encoders], [running(part) for part in parts])


READERS: Mapping[str, Callable[[Any, Any, str | Sequence[str]], _Reading]] = {
    "TextClassifier": _text_model,
    "TextRegressor": _text_model,
    "Tagger": _tagger,
}


def pieces_of(text: str, offsets: Sequence[tuple[int, int]]) -> tuple[list[str], list[str]]:
    """(pieces, the gaps around them), together the text. A further token of the same characters (a byte of one) is an empty piece."""
    pieces, gaps, done = [], [], 0
    for start, end in offsets:
        first = max(start, done)
        gaps.append(text[done:first])
        pieces.append(text[first:end])
        done = max(done, end)
    return pieces, [*gaps, text[done:]]


# Which neurons are worth a look


def correlations(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """values (T, H), mask (T,) bool or numbers → (H,) Pearson's r with each neuron, float64; 0 for one that never changes.

    Raises InputError where the mask never changes.
    """
    if len(mask) != len(values):
        raise ValueError(f"a mask of {len(mask)} for {len(values)} pieces")
    wanted = np.asarray(mask, np.float64)
    if not len(wanted) or wanted.min() == wanted.max():
        raise InputError("is the same everywhere in these texts: nothing can follow it", "what to correlate with")
    return _standard(wanted[:, None])[:, 0] @ _standard(values) / len(wanted)


def _standard(values: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and variance 1; zeros for one that never changes."""
    centred = values.astype(np.float64) - values.mean(0, dtype=np.float64)
    spread = np.sqrt((centred**2).mean(0))
    return np.where(spread > 1e-9, centred / np.where(spread > 1e-9, spread, 1), 0)


def chance(values: np.ndarray, mask: np.ndarray) -> float:
    """What the best |r| of all neurons comes to by chance: 95 % of turned masks stay at or below it.

    The mask is turned round in time by up to `SHIFTS` different distances, which keeps its runs and breaks its tie to the states; of H
    neurons the best is always better than nothing, the more so in short texts.
    """
    turns = np.unique(np.linspace(1, len(mask) - 1, SHIFTS).astype(np.int64)) if len(mask) > 1 else np.zeros(0, np.int64)
    if not len(turns):
        return 1.0
    wanted, states = _standard(np.asarray(mask, np.float64)[:, None])[:, 0], _standard(values)
    best = [float(np.abs(np.roll(wanted, turn) @ states).max()) / len(wanted) for turn in turns.tolist()]
    return float(np.quantile(best, 0.95, method="higher"))


def stacked(texts: Sequence[States]) -> np.ndarray:
    """The values of several texts, one below another. Raises ValueError where they are not of the same neurons."""
    if any(each.names != texts[0].names for each in texts):
        raise ValueError("states of different neurons")
    return np.concatenate([each.values for each in texts])


def chosen(
    texts: Sequence[States], *, numbers: Sequence[int] | None = None, top: int = 12, masks: Mapping[str, np.ndarray] | None = None
) -> list[Neuron]:
    """Neurons to be shown: those of these numbers; else, by what `masks` {name: (T,) over all texts} holds, the `top` by the largest |r|
    with the mask, or with several masks the best for each; else the `top` by the largest variance.

    Raises InputError for a number that there is not, and for top below 1.
    """
    values, names = stacked(texts), texts[0].names
    if top < 1:
        raise InputError(f"must be at least 1, not {top}", "top")
    if wrong := next((number for number in numbers or () if not 0 <= number < len(names)), None):
        raise InputError(f"there is no neuron {wrong}: the layer has {len(names)}, from 0 to {len(names) - 1}", "neurons")
    variances = values.var(0, dtype=np.float64)
    found = {asked: correlations(values, mask) for asked, mask in (masks or {}).items()}
    asked = next(iter(found), "")
    if numbers is not None:
        picked = [(number, asked) for number in dict.fromkeys(numbers)]
    elif len(found) > 1:
        picked = [(int(np.abs(r).argmax()), name) for name, r in found.items()]
    else:
        worth = np.abs(found[asked]) if found else variances
        picked = [(number, asked) for number in np.argsort(-worth, kind="stable")[:top].tolist()]
    return [
        Neuron(number, names[number], float(variances[number]), float(found[name][number]) if found else None, name)
        for number, name in picked
    ]


# Masks: what a neuron may follow

PAIRS = {"brackets": "[]", "parentheses": "()", "braces": "{}", "quotes": "“”"}
INSIDE = (*PAIRS, "url")


def inside(text: str, what: str) -> np.ndarray:
    """(len(text),) bool: which characters lie within brackets, parentheses, braces, quotes or a URL.

    The opening mark counts and the closing one does not, as one knows it who reads forwards; what is never closed is not inside, and
    quotes close on their own line. Raises InputError for another `what`.
    """
    import re

    if what not in INSIDE:
        raise InputError(f"{what!r} is not known; there are {', '.join(INSIDE)}", "by")
    within = np.zeros(len(text), bool)
    spans = [match.span() for match in re.finditer(r"(?:https?://|www\.)\S+", text)] if what == "url" else list(_pairs(text, *PAIRS[what]))
    if what == "quotes":
        spans += [(match.start(), match.end() - 1) for match in re.finditer(r'"[^"\n]*"', text)]
    for start, end in spans:
        within[start:end] = True
    return within


def _pairs(text: str, opening: str, closing: str) -> Iterator[tuple[int, int]]:
    """(place of an opening mark, place of its closing one), nested ones too."""
    waiting = []
    for place, character in enumerate(text):
        if character == opening:
            waiting.append(place)
        elif character == closing and waiting:
            yield waiting.pop(), place


def inside_masks(texts: Sequence[States], what: str) -> np.ndarray:
    """(T,) bool over all texts: which pieces begin within brackets, quotes, a URL …"""
    return np.concatenate([inside(each.text, what)[np.minimum(each.starts, len(each.text) - 1)] for each in texts])


def tag_masks(tags: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
    """{tag: (T,) bool over all sentences}; where the tags are spans also {type: which tokens are in one of that type}. Only those that some
    tokens have and some have not."""
    flat = np.array([tag for sentence in tags for tag in sentence], dtype=object)
    masks = {tag: flat == tag for tag in sorted(set(flat.tolist()))}
    if scheme_of(tags) is not None:
        types = np.array([tag[2:] for tag in flat.tolist()], dtype=object)
        masks |= {kind: types == kind for kind in sorted(set(types.tolist())) if kind and kind not in masks}
    return {name: mask for name, mask in masks.items() if 0 < mask.sum() < len(mask)}


def with_notes(states: States, notes: Sequence[str]) -> States:
    """The same states, with something to say of each piece."""
    return replace(states, notes=tuple(notes))
