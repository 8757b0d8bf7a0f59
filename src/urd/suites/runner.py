"""Running a suite: what is missing, each job in a process, on as many devices as there are."""

from __future__ import annotations

import hashlib
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from urd.backbones.builtin import BUILTIN
from urd.backbones.registry import backbone_of
from urd.data import SOURCES, read_layout, search
from urd.errors import UrdError, UsageError, first_line
from urd.networks.variants import VARIANTS
from urd.suites.job import JOB_NAME, RESULT_NAME, RUN_NAME
from urd.suites.schema import BenchmarkResult
from urd.suites.suite import PLAIN, Job, Suite
from urd.suites.tables import write_tables
from urd.system.documents import MIB, read_json
from urd.system.files import make_folder, special, write_json, writing
from urd.system.progress import Progress
from urd.system.schema import check
from urd.system.threads import workers

RESULTS_NAME = "results.json"
_MOST_BYTES = 64 * MIB
_CORES_PER_JOB = 8  # below, one job at a time uses all cores best


@dataclass(frozen=True)
class Places:
    """Where this machine keeps what a suite needs, and what may run at once.

    Attributes:
        roots: folder of each data set of the suite, by its name.
        weights: of a backbone, by its tag; those of the others by the tag `*`.
        textures, device: as the options of `urd fit`; the device `auto` takes every GPU.
        parallel: jobs at once; 0: one per GPU, or one per eight cores.
        keep_models: keep the run folder of a finished job.
    """

    roots: dict[str, Path]
    weights: dict[str, str] = field(default_factory=dict)
    textures: str = "procedural"
    device: str = "auto"
    parallel: int = 0
    keep_models: bool = False
    resamples: int = 1000

    def weights_of(self, job: Job) -> str:
        """The weight file of a job's backbone, or `auto` or `none`."""
        tag, for_all = job.settings["backbone"], self.weights.get("*", "auto")
        if tag == BUILTIN and _is_file(for_all):  # of another one: what is built in has its own
            for_all = "auto"
        return job.settings.get("weights") or self.weights.get(tag, for_all)


@dataclass
class Outcome:
    """What a call of `run_suite` did.

    Attributes:
        ran: names of the jobs that were done now; `kept` were done before.
        failed: name and reason.
    """

    ran: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def run_suite(suite: Suite, out: Path, places: Places) -> Outcome:
    """Do the jobs of the suite that OUT has no result of; a failed one does not stop the others.

    OUT/results.json holds every result; a job that was stopped goes on from its checkpoint in
    OUT/jobs. The tables are written anew after each job.

    Raises:
        UsageError: data that the suite needs is not where `places` says.
        NotWritten: another suite is at work in OUT.
    """
    digests = _digests(suite, places)
    labels = {digest: job.label for digest, job in digests.items()}
    with writing(out):
        (out / ".lock").unlink(missing_ok=True)  # of an earlier version
        return _run_missing(suite, out, places, digests, labels)


def missing_jobs(suite: Suite, out: Path, places: Places) -> list[Job]:
    """What `run_suite` would do.

    Raises:
        UsageError: as `run_suite`.
    """
    digests = _digests(suite, places)
    known = _known(out, digests)
    return [job for digest, job in digests.items() if digest not in known]


def _digests(suite: Suite, places: Places) -> dict[str, Job]:
    """The jobs by what identifies them."""
    _check(suite, places)
    fingerprint = _Fingerprints(suite, places)
    return {job.digest(fingerprint.of(job)): job for job in suite.jobs}


