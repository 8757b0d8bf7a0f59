"""From the judgement of a model to a row in the store: what `urd watch` and `urd serve` share."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from urd.errors import UrdError
from urd.inspection.camera import CameraWatch
from urd.inspection.prediction import Failure, Prediction
from urd.serving.kept_images import KeptImages
from urd.serving.record import Record, Stored
from urd.serving.served_model import ServedModel
from urd.serving.store import Move, Store, StoreError
from urd.system.files import printable
from urd.system.progress import warn


@dataclass(frozen=True)
class Arrived:
    """An image that came to the line.

    Attributes:
        image: the bytes of the file. content: their SHA-256.
        began: `time.monotonic()` when the first byte was there.
        came: when the file was complete, in seconds since 1970; `None`: just now.
        path: where it lay; `None`: it came over the network.
        part: the identity of the part. key: two images with the same key are one row.
    """

    image: bytes
    content: str
    began: float
    path: Path | None = None
    part: str | None = None
    key: str | None = None
    came: float | None = None

    @classmethod
    def of(
        cls,
        image: bytes,
        *,
        began: float | None = None,
        path: Path | None = None,
        part: str | None = None,
        key: str | None = None,
        came: float | None = None,
    ) -> Arrived:
        content = hashlib.sha256(image).hexdigest()
        begun = time.monotonic() if began is None else began
        return cls(image, content, begun, path, part, key, came)


@dataclass(frozen=True)
class Outcome:
    """What became of an image.

    Attributes:
        row: the judgement in the one schema, with `sequence` (`None`: not stored).
        result: with the map, for pictures; a `Failure` if it was not judged.
        stored: whether the row is in the store.
        new: false if a row with the same key was there before; then `row` is that one.
        problem: why it was not stored.
    """

    row: dict[str, Any]
    result: Prediction | Failure
    stored: bool = True
    new: bool = True
    problem: str | None = None


@dataclass
class Station:
    """Stores what models judge, and watches their cameras.

    Attributes:
        source: watch or serve.
        receivers: names of those who get each judgement as an event.
        not_stored: called with the reason when a judgement cannot be stored.
        camera: `strict` makes an image that is odd in itself an ERROR; `warn` says it in the row.
    """

    store: Store
    source: Literal["watch", "serve"]
    images: KeptImages
    receivers: Sequence[str] = ()
    camera: Literal["warn", "strict"] = "warn"
    not_stored: Callable[[str], None] = lambda _: None
    _watches: dict[str, CameraWatch] = field(default_factory=dict)
    _looking: threading.Lock = field(default_factory=threading.Lock)

    def conclude(
        self,
        model: ServedModel,
        arrived: Arrived,
        result: Prediction | Failure,
        move: Move | None = None,
    ) -> Outcome:
        """Store the judgement of an image.

        It never raises: if the store fails, the outcome says so, and nothing is reported as stored.
        """
        if arrived.key is not None and (known := self._known(arrived.key)):
            return Outcome(known.to_dict(), result, new=False)
        before = self._watch_of(model).last
        messages = self._looked(model, arrived, result)
        if messages and self.camera == "strict" and isinstance(result, Prediction):
            result = Failure(arrived.path or result.path or Path("image"), "; ".join(messages))
        now = time.time()
        judgement = result.to_dict()
        judgement["path"] = None if arrived.path is None else printable(arrived.path)
        record = Record(
            judgement,
            self.source,
            model.name,
            model.sha256,
            model.engine,
            model.facts(),
            now,
            1000 * (time.monotonic() - arrived.began),
            part=arrived.part,
            content=arrived.content or None,
            camera=messages,
            key=arrived.key,
            heat_range=result.heat_range if isinstance(result, Prediction) else None,
            waited=0.0 if arrived.came is None else max(0.0, now - arrived.came),
        )
        try:
            kept = self._kept(arrived, result, now)
            row, new = self.store.add(replace(record, image=kept), self.receivers, move)
        except UrdError as error:
            self._unsee(model, before)
            self.not_stored(str(error))
            body = {"sequence": None, **record.body(), "reviewed": None}
            return Outcome(body, result, stored=False, problem=str(error))
        return Outcome(row.to_dict(), result, new=new)

    def refresh(self, model: ServedModel) -> None:
        """Apply the thresholds that a person has set for this model, perhaps in another process.

        Raises:
            StoreError: the store cannot be read.
        """
        change = self.store.threshold_change(model.sha256)
        if (change or {}).get("id") != model.change:
            model.set_thresholds(change)

    def _known(self, key: str) -> Stored | None:
        try:
            return self.store.by_key(key)
        except StoreError:  # the attempt to store the row will say it
            return None

    def _kept(self, arrived: Arrived, result: Prediction | Failure, now: float) -> str | None:
        """The name of the kept image. A judgement without its image is better than none."""
        try:
            return self.images.keep(arrived.image, arrived.content, result, now)
        except UrdError as error:
            warn(f"an image was not kept: {error}")
            return None

    def _looked(
        self, model: ServedModel, arrived: Arrived, result: Prediction | Failure
    ) -> tuple[str, ...]:
        if isinstance(result, Failure) or result.picture is None:
            return ()
        with self._looking:  # several threads may conclude; a watch is for one at a time
            return self._watch_of(model).look(result.picture, result.size, arrived.content)

    def _watch_of(self, model: ServedModel) -> CameraWatch:
        facts = model.detector.header.data
        watch = self._watches.setdefault(model.name, CameraWatch(facts))
        watch.facts = facts  # a reloaded model may know another camera
        return watch

    def _unsee(self, model: ServedModel, last: str | None) -> None:
        """Forget an image that was not stored: if it comes again, it is no repetition."""
        with self._looking:
            self._watch_of(model).last = last
