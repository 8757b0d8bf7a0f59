"""What the routes of a server share."""

from __future__ import annotations

from dataclasses import dataclass

from urd.serving.http.access import Access
from urd.serving.http.batching import Line
from urd.serving.http.metrics import Metrics
from urd.serving.http.refusal import Refusal
from urd.serving.http.settings import Settings
from urd.serving.http.uploads import Gate
from urd.serving.served_model import ServedModel
from urd.serving.service import Service


@dataclass(frozen=True)
class Parts:
    """The parts of a running server."""

    service: Service
    settings: Settings
    metrics: Metrics
    line: Line
    gate: Gate
    access: Access

    @classmethod
    def of(cls, service: Service, settings: Settings) -> Parts:
        metrics = Metrics(service)
        line = Line(service, settings, metrics)
        gate = Gate(settings.queue, settings.max_bytes)
        metrics.show("urd_places", "Places for requests", lambda: gate.places)
        metrics.show("urd_places_taken", "Places that are taken", lambda: gate.taken)
        metrics.show(
            "urd_idle_seconds", "How long ago the thread of the network turned", line.idle_seconds
        )
        return cls(service, settings, metrics, line, gate, Access(settings.tokens))


def known_model(service: Service, name: str) -> ServedModel:
    """Raises Refusal if there is no model of this name."""
    if name not in service.models:
        raise Refusal(404, "there is no such model; see /v1/models", "model")
    return service.models[name]
