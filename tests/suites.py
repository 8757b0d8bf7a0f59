"""A small suite, its data, and results as jobs leave them, made without any training."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil
import yaml
from conftest import TINY

from urd.suites.executor import Execution
from urd.suites.records import RESULT_NAME, BenchmarkResult
from urd.suites.suite import Job
from urd.suites.tasks import Ended
from urd.system.files import write_json

CONTENT = {
    "title": "Tiny",
    "data": {"folder": ["whole", "partial"]},
    "settings": {
        "backbone": TINY,
        "iterations": 3,
        "batch_size": 4,
        "image_size": 64,
        "holdout": 0.0,
        "precision": "float32",
    },
    "settings_for": {"folder/partial": {"iterations": 2}},
    "vary": {"variant": ["rd", "urd"]},
    "seeds": [0],
}


def write_suite(folder: Path, **changes: object) -> str:
    """The path of `CONTENT` as a file, with other values of some keys."""
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**CONTENT, **changes}))
    return str(path)


def write_roots(folder: Path, data: Path) -> Path:
    """Two categories, of which one has no test images at first."""
    shutil.copytree(data, folder / "root" / "whole")
    shutil.copytree(data / "train", folder / "root" / "partial" / "train")
    return folder / "root"


def identity(job: Job, digest: str = "") -> dict[str, object]:
    return {
        "digest": digest or job.digest({}),
        "data": job.data,
        "category": job.category,
        "settings": job.settings,
        "textures": "procedural",
        "method_version": job.method_version,
    }


def measured(seed: int = 0, **metrics: object) -> dict[str, object]:
    return {
        **metrics,
        "protocol": "of a test, 10 % & more",
        "fit_seconds": 1.0,
        "evaluate_seconds": 0.5,
        "encoder": {"pretrained": False},
        "precision": "float32" if seed else "bfloat16",
        "machine": {"cpu": "a processor", "gpu": None},
    }


def result(job: Job, **metrics: object) -> BenchmarkResult:
    content = {**identity(job), **measured(job.seed, **metrics)}
    return BenchmarkResult.model_validate(content)


def processes_in(folder: Path) -> list[psutil.Process]:
    """The processes whose last argument is the folder, or one below it: jobs of a suite."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        last = (process.info["cmdline"] or [""])[-1]
        if last == str(folder) or last.startswith(f"{folder}/"):
            found.append(process)
    return found


class InstantExecutor:
    """Every job leaves the same figures at once; one whose name is in `failing` leaves a reason."""

    failing: tuple[str, ...] = ()

    def __init__(self, how: Execution, device: str, out: Path) -> None:
        pass

    def run(self, tasks):
        for task in tasks:
            if task.name in self.failing:
                yield Ended(task, "the reason")
                continue
            task.folder.mkdir(parents=True)
            content = {**task.order.identity.model_dump(), **measured(image_auroc=0.75)}
            write_json(task.folder / RESULT_NAME, content)
            yield Ended(task)
