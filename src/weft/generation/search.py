"""Text out of any decoder: one function over the contract of `weft.models.decoders`, start, step, reorder.

Sutskever et al. (2014) for beams over recurrent networks; the searches themselves are in `single` and `beam`, what answers may be in
`limits`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from weft.errors import InputError
from weft.generation.beam import Beam, BeamSearch
from weft.generation.hypotheses import Hypothesis, Stream
from weft.generation.limits import Limits, Rules
from weft.generation.single import Greedy, Sample, SingleSearch
from weft.models.decoders import Decoder

__all__ = ["Beam", "Greedy", "Hypothesis", "Limits", "Sample", "Stream", "generate"]

GREEDY, NO_LIMITS = Greedy(), Limits()


@torch.inference_mode()
def generate(
    model: Decoder,
    source: Any,
    search: Greedy | Sample | Beam = GREEDY,
    *,
    count: int,
    limits: Limits = NO_LIMITS,
    numbers: Sequence[int] | None = None,
    source_mask: Tensor | None = None,
    stream: Stream | None = None,
) -> list[list[Hypothesis]]:
    """The hypotheses of each of `count` sources, best first: one each, or a beam's n_best.

    source goes to model.start as it is. A model that is a Module should be in eval mode.
    numbers: what the sources are called, in errors and to `stream`, and where their random numbers come from; 0 … count − 1 unless told.
        With a source's number in all the data, samples are the same whatever the batches.
    source_mask (B, S): True for real positions, which a coverage penalty counts; nothing else reads it.
    stream: called with (number, ids so far, whether it is the last time) after every step, for every source that is still searched.

    A source is searched by itself: batch mates change nothing but the rounding of the model's own products. Raises InputError for limits
    that contradict each other or leave no token (naming the source), ValueError for a coverage penalty without mask or attention.
    """
    if count < 0 or (numbers is not None and len(numbers) != count):
        raise ValueError(f"{count=} sources, and {count if numbers is None else len(numbers)} numbers for them")
    if numbers is not None and min(numbers, default=0) < 0:
        raise InputError(f"must be at least 0, not {min(numbers)}", "numbers")
    rules = Rules(limits, model.end_symbol, range(count) if numbers is None else numbers, _device(model))
    if isinstance(search, Beam) and search.coverage_penalty and (source_mask is None or len(source_mask) != count):
        have = "none" if source_mask is None else f"{len(source_mask)} rows"
        raise ValueError(f"a coverage penalty needs source_mask, a row for each of {count} sources; there is {have}")
    if not count:
        return []
    if isinstance(search, Beam):
        beams = BeamSearch(model, search, rules, source_mask, stream).run(source)
        return [beams[place] for place in range(count)]
    single = SingleSearch(model, search, rules, stream).run(source)
    return [[single[place]] for place in range(count)]


def _device(model: Decoder) -> torch.device:
    """Where a Module's weights are; the CPU for anything else."""
    if isinstance(model, torch.nn.Module):
        for parameter in model.parameters():
            return parameter.device
    return torch.device("cpu")
