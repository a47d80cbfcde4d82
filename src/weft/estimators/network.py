"""The neural engine behind the estimators: texts and targets → tokenizer → network → training; texts → scores."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from weft.data.batch import Batches
from weft.data.tokenizers import Tokenizer, tokenizer_from_dict, train_tokenizer
from weft.device import Compute, autocast
from weft.errors import InputError
from weft.estimators.scoring import MAIN_METRIC
from weft.estimators.settings import Settings
from weft.estimators.vectors import Vectors, check_tokenizer
from weft.losses import LOSSES, Loss
from weft.metrics import METRICS
from weft.models.classifier import Classifier, ClassifierConfig
from weft.training import distributed
from weft.training.callbacks import Callback, Moment
from weft.training.checkpoint import checkpoint_steps
from weft.training.loop import History, TrainConfig, evaluate, train

log = logging.getLogger("weft")
LOSS_OF_TASK = {"classification": "cross-entropy", "multi-label": "binary", "regression": "squared"}
PREDICTION_TOKENS = 16384  # of a padded batch at prediction
CALIBRATION_STEPS = 8
LAZY_ROWS = 4000


@dataclass
class Examples:
    """Texts, their second texts (pairs) or None, and targets: (N,) class ids, (N, K) 0/1 labels, or (N,) numbers."""

    texts: Sequence[str]
    pairs: Sequence[str] | None
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)


@dataclass
class Budget:
    """How long to train: exactly one of steps, epochs, minutes."""

    steps: int | None = None
    epochs: float | None = None
    minutes: float | None = None


class Network:
    """A tokenizer and a classifier that are trained, asked and saved together; with `vectors`, from where its embedding table starts."""

    def __init__(self, task: str, outputs: int, settings: Settings, compute: Compute, seed: int, vectors: Vectors | None = None) -> None:
        self.task, self.outputs, self.settings, self.compute, self.seed, self.vectors = task, outputs, settings, compute, seed, vectors
        self.vectors_facts: dict[str, Any] | None = None  # which vectors, and how many words they gave
        self.tokenizer: Tokenizer | None = None
        self.model: Classifier | None = None
        self.history: History | None = None

    def build(self, texts: Sequence[str], pair: bool) -> None:
        """Trains the tokenizer on the texts and draws the initial weights from the seed."""
        given = {name: value for name, value in self.settings.tokenizer.items() if value is not None}
        kind, _ = given.pop("tokenizer"), given.pop("maximum_length", None)
        if self.vectors is not None:
            check_tokenizer(kind)
        self.tokenizer = train_tokenizer(kind, texts, **given)
        self.vectors_facts, start = None, None
        if self.vectors is not None:
            start = self._found(self.vectors)
        self.create(pair)
        if start is not None and self.model is not None:
            self.model.encoder.embedding.start_from(torch.from_numpy(start).to(self.compute.device))

    def _found(self, vectors: Vectors) -> np.ndarray:
        """The rows (V, D) that the vocabulary's words start from; the size of the embeddings becomes theirs."""
        found = vectors.found(self.tokenizer.vocabulary.tokens)  # type: ignore[union-attr]  # only tokenizers with words come here
        size, settings = {"embedding_size": found.rows.shape[1]}, self.settings
        self.settings = replace(settings, network={**settings.network, **size}, flat={**settings.flat, **size})
        self.vectors_facts = {**found.facts, "mode": settings.network["vectors_mode"]}
        return found.start(self.seed)

    def create(self, pair: bool) -> None:
        """The network for this tokenizer, with weights drawn from the seed."""
        assert self.tokenizer is not None
        size = self.tokenizer.size
        network = {**self.settings.network, "encoder_settings": dict(self.settings.encoder)}
        config = ClassifierConfig(vocabulary_size=size, outputs=self.outputs, pair=pair, sparse=self.lazy(size), **network)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            try:
                self.model = Classifier(config).to(self.compute.device)
            except ValueError as error:
                raise InputError(str(error), "settings") from error

    def lazy(self, vocabulary_size: int) -> bool:
        """Whether only the rows of the embedding table that a batch looks up are updated: on a CPU, from some thousand rows on, that
        takes a quarter off a step.

        On a GPU a dense update is no burden, and nccl cannot exchange sparse gradients.
        """
        return vocabulary_size > LAZY_ROWS and self.compute.device.type == "cpu"

    def batches(self, data: Examples, *, shuffled: bool) -> Batches:
        """The batches of a dataset: in random length buckets for training, by length for checks."""
        budget, limit = self.settings.budget, self.settings.tokenizer["maximum_length"] or None
        tokens = (budget["batch_tokens"] or None) if shuffled else PREDICTION_TOKENS
        assert self.tokenizer is not None
        encode = self.tokenizer.encode_ids
        return Batches(
            encode(data.texts), pairs=None if data.pairs is None else encode(data.pairs), targets=_target_tensor(self.task, data.targets),
            seed=self.seed if shuffled else None, maximum_length=limit,
            tokens=tokens, examples=None if tokens else budget["batch_size"],
        )  # fmt: skip

    def loss(self, targets: np.ndarray) -> Loss:
        """The objective chosen in the settings, or the task's own."""
        budget = self.settings.budget
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

    def fit(
        self,
        data: Examples,
        dev: Examples | None,
        budget: Budget,
        *,
        checkpoint: Path | None = None,
        resume: bool = False,
        callbacks: Sequence[Callback] = (),
    ) -> History:
        """Builds, trains, and leaves the best weights on development data in place."""
        self.build(list(data.texts) + list(data.pairs or []), data.pairs is not None)
        batches, loss = self.batches(data, shuffled=True), self.loss(data.targets)
        if resume and checkpoint is not None and budget.minutes is not None and distributed.all_see(checkpoint, self.compute.device):
            budget = Budget(steps=checkpoint_steps(checkpoint))  # another calibration would be another run
        steps = self.steps(budget, batches, loss)
        config = self.train_config(steps, batches.steps())
        metric = MAIN_METRIC[self.task]
        checked = None if dev is None else self.batches(dev, shuffled=False)

        def validate(model: torch.nn.Module) -> dict[str, float]:
            assert checked is not None
            return evaluate(model, checked, {metric: METRICS[metric]()}, loss, self.compute.device)

        assert self.model is not None
        self.history = train(
            self.model, batches, loss, config, validate=None if dev is None else validate,
            callbacks=callbacks, checkpoint=checkpoint, resume=resume, compute=self.compute,
            about={"other word vectors": "" if self.vectors_facts is None else self.vectors_facts["sha256"]},
        )  # fmt: skip
        self.model.eval()
        return self.history

    def train_config(self, steps: int, steps_per_epoch: int) -> TrainConfig:
        """The settings' training arguments, with `checks` looks at the development set, at least one an epoch."""
        budget = self.settings.budget
        every = max(1, min(steps_per_epoch, math.ceil(steps / max(1, budget["checks"]))))
        options = dict(self.settings.train)
        if options["monitor"] == "metric":
            options["monitor"] = MAIN_METRIC[self.task]
        patience = budget["patience"] or None
        return TrainConfig(steps=steps, evaluate_every=every, patience=patience, checkpoint_every=every, seed=self.seed, **options)

    def steps(self, budget: Budget, batches: Batches, loss: Loss) -> int:
        """The budget in steps; minutes are turned into steps once, here, by a short calibration on a copy of the model."""
        if budget.steps is not None:
            return max(1, budget.steps)
        if budget.minutes is not None:
            seconds = self.seconds_per_step(batches, loss)
            steps = max(1, int(budget.minutes * 60 / seconds))
            log.info("%.3g minutes are %d steps at %.1f ms a step; repeat with that many steps", budget.minutes, steps, 1000 * seconds)
            return steps
        epochs = self.settings.budget["epochs"] if budget.epochs is None else budget.epochs
        return max(1, math.ceil(epochs * batches.steps()))

    def seconds_per_step(self, batches: Batches, loss: Loss) -> float:
        """The median time of a training step, measured on a copy that is thrown away."""
        assert self.model is not None
        times: list[float] = []
        clock = time.perf_counter

        def stamp(moment: Moment) -> None:
            times.append(clock())

        config = TrainConfig(steps=CALIBRATION_STEPS + 2, seed=self.seed, **{**self.settings.train, "monitor": "loss"})
        train(copy.deepcopy(self.model), batches, loss, config, callbacks=[stamp], compute=self.compute)
        seconds = float(np.median(np.diff(times[1:])))
        return distributed.agree(seconds, self.compute.device)

    def measure(self, data: Examples, dev: Examples) -> tuple[float, int]:
        """(seconds a training step, its share of the checks on `dev` included; steps of the settings' own epochs)."""
        self.build(list(data.texts) + list(data.pairs or []), data.pairs is not None)
        batches, loss = self.batches(data, shuffled=True), self.loss(data.targets)
        seconds, steps = self.seconds_per_step(batches, loss), self.steps(Budget(), batches, loss)
        started = time.perf_counter()
        evaluate(self.model, self.batches(dev, shuffled=False), {}, loss, self.compute.device)  # type: ignore[arg-type]
        check = time.perf_counter() - started
        every = self.train_config(steps, batches.steps()).evaluate_every or steps
        return seconds + check / every, steps

    def scores(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> np.ndarray:
        """Logits (N, outputs), float32, in the order of the texts."""
        assert self.model is not None
        results = np.zeros((len(texts), self.outputs), np.float32)
        if not len(texts):
            return results
        empty = np.zeros(len(texts), np.int64 if self.task == "classification" else np.float32)
        if self.task == "multi-label":
            empty = np.zeros((len(texts), self.outputs), np.float32)
        self.model.eval()
        with torch.inference_mode(), autocast(self.compute):
            for batch in self.batches(Examples(texts, pairs, empty), shuffled=False):
                logits = self.model(batch.to(self.compute.device))
                results[batch.source.numpy()] = logits.float().cpu().numpy()
        return results

    def parameters(self) -> int:
        """How many numbers were trained."""
        assert self.model is not None
        return sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)

    def arrays(self) -> dict[str, np.ndarray]:
        """The weights by name."""
        assert self.model is not None
        return {name: tensor.detach().cpu().numpy() for name, tensor in self.model.state_dict().items()}

    def describe(self) -> dict[str, Any]:
        """What config.json needs to rebuild the network."""
        assert self.model is not None
        described = {"network": asdict(self.model.config), "settings": self.settings.flat}
        return described if self.vectors_facts is None else {**described, "vectors": self.vectors_facts}

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
        restored.tokenizer = tokenizer_from_dict(tokenizer)
        lists: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in network.items()}
        encoder = network["encoder_settings"]
        lists["encoder_settings"] = {key: tuple(value) if isinstance(value, list) else value for key, value in encoder.items()}
        restored.model = Classifier(ClassifierConfig(**lists))
        try:
            restored.model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
        except RuntimeError as error:
            raise InputError(f"the weights do not fit the config: {str(error).splitlines()[-1].strip()}", "model.safetensors") from error
        restored.model.to(compute.device).eval()
        return restored


def _target_tensor(task: str, targets: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(targets, np.int64 if task == "classification" else np.float32))
