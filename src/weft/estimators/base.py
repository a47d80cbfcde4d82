"""What every estimator shares: what it is given, budgets, seeds, and the model folder it is written to."""

from __future__ import annotations

import logging
import math
import numbers
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_random_state

from weft import __version__
from weft.errors import InputError, meant
from weft.estimators.rungs import Rung, that_starts_from
from weft.files import plain
from weft.saving import SavedModel, write_model

log = logging.getLogger("weft")


class Estimator(BaseEstimator):
    """A model of one ladder: an engine that is fitted, asked, saved and taken up again. The constructor only stores.

    A subclass says its ladder, its tasks, what is fitted beside the engine (`kept`), and how an engine is taken up.
    """

    rungs: ClassVar[Mapping[str, Rung]]
    tasks: ClassVar[tuple[str, ...]] = ()
    kept: ClassVar[tuple[str, ...]] = ()
    network: ClassVar[str] = "classifier"  # whose settings the neural rungs have
    columns_: dict[str, str]
    task_: str
    seed_: int
    engine_: Any
    history_: Any

    def __init__(
        self,
        model: str = "cnn",
        settings: dict[str, Any] | None = None,
        *,
        loss: str | None = None,
        epochs: float | None = None,
        steps: int | None = None,
        minutes: float | None = None,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        patience: int | None = None,
        validation_fraction: float = 0.1,
        device: str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        vectors: Any = None,
        random_state: Any = 0,
    ) -> None:
        self.model = model
        self.settings = settings
        self.loss = loss
        self.epochs = epochs
        self.steps = steps
        self.minutes = minutes
        self.batch_size = batch_size
        self.batch_tokens = batch_tokens
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.device = device
        self.precision = precision
        self.threads = threads
        self.vectors = vectors
        self.random_state = random_state

    def _check_budget(self) -> None:
        """Raises InputError unless at most one of epochs, steps and minutes is given, and is above 0."""
        given = [name for name in ("epochs", "steps", "minutes") if getattr(self, name) is not None]
        if len(given) > 1:
            raise InputError(f"give one budget, not {' and '.join(given)}", given[1])
        for name in given:
            value = getattr(self, name)
            number = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
            if not number or value <= 0 or (name == "steps" and value != int(value)):
                raise InputError(f"must be a {'whole ' if name == 'steps' else ''}number above 0, not {value!r}", name)

    def _seed(self) -> int:
        """random_state as a number; None draws one, a RandomState gives its next."""
        if not isinstance(self.random_state, numbers.Integral):
            return int(check_random_state(self.random_state).randint(2**31))
        seed = int(self.random_state)
        if not 0 <= seed < 2**32:
            raise InputError(f"must be from 0 to {2**32 - 1}, not {seed}", "random_state")
        return seed

    def _rung(self) -> Rung:
        """The model's rung; where the settings name what to start from, one that can, whatever the model is called."""
        model = self.model
        start = self.settings.get("pretrained") if isinstance(self.settings, Mapping) else None
        if start is not None and not (model in self.rungs and self.rungs[model].starts):
            model = that_starts_from(start, self.rungs) or model
        if model not in self.rungs:
            raise InputError(f"there is no {model!r}{meant(str(model), self.rungs)}; there are {', '.join(self.rungs)}", "model")
        return self.rungs[model]

    def _settings(self, rung: Rung) -> Any:
        from weft.estimators.settings import resolve

        given = {"loss": self.loss, "batch_size": self.batch_size, "batch_tokens": self.batch_tokens, "patience": self.patience}
        own = {name: value for name, value in given.items() if value is not None}
        return resolve(rung.settings, self.settings, own, network=rung.network)

    def _vectors(self, settings: Any) -> Any:
        """The word vectors that a network of these settings starts from, or None.

        Raises InputError for a mode that needs some where there are none, and later for those that do not fit.
        """
        from weft.estimators.vectors import Vectors, check_mode

        check_mode(settings.network.get("vectors_mode", "non-static"), self.vectors is not None)
        if self.vectors is None:
            return None
        return Vectors(self.vectors, settings.network["embedding_size"] if "embedding_size" in (self.settings or {}) else None)

    def _own_settings(self, rung: Rung) -> dict[str, Any]:
        """The settings of a rung that goes to its own end; a budget, which it has no use for, is said aloud."""
        names = ("epochs", "steps", "minutes", "batch_size", "batch_tokens", "patience")
        if unused := [name for name in names if getattr(self, name) is not None]:
            said = " and ".join(unused) + (" is" if len(unused) == 1 else " are")
            by = "by scikit-learn " if rung.engine == "baseline" and rung.network == "classifier" else ""
            log.warning("%s is trained %sto its end: %s not used", rung.name, by, said)
        if self.settings is not None and not isinstance(self.settings, Mapping):
            raise InputError(f"must be names and values, not {self.settings!r:.60}", "settings")
        return dict(self.settings or {})

    def _compute(self) -> Any:
        from weft.device import choose

        return choose(self.device, self.precision, self.threads)

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn (1.6 and later) asks of an estimator: texts go in, not numbers."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array, tags.input_tags.string = False, True, True
        return tags

    def _check_fitted(self) -> None:
        if not hasattr(self, "engine_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet: call fit, or weft.load a folder")

    @property
    def parameters_(self) -> int:
        """How many numbers were learnt."""
        self._check_fitted()
        return int(self.engine_.parameters())

    def save(self, folder: str | Path, *, metrics: dict[str, Any] | None = None, data: str = "") -> Path:
        """Writes the model folder: config.json, model.safetensors, tokenizer.json, metrics.json and a model card. Returns its path."""
        from weft.estimators.card import model_card

        self._check_fitted()
        arrays, described, words = self.engine_.saved()
        tokenizer = self._tokenizer(words)
        given = self.get_params()
        if not isinstance(given.get("vectors"), str | Path | None):
            given["vectors"] = None  # what was found of them is in the weights
        config = {
            "weft": __version__, "estimator": type(self).__name__, "model": self._rung().name, "task": self.task_, **self._facts(),
            "fitted": plain({name: getattr(self, name) for name in (*self.kept, "seed_", "columns_") if hasattr(self, name)}),
            "parameters": plain({**given, "model": self._rung().name, "random_state": self.seed_}), "engine": plain(described),
        }  # fmt: skip
        history = self.history_
        record: dict[str, Any] = dict(metrics or {})
        if history is not None:
            kept = {name: getattr(history, name) for name in ("steps", "best_step", "stopped", "checks")}
            record["training"] = {**kept, "epochs": round(history.epochs, 4)}
        card = model_card(self, plain(metrics or {}), data)
        return write_model(folder, config=config, arrays=arrays, tokenizer=tokenizer, metrics=plain(record), card=card)

    def _tokenizer(self, tokenizer: dict[str, Any]) -> dict[str, Any]:
        """What tokenizer.json holds: the engine's own, and what a subclass adds."""
        return tokenizer

    def _facts(self) -> dict[str, Any]:
        """What config.json says of the model besides."""
        return {}

    def _restore(self, saved: SavedModel, folder: Path) -> None:
        """Takes up what `save` wrote. Raises InputError where it is something else."""
        config = saved.config
        try:
            self.task_, self.history_, self.columns_ = config["task"], None, {}
            if self.task_ not in self.tasks:
                raise ValueError(f"no task {self.task_!r}")
            for name, value in config["fitted"].items():
                setattr(self, name, value)
            self._take_up(config, saved)
        except InputError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise not_ours(error, folder) from error

    def _take_up(self, config: dict[str, Any], saved: SavedModel) -> None:
        """The engine, and what else the folder says."""
        raise AssertionError("said by the subclass")


def not_ours(error: Exception, folder: Path) -> InputError:
    """The refusal of a folder that something else wrote."""
    return InputError(f"is not what this version of weft writes ({type(error).__name__}: {error})", str(folder / "config.json"))
