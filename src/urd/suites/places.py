"""Where this machine keeps what a suite needs, and what may run at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from urd.backbones.builtin import BUILTIN
from urd.config import FitConfig, options
from urd.data import SOURCES
from urd.errors import UsageError, quoted
from urd.suites.suite import Job, Suite
from urd.suites.suite_file import PLAIN

EVERY = "*"  # instead of the tag of a backbone
# A suite has a weight file for each backbone instead of one.
MACHINE_OPTIONS = tuple(name for name in options(scope="machine") if name != "weights")


@dataclass(frozen=True)
class Places:
    """What differs between machines that run the same suite, and never shapes a result.

    Attributes:
        roots: folder of each data set of the suite, by its name.
        weights: of a backbone, by its tag; those of the others by the tag `*`.
        options: those of `urd fit` that belong to a machine, as far as they differ from their
            defaults; the device `auto` takes every GPU.
        parallel: jobs at once; 0: one per GPU, or one per eight cores.
        keep_models: keep the run folder of a finished job.
        executor: who runs the jobs, a name of `urd.suites.executor.EXECUTORS`.

    Raises:
        UsageError: an option that is unknown, out of range, or not of a machine.
    """

    roots: Mapping[str, Path]
    weights: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    parallel: int = 0
    keep_models: bool = False
    resamples: int = 1000
    executor: str = "local"

    def __post_init__(self) -> None:
        for name in self.options:
            if name not in MACHINE_OPTIONS:
                raise UsageError(f"{quoted(name)} does not belong to a machine but into the suite")
        self._config()

    @property
    def device(self) -> str:
        return self._config().device

    @property
    def textures(self) -> str:
        return self._config().textures

    def _config(self) -> FitConfig:
        return FitConfig.from_mapping(self.options)

    def weights_of(self, job: Job) -> str:
        """The weight file of a job's backbone, or `auto` or `none`."""
        for_all = self.weights.get(EVERY, "auto")
        if job.backbone == BUILTIN and is_file(for_all):  # of another one: this one has its own
            for_all = "auto"
        return job.settings.get("weights") or self.weights.get(job.backbone, for_all)

    def data_of(self, job: Job) -> str:
        """The data set of a job, as `urd fit` takes it.

        Raises:
            UsageError: there is no root of it.
        """
        root = self.roots.get(job.data)
        if root is None:
            how = (
                SOURCES[job.data].how_to_get() if job.data in SOURCES else "a folder of categories"
            )
            raise UsageError(f"the suite needs {job.data}: pass --root {job.data}=DIR ({how})")
        path = root / job.category
        return f"{job.data}:{path}" if job.data != PLAIN else str(path)

    def options_of(self, job: Job) -> dict[str, Any]:
        """All options of the job's training on this machine, but the device."""
        own = {name: value for name, value in self.options.items() if name != "device"}
        return {**job.settings, **own, "weights": self.weights_of(job)}

    def check(self, suite: Suite) -> None:
        """Refuse what would be noticed by the first job, or by nobody.

        Raises:
            UsageError: a place that the suite has no use for, or where nothing is.
        """
        for name in self.roots:
            if name not in suite.data:
                known = ", ".join(suite.data)
                raise UsageError(f"--root {name}=...: the suite has no {name}, but {known}")
        self._check_weights({job.backbone for job in suite.jobs})
        if self.textures != "procedural" and not Path(self.textures).is_dir():
            raise UsageError(f"no texture folder at {self.textures}")

    def _check_weights(self, tags: set[str]) -> None:
        for tag, file in self.weights.items():
            if tag != EVERY and tag not in tags:
                raise UsageError(f"--weights {tag}=...: the suite has no backbone {tag}")
            if is_file(file) and not Path(file).is_file():
                raise UsageError(f"no weight file at {file}")
        others = sorted(tags - {BUILTIN})
        if len(others) > 1 and is_file(self.weights.get(EVERY, "auto")):
            raise UsageError(
                f"one weight file for {', '.join(others)}: give each its own, as --weights TAG=FILE"
            )


def is_file(weights: str) -> bool:
    """Whether a value of the option `weights` names a file."""
    return weights not in ("auto", "none")
