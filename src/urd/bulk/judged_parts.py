"""Run the workers with Ray Data and put their answers together to whole parts."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from urd.bulk.cluster import Cluster, reason_of
from urd.bulk.order import ModelFiles, Order
from urd.bulk.parts import Part
from urd.bulk.rows import line_of
from urd.bulk.worker import Attempts, Judge
from urd.errors import UrdError
from urd.inspection.judgement import judgement
from urd.system.ray_session import quiet_ray_data

_SLICE = 0.5  # seconds
_LOOK_SECONDS = 5.0
_MOST_SILENCE = 3600.0  # seconds without any answer
_GIVEN_UP = "the process that judged it ended each time (a crash, or no memory was left)"
Task = tuple[Part, Sequence[int]]  # which images of the part


@dataclass
class JudgedPart:
    """The rows of a part, and the pictures of some images by their names."""

    part: Part
    lines: dict[int, str] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)

    def add(self, index: int, line: str, picture: bytes | None = None) -> None:
        """Add the row of an image."""
        self.lines[index] = line
        if picture is not None:
            self.pictures[self.part.overlays[index]] = picture

    @property
    def is_whole(self) -> bool:
        """Whether all rows are there."""
        return len(self.lines) == len(self.part.images)

    def ordered(self) -> list[str]:
        """The rows in the order of the images."""
        return [self.lines[index] for index in sorted(self.lines)]


class Workers:
    """Workers on a cluster.

    Args:
        needs: resources of one worker, as Ray names them.
        count: how many.
    """

    def __init__(
        self, cluster: Cluster, order: Order, model: ModelFiles, needs: dict[str, float], count: int
    ) -> None:
        self._cluster, self._order, self._needs, self.count = cluster, order, needs, count
        ray = cluster.ray
        here = ray.get_runtime_context().get_node_id()
        strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=False)
        self._model = ray.put(dict(model))
        self._attempts = (
            ray.remote(Attempts).options(num_cpus=0, scheduling_strategy=strategy).remote()
        )

    def judged(self, parts: Sequence[Part]) -> Iterator[JudgedPart]:
        """Each part when it is judged, in any order.

        A part whose process ends again and again is judged once more, image by image. So one image
        that makes a process crash gets an ERROR, and the others a verdict.

        Raises:
            UrdError: no work is possible any more; the message says why.
        """
        given_up: list[JudgedPart] = []
        yield from self._pass([(part, range(len(part.images))) for part in parts], given_up)
        for one in given_up:
            one.lines.clear()
        singles = [(one.part, [n]) for one in given_up for n in range(len(one.part.images))]
        if singles:
            yield from self._pass(singles, None)

    def _pass(
        self, tasks: Sequence[Task], given_up: list[JudgedPart] | None
    ) -> Iterator[JudgedPart]:
        """Judge once; what was given up goes into the list, or gets an ERROR if it is `None`."""
        waiting = {part.name: JudgedPart(part) for part, _ in tasks}
        for answer in self._answers(tasks):
            name, index = answer["part"], answer["index"]
            if answer["failure"] is not None:
                raise UrdError(answer["failure"])
            if name not in waiting:
                continue  # it came twice: a node was lost after its answer
            judged = waiting[name]
            if answer["line"] is not None:
                judged.add(index, answer["line"], answer["picture"])
            elif given_up is None:
                judged.add(index, _error_line(judged.part, index))
            else:
                given_up.append(waiting.pop(name))
            if judged.is_whole:
                yield waiting.pop(name)
        if waiting:
            raise UrdError(f"Ray has lost {len(waiting)} parts: run the same command again")

    def _answers(self, tasks: Sequence[Task]) -> Iterator[dict[str, Any]]:
        ray_data = quiet_ray_data()
        resources = {f"num_{name.lower()}s": n for name, n in self._needs.items()}
        items = [item_of(part, indexes) for part, indexes in tasks]
        tables = (
            ray_data.from_items(items, override_num_blocks=len(items))
            .map_batches(
                Judge,
                batch_size=1,
                batch_format="pyarrow",
                compute=ray_data.ActorPoolStrategy(size=min(self.count, len(items))),
                fn_constructor_args=[self._order, [self._model], self._attempts],
                **resources,
            )
            .iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)
        )
        for table in _watched(iter(tables), self._cluster, self._needs):
            yield from table.to_pylist()


def _watched(tables: Iterator[Any], cluster: Cluster, needs: dict[str, float]) -> Iterator[Any]:
    """Pass answers through; a thread waits for them, so that Ctrl-C and lost nodes are seen.

    Raises:
        UrdError: Ray fails, or no node can run a worker any more.
    """
    answers: queue.Queue[Any] = queue.Queue(maxsize=2)
    stop = threading.Event()
    threading.Thread(target=_read, args=(tables, answers, stop), daemon=True).start()
    try:
        last = could = looked = time.monotonic()
        while True:
            try:
                kind, content = answers.get(timeout=_SLICE)
            except queue.Empty:
                now = time.monotonic()
                if now - looked > _LOOK_SECONDS:
                    looked = now
                    could = now if cluster.workers_that_fit(needs) else could
                    _refuse_silence(now - could, now - last, cluster.patience)
                continue
            if kind == "error":
                raise UrdError(f"Ray has failed: {reason_of(content)}") from content
            if kind == "end":
                return
            last = could = time.monotonic()
            yield content
    finally:
        stop.set()


def _read(tables: Iterator[Any], answers: queue.Queue[Any], stop: threading.Event) -> None:
    def put(kind: str, content: Any) -> None:
        while not stop.is_set():
            with suppress(queue.Full):
                answers.put((kind, content), timeout=_SLICE)
                return

    try:
        for table in tables:
            put("table", table)
            if stop.is_set():
                return
        put("end", None)
    except BaseException as error:  # Ray also raises types of its own here
        put("error", error)


def _refuse_silence(without_nodes: float, without_answers: float, patience: float) -> None:
    if without_nodes > patience:
        raise UrdError(
            f"no node of the cluster could run a worker for {patience:.0f} seconds; what is stored "
            "stays, and the same command goes on from there"
        )
    if without_answers > _MOST_SILENCE:
        raise UrdError(
            "no worker has answered for an hour; what is stored stays, and the same command goes "
            "on from there"
        )


def item_of(part: Part, indexes: Sequence[int]) -> dict[str, Any]:
    """What a worker gets to judge these images of a part."""
    images = [part.images[index] for index in indexes]
    return {
        "part": part.name,
        "index": list(indexes),
        "uri": [image.uri for image in images],
        "path": [os.fsencode(image.path) for image in images],
        "shown": [image.shown for image in images],
        "overlay": [part.overlays[index] for index in indexes],
    }


def _error_line(part: Part, index: int) -> str:
    image = part.images[index]
    row = judgement(Path(image.path), "ERROR", error=_GIVEN_UP)
    return line_of({**row, "path": image.shown})
