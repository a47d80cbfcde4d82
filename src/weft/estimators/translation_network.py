"""The neural engine behind the Translator: pairs of texts → vocabularies → network; texts → texts, by a search."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from weft.data.batch import Batch, Batches
from weft.data.corruption import Corruption, Noise
from weft.data.tokenizers import Tokenizer, chosen_tokenizer, tokenizer_from_dict
from weft.data.vocabulary import PADDING, UNKNOWN
from weft.device import Compute, autocast
from weft.errors import InputError, meant
from weft.estimators.decoding import Translated, limits_of
from weft.estimators.engine import Engine, described_config
from weft.estimators.settings import Settings
from weft.generation.search import Beam, Greedy, Limits, Sample, generate
from weft.losses import Loss, TargetLoss
from weft.metrics import Metric
from weft.metrics_text import MEASURES
from weft.models.seq2seq import Seq2Seq, Seq2SeqConfig
from weft.training.loop import evaluate

log = logging.getLogger("weft")
Search = Greedy | Sample | Beam
NOT_COVERED = ("a coverage penalty needs attention", "attention is over")  # how a search refuses a model that does not attend to tokens
JOINED_BY_BLANKS = ("words", "whitespace", "wordpiece")


@dataclass
class Translations:
    """Sources, and for each the targets any of which is right: the first is learnt, all are measured against."""

    sources: Sequence[str]
    targets: Sequence[Sequence[str]]

    def __len__(self) -> int:
        return len(self.sources)


class TranslationNetwork(Engine):
    """Two tokenizers and an encoder-decoder that are trained, asked and saved together."""

    prediction_tokens = 8192
    source: Tokenizer
    target: Tokenizer
    model: Seq2Seq

    def __init__(self, settings: Settings, compute: Compute, seed: int) -> None:
        super().__init__("translation", settings, compute, seed)

    def build_for(self, data: Translations) -> None:
        given, targets = self.settings.tokenizer, [text for texts in data.targets for text in texts]
        kind, other = given["tokenizer"], given["target_tokenizer"] or given["tokenizer"]
        if given["shared"] and kind != other:
            raise InputError(f"one vocabulary of both sides is of one kind, not {kind!r} and {other!r}", "target_tokenizer")
        if not given["shared"] and self.settings.network["tied"] == "all":
            raise InputError("embeddings of both sides are one for one vocabulary: shared=True, or tied=output or none", "tied")
        if other == "hashing":
            raise InputError("hashed ids cannot be turned back into a text; another kind for the targets", "target_tokenizer")
        self.source = chosen_tokenizer(kind, [*data.sources, *targets] if given["shared"] else data.sources, given)
        self.target = self.source if given["shared"] else chosen_tokenizer(other, targets, given)
        network = {
            **self.settings.network,
            "encoder_settings": dict(self.settings.encoder),
            "decoder_settings": dict(self.settings.decoder),
        }
        config = Seq2SeqConfig(source_vocabulary=self.source.size, target_vocabulary=self.target.size, **network)
        self.model = self.draw(lambda: Seq2Seq(config))

    def rows(self, sources: Sequence[str]) -> list[np.ndarray]:
        """The ids of sources, cut where they are too long, or refused, as the settings say; said with a count."""
        limit, rows = self.settings.tokenizer["maximum_length"], self.source.encode_ids(sources)
        longer = [place for place, row in enumerate(rows) if limit and len(row) > limit]
        if longer and self.settings.tokenizer["too_long"] == "refuse":
            raise InputError(f"has {len(rows[longer[0]])} tokens, more than maximum_length={limit}", f"text {longer[0] + 1}")
        if longer:
            log.warning("%d of %d sources are longer than maximum_length=%d tokens and were cut there", len(longer), len(rows), limit)
        return [row[:limit] if limit else row for row in rows]

    def batches(self, data: Translations, *, shuffled: bool) -> Batches:
        sources, targets = self.rows(data.sources), self.target.encode_ids([texts[0] for texts in data.targets])
        limit = min(self.settings.tokenizer["maximum_length"] or sys.maxsize, self._room() - 1)
        kept = [place for place, row in enumerate(targets) if len(row) <= limit]
        if longer := len(targets) - len(kept):
            log.warning("%d of %d targets are longer than %d tokens, %s: left out", longer, len(targets), limit, self._why(limit))
        if targets and not kept:
            raise InputError(f"all {len(targets)} are longer than {limit} tokens, {self._why(limit)}", "targets")
        if unknown := sum(bool(len(row)) and bool((row == UNKNOWN).all()) for row in targets):
            log.warning("%d of %d targets have no token that the vocabulary knows", unknown, len(targets))
        end = np.array([self.model.end_symbol], np.int32)
        pairs = [np.concatenate([targets[place], end]) for place in kept]
        noise = self._noise() if shuffled else None
        return Batches([sources[place] for place in kept], pairs=pairs, noise=noise, **self.budgets(shuffled=shuffled))

    def _noise(self) -> Corruption | None:
        """What is done to sources in training (E85): what is hidden is the unknown token."""
        noise = Noise(**{field.name: self.settings.budget[f"noise_{field.name}"] for field in fields(Noise)})
        return None if noise.silent else Corruption(noise, UNKNOWN, self.seed)

    def _room(self) -> int:
        """How many tokens, the start symbol too, the decoder has positions for."""
        told = self.settings.decoder
        return int(told["maximum_positions"]) if told.get("positions") == "learned" else sys.maxsize

    def _why(self, limit: int) -> str:
        return "maximum_length" if limit == self.settings.tokenizer["maximum_length"] else "what the decoder has learned positions for"

    def loss(self, data: Translations) -> Loss:
        return TargetLoss(self.settings.budget["label_smoothing"])

    def metrics(self) -> Mapping[str, Metric]:
        return {}

    def monitor(self) -> str:
        return str(self.settings.budget["metric"])

    def checks(self, steps: int, steps_per_epoch: int) -> int:
        """As many as settings say in their own epochs, in fewer steps fewer, for translations take their time; one at least."""
        most = int(self.settings.budget["checks"])
        return min(most, math.ceil(most * steps / self.own_steps(steps_per_epoch)))

    def validation(self, dev: Translations, loss: Loss) -> Callable[[torch.nn.Module], dict[str, float]]:
        """The loss, and the metric of greedy translations of the first texts."""
        count, name = self.settings.budget["checked"] or len(dev), self.monitor()
        some = Translations(dev.sources[:count], dev.targets[:count])
        checked = self.batches(dev, shuffled=False)

        def validate(model: torch.nn.Module) -> dict[str, float]:
            found = evaluate(model, checked, {}, loss, self.compute.device)
            texts = [answers[0].text for answers in self.translated(some.sources, Greedy())]
            return {name: MEASURES[name](texts, some.targets), **found}

        return validate

    def translated(
        self, sources: Sequence[str], search: Search, *, weights: bool = False, limits: Mapping[str, Any] | None = None, stream: Any = None
    ) -> list[list[Translated]]:
        """The answers to each source, best first. limits: as of Limits; `maximum` is twice the source's tokens and ten unless given.

        Raises InputError for a limit there is not, or one beyond the decoder's learned positions.
        """
        rows = self.rows(sources)
        given = self._limits(limits, [len(row) for row in rows])
        copies = bool(self.settings.budget["copy_unknown"]) and self._unknown_can_come()
        self.model.eval()
        self.model.show_attention = weights or copies or bool(getattr(search, "coverage_penalty", 0.0))
        beams = getattr(search, "width", 1)
        found: list[list[Translated]] = [[] for _ in rows]
        try:
            with torch.inference_mode(), autocast(self.compute):
                for batch in Batches(rows, tokens=max(1, self.prediction_tokens // beams)):
                    places = batch.source.tolist()
                    allowed = Limits(**limits_of(given, places, len(rows)))
                    answers = generate(
                        self.model, batch.to(self.compute.device), search, count=len(batch), limits=allowed, numbers=places,
                        source_mask=batch.mask, stream=stream,
                    )  # fmt: skip
                    width = batch.inputs.shape[1] if copies else 0
                    for place, hypotheses in zip(places, answers, strict=True):
                        found[place] = [self._told(one, sources[place], rows[place], weights, width) for one in hypotheses]
        except ValueError as error:
            if str(error).startswith(NOT_COVERED):
                raise InputError(str(error), "coverage_penalty") from error
            raise
        finally:
            self.model.show_attention = False
        return found

    def _limits(self, limits: Mapping[str, Any] | None, lengths: Sequence[int]) -> dict[str, Any]:
        """Limits as they are given, with a maximum for each source of so many tokens, and without padding."""
        given, room = dict(limits or {}), self._room()
        there = [item.name for item in fields(Limits)]
        if wrong := next((name for name in given if name not in there), None):
            raise InputError(f"there is no {wrong!r}{meant(wrong, there)}; there are {', '.join(there)}", "limits")
        most = given.setdefault("maximum", [min(2 * length + 10, room) for length in lengths])
        if (longest := most if isinstance(most, int) else max(most, default=0)) > room:
            raise InputError(f"must be at most {room}, what the decoder has learned positions for, not {longest}", "maximum")
        return {**given, "forbidden": (PADDING, *given.get("forbidden", ()))}

    def _unknown_can_come(self) -> bool:
        return self.target.kind in ("words", "whitespace", "characters", "wordpiece")

    def _told(self, found: Any, source: str, row: np.ndarray, weights: bool, width: int) -> Translated:
        """width: of attention over the source's tokens, from which unknown ones are copied; 0: none are, nor where an encoder's states are
        not one for each token."""
        seen = None if found.attention is None else np.zeros((0, len(row)), np.float32)
        copies = bool(found.attention) and len(found.attention[0]) == width
        if found.attention:
            seen = torch.stack(list(found.attention))[:, : len(row)].float().cpu().numpy()
        tokens = self.pieces(found.ids)
        text = self._decoded(found.ids, source, seen if copies else None)
        return Translated(text, found.score, found.log_probability, tokens, seen if weights else None, found.finished)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Each token by itself, as text."""
        return [self.target.decode([number]) for number in ids]

    def _decoded(self, ids: Sequence[int], source: str, weights: np.ndarray | None) -> str:
        """The text of ids. An unknown token becomes, with weights, the source's token that was looked at most (Luong et al., 2015b)."""
        if weights is None or not weights.shape[1] or UNKNOWN not in ids:
            return self.target.decode(ids)
        offsets = self.source.encode(source).offsets
        parts = []
        for place, number in enumerate(ids):
            if number == UNKNOWN:
                start, end = offsets[int(weights[place].argmax())]
                parts.append(source[start:end])
            else:
                parts.append(self.target.decode([number]))
        return (" " if self.target.kind in JOINED_BY_BLANKS else "").join(parts)

    def maps(self, source: str, target: str) -> tuple[list[str], list[str], list[np.ndarray]]:
        """The tokens of a source, those of a target and its end symbol, each map of attention between them, (T, S) or (heads, T, S).

        Raises InputError for a model without attention, and for a target beyond the decoder's learned positions.
        """
        rows, ids = self.rows([source]), self.target.encode_ids([target])[0]
        if len(ids) >= self._room():
            raise InputError(f"has {len(ids)} tokens; the decoder has learned positions for {self._room() - 1}", "target")
        pair = np.append(ids, self.model.end_symbol)
        batch: Batch = Batches(rows, pairs=[pair], examples=1).gather(np.arange(1))
        self.model.eval()
        with torch.inference_mode(), autocast(self.compute):
            found: tuple[Tensor, ...] = self.model.maps(batch.to(self.compute.device))
        if not found:
            raise InputError("has no attention to show: all that its decoder has of a source is one vector", "model")
        offsets = self.source.encode(source).offsets[: len(rows[0])]
        return [source[a:b] for a, b in offsets], [*self.pieces(ids.tolist()), "</s>"], [one[0].float().cpu().numpy() for one in found]

    def saved(self) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
        """All there is to keep: (weights, config, tokenizers)."""
        target = None if self.target is self.source else self.target.to_dict()
        return self.arrays(), self.describe(), {"source": self.source.to_dict(), "target": target}

    def take(self, network: Mapping[str, Any], tokenizers: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """What a model folder holds. Raises InputError where its weights do not fit its config."""
        self.source = tokenizer_from_dict(tokenizers["source"])
        self.target = self.source if tokenizers["target"] is None else tokenizer_from_dict(tokenizers["target"])
        self.model = Seq2Seq(described_config(Seq2SeqConfig, network))
        self.take_up(arrays)
