"""The engines of text estimators, by the network of a rung."""

from __future__ import annotations

from weft.estimators.generative_network import GenerativeNetwork
from weft.estimators.network import Network
from weft.estimators.ulmfit import UlmfitNetwork

ENGINES: dict[str, type[Network]] = {
    "classifier": Network,
    "pretrained": Network,
    "generative": GenerativeNetwork,
    "ulmfit": UlmfitNetwork,
}
