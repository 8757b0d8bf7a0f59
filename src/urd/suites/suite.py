"""A suite: its jobs, and published figures for comparison."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from urd import method_version
from urd.backbones.base import NONE
from urd.config import FitConfig, options
from urd.errors import UsageError, first_line, quoted
from urd.presets import of_preset, overridden
from urd.suites.suite_file import PublishedRow, SuiteFile, parse_suite
from urd.system.documents import read_yaml
from urd.system.files import refuse_special

_SUITES = Path(__file__).parent / "shipped"
# Options that are younger than results of this METHOD_VERSION, with the value that means "as before
# there was this option". With it a job is the same job as before.
_YOUNGER: dict[str, Any] = {"epochs": 0.0}


@dataclass(frozen=True)
class Job:
    """One training and its evaluation. They depend only on these values and the named files.

    Attributes:
        data: a benchmark such as `mvtec_ad`, or `folder`.
        label: the varied settings, such as `urd` or `urd, direct`.
        settings: all options of `FitConfig` with their values, without machine options; also
            `weights` if the encoder is untrained (`none`).
    """

    data: str
    category: str
    label: str
    settings: dict[str, Any]

    @property
    def seed(self) -> int:
        return int(self.settings["seed"])

    @property
    def method_version(self) -> int:
        """The version of the method of its variant."""
        return method_version.version_of(str(self.settings.get("variant")))

    @property
    def backbone(self) -> str:
        return str(self.settings["backbone"])

    @property
    def name(self) -> str:
        return f"{self.data}/{self.category}, {self.label}, seed {self.seed}"

    def digest(self, inputs: Mapping[str, str]) -> str:
        """Two jobs are the same if their digests are equal.

        It covers data, settings, fingerprints of the files (`inputs`) and the version of the
        method, but not the label. It covers all settings, so that a default may change later.
        """
        settings = {k: v for k, v in self.settings.items() if k not in _YOUNGER or v != _YOUNGER[k]}
        identity = [self.data, self.category, settings, dict(inputs), self.method_version]
        text = json.dumps(identity, sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Suite:
    """A checked suite file.

    Attributes:
        jobs: ordered by seed, so that a suite that is stopped early has complete tables.
    """

    name: str
    title: str
    about: str
    jobs: list[Job]
    published: list[PublishedRow] = field(default_factory=list)

    @property
    def data(self) -> list[str]:
        return list(dict.fromkeys(job.data for job in self.jobs))


def shipped_suites() -> dict[str, Path]:
    """Name and file of each suite that comes with the package."""
    return {path.stem: path for path in sorted(_SUITES.glob("*.yaml"))}


def read_suite(name: str) -> Suite:
    """Read a shipped suite by its name, or a YAML file.

    Raises:
        UsageError: there is no such suite, or the content of the file is wrong.
    """
    path = shipped_suites().get(name, Path(name))
    refuse_special(path)
    if not path.is_file():
        raise UsageError(
            f"no suite {quoted(name)}: give a YAML file or one of {', '.join(shipped_suites())}"
        )
    try:
        content = read_yaml(path)
    except ValueError as error:
        raise UsageError(f"cannot read {path} as YAML: {first_line(error)}") from error
    try:
        file = parse_suite(content)
        return Suite(path.stem, file.title, file.about, _jobs(file), file.published)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _jobs(file: SuiteFile) -> list[Job]:
    """All combinations of seeds, categories and varied settings."""
    return [
        _job(file, data, category, labels, seed)
        for seed in file.seeds
        for data, categories in file.data.items()
        for category in categories
        for labels in itertools.product(*file.axes)
    ]


def _job(file: SuiteFile, data: str, category: str, labels: tuple[str, ...], seed: int) -> Job:
    settings = _settings(
        file.settings,
        file.settings_for.get(data, {}),
        file.settings_for.get(f"{data}/{category}", {}),
        *(axis[label] for axis, label in zip(file.axes, labels, strict=True)),
        {"seed": seed},
    )
    return Job(data, category, ", ".join(labels) or "default", settings)


def _settings(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a job; later layers override earlier ones."""
    named: dict[str, Any] = {}
    for layer in layers:
        own = {key: value for key, value in layer.items() if key != "preset"}
        named = overridden(named | _of_preset(layer), own)
    untrained = named.get("weights") == NONE
    for key in options(scope="machine"):
        if key in named and not (key == "weights" and untrained):
            raise UsageError(
                f"'{key}' is a machine option: remove it from the suite and pass it as a flag"
            )
    config = FitConfig.from_mapping(named)
    if "backbone" in named and len(config.backbone) > 1:
        raise UsageError(
            "a job has one backbone; to compare several, use 'vary: {backbone: [A, B]}'"
        )
    return settings_of(dataclasses.replace(config, backbone=config.backbone[:1]))


def settings_of(config: FitConfig) -> dict[str, Any]:
    """The settings that identify a job: see `Job.settings`."""
    machine = options(scope="machine")
    settings = {key: value for key, value in config.to_dict().items() if key not in machine}
    return settings | ({"weights": NONE} if config.weights == NONE else {})


def _of_preset(layer: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a layer's preset, with only its first backbone: a job has no fallback."""
    if layer.get("preset") is None:
        return {}
    settings = of_preset(layer["preset"])
    return {**settings, "backbone": FitConfig.from_mapping(settings).tag}
