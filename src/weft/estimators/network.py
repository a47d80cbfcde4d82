"""The neural engine behind the text estimators: texts and targets → tokenizer → network; texts → scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from weft.data.batch import Batches
from weft.data.checkpoints import CheckpointTokenizer
from weft.data.tokenizers import Tokenizer, tokenizer_from_dict, train_tokenizer
from weft.device import Compute, autocast
from weft.errors import InputError
from weft.estimators.elmo import ElmoStart, SpeltTokenizer, read_elmo, respelt, spelt
from weft.estimators.engine import Engine, described_config
from weft.estimators.pretrained import pretrained
from weft.estimators.scoring import MAIN_METRIC
from weft.estimators.settings import Settings
from weft.estimators.vectors import Vectors, check_tokenizer
from weft.losses import LOSSES, Loss
from weft.metrics import METRICS, Metric
from weft.models.classifier import Classifier, ClassifierConfig

LOSS_OF_TASK = {"classification": "cross-entropy", "multi-label": "binary", "regression": "squared"}


@dataclass
class Examples:
    """Texts, their second texts (pairs) or None, and targets: (N,) class ids, (N, K) 0/1 labels, or (N,) numbers."""

    texts: Sequence[str]
    pairs: Sequence[str] | None
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)


class Network(Engine):
    """A tokenizer and a classifier that are trained, asked and saved together; or both as a checkpoint has them, under a new head."""

    def __init__(self, task: str, outputs: int, settings: Settings, compute: Compute, seed: int, vectors: Vectors | None = None) -> None:
        super().__init__(task, settings, compute, seed, vectors)
        self.outputs = outputs
        self.pretrained_facts: dict[str, Any] | None = None  # what its encoder started from
        self.elmo: ElmoStart | None = None
        self.elmo_facts: dict[str, Any] | None = None
        self.tokenizer: Tokenizer | None = None
        self.model: Classifier | None = None

    def build_for(self, data: Examples) -> None:
        self.build(list(data.texts) + list(data.pairs or []), data.pairs is not None)

    def build(self, texts: Sequence[str], pair: bool) -> None:
        """Trains the tokenizer on the texts and draws the initial weights from the seed; or takes both from a checkpoint."""
        if "pretrained" in self.settings.network:
            self.start_from(self.settings.network["pretrained"])
            return
        given = {name: value for name, value in self.settings.tokenizer.items() if value is not None}
        kind, folder, _ = given.pop("tokenizer"), given.pop("elmo"), given.pop("maximum_length", None)
        if self.vectors is not None:
            check_tokenizer(kind)
        self.elmo = read_elmo(folder) if folder else None
        made: Any = train_tokenizer(kind, texts, **given)
        if self.elmo is not None:
            if pair:
                raise InputError("is for single texts, not for pairs", "elmo")
            made, self.elmo_facts = spelt(made, self.elmo, given.get("ngrams")), self.elmo.facts
        self.tokenizer, self.vectors_facts, start = made, None, None
        if self.vectors is not None:
            start = self.found_vectors(made.vocabulary.tokens)  # only tokenizers with words come here
        self.create(pair)
        if start is not None and self.model is not None:
            self.model.encoder.embedding.start_from(torch.from_numpy(start).to(self.compute.device))
        if self.elmo is not None and self.model is not None:
            self.model.elmo.network.load_state_dict(self.elmo.weights)  # type: ignore[union-attr]  # there, where there is one

    def create(self, pair: bool) -> None:
        """The network for this tokenizer, with weights drawn from the seed."""
        assert self.tokenizer is not None
        size = self.tokenizer.size
        network = {**self.settings.network, "encoder_settings": dict(self.settings.encoder)}
        network["elmo"] = {} if self.elmo is None else asdict(self.elmo.config)
        config = ClassifierConfig(vocabulary_size=size, outputs=self.outputs, pair=pair, sparse=self.lazy(size), **network)
        self.model = self.draw(lambda: Classifier(config))

    def start_from(self, source: str) -> None:
        """The encoder and the tokenizer of a checkpoint, and a head drawn from the seed. Raises InputError where there is no such one."""
        start = pretrained(source)
        own = {name: value for name, value in self.settings.network.items() if name not in ("pretrained", "layer_dropout")}
        encoder, weights = start.body(self.settings.network["layer_dropout"], self.settings.tokenizer["maximum_length"])
        config = ClassifierConfig(
            vocabulary_size=encoder.vocabulary_size, outputs=self.outputs, encoder="bert", encoder_settings=asdict(encoder), **own
        )
        self.tokenizer, self.pretrained_facts = start.tokenizer, start.facts
        model = self.draw(lambda: Classifier(config))
        model.encoder.load_state_dict(weights)
        self.model = model

    def remade(self, network: dict[str, Any]) -> Any:
        """The network that `describe` told of."""
        return Classifier(described_config(ClassifierConfig, network))

    def reread(self, tokenizer: dict[str, Any]) -> Any:
        """The tokenizer that its `to_dict` told of."""
        return respelt(tokenizer) or tokenizer_from_dict(tokenizer)

    def batches(self, data: Examples, *, shuffled: bool) -> Batches:
        limit = self.settings.tokenizer["maximum_length"] or None
        assert self.tokenizer is not None
        if isinstance(self.tokenizer, CheckpointTokenizer):
            assert self.model is not None
            rows = self.tokenizer.rows(data.texts, data.pairs, limit or self.model.config.encoder_settings["maximum_positions"])
            return Batches(rows, targets=_target_tensor(self.task, data.targets), **self.budgets(shuffled=shuffled))
        if isinstance(self.tokenizer, SpeltTokenizer):
            rows, lexicon = self.tokenizer.rows(data.texts)
            targets = _target_tensor(self.task, data.targets)
            return Batches(rows, targets=targets, lexicon=lexicon, maximum_length=limit, **self.budgets(shuffled=shuffled))
        encode = self.tokenizer.encode_ids
        return Batches(
            encode(data.texts), pairs=None if data.pairs is None else encode(data.pairs), targets=_target_tensor(self.task, data.targets),
            maximum_length=limit, **self.budgets(shuffled=shuffled),
        )  # fmt: skip

    def metrics(self) -> Mapping[str, Metric]:
        name = MAIN_METRIC[self.task]
        return {name: METRICS[name]()}

    def loss(self, data: Examples) -> Loss:
        """The objective chosen in the settings, or the task's own."""
        budget, targets = self.settings.budget, data.targets
        name = budget["loss"] or LOSS_OF_TASK[self.task]
        if name not in LOSSES:
            raise InputError(f"no loss {name!r}; there are {', '.join(LOSSES)}", "loss")
        allowed = {"classification": {"cross-entropy", "hinge"}, "multi-label": {"binary", "hinge"}, "regression": {"squared"}}[self.task]
        if name not in allowed:
            raise InputError(f"{name!r} does not fit {self.task}; it takes {' or '.join(sorted(allowed))}", "loss")
        options: dict[str, Any] = {}
        if budget["label_smoothing"] and name == "cross-entropy":
            options["smoothing"] = budget["label_smoothing"]
        if budget["class_weights"] == "balanced" and self.task == "classification":
            counts = np.bincount(targets.astype(np.int64), minlength=self.outputs)
            options["class_weights"] = torch.tensor(len(targets) / (self.outputs * np.maximum(counts, 1)), dtype=torch.float32)
        elif budget["class_weights"] not in ("none", "balanced"):
            raise InputError(f'must be "none" or "balanced", not {budget["class_weights"]!r}', "class_weights")
        return LOSSES[name](**options)

    def scores(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> np.ndarray:
        """Logits (N, outputs), float32, in the order of the texts."""
        assert self.model is not None
        results = np.zeros((len(texts), self.outputs), np.float32)
        if not len(texts):
            return results
        self.model.eval()
        with torch.inference_mode(), autocast(self.compute):
            for batch in self.batches(self._unlabelled(texts, pairs), shuffled=False):
                logits = self.model(batch.to(self.compute.device))
                results[batch.source.numpy()] = logits.float().cpu().numpy()
        return results

    def _unlabelled(self, texts: Sequence[str], pairs: Sequence[str] | None) -> Examples:
        """Texts with targets that say nothing."""
        shape = (len(texts), self.outputs) if self.task == "multi-label" else (len(texts),)
        return Examples(texts, pairs, np.zeros(shape, np.int64 if self.task == "classification" else np.float32))

    def maps(self, text: str) -> tuple[list[str], np.ndarray]:
        """The tokens of a text, and how much of each the pooling's attention takes, (passes, T).

        Raises InputError for a pooling without attention, and for an encoder whose states are not one a token.
        """
        assert self.tokenizer is not None
        assert self.model is not None
        limit = self.settings.tokenizer["maximum_length"] or None
        tokens = [text[start:end] for start, end in self.tokenizer.encode(text).offsets[:limit]]
        batch = self.batches(self._unlabelled([text], None), shuffled=False).gather(np.arange(1))
        self.model.eval()
        with torch.inference_mode(), autocast(self.compute):
            weights = self.model.maps(batch.to(self.compute.device))
        if weights is None:
            raise InputError("has no attention to show: its pooling is neither attentive nor in passes", "model")
        if weights.shape[-1] != len(tokens):
            raise InputError(f"its encoder made {weights.shape[-1]} states of {len(tokens)} tokens: none is a token's own", "model")
        return tokens, weights[0].float().cpu().numpy()

    def describe(self) -> dict[str, Any]:
        """As any engine, and what its encoder started from, whose ELMo it reads."""
        facts = {"pretrained": self.pretrained_facts, "elmo": self.elmo_facts}
        return {**super().describe(), **{name: found for name, found in facts.items() if found is not None}}

    def saved(self) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
        """All there is to keep: (weights, config, tokenizer)."""
        assert self.tokenizer is not None
        return self.arrays(), self.describe(), self.tokenizer.to_dict()

    @classmethod
    def restore(
        cls,
        task: str,
        settings: Settings,
        network: dict[str, Any],
        tokenizer: dict[str, Any],
        arrays: dict[str, np.ndarray],
        compute: Compute,
    ) -> Network:
        """The network of a model folder. Raises InputError where its weights do not fit its config."""
        restored = cls(task, network["outputs"], settings, compute, seed=0)
        restored.tokenizer = restored.reread(tokenizer)
        restored.model = restored.remade(network)
        restored.take_up(arrays)
        return restored


def _target_tensor(task: str, targets: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(targets, np.int64 if task == "classification" else np.float32))