def _run_missing(
    suite: Suite, out: Path, places: Places, digests: dict[str, Job], labels: dict[str, str]
) -> Outcome:
    known = _known(out, digests)
    outcome = Outcome(kept=[job.name for digest, job in digests.items() if digest in known])
    todo = {digest: job for digest, job in digests.items() if digest not in known}
    devices = _devices(places)
    lock = threading.Lock()
    free: queue.Queue[str] = queue.Queue()
    for device in devices:
        free.put(device)
    running: set[subprocess.Popen[bytes]] = set()

    def keep() -> None:
        write_json(out / RESULTS_NAME, list(known.values()))
        write_tables(suite, [known[d] for d in digests if d in known], labels, out)

    keep()
    if not places.keep_models:  # of jobs whose suite was killed before it tidied up
        for digest in digests.keys() & known.keys():
            shutil.rmtree(out / "jobs" / _folder_name(digests[digest], digest), ignore_errors=True)
    progress = Progress(f"Suite {suite.name}", len(digests), len(outcome.kept))

    def do(digest: str, job: Job) -> None:
        device = free.get()
        try:
            order = _order(job, digest, places, device)
            result = _run(out / "jobs" / _folder_name(job, digest), order, len(devices), running)
            with lock:
                known[digest] = result
                keep()
                outcome.ran.append(job.name)
            if not places.keep_models:
                shutil.rmtree(out / "jobs" / _folder_name(job, digest), ignore_errors=True)
        except (UrdError, OSError) as error:
            with lock:
                outcome.failed[job.name] = str(error)
        finally:
            free.put(device)
            done = len(outcome.kept) + len(outcome.ran) + len(outcome.failed)
            progress.update(done, job.name)

    with workers(len(devices)) as pool:
        futures = [pool.submit(do, digest, job) for digest, job in todo.items()]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(running):
                process.terminate()  # the job writes a checkpoint and ends
            raise
        finally:
            progress.close()
    return outcome


def _is_file(weights: str) -> bool:
    return weights not in ("auto", "none")


def _check(suite: Suite, places: Places) -> None:
    """Refuse what would be noticed by the first job, or by nobody."""
    for name in places.roots:
        if name not in suite.data:
            raise UsageError(
                f"--root {name}=...: the suite has no {name}, but {', '.join(suite.data)}"
            )
    tags = {job.settings["backbone"] for job in suite.jobs}
    for tag, file in places.weights.items():
        if tag != "*" and tag not in tags:
            raise UsageError(f"--weights {tag}=...: the suite has no backbone {tag}")
        if _is_file(file) and not Path(file).is_file():
            raise UsageError(f"no weight file at {file}")
    if len(tags - {BUILTIN}) > 1 and _is_file(places.weights.get("*", "auto")):
        raise UsageError(
            f"one weight file for {', '.join(sorted(tags - {BUILTIN}))}: give each its own, as "
            "--weights TAG=FILE"
        )
    if places.textures != "procedural" and not Path(places.textures).is_dir():
        raise UsageError(f"no texture folder at {places.textures}")


def _data_path(job: Job, places: Places) -> str:
    root = places.roots.get(job.data)
    if root is None:
        how = SOURCES[job.data].how_to_get() if job.data in SOURCES else "a folder of categories"
        raise UsageError(f"the suite needs {job.data}: pass --root {job.data}=DIR ({how})")
    path = root / job.category
    return f"{job.data}:{path}" if job.data != PLAIN else str(path)


class _Fingerprints:
    """Of all files that jobs read: images, masks, weights, textures. Each is read once."""

    def __init__(self, suite: Suite, places: Places) -> None:
        self._places = places
        self._images: dict[tuple[str, str], str] = {}
        for job in suite.jobs:
            if (job.data, job.category) not in self._images:
                data_set = read_layout(_data_path(job, places))
                samples = [*data_set.train, *data_set.test]
                files = [path for sample in samples for path in (sample.path, *sample.masks)]
                self._images[job.data, job.category] = _of_files(files, data_set.root.parent)
        self._textures = _of_path(places.textures)

    def of(self, job: Job) -> dict[str, str]:
        return {
            "images": self._images[job.data, job.category],
            "weights": self._of_weights(job),
            "textures": self._textures,
        }

    def _of_weights(self, job: Job) -> str:
        backbone = backbone_of(job.settings["backbone"], self._places.weights_of(job))
        return backbone.identity(teacher_learns=VARIANTS[job.settings["variant"]].expert)


def _of_path(name: str) -> str:
    """Of a file's content, of a folder's files, or of a word such as `auto`."""
    path = Path(name)
    if path.is_dir():
        linked = search(path).images  # of which rglob knows nothing
        return _of_files([*(p for p in path.rglob("*") if p.is_file()), *linked], path)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else name


