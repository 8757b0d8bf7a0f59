"""What a suite file says: which jobs there are, and what is published to compare them with."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from urd.config import PRESETS, FitConfig
from urd.data import SOURCES
from urd.errors import UsageError, first_line

_SUITES = Path(__file__).parent / "suites"
# Where files lie and how fast the machine is: no part of what a job is.
_OF_THE_MACHINE = ("device", "weights", "textures", "checkpoint_seconds")
PLAIN = "folder"
_KEYS = {"title", "about", "data", "settings", "settings_for", "vary", "seeds", "published"}
_PUBLISHED_KEYS = {"name", "source", "data", "note"}


@dataclass(frozen=True)
class Job:
    """One training and its evaluation: a function of these values and of the files they name.

    Attributes:
        data: a benchmark such as `mvtec_ad`, or `folder`.
        label: what it varies within the suite, such as `urd` or `urd, direct`.
        settings: of `FitConfig`, without what belongs to the machine.
    """

    data: str
    category: str
    label: str
    settings: dict[str, Any]

    @property
    def seed(self) -> int:
        return int(self.settings["seed"])

    @property
    def name(self) -> str:
        return f"{self.data}/{self.category}, {self.label}, seed {self.seed}"

    def digest(self, inputs: Mapping[str, str]) -> str:
        """What makes two jobs the same: data, settings, and the fingerprints of weights and
        textures (`inputs`); not the label.

        Settings at their default do not count, so that results outlive a new option.
        """
        default = FitConfig().to_dict()
        chosen = {key: value for key, value in self.settings.items() if value != default[key]}
        identity = [self.data, self.category, chosen, dict(inputs)]
        text = json.dumps(identity, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Suite:
    """A suite file, checked.

    Attributes:
        jobs: seed by seed, so that a suite that is stopped early has whole tables.
        published: rows of others, each with `name`, `source`, `data` and metrics in percent.
    """

    name: str
    title: str
    about: str
    jobs: list[Job]
    published: list[dict[str, Any]] = field(default_factory=list)

    @property
    def data(self) -> list[str]:
        return list(dict.fromkeys(job.data for job in self.jobs))


def shipped_suites() -> dict[str, Path]:
    """Name and file of each suite that comes with the package."""
    return {path.stem: path for path in sorted(_SUITES.glob("*.yaml"))}


def read_suite(name: str) -> Suite:
    """A shipped suite by its name, or a YAML file.

    Raises:
        UsageError: no such suite, or a file that does not say what a suite must.
    """
    path = shipped_suites().get(name, Path(name))
    if not path.is_file():
        raise UsageError(
            f"no suite '{name}': give a YAML file or one of {', '.join(shipped_suites())}"
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"can not read {path} as YAML: {first_line(error)}") from error
    try:
        return _suite(path.stem, content)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise UsageError(f"{path} is not a suite: {first_line(error)}") from error


def _suite(name: str, content: dict[str, Any]) -> Suite:
    unknown = set(content) - _KEYS
    if unknown:
        raise UsageError(f"unknown key '{min(unknown)}'; known are {', '.join(sorted(_KEYS))}")
    vary = {key: list(values) for key, values in content.get("vary", {}).items()}
    seeds = [int(seed) for seed in content.get("seeds", [0])]
    categories = {data: _categories(data, which) for data, which in content["data"].items()}
    places = {f"{d}/{c}" for d, inside in categories.items() for c in inside} | set(categories)
    exceptions = dict(content.get("settings_for", {}))
    for place in exceptions:
        if place not in places:
            raise UsageError(f"settings_for '{place}', but the suite has no such data")
    base = dict(content.get("settings", {}))
    jobs = [
        Job(
            data,
            category,
            ", ".join(map(str, values)) or "default",
            _settings(
                base,
                exceptions.get(data, {}),
                exceptions.get(f"{data}/{category}", {}),
                dict(zip(vary, values, strict=True)),
                {"seed": seed},
            ),
        )
        for seed in seeds
        for data, inside in categories.items()
        for category in inside
        for values in itertools.product(*vary.values())
    ]
    if not jobs:
        raise UsageError("the suite has no jobs")
    published = [_published(row, set(categories)) for row in content.get("published", [])]
    return Suite(name, str(content["title"]), str(content.get("about", "")), jobs, published)


def _categories(data: str, which: Any) -> list[str]:
    if data == PLAIN:
        return [str(category) for category in which]
    if data not in SOURCES:
        raise UsageError(f"unknown data '{data}': choose from {PLAIN}, {', '.join(SOURCES)}")
    known = SOURCES[data].categories
    if which == "all":
        return list(known)
    for category in which:
        if str(category) not in known:
            raise UsageError(f"{data} has no category '{category}': {', '.join(known)}")
    return [str(category) for category in which]


def _settings(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a job, later layers before earlier ones."""
    merged: dict[str, Any] = {}
    for layer in layers:
        if "preset" in layer:
            if layer["preset"] not in PRESETS:
                raise UsageError(
                    f"unknown preset '{layer['preset']}'; known are {', '.join(PRESETS)}"
                )
            merged |= PRESETS[layer["preset"]]
        merged |= {key: value for key, value in layer.items() if key != "preset"}
    for key in _OF_THE_MACHINE:
        if key in merged:
            raise UsageError(f"'{key}' belongs to a machine: give it on the command line")
    settings = FitConfig.from_mapping(merged).to_dict()
    return {key: value for key, value in settings.items() if key not in _OF_THE_MACHINE}


def _published(row: Mapping[str, Any], data: set[str]) -> dict[str, Any]:
    if row.get("data") not in data:
        raise UsageError(f"published row '{row.get('name')}' is of data that the suite has not")
    for key in ("name", "source"):
        if not row.get(key):
            raise UsageError(f"published row without {key}")
    metrics = {key: float(value) for key, value in row.items() if key not in _PUBLISHED_KEYS}
    return {**{key: row[key] for key in _PUBLISHED_KEYS if key in row}, **metrics}
