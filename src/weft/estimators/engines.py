"""Which engine a text estimator's settings are of."""

from __future__ import annotations

from weft.estimators.generative_network import GenerativeNetwork
from weft.estimators.network import Network
from weft.estimators.settings import Settings
from weft.estimators.ulmfit import UlmfitNetwork


def network_of(settings: Settings) -> type[Network]:
    """The engine, by a setting that no other has."""
    own = {"class_size": GenerativeNetwork, "language_epochs": UlmfitNetwork}
    return next((engine for name, engine in own.items() if name in settings.network), Network)
