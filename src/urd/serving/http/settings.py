"""The limits of `urd serve`, and how it loads a model again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from urd.engines.exported import ExportedEngine
from urd.errors import UsageError
from urd.serving.http.tokens import Tokens
from urd.serving.served_model import ServedModel

MIB = 2**20
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


def load_again(model: ServedModel) -> ServedModel:
    """The model from the same path, opened and read in the same way.

    Raises:
        UsageError, UrdError: as `ServedModel.load`.
    """
    detector = model.detector
    exported = isinstance(detector.engine, ExportedEngine)
    new = ServedModel.load(
        model.name,
        model.path,
        replace(model.inspection, review_at=None, reject_at=None),
        device=detector.engine.device,
        precision=None if exported else detector.engine.precision,
    )
    new.detector.reading = detector.reading
    return new


@dataclass(frozen=True)
class Settings:
    """How a server behaves.

    Attributes:
        batch_size: most images that the network judges together.
        queue: places for requests; a request has one from its first byte to its answer.
        deadline_ms: an answer that is later, in milliseconds after the request came, is an ERROR;
            `None`: no limit.
        max_bytes: of the body of a request.
        upload_seconds: for the whole body of a request.
        tokens: who may do what; `None`: everybody may do everything.
        hosts: names in the header Host that are answered, in lower case and without the port.
        load: makes the new model of a reload from the old one.
        check: what is wrong with a new model, in words; if there is anything, a reload is refused.
    """

    batch_size: int = 8
    queue: int = 64
    deadline_ms: float | None = None
    max_bytes: int = 64 * MIB
    upload_seconds: float = 10.0
    tokens: Tokens | None = None
    hosts: frozenset[str] = LOCAL_HOSTS
    load: Callable[[ServedModel], ServedModel] = load_again
    check: Callable[[ServedModel], list[str]] | None = None

    def __post_init__(self) -> None:
        smallest = min(self.batch_size, self.queue, self.max_bytes)
        if smallest < 1 or self.upload_seconds <= 0 or (self.deadline_ms or 1) <= 0:
            raise UsageError("the limits of a server must be positive")
