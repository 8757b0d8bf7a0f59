"""Figures for Prometheus, in a registry of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric

from urd.inspection.calibration import Verdict
from urd.serving.http.refusal import Refusal
from urd.serving.outbox import outbox_counts
from urd.serving.service import Service
from urd.serving.station import Outcome
from urd.serving.store import StoreError

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_VERDICTS: tuple[Verdict, ...] = ("OK", "REVIEW", "NG", "ERROR")
REASONS = (
    "full",
    "memory",
    "stopping",
    "connections",
    "large",
    "slow",
    "aborted",
    "damaged",
    "type",
    "value",
    "key",
    "form",
    "host",
    "origin",
    "token",
    "scope",
    "login",
    "model",
    "reload",
)


class Metrics:
    """What a server has done."""

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.judgements = Counter(
            "urd_judgements", "Answers by verdict", ["model", "verdict"], registry=r
        )
        self.repeated = Counter(
            "urd_repeated", "Answers with an earlier row", ["model"], registry=r
        )
        self.seconds = Histogram(
            "urd_request_seconds",
            "From the request to its answer",
            ["model"],
            buckets=_SECONDS,
            registry=r,
        )
        self.wait_seconds = Histogram(
            "urd_queue_seconds",
            "From the whole body to the network",
            ["model"],
            buckets=_SECONDS,
            registry=r,
        )
        self.waiting = Gauge("urd_queue_length", "Images that wait for the network", registry=r)
        self.refused = Counter("urd_refused", "Requests refused, by reason", ["reason"], registry=r)
        self.not_stored = Counter(
            "urd_store_failures", "Judgements that were not stored", registry=r
        )
        self.camera = Counter(
            "urd_camera_messages", "Images that were odd in themselves", ["model"], registry=r
        )
        for reason in REASONS:
            self.refused.labels(reason)
        for name in service.models:
            for verdict in _VERDICTS:
                self.judgements.labels(name, verdict)
        ProcessCollector(registry=self.registry)
        self.registry.register(_State(service))

    def show(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A gauge whose value is asked for when someone reads the figures."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def taken(self, model: str, seconds: float) -> None:
        self.waiting.dec()
        self.wait_seconds.labels(model).observe(seconds)

    def concluded(self, model: str, outcome: Outcome) -> None:
        if not outcome.new:
            self.repeated.labels(model).inc()
            return
        self.judgements.labels(model, outcome.row["verdict"]).inc()
        self.camera.labels(model).inc(len(outcome.row["camera"]))
        if not outcome.stored:
            self.not_stored.inc()

    def refuse(self, refusal: Refusal) -> None:
        self.refused.labels(refusal.reason).inc()

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _State:
    """Facts that others change: models, and the outbox in the store."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily(
            "urd_model_info",
            "The models that judge; change is that of the thresholds",
            labels=["model", "sha256", "engine", "change"],
        )
        for model in list(self.service.models.values()):
            change = "" if model.change is None else str(model.change)
            info.add_metric([model.name, model.sha256, model.engine, change], 1)
        yield info
        readable = GaugeMetricFamily("urd_store_readable", "Whether the store can be read")
        try:
            counts = outbox_counts(self.service.store)
        except StoreError:
            readable.add_metric([], 0)
            yield readable
            return
        readable.add_metric([], 1)
        yield readable
        for kind in ("waiting", "parked"):
            events = GaugeMetricFamily(
                f"urd_outbox_{kind}", f"Events in the outbox that are {kind}", labels=["receiver"]
            )
            for receiver, count in counts.items():
                events.add_metric([receiver], count[kind])
            yield events
