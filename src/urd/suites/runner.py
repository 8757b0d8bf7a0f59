"""Runs a suite: finds the missing jobs, gives them to an executor, and keeps the results."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from urd.errors import UrdError
from urd.suites.executor import Executor
from urd.suites.fingerprints import Fingerprints
from urd.suites.places import Places
from urd.suites.records import (
    RESULT_NAME,
    RESULTS_NAME,
    RUN_NAME,
    BenchmarkResult,
    Identity,
    JobOrder,
    not_results,
    read_result,
    read_results,
)
from urd.suites.suite import Job, Suite
from urd.suites.tables import write_tables
from urd.suites.tasks import Ended, Task
from urd.system.files import write_json, writing
from urd.system.progress import Progress


@dataclass
class Outcome:
    """The outcome of one call of `run_suite`.

    Attributes:
        ran: names of the jobs that this call finished.
        kept: names of the jobs that were finished before.
        failed: name and reason of each failed job.
        waiting: names of the jobs that are left to a queue.
    """

    ran: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)


def run_suite(suite: Suite, out: Path, places: Places) -> Outcome:
    """Run the jobs of the suite without a result in OUT. A failed job does not stop the others.

    OUT/results.json holds every result. A stopped job continues from its checkpoint in OUT/jobs.
    The tables are written again after each job.

    Raises:
        UsageError: the data of the suite are not at their place in `places`, or the weights of a
            backbone cannot be had.
        NotWritten: another suite writes to OUT.
    """
    executor = places.executor(out)
    jobs = _identified(suite, places)
    with writing(out):
        (out / ".lock").unlink(missing_ok=True)  # from an earlier version
        places.check_backbones(_missing(out, jobs))
        return _Run(suite, out, places, jobs).finish(executor)


def ends(
    executor: Executor, tasks: Sequence[Task], label: str, total: int
) -> Generator[Ended, None, None]:
    """Run the tasks, the last ones of `total`, and show the progress.

    Close the generator to stop the jobs.
    """
    before = total - len(tasks)
    progress = Progress(label, total, before)
    with closing(progress), closing(executor.run(tasks)) as of_executor:
        for count, ended in enumerate(of_executor, start=before + 1):
            yield ended
            progress.update(count, ended.task.name)


def missing_jobs(suite: Suite, out: Path, places: Places) -> list[Job]:
    """The jobs that `run_suite` would run.

    Raises:
        UsageError: as `run_suite`.
    """
    missing = _missing(out, _identified(suite, places))
    places.check_backbones(missing)
    return missing


@dataclass(frozen=True)
class _Identified:
    """A job with the fingerprints of its inputs and its digest."""

    job: Job
    inputs: dict[str, str]
    digest: str

    def folder(self, out: Path) -> Path:
        return out / "jobs" / folder_name(self.job, self.digest)


_Jobs = dict[str, _Identified]


def _identified(suite: Suite, places: Places) -> _Jobs:
    """The jobs by their digests."""
    places.check(suite)
    fingerprints = Fingerprints(places)
    jobs: _Jobs = {}
    for job in suite.jobs:
        inputs = fingerprints.of(job)
        digest = job.digest(inputs)
        jobs[digest] = _Identified(job, inputs, digest)
    return jobs


def _missing(out: Path, jobs: _Jobs) -> list[Job]:
    known = _known(out, jobs)
    return [job.job for digest, job in jobs.items() if digest not in known]


def folder_name(job: Job, digest: str) -> str:
    """A name for the folder of a job, with letters, digits, dots and dashes only."""
    parts = (job.data, job.category, job.label, f"seed{job.seed}", digest[:8])
    return "-".join("".join(c if c.isalnum() or c in "._" else "_" for c in p) for p in parts)


def _known(out: Path, jobs: _Jobs) -> dict[str, BenchmarkResult]:
    """Results by digest: from the results file, and from jobs that ended after their suite died.

    Raises:
        UrdError: a file is damaged.
    """
    known: dict[str, BenchmarkResult] = {}
    for path, result in _stored(out):
        job = jobs[result.digest].job if result.digest in jobs else None
        if job and (job.data, job.category) != (result.data, result.category):
            raise not_results(path, "a result names the digest of another job")
        known[result.digest] = result
    return known


def _stored(out: Path) -> Iterator[tuple[Path, BenchmarkResult]]:
    if (out / RESULTS_NAME).exists():
        yield from ((out / RESULTS_NAME, result) for result in read_results(out / RESULTS_NAME))
    for path in sorted(out.glob(f"jobs/*/{RESULT_NAME}")):
        yield path, read_result(path)


class _Run:
    """One call of `run_suite`: the known results and the outcome."""

    def __init__(self, suite: Suite, out: Path, places: Places, jobs: _Jobs) -> None:
        self.suite, self.out, self.places, self.jobs = suite, out, places, jobs
        self.known = _known(out, jobs)
        self.outcome = Outcome(kept=[j.job.name for d, j in jobs.items() if d in self.known])
        self._labels = {digest: job.job.label for digest, job in jobs.items()}

    def finish(self, executor: Executor) -> Outcome:
        """Run the missing jobs."""
        self._write()
        for digest in self.jobs.keys() & self.known.keys():
            self._tidy_up(digest)  # a killed suite may have left it
        missing = [self._task(digest) for digest in self.jobs if digest not in self.known]
        label = f"Suite {self.suite.name}"
        ended = set()
        with closing(ends(executor, missing, label, len(self.jobs))) as of_executor:
            for end in of_executor:
                ended.add(end.task.name)
                self._take(end.task, end.error)
        self.outcome.waiting = [task.name for task in missing if task.name not in ended]
        return self.outcome

    def _task(self, digest: str) -> Task:
        job = self.jobs[digest].job
        order = JobOrder(
            data_path=self.places.data_of(job),
            options=self.places.options_of(job),
            resamples=self.places.resamples,
            identity=Identity(
                digest=digest,
                data=job.data,
                category=job.category,
                settings=job.settings,
                textures=self.places.textures_in_words,
                method_version=job.method_version,
            ),
        )
        folder = self.jobs[digest].folder(self.out)
        return Task(job.name, folder, order, keep_run=self.places.keep_models)

    def _take(self, task: Task, error: str | None) -> None:
        """Keep the result of a job, or the reason of its failure."""
        try:
            if error is not None:
                raise UrdError(error)
            shutil.rmtree(task.folder / RUN_NAME / "checkpoint", ignore_errors=True)
            self.known[task.order.identity.digest] = read_result(task.folder / RESULT_NAME)
            self._write()
            self.outcome.ran.append(task.name)
            self._tidy_up(task.order.identity.digest)
        except (UrdError, OSError) as failure:
            self.outcome.failed[task.name] = str(failure)

    def _write(self) -> None:
        results = [result.to_json() for result in self.known.values()]
        write_json(self.out / RESULTS_NAME, results)
        of_suite = [self.known[digest] for digest in self.jobs if digest in self.known]
        write_tables(self.suite, of_suite, self._labels, self.out)

    def _tidy_up(self, digest: str) -> None:
        if not self.places.keep_models:
            shutil.rmtree(self.jobs[digest].folder(self.out), ignore_errors=True)
