"""Which engine a text estimator's settings are of."""

from __future__ import annotations

from weft.estimators.generative_network import GenerativeNetwork
from weft.estimators.network import Network
from weft.estimators.settings import Settings


def network_of(settings: Settings) -> type[Network]:
    """The engine, by a setting that no other has."""
    return GenerativeNetwork if "class_size" in settings.network else Network
