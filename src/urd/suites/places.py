"""Where this machine keeps the inputs of a suite, and where its jobs run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from urd.backbones.base import AUTO, NONE
from urd.backbones.registry import backbone_of, choose_backbone
from urd.config import FitConfig, options
from urd.data import SOURCES
from urd.errors import UsageError, quoted
from urd.suites.executor import Execution, Executor
from urd.suites.suite import Job, Suite
from urd.suites.suite_file import PLAIN

EVERY = "*"  # in place of a tag: all other backbones
# `weights` is not one of them: a suite has one weight file per backbone.
MACHINE_OPTIONS = tuple(name for name in options(scope="machine") if name != "weights")


@dataclass(frozen=True)
class Places:
    """What differs between machines that run the same suite. It never changes a result.

    Attributes:
        roots: the folder of each data set of the suite, by its name.
        weights: the weight file of each backbone, by its tag; `*` is for all other backbones.
        options: machine options of `urd fit` that differ from their defaults; the device `auto`
            uses every GPU.
        keep_models: keep the run folder of a finished job.
        execution: where jobs run, and how many at once.

    Raises:
        UsageError: an option is unknown, out of range, or not a machine option.
    """

    roots: Mapping[str, Path]
    weights: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    keep_models: bool = False
    resamples: int = 1000
    execution: Execution = Execution()

    def __post_init__(self) -> None:
        for name in self.options:
            if name not in MACHINE_OPTIONS:
                raise UsageError(
                    f"{quoted(name)} is not a machine option: set it in the suite file"
                )
        self._config()

    @property
    def device(self) -> str:
        return self._config().device

    @property
    def textures(self) -> str:
        return self._config().textures

    @property
    def textures_in_words(self) -> str:
        """For results, which name no place on this machine."""
        return "procedural" if self.textures == "procedural" else "a folder"

    def executor(self, out: Path) -> Executor:
        """What runs the jobs of a suite with the folder `out`.

        Raises:
            UsageError: as `Execution.executor`.
        """
        return self.execution.executor(self.device, out)

    def _config(self) -> FitConfig:
        return FitConfig.from_mapping(self.options)

    def weights_of(self, job: Job) -> str:
        """The weight file of a job's backbone, or `auto` or `none`."""
        for_all = self.weights.get(EVERY, AUTO)
        if is_file(for_all) and backbone_of(job.backbone).ships_weights:
            for_all = AUTO  # the file is for the other backbones
        return job.settings.get("weights") or self.weights.get(job.backbone, for_all)

    def data_of(self, job: Job) -> str:
        """The data set of a job, as `urd fit` takes it.

        Raises:
            UsageError: `roots` does not have the data set.
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
        """All training options of the job on this machine, except the device."""
        own = {name: value for name, value in self.options.items() if name != "device"}
        return {**job.settings, **own, "weights": self.weights_of(job)}

    def check(self, suite: Suite) -> None:
        """Check the places before the first job starts.

        Raises:
            UsageError: the suite does not use a place, or a file or folder is missing.
        """
        for name in self.roots:
            if name not in suite.data:
                known = ", ".join(suite.data)
                raise UsageError(f"--root {name}=...: the suite has no {name}; it has {known}")
        self._check_weights({job.backbone for job in suite.jobs})
        self.check_files()

    def check_files(self) -> None:
        """Check that the weight files and the folder of textures exist.

        Raises:
            UsageError: one is missing.
        """
        for file in self.weights.values():
            if is_file(file) and not Path(file).is_file():
                raise UsageError(f"no weight file at {file}; correct --weights")
        if self.textures != "procedural" and not Path(self.textures).is_dir():
            raise UsageError(f"no texture folder at {self.textures}; correct --textures")

    def check_backbones(self, jobs: Iterable[Job]) -> None:
        """Check that this machine has, or can download, the weights that the jobs need.

        Only jobs that run here are checked: another machine has weights of its own.

        Raises:
            UsageError: the weights of a backbone cannot be had.
        """
        if self.execution.on != "local":
            return
        tags = sorted({job.backbone for job in jobs if self.weights_of(job) == AUTO})
        absent = [tag for tag in tags if not choose_backbone([tag]).available()]
        if absent:
            raise UsageError(
                f"the weights of {', '.join(absent)} are not on this machine and cannot be "
                "downloaded: pass --weights TAG=FILE, or write 'backbone: builtin' under "
                "'settings' in the suite file"
            )

    def _check_weights(self, tags: set[str]) -> None:
        for tag in self.weights:
            if tag != EVERY and tag not in tags:
                raise UsageError(f"--weights {tag}=...: the suite has no backbone {tag}")
        others = sorted(tag for tag in tags if not backbone_of(tag).ships_weights)
        if len(others) > 1 and is_file(self.weights.get(EVERY, AUTO)):
            raise UsageError(
                f"{', '.join(others)} cannot share a weight file: pass --weights TAG=FILE for each"
            )


def is_file(weights: str) -> bool:
    """Whether the value of the option `weights` is a file."""
    return weights not in (AUTO, NONE)
