"""The engine of generative classifiers: a language model that knows the class, and Bayes' rule; otherwise as the engine of texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from weft.errors import InputError
from weft.estimators.engine import described_config
from weft.estimators.network import Examples, Network
from weft.models.generative import GenerativeClassifier, GenerativeConfig, TextOfClass


class GenerativeNetwork(Network):
    """A tokenizer and a generative classifier that are trained, asked and saved together; priors are from the training data."""

    model: GenerativeClassifier  # type: ignore[assignment]

    def build_for(self, data: Examples) -> None:
        super().build_for(data)
        counts = np.bincount(np.asarray(data.targets, np.int64), minlength=self.outputs)
        self.model.know(torch.from_numpy(counts).to(self.compute.device))

    def create(self, pair: bool) -> None:
        """The network for this tokenizer, with weights drawn from the seed. Raises InputError for pairs."""
        if pair:
            raise InputError("a generative classifier reads one text; pairs run on the other neural rungs", "model")
        if self.elmo is not None:
            raise InputError("foretells words that it must not see: ELMo has seen them", "elmo")
        assert self.tokenizer is not None
        encoder = dict(self.settings.encoder)
        if self.settings.network["encoder"] == "transformer":
            encoder["maximum_positions"] = (self.settings.tokenizer["maximum_length"] or 0) + 1  # what stands before a text is one more
        size = self.tokenizer.size
        config = GenerativeConfig(size, self.outputs, encoder_settings=encoder, sparse=self.lazy(size), **self.settings.network)
        self.model = self.draw(lambda: GenerativeClassifier(config))

    def remade(self, network: dict[str, Any]) -> GenerativeClassifier:
        return GenerativeClassifier(described_config(GenerativeConfig, network))

    def loss(self, data: Examples) -> TextOfClass:
        return TextOfClass(self.outputs)

    def maps(self, text: str) -> tuple[list[str], np.ndarray]:
        raise InputError("has no attention to show: it foretells the text, class by class", "model")
