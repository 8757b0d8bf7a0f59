"""What a running line consists of; `urd serve` gives it to its routes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from urd.errors import UsageError
from urd.serving.served_model import ServedModel
from urd.serving.station import Station
from urd.serving.store import Store


@dataclass
class Service:
    """The store, the models by name, and the station that stores what they judge.

    Attributes:
        receivers: the state of those who are told, as `Deliveries.problems` gives it.
    """

    store: Store
    models: dict[str, ServedModel]
    station: Station
    receivers: Callable[[], list[dict[str, Any]]] = list

    def model(self, name: str) -> ServedModel:
        """Raises UsageError if there is no model of this name."""
        if name not in self.models:
            raise UsageError(f"there is no model {name[:80]!r}; models: {', '.join(self.models)}")
        return self.models[name]