def _of_files(files: Iterable[Path], root: Path) -> str:
    """Of names below `root` and contents; a file that cannot be read counts by its name."""
    digest = hashlib.sha256()
    for path in sorted(set(files)):
        digest.update(str(path.relative_to(root)).encode(errors="surrogateescape") + b"\0")
        if special(path):
            continue
        with suppress(OSError):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _known(out: Path, digests: Mapping[str, Job]) -> dict[str, dict[str, Any]]:
    """Results by digest: of the results file, and of jobs that ended when nobody listened.

    Raises:
        UrdError: a file is damaged.
    """
    files = [out / RESULTS_NAME] if (out / RESULTS_NAME).exists() else []
    known: dict[str, dict[str, Any]] = {}
    for file in [*files, *sorted(out.glob(f"jobs/*/{RESULT_NAME}"))]:
        try:
            content = read_json(file, _MOST_BYTES)
            for result in content if isinstance(content, list) else [content]:
                check(BenchmarkResult, result)
                job = digests.get(result["digest"])
                if job and (job.data, job.category) != (result["data"], result["category"]):
                    raise ValueError("a result names the digest of another job")
                known[result["digest"]] = result
        except ValueError as error:
            raise UrdError(
                f"{file} is not a results file of a suite ({first_line(error)}); move it away"
            ) from error
    return known


def _devices(places: Places) -> list[str]:
    """One entry per job that runs at once."""
    import torch

    if places.device == "auto" and torch.cuda.is_available():
        devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        if places.parallel > len(devices):
            raise UsageError(
                f"--jobs {places.parallel}: here are {len(devices)} GPUs, and each takes one job"
            )
        return devices[: places.parallel or None]
    count, on_cpu = places.parallel, not places.device.startswith("cuda")
    if not count:
        count = max(1, (os.cpu_count() or 1) // _CORES_PER_JOB) if on_cpu else 1
    return [places.device] * count


def _folder_name(job: Job, digest: str) -> str:
    parts = (job.data, job.category, job.label, f"seed{job.seed}", digest[:8])
    return "-".join("".join(c if c.isalnum() or c in "._" else "_" for c in p) for p in parts)


def _order(job: Job, digest: str, places: Places, device: str) -> dict[str, Any]:
    local = {
        "weights": places.weights_of(job),
        "textures": places.textures,
        "device": device,
    }
    return {
        "data_path": _data_path(job, places),
        "options": {**job.settings, **local},
        "resamples": places.resamples,
        "identity": {
            "digest": digest,
            "data": job.data,
            "category": job.category,
            "settings": job.settings,
            "textures": "procedural" if places.textures == "procedural" else "a folder",
        },
    }


def _run(
    folder: Path,
    order: Mapping[str, Any],
    parallel: int,
    running: set[subprocess.Popen[bytes]],
) -> dict[str, Any]:
    """One job in a process; its output goes to FOLDER/log.txt.

    Raises:
        UrdError: it failed; the message is its last line.
    """
    make_folder(folder)
    write_json(folder / JOB_NAME, order)
    threads = max(1, (os.cpu_count() or 1) // parallel)
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
    command = [sys.executable, "-m", "urd.suites", str(folder)]
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the suite, which then ends the job once
        )
        running.add(process)
        try:
            code = process.wait()
        finally:
            running.discard(process)
            if process.stdin is not None:
                process.stdin.close()
    if code != 0:
        lines = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").split("\n")
        said = [line for line in lines if line.strip()]
        reason = said[-1].removeprefix("urd: ") if said else "no output"
        raise UrdError(f"{reason} (exit code {code}; {folder / 'log.txt'})")
    shutil.rmtree(folder / RUN_NAME / "checkpoint", ignore_errors=True)
    try:
        result = read_json(folder / RESULT_NAME, _MOST_BYTES)
        check(BenchmarkResult, result)
    except ValueError as error:
        raise UrdError(f"{folder / RESULT_NAME} is damaged: {first_line(error)}") from error
    return dict(result)
