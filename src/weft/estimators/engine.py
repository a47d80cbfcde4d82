"""What every neural engine shares: batches of its data → a training within a budget; steps out of minutes; weights by name."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from weft.data.batch import Batches
from weft.device import Compute
from weft.errors import InputError
from weft.estimators.scoring import MAIN_METRIC
from weft.estimators.settings import Settings
from weft.estimators.vectors import Vectors
from weft.losses import Loss
from weft.metrics import Metric
from weft.training import distributed
from weft.training.callbacks import Callback, Moment
from weft.training.checkpoint import checkpoint_steps
from weft.training.loop import History, TrainConfig, evaluate, train

log = logging.getLogger("weft")
CALIBRATION_STEPS = 8
LAZY_ROWS = 4000


@dataclass
class Budget:
    """How long to train: exactly one of steps, epochs, minutes."""

    steps: int | None = None
    epochs: float | None = None
    minutes: float | None = None


class Engine:
    """A network that is trained, asked and saved. A subclass says how it is built from data, batched, and what its loss and metric are.

    With `vectors`, from where its embedding table starts.
    """

    prediction_tokens = 16384  # of a padded batch at prediction

    def __init__(self, task: str, settings: Settings, compute: Compute, seed: int, vectors: Vectors | None = None) -> None:
        self.task, self.settings, self.compute, self.seed, self.vectors = task, settings, compute, seed, vectors
        self.vectors_facts: dict[str, Any] | None = None  # which vectors, and how many words they gave
        self.model: Any = None
        self.history: History | None = None

    # What a subclass says.
    def build_for(self, data: Any) -> None:
        """Builds the network for what it is trained on, its weights drawn from the seed."""
        raise NotImplementedError

    def batches(self, data: Any, *, shuffled: bool) -> Batches:
        """The batches of a dataset: in random length buckets for training, by length for checks."""
        raise NotImplementedError

    def loss(self, data: Any) -> Loss:
        """The objective."""
        raise NotImplementedError

    def metrics(self) -> Mapping[str, Metric]:
        """Fresh streams of what is looked at on development data, the task's main metric among them."""
        raise NotImplementedError

    def found_vectors(self, tokens: Sequence[str]) -> np.ndarray | None:
        """The rows (V, D) that these words start from, where there are vectors; the size of the embeddings becomes theirs."""
        self.vectors_facts = None
        if self.vectors is None:
            return None
        found = self.vectors.found(tokens)
        self.settings = self.settings.with_network(embedding_size=found.rows.shape[1])
        self.vectors_facts = {**found.facts, "mode": self.settings.network["vectors_mode"]}
        return found.start(self.seed)

    def draw(self, make: Callable[[], Any]) -> Any:
        """The network that `make` gives, its weights drawn from the seed, on the device. Raises InputError for settings that cannot be."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            try:
                return make().to(self.compute.device)
            except ValueError as error:
                raise InputError(str(error), "settings") from error

    def lazy(self, vocabulary_size: int) -> bool:
        """Whether only the rows of the embedding table that a batch looks up are updated: on a CPU, from some thousand rows on, that
        takes a quarter off a step.

        On a GPU a dense update is no burden, and nccl cannot exchange sparse gradients.
        """
        return vocabulary_size > LAZY_ROWS and self.compute.device.type == "cpu"

    def budgets(self, *, shuffled: bool) -> dict[str, Any]:
        """How batches are cut: by the settings in training, by many tokens elsewhere."""
        budget = self.settings.budget
        tokens = (budget["batch_tokens"] or None) if shuffled else self.prediction_tokens
        seed = self.seed if shuffled else None
        return {"seed": seed, "tokens": tokens, "examples": None if tokens else budget["batch_size"]}

    def fit(
        self,
        data: Any,
        dev: Any,
        budget: Budget,
        *,
        checkpoint: Path | None = None,
        resume: bool = False,
        callbacks: Sequence[Callback] = (),
    ) -> History:
        """Builds, trains, and leaves the best weights on development data in place."""
        self.build_for(data)
        batches, loss = self.batches(data, shuffled=True), self.loss(data)
        if resume and checkpoint is not None and budget.minutes is not None and distributed.all_see(checkpoint, self.compute.device):
            budget = Budget(steps=checkpoint_steps(checkpoint))  # another calibration would be another run
        validate = None if dev is None else self.validation(dev, loss)
        steps = self.steps(budget, batches, loss, validate)
        config = self.train_config(steps, batches.steps())
        assert self.model is not None
        self.history = train(
            self.model, batches, loss, config, validate=validate,
            callbacks=callbacks, checkpoint=checkpoint, resume=resume, compute=self.compute,
            about={"other word vectors": "" if self.vectors_facts is None else self.vectors_facts["sha256"]},
        )  # fmt: skip
        self.model.eval()
        return self.history

    def validation(self, dev: Any, loss: Loss) -> Callable[[torch.nn.Module], dict[str, float]]:
        """The look at development data: model → the loss and the metrics, the one that weights are chosen by among them."""
        checked = self.batches(dev, shuffled=False)
        return lambda model: evaluate(model, checked, self.metrics(), loss, self.compute.device)

    def train_config(self, steps: int, steps_per_epoch: int) -> TrainConfig:
        """The settings' training arguments, with `checks` looks at the development set, at least one an epoch."""
        budget = self.settings.budget
        every = max(1, min(steps_per_epoch, math.ceil(steps / max(1, self.checks(steps, steps_per_epoch)))))
        options = dict(self.settings.train)
        if options["monitor"] == "metric":
            options["monitor"] = self.monitor()
        patience = budget["patience"] or None
        return TrainConfig(steps=steps, evaluate_every=every, patience=patience, checkpoint_every=every, seed=self.seed, **options)

    def checks(self, steps: int, steps_per_epoch: int) -> int:
        """How many looks at development data a training of so many steps has."""
        return int(self.settings.budget["checks"])

    def monitor(self) -> str:
        """The metric that weights are chosen by unless the settings name another: the task's main one."""
        return MAIN_METRIC[self.task]

    def steps(self, budget: Budget, batches: Batches, loss: Loss, validate: Callable[[Any], Any] | None = None) -> int:
        """The budget in steps; minutes are turned into steps once, here, by a short calibration on a copy of the model, with `validate` the
        look at development data."""
        if budget.steps is not None:
            return max(1, budget.steps)
        if budget.minutes is not None:
            seconds = self.seconds_per_step(batches, loss) + self.seconds_of_looks(batches, validate)
            steps = max(1, int(budget.minutes * 60 / seconds))
            log.info("%.3g minutes are %d steps at %.1f ms a step; repeat with that many steps", budget.minutes, steps, 1000 * seconds)
            return steps
        return self.own_steps(batches.steps()) if budget.epochs is None else max(1, math.ceil(budget.epochs * batches.steps()))

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

    def seconds_of_looks(self, batches: Batches, validate: Callable[[Any], Any] | None) -> float:
        """A step's share of the time of looks at development data, in a training of the settings' own epochs; taken before training, when
        translations tend to be longer."""
        if validate is None:
            return 0.0
        every = self.train_config(self.own_steps(batches.steps()), batches.steps()).evaluate_every
        assert every is not None
        self.model.eval()
        started = time.perf_counter()
        with torch.inference_mode():
            validate(self.model)
        return distributed.agree((time.perf_counter() - started) / every, self.compute.device)

    def own_steps(self, steps_per_epoch: int) -> int:
        """Steps of the settings' own number of epochs."""
        return max(1, math.ceil(self.settings.budget["epochs"] * steps_per_epoch))

    def measure(self, data: Any, dev: Any) -> tuple[float, int]:
        """(seconds a training step, its share of the looks at `dev` included; steps of the settings' own epochs)."""
        self.build_for(data)
        batches, loss = self.batches(data, shuffled=True), self.loss(data)
        seconds = self.seconds_per_step(batches, loss) + self.seconds_of_looks(batches, self.validation(dev, loss))
        return seconds, self.own_steps(batches.steps())

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

    def take_up(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The weights of a model folder. Raises InputError where they do not fit the network."""
        try:
            self.model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
        except RuntimeError as error:
            raise InputError(f"the weights do not fit the config: {str(error).splitlines()[-1].strip()}", "model.safetensors") from error
        self.model.to(self.compute.device).eval()


def described_config(kind: type[Any], network: Mapping[str, Any]) -> Any:
    """The config that `describe` told of: lists, which JSON made of tuples, are tuples again."""
    parts = {name: _tuples(value) for name, value in network.items() if name in ("encoder_settings", "decoder_settings")}
    return kind(**{**_tuples(network), **parts})


def _tuples(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
