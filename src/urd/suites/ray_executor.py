"""Runs the jobs of a suite on Ray: one task per job, on a cluster or on this machine."""

from __future__ import annotations

import json
import os
import secrets
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from urd.errors import UrdError, UsageError, first_line
from urd.suites.local_executor import CORES_PER_JOB
from urd.suites.ray_job import SEEN_NAME, Left, RayOrder, do_job
from urd.suites.tasks import Ended, Task
from urd.system.extras import how_to_install
from urd.system.files import absolute, write_atomically, write_text
from urd.system.progress import warn
from urd.system.ray_session import RAY, ray_session

_POLL_SECONDS = 1.0
_PATIENCE = 30.0  # seconds without a start, after which a line says what the jobs wait for
_MOST_AT_ONCE = 256  # tasks that Ray knows of: it starts those that fit
_MOST_LOST = 3  # lost nodes that a job survives


class RayExecutor:
    """Each job is a Ray task that starts `python -m urd.suites FOLDER` on its node.

    Only this process writes results: nodes that do not see the folder of a job send them back.

    Args:
        on: `ray` or `ray:ADDRESS`.
        device: as the option of `urd fit`; `auto` uses GPUs if the cluster has some.
        parallel: jobs at once; 0: as many as the cluster can hold.
        command: the program and its arguments; the folder of the job is added. Empty: `urd.suites`
            in the Python of the node.

    Raises:
        UsageError: Ray is not installed, or the device is that of one machine.
    """

    def __init__(self, on: str, device: str, parallel: int, command: Sequence[str] = ()) -> None:
        if device.startswith("cuda:"):
            raise UsageError(f"--device {device}: Ray chooses the GPU; use auto, cuda or cpu")
        if find_spec(RAY) is None:  # not imported here: Ray reads its settings at its import
            raise UsageError(f"ray is not installed; run: {how_to_install(RAY)}")
        self.on, self.device, self.parallel, self.command = on, device, parallel, command
        self.threads = _threads_of_environment()  # before Ray starts, which may set it

    def run(self, tasks: Sequence[Task]) -> Generator[Ended, None, None]:
        """As `Executor.run`. A job whose node is lost is started again, up to three times.

        Raises:
            UrdError: Ray cannot be reached.
        """
        if not tasks:
            return
        with _own_sigterm() as restore, ray_session(self.on) as ray:
            restore()
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            need = need_of_a_job(nodes, self.device, self.parallel, self.threads)
            jobs = _Jobs(ray, need, self.parallel or _MOST_AT_ONCE, tuple(self.command))
            yield from jobs.run(tasks)


