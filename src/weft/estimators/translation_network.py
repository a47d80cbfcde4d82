"""The neural engine behind the Translator: pairs of texts → vocabularies → network; texts → texts, by a search."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from weft.data.batch import Batch, Batches
from weft.data.tokenizers import TOKENIZERS, Tokenizer, tokenizer_from_dict, train_tokenizer
from weft.data.vocabulary import PADDING, UNKNOWN
from weft.device import Compute, autocast
from weft.errors import InputError
from weft.estimators.decoding import Translated
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
        self.source = self._learnt(kind, [*data.sources, *targets] if given["shared"] else data.sources)
        self.target = self.source if given["shared"] else self._learnt(other, targets)
        network = {
            **self.settings.network,
            "encoder_settings": dict(self.settings.encoder),
            "decoder_settings": dict(self.settings.decoder),
        }
        config = Seq2SeqConfig(source_vocabulary=self.source.size, target_vocabulary=self.target.size, **network)
        self.model = self.draw(lambda: Seq2Seq(config))

    def _learnt(self, kind: str, texts: Sequence[str]) -> Tokenizer:
        takes = inspect.signature(TOKENIZERS[kind].train).parameters
        given = {name: self.settings.tokenizer[name] for name in ("lowercase", "minimum_count", "maximum_size", "pattern")}
        return train_tokenizer(
            kind, texts, **{name: value for name, value in given.items() if value is not None and (value or name in takes)}
        )

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
        limit = self.settings.tokenizer["maximum_length"] or max(map(len, targets), default=0)
        kept = [place for place, row in enumerate(targets) if len(row) <= limit]
        if len(kept) < len(targets):
            log.warning(
                "%d of %d targets are longer than maximum_length=%d tokens: left out", len(targets) - len(kept), len(targets), limit
            )
        end = np.array([self.model.end_symbol], np.int32)
        pairs = [np.concatenate([targets[place], end]) for place in kept]
        return Batches([sources[place] for place in kept], pairs=pairs, **self.budgets(shuffled=shuffled))

    def loss(self, data: Translations) -> Loss:
        return TargetLoss(self.settings.budget["label_smoothing"])

    def metrics(self) -> Mapping[str, Metric]:
        return {}

    def monitor(self) -> str:
        return str(self.settings.budget["metric"])

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
        """The answers to each source, best first. limits: as of Limits; `maximum` is twice the source's tokens and ten unless given."""
        rows, given = self.rows(sources), dict(limits or {})
        copies = bool(self.settings.budget["copy_unknown"]) and self._unknown_can_come()
        self.model.eval()
        self.model.show_attention = weights or copies or bool(getattr(search, "coverage_penalty", 0.0))
        beams = getattr(search, "width", 1)
        found: list[list[Translated]] = [[] for _ in rows]
        try:
            with torch.inference_mode(), autocast(self.compute):
                for batch in Batches(rows, tokens=max(1, self.prediction_tokens // beams)):
                    places = batch.source.tolist()
                    own = {name: self._of(value, places, len(rows)) for name, value in given.items()}
                    own.setdefault("maximum", [2 * len(rows[place]) + 10 for place in places])
                    allowed = Limits(**own, forbidden=(PADDING,))
                    answers = generate(
                        self.model, batch.to(self.compute.device), search, count=len(batch), limits=allowed, numbers=places,
                        source_mask=batch.mask, stream=stream,
                    )  # fmt: skip
                    for place, hypotheses in zip(places, answers, strict=True):
                        found[place] = [self._told(one, sources[place], rows[place], weights, copies) for one in hypotheses]
        finally:
            self.model.show_attention = False
        return found

    @staticmethod
    def _of(value: Any, places: Sequence[int], count: int) -> Any:
        """A limit that is given for each source, for these of them."""
        each = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == count
        return [value[place] for place in places] if each else value

    def _unknown_can_come(self) -> bool:
        return self.target.kind in ("words", "whitespace", "characters", "wordpiece")

    def _told(self, found: Any, source: str, row: np.ndarray, weights: bool, copies: bool) -> Translated:
        seen = None if found.attention is None else torch.stack(list(found.attention))[:, : len(row)].float().cpu().numpy()
        if found.attention is not None and not len(found.attention):
            seen = np.zeros((0, len(row)), np.float32)
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
        """The tokens of a source, those of a target and its end symbol, each map of attention between them, (T, S) or (heads, T, S)."""
        rows, ids = self.rows([source]), self.target.encode_ids([target])[0]
        pair = np.append(ids, self.model.end_symbol)
        batch: Batch = Batches(rows, pairs=[pair], examples=1).gather(np.arange(1))
        self.model.eval()
        with torch.inference_mode(), autocast(self.compute):
            found: tuple[Tensor, ...] = self.model.maps(batch.to(self.compute.device))
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
