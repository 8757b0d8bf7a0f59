"""Judge what waits together: decoding in threads, one thread for the network, threads for rows."""

from __future__ import annotations

import copy
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from urd.data import UnreadableImage
from urd.data.images_in_memory import IN_MEMORY
from urd.engines.judging import Prepared
from urd.errors import UrdError, first_line
from urd.inspection.prediction import Failure, Prediction
from urd.serving.http.answers import FAILED, Answer, Wanted, late_outcome, too_late
from urd.serving.http.metrics import Metrics
from urd.serving.http.refusal import Refusal
from urd.serving.http.settings import Settings
from urd.serving.http.trial import trial
from urd.serving.served_model import PICTURE_SIDE, ServedModel
from urd.serving.service import Service
from urd.serving.station import Arrived
from urd.system.progress import warn

_TURN_SECONDS = 0.25
_FIRST = "the first image is not judged yet"
_STORING = 8  # threads; most of their time they wait for the disk
Result = Prediction | Failure


@dataclass
class Job:
    """An image on its way through the server; `answer` gets the result."""

    model: ServedModel
    arrived: Arrived
    wanted: Wanted = Wanted()
    answer: Future[Answer] = field(default_factory=Future)
    queued: float = field(default_factory=time.monotonic)
    prepared: Prepared | Failure | None = None


class _Work:
    """The threads of a line, and what they hand on."""

    def __init__(self, most_decoded: int, run: Callable[[_Work], None]) -> None:
        self.decoding = ThreadPoolExecutor(min(4, os.cpu_count() or 1), "urd-decode")
        self.storing = ThreadPoolExecutor(_STORING, "urd-store")
        self.room = threading.Semaphore(most_decoded)
        self.ready: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self.ending = threading.Event()
        self._judging = threading.Thread(target=run, args=(self,), name="urd-judge", daemon=True)
        self._judging.start()

    def end(self) -> None:
        self.decoding.shutdown()
        self.ending.set()
        self._judging.join()
        self.storing.shutdown()