@contextmanager
def _own_sigterm() -> Iterator[Callable[[], object]]:
    """Yield what restores the handler of SIGTERM: Ray sets one that ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    restore = partial(signal.signal, signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    try:
        yield restore
    finally:
        restore()


def _threads_of_environment() -> int | None:
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return max(1, int(first)) if first.isdigit() else None


@dataclass(frozen=True)
class Need:
    """The resources of one job. It computes with one thread per processor core."""

    cpus: int
    gpus: int

    def __str__(self) -> str:
        return _resources({"CPU": self.cpus, "GPU": self.gpus})


def _resources(resources: Mapping[str, float]) -> str:
    named = ((f"{resources.get(name, 0):g}", name) for name in ("CPU", "GPU"))
    return " and ".join(f"{count} {name}s" for count, name in named if count != "0") or "nothing"


def need_of_a_job(
    nodes: Sequence[Mapping[str, float]], device: str, parallel: int, threads: int | None
) -> Need:
    """What one job needs of a cluster.

    With GPUs, a job gets one of them and its share of the cores. Else it gets eight cores, or its
    share for `parallel` jobs at once; never more than the largest node has.

    Args:
        nodes: the resources of each node, as Ray names them.
        device, parallel: as in `RayExecutor`.
        threads: of a job, if the user has set them.
    """
    gpus = int(device == "cuda" or (device == "auto" and any(n.get("GPU", 0) >= 1 for n in nodes)))
    if threads is not None:
        return Need(threads, gpus)
    cores = [int(node.get("CPU", 0)) for node in nodes if node.get("GPU", 0) >= gpus]
    if gpus:
        shares = [int(n.get("CPU", 0) // n["GPU"]) for n in nodes if n.get("GPU", 0) >= 1]
        return Need(max(1, min([CORES_PER_JOB, *shares])), gpus)
    share = sum(cores) // parallel if parallel else CORES_PER_JOB
    return Need(max(1, min(share, max(cores, default=1))), gpus)


@dataclass
class _Running:
    """A job that Ray knows of. `node` is empty until it begins."""

    task: Task
    stream: Any  # of what `do_job` yields
    node: str = ""


class _Jobs:
    """The jobs of one call, and what Ray says of them."""

    def __init__(self, ray: Any, need: Need, most: int, command: tuple[str, ...]) -> None:
        self.ray, self.need, self.most, self.command = ray, need, most, command
        self.running: list[_Running] = []
        self.lost: Counter[str] = Counter()
        self.last_news = time.monotonic()
        self.told = False
        # Ray's own retries are off: they would not be seen, and would not be counted.
        options = {"num_cpus": need.cpus, "num_gpus": need.gpus, "max_retries": 0}
        self.remote = ray.remote(num_returns="streaming", **options)(do_job)

    def run(self, tasks: Sequence[Task]) -> Generator[Ended, None, None]:
        waiting = deque(tasks)
        try:
            while waiting or self.running:
                while waiting and len(self.running) < self.most:
                    task = waiting.popleft()
                    try:
                        self._start(task)
                    except (UrdError, OSError) as error:
                        yield Ended(task, str(error))
                for job in self._with_news():
                    ended = self._hear(job)
                    if ended is not None:
                        yield ended
                self._say_what_it_waits_for()
        finally:
            self._stop()

    def _start(self, task: Task) -> None:
        device = "cuda" if self.need.gpus else "cpu"
        token = secrets.token_hex(16)
        task.write_order(device)
        write_text(task.folder / SEEN_NAME, token)
        order = RayOrder(
            folder=str(absolute(task.folder)),
            token=token,
            order=json.dumps(task.ordered_for(device)),
            threads=self.need.cpus,
            working_folder=str(Path.cwd()),
            keep_run=task.keep_run,
            command=self.command,
        )
        named = self.remote.options(name=f"urd {task.order.identity.digest}")
        self.running.append(_Running(task, named.remote(order)))

    def _with_news(self) -> list[_Running]:
        streams = [job.stream for job in self.running]
        if not streams:
            return []
        ready, _ = self.ray.wait(streams, timeout=_POLL_SECONDS, fetch_local=False)
        return [job for job in self.running if any(job.stream is stream for stream in ready)]

    def _hear(self, job: _Running) -> Ended | None:
        """Take one piece of news; what ended with it, if anything."""
        errors = self.ray.exceptions
        self.last_news, self.told = time.monotonic(), False
        try:
            news = self.ray.get(next(job.stream))
            if isinstance(news, str):
                job.node = news
                return None
            self._write(job.task, news)
            error = f"{news.error}, on the node {job.node}" if news.error else None
        except errors.RayTaskError as failure:  # `do_job` itself failed
            error = f"{first_line(failure.cause)} (on a node of Ray)"
        except errors.OutOfMemoryError as failure:
            error = f"Ray stopped it, because the node {job.node} had no memory left: "
            error += first_line(failure)
        except (errors.RayError, StopIteration) as failure:
            return self._lose(job, first_line(failure))
        except (UrdError, OSError) as failure:  # what it left cannot be written here
            error = str(failure)
        self.running.remove(job)
        return Ended(job.task, error)

    def _write(self, task: Task, left: Left) -> None:
        """Write what came from a node that does not see the folder of the job."""
        for name, content in left.files.items():
            write_atomically(task.folder / name, partial(Path.write_bytes, data=content))

    def _lose(self, job: _Running, reason: str) -> Ended | None:
        """Start a job again whose node is lost, unless that has happened too often."""
        self.running.remove(job)
        self.lost[job.task.name] += 1
        count, node = self.lost[job.task.name], job.node or "of Ray"
        if count > _MOST_LOST:
            return Ended(job.task, f"Ray lost it {count} times; the last time: {reason}")
        warn(
            f"{job.task.name} is lost with the node {node}, or with Ray's process there: it is "
            f"started again ({count} of {_MOST_LOST})."
        )
        try:
            self._start(job.task)
        except (UrdError, OSError) as error:
            return Ended(job.task, str(error))
        return None

    def _say_what_it_waits_for(self) -> None:
        seconds = time.monotonic() - self.last_news
        if self.told or seconds < _PATIENCE or any(job.node for job in self.running):
            return
        self.told = True
        there, free = self.ray.cluster_resources(), self.ray.available_resources()
        warn(
            f"No job has begun for {seconds:.0f} seconds: each waits for a node with {self.need}. "
            f"The cluster has {_resources(there)}, of which {_resources(free)} are free. "
            "Ctrl-C stops waiting."
        )

    def _stop(self) -> None:
        """Stop the jobs; each writes a checkpoint first."""
        for job in self.running:
            self.ray.cancel(job.stream)
        for job in self.running:
            with suppress(self.ray.exceptions.RayError):
                self.ray.get(job.stream.completed())
