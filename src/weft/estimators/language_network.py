"""The neural engine behind the LanguageModel: texts → ids → a network that foretells the next one; log-probabilities and texts out."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from weft.data.batch import IGNORED, Batch, Batches, StreamBatches
from weft.data.streams import Streams, joined, strided
from weft.device import Compute, autocast
from weft.errors import InputError
from weft.estimators.engine import Engine
from weft.estimators.language_start import BLOCK, described_language, language_start
from weft.estimators.settings import LanguageSettings, Settings
from weft.estimators.spelling import Spelling
from weft.generation.search import Beam, Greedy, Hypothesis, Limits, Sample, Stream, generate
from weft.losses import NextToken
from weft.metrics import Metric
from weft.models.language_model import LanguageModel, LanguageModelConfig
from weft.nn.outputs import COUNTED
from weft.training.loop import evaluate

log = logging.getLogger("weft")
Search = Greedy | Sample | Beam
SCORES = 2**26  # numbers that an output layer may hold at once, in measuring
WARM = 256  # tokens that a recurrent network reads before those that count
STRIDE = 1024  # tokens that count, of a network that may see any number
OF_OUTPUTS = {"cutoffs": ("adaptive",), "samples": ("sampled",), "proposal": ("sampled",)}


class LanguageNetwork(Engine):
    """A tokenizer and a language model that are trained, asked and saved together; or both as a folder has them, trained on. Its data are
    texts."""

    spelling: Spelling
    model: LanguageModel

    def __init__(self, settings: Settings, compute: Compute, seed: int) -> None:
        super().__init__("language-model", settings, compute, seed)
        self._known: tuple[Any, np.ndarray] | None = None  # the texts encoded last, and their ids
        self.pretrained_facts: dict[str, Any] | None = None  # what it started from

    def build_for(self, data: Sequence[str]) -> None:
        if "pretrained" in self.settings.network:
            self.start_from(self.settings.network["pretrained"])
        else:
            self._build(data)
        if self.settings.train["tune"] == "head" and self._headless():
            raise InputError("'head' leaves nothing to learn: the output weights are the embeddings; gradual, or all", "tune")

    def start_from(self, source: str) -> None:
        """The network and the tokenizer of a folder. Raises InputError where there is none, or one that does not see a block."""
        start, network = language_start(source), self.settings.network
        rates = {name: rate for name, rate in network.items() if name != "pretrained"}
        config = start.config_with(rates, sparse=self.lazy(start.config.vocabulary_size))
        self.spelling, self.pretrained_facts = start.spelling, dict(start.facts)
        self.model = self.draw(lambda: LanguageModel(config))
        self.take_up(start.weights)
        if self.model.context is not None and self.block > self.model.context:
            raise InputError(f"must be at most the {self.model.context} positions of {start.name}, not {self.block}", "block")

    def _headless(self) -> bool:
        """Whether all that learns is in a layer."""
        named = {name for group in self.model.layer_groups() for name in group}
        return all(name in named for name, parameter in self.model.named_parameters() if parameter.requires_grad)

    @property
    def block(self) -> int:
        """Tokens of a row in a step of training."""
        return int(self.settings.budget["block"] or min(self.model.context or BLOCK, BLOCK))

    def _build(self, data: Sequence[str]) -> None:
        """A tokenizer learnt from the texts, and a network drawn from the seed."""
        self.spelling = Spelling.learnt(self.settings.tokenizer, data)
        network, block = self.settings.network, self.settings.budget["block"]
        encoder = dict(self.settings.encoder)
        if network["encoder"] == "transformer":
            encoder["maximum_positions"] = block
        counts = None
        if network["output"] in COUNTED:
            counts = np.bincount(self.ids(data), minlength=self.spelling.size)
        config = LanguageModelConfig(
            self.spelling.size, encoder_settings=encoder, output_settings=self._of_output(),
            sparse=network["output"] != "tied" and self.lazy(self.spelling.size), **network,
        )  # fmt: skip
        self.model = self.draw(lambda: LanguageModel(config, counts))

    def _of_output(self) -> dict[str, Any]:
        """The options of the output layer. Raises InputError for one that another layer has."""
        budget, output = self.settings.budget, self.settings.network["output"]
        for name, owners in OF_OUTPUTS.items():
            if output not in owners and budget[name] != getattr(LanguageSettings, name):
                raise InputError(f"is of the output layer {owners[0]!r}, not of {output!r}", name)
        found = {name: budget[name] for name, owners in OF_OUTPUTS.items() if output in owners}
        return {name: value for name, value in found.items() if value != ()}

    def ids(self, texts: Sequence[str]) -> np.ndarray:
        """All texts as one row of ids."""
        if self._known is None or self._known[0] is not texts:
            self._known = (texts, joined(self.spelling.rows(texts), self.spelling.end))
        return self._known[1]

    def batches(self, data: Sequence[str], *, shuffled: bool) -> Any:
        """In training, streams; to check, windows side by side over the first of the tokens."""
        ids, budget = self.ids(data), self.settings.budget
        if shuffled:
            return StreamBatches(Streams(ids, rows=budget["batch_size"], block=self.block, seed=self.seed, cut=budget["cut"]))
        window = self.window()[0]
        return self._measured(ids[: budget["checked"] + 1] if budget["checked"] else ids, window, window)

    def window(self) -> tuple[int, int]:
        """(tokens that are read at once to measure, how many of them count unless others are asked for).

        A Transformer's is what it sees at once, and half of that; a network that looks back over a fixed number of words reads just these
        before those that count, so that nothing is left out; a recurrent one WARM tokens.
        """
        if self.model.context is not None:
            return self.model.context, max(1, self.model.context // 2)
        before = WARM if self.model.recurrent else int(self.model.config.encoder_settings["window"])
        return before + STRIDE, STRIDE

    def _measured(self, ids: np.ndarray, window: int, stride: int) -> Batches:
        """Every token once, as the windows of `strided` have it."""
        found = strided(ids, window=window, stride=stride)
        targets = [row.astype(np.int64) for row in found.targets]
        for row, first in zip(targets, found.counted_from, strict=True):
            row[:first] = IGNORED
        return Batches(found.inputs, targets=targets, tokens=max(1, min(self.prediction_tokens, SCORES // self.spelling.size)))

    def loss(self, data: Sequence[str]) -> NextToken:
        budget = self.settings.budget
        return NextToken(budget["activation_penalty"], budget["temporal_penalty"])

    def metrics(self) -> Mapping[str, Metric]:
        return {}

    def own_steps(self, steps_per_epoch: int) -> int:
        """Steps of the settings' own number of epochs, at least `minimum_steps`."""
        return max(super().own_steps(steps_per_epoch), self.settings.budget["minimum_steps"])

    def validation(self, dev: Sequence[str], loss: Any) -> Callable[[torch.nn.Module], dict[str, float]]:
        """The loss and the perplexity of the first tokens."""
        checked = self.batches(dev, shuffled=False)

        def validate(model: torch.nn.Module) -> dict[str, float]:
            found = evaluate(model, checked, {}, loss, self.compute.device)
            return {"perplexity": math.exp(min(found["loss"], 700.0)), **found}

        return validate

    def losses(self, texts: Sequence[str], window: int | None = None, stride: int | None = None) -> np.ndarray:
        """−log p of every token of the texts and of their ends, as one stream, (n,) float64.

        Each token is foretold from at least window − stride tokens before it, where there are as many. Raises InputError for a window that
        is wider than what the model sees at once, and for a stride that would leave tokens out.
        """
        return self._losses(self.ids(texts), window, stride)

    def losses_by_text(self, texts: Sequence[str]) -> np.ndarray:
        """−log p of each text and its end, as a text that stands alone (N,)."""
        return np.array([self._losses(joined(self.spelling.rows([text]), self.spelling.end), None, None).sum() for text in texts])

    def _losses(self, ids: np.ndarray, window: int | None, stride: int | None) -> np.ndarray:
        batches = self._measured(ids, *self._strides(window, stride))
        found: list[np.ndarray] = [np.zeros(0)] * len(batches)
        self.model.eval()
        with torch.inference_mode(), autocast(self.compute):
            for batch in batches:
                losses = self.model(batch.to(self.compute.device)).losses.double().cpu()
                assert batch.targets is not None
                counts = (batch.targets != IGNORED).sum(1).tolist()
                for place, part in zip(batch.source.tolist(), losses.split(counts), strict=True):
                    found[place] = part.numpy()
        return np.concatenate(found) if found else np.zeros(0)

    def _strides(self, window: int | None, stride: int | None) -> tuple[int, int]:
        """Window and stride as asked for. Raises InputError for those that cannot be."""
        usual, steps = self.window()
        wide = usual if window is None else window
        if wide < 1 or (self.model.context is not None and wide > self.model.context):
            most = "at least 1" if self.model.context is None else f"from 1 to the {self.model.context} tokens that the model sees at once"
            raise InputError(f"must be {most}, not {wide}", "window")
        step = min(steps, wide) if stride is None else stride
        if not 1 <= step <= wide:
            raise InputError(f"must be from 1 to the window of {wide}, not {step}", "stride")
        return wide, step

    def generated(
        self,
        prompts: Sequence[np.ndarray],
        search: Search,
        *,
        limits: Mapping[str, Any],
        endless: bool,
        numbers: Sequence[int],
        stream: Stream | None = None,
    ) -> list[list[Hypothesis]]:
        """What follows each prompt of ids, best first. endless: an end is a token like others; else it ends the answer.

        Of a prompt that is longer than what the model sees at once the last tokens are read, which is said.
        """
        model = Endless(self.model) if endless else self.model
        spare = range(self.spelling.size, self.model.config.vocabulary_size)  # rows of a table that are no token's
        limits = {**limits, "forbidden": (*self.spelling.silent, *spare, *limits.get("forbidden", ()))}
        room = self.model.context
        if room is not None and (longer := sum(len(prompt) > room for prompt in prompts)):
            log.warning("%d of %d prompts are longer than the %d tokens seen at once: their last ones are read", longer, len(prompts), room)
        found: list[list[Hypothesis]] = [[] for _ in prompts]
        self.model.eval()
        with torch.inference_mode(), autocast(self.compute):
            for length in sorted({len(prompt) for prompt in prompts}):  # prompts that are read together are of one length
                places = [place for place, prompt in enumerate(prompts) if len(prompt) == length]
                ids = torch.from_numpy(np.stack([prompts[place] for place in places])).to(self.compute.device)
                source = Batch(ids, torch.ones_like(ids, dtype=torch.bool), None, torch.tensor(places))
                called = [numbers[place] for place in places]
                answers = generate(model, source, search, count=len(places), limits=Limits(**limits), numbers=called, stream=stream)
                for place, answer in zip(places, answers, strict=True):
                    found[place] = answer
        return found

    def describe(self) -> dict[str, Any]:
        """As any engine, and what it started from."""
        return super().describe() | ({} if self.pretrained_facts is None else {"pretrained": self.pretrained_facts})

    def saved(self) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
        """All there is to keep: (weights, config, tokenizer)."""
        return self.arrays(), self.describe(), self.spelling.to_dict()

    def take(self, network: Mapping[str, Any], tokenizer: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """What a model folder holds. Raises InputError where its weights do not fit its config, or its tokenizer its vocabulary."""
        config, self.spelling = described_language(network, tokenizer)
        self.model = LanguageModel(config)
        self.take_up(arrays)


class Endless(torch.nn.Module):
    """A language model to searches that go on past an end, which is a token like others to them."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model, self.start_symbol, self.end_symbol = model, model.start_symbol, model.config.vocabulary_size

    def start(self, source: Any) -> Any:
        """As Decoder.start."""
        return self.model.start(source)

    def step(self, ids: torch.Tensor, state: Any) -> Any:
        """As Decoder.step."""
        return self.model.step(ids, state)

    def reorder(self, state: Any, rows: torch.Tensor, sources: torch.Tensor | None = None) -> Any:
        """As Decoder.reorder."""
        return self.model.reorder(state, rows, sources)