class Line:
    """The way of an image: decode, judge with others, store, answer.

    The network never waits for more images: it takes what is decoded, up to the batch size. A
    batch has the thresholds of one moment, and so do its rows.
    """

    def __init__(self, service: Service, settings: Settings, metrics: Metrics) -> None:
        self.service = service
        self.settings = settings
        self.metrics = metrics
        self.problem: str | None = _FIRST
        self._lock = threading.Lock()
        self._work: _Work | None = None
        self._turned = time.monotonic()

    def start(self) -> None:
        """Begin to judge, with a drawn image for each model. It may be called again."""
        self._working()

    def _working(self) -> _Work:
        with self._lock:
            if self._work is None:
                self._turned = time.monotonic()
                self._work = _Work(2 * self.settings.batch_size, self._run)
            return self._work

    def stop(self) -> None:
        """End when all images that were submitted have their answer."""
        with self._lock:
            work, self._work = self._work, None
        self.problem = _FIRST
        if work is not None:
            work.end()

    def idle_seconds(self) -> float:
        """How long ago the thread of the network last turned; without work it turns often."""
        return time.monotonic() - self._turned

    def submit(self, job: Job) -> None:
        """Take an image.

        Raises:
            Refusal: the server stops.
        """
        work = self._working()
        job.answer.set_running_or_notify_cancel()  # nobody can cancel it any more
        try:
            work.decoding.submit(self._prepare, work, job)
        except RuntimeError as error:
            raise Refusal.busy("the server stops", "stopping") from error
        self.metrics.waiting.inc()

    def _prepare(self, work: _Work, job: Job) -> None:
        work.room.acquire()
        try:
            job.prepared = self._late(job) or prepare(job.model, job.arrived.image)
        except Exception as error:
            job.prepared = Failure(IN_MEMORY, f"{FAILED}{first_line(error)}")
        work.ready.put(job)

    def _run(self, work: _Work) -> None:
        self._try_models()
        while not (work.ending.is_set() and work.ready.empty()):
            self._turned = time.monotonic()
            batch = self._taken(work)
            try:
                self._judge(work, batch)
            except Exception as error:  # the thread must go on
                for job in batch:
                    if not job.answer.done():
                        job.answer.set_exception(error)

    def _try_models(self) -> None:
        try:
            for model in self.service.models.values():
                trial(model)
            self.problem = None
        except Exception as error:
            self.problem = "a model cannot judge"
            warn(f"urd serve: {first_line(error)}")

    def _taken(self, work: _Work) -> list[Job]:
        batch: list[Job] = []
        try:
            batch.append(work.ready.get(timeout=_TURN_SECONDS))
            while len(batch) < self.settings.batch_size:
                batch.append(work.ready.get_nowait())
        except queue.Empty:
            pass
        now = time.monotonic()
        for job in batch:
            work.room.release()
            self.metrics.taken(job.model.name, now - job.queued)
        return batch

    def _judge(self, work: _Work, batch: list[Job]) -> None:
        by_model: dict[int, list[Job]] = {}
        for job in batch:
            by_model.setdefault(id(job.model), []).append(job)
        for jobs in by_model.values():
            model = copy.copy(jobs[0].model)  # thresholds may change while rows are written
            for job in jobs:
                job.prepared = self._late(job) or job.prepared
            results = judge(model, [job.prepared for job in jobs if job.prepared])
            for job, result in zip(jobs, results, strict=True):
                work.storing.submit(self._conclude, model, job, result)

    def _conclude(self, model: ServedModel, job: Job, result: Result) -> None:
        try:
            if isinstance(result, Prediction):
                result = self._late(job) or result
            outcome = self.service.station.conclude(model, job.arrived, result)
            if not outcome.new:
                refuse_other_image(outcome.row, job.arrived)
            late = self._late(job)
            if late and outcome.row["verdict"] != "ERROR":  # it waited for the disk
                outcome = late_outcome(outcome, late.reason)
            self.metrics.concluded(model.name, outcome)
            answer = Answer.of(outcome, job.wanted)
        except Exception as error:
            job.answer.set_exception(error)
            return
        job.answer.set_result(answer)

    def _late(self, job: Job) -> Failure | None:
        limit = self.settings.deadline_ms
        if limit is None or 1000 * (time.monotonic() - job.arrived.began) <= limit:
            return None
        return Failure(IN_MEMORY, too_late(job.arrived.began, limit))


def refuse_other_image(row: Mapping[str, Any], arrived: Arrived) -> None:
    """Give an earlier row to a repeated request only if its image is the same.

    Raises:
        Refusal: else a part could get the verdict of another one.
    """
    if row["content_sha256"] != arrived.content:
        raise Refusal(409, "this Idempotency-Key was used for another image", "key")


def prepare(model: ServedModel, image: bytes) -> Prepared | Failure:
    """Decode an image for the network."""
    try:
        return model.detector.judging(model.inspection).prepare(image, PICTURE_SIDE)
    except UnreadableImage as error:
        return Failure(error.path, error.reason)


def judge(model: ServedModel, items: Sequence[Prepared | Failure]) -> list[Result]:
    """Judge prepared images together; if that fails, one by one, so that others do not suffer."""
    readable = [item for item in items if isinstance(item, Prepared)]
    try:
        judging = model.detector.judging(model.inspection)
        scored: list[Result] = judging.scored(readable) if readable else []
    except Exception as error:  # of a runtime, or out of memory
        if len(readable) > 1:
            return [judge(model, [item])[0] for item in items]
        scored = [Failure(IN_MEMORY, f"{FAILED}{_reason(error)}")]
    results = iter(scored)
    return [item if isinstance(item, Failure) else next(results) for item in items]


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, UrdError) else first_line(error)
