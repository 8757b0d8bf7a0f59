"""What a suite file says: which jobs there are, and what is published to compare them with."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from urd.config import PRESETS, FitConfig
from urd.data import SOURCES
from urd.errors import UsageError, first_line, quoted
from urd.metrics import METRICS
from urd.system.documents import read_yaml
from urd.system.files import refuse_special

_SUITES = Path(__file__).parent / "shipped"
# Where files lie and what the machine is like: no part of what a job is, but that an encoder is
# untrained (`weights: none`).
_OF_THE_MACHINE = ("device", "weights", "textures", "checkpoint_seconds")
PLAIN = "folder"
_KEYS = {"title", "about", "data", "settings", "settings_for", "vary", "seeds", "published"}
_PUBLISHED_KEYS = {"name", "source", "data", "note"}
_MOST_JOBS, _LONGEST_LIST, _LONGEST_NAME = 10_000, 1000, 100


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
        """What makes two jobs the same: settings, and the fingerprints of images, weights and
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
        return _suite(path.stem, _mapping("a suite", content))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except ValueError as error:
        raise UsageError(f"{path} is not a suite: {first_line(error)}") from error


def _suite(name: str, content: Mapping[str, Any]) -> Suite:
    for key in content:
        if key not in _KEYS:
            raise UsageError(f"unknown key {quoted(key)}; known are {', '.join(sorted(_KEYS))}")
    for key in ("title", "data"):
        if not content.get(key):
            raise UsageError(f"the key '{key}' is missing")
    vary = _mapping("vary", content.get("vary"))
    axes = [_axis(key, values) for key, values in vary.items()]
    varied = [settings for axis in axes for settings in axis.values()]
    seeds = _list("seeds", content.get("seeds", [0]))
    if not all(type(seed) is int for seed in seeds):
        raise UsageError(f"seeds are whole numbers, not {quoted(seeds)}")
    data_of_suite = _mapping("data", content["data"])
    categories = {data: _categories(data, which) for data, which in data_of_suite.items()}
    _refuse_endless(math.prod([len(seeds), sum(map(len, categories.values())), *map(len, axes)]))
    places = {f"{d}/{c}" for d, inside in categories.items() for c in inside} | set(categories)
    base = _mapping("settings", content.get("settings"))
    exceptions = {
        place: _mapping(f"settings_for {quoted(place)}", settings)
        for place, settings in _mapping("settings_for", content.get("settings_for")).items()
    }
    for place in exceptions:
        if place not in places:
            raise UsageError(f"settings_for {quoted(place)}, but the suite has no such data")
    for layer in (base, *varied, *exceptions.values()):
        if "seed" in layer:
            raise UsageError("seeds are given as 'seeds: [0, 1, 2]'")
    if any("preset" in layer for layer in varied):
        raise UsageError("a preset is many options: vary those that you mean")
    jobs = [
        Job(
            data,
            category,
            ", ".join(labels) or "default",
            _settings(
                base,
                exceptions.get(data, {}),
                exceptions.get(f"{data}/{category}", {}),
                *(axis[label] for axis, label in zip(axes, labels, strict=True)),
                {"seed": seed},
            ),
        )
        for seed in seeds
        for data, inside in categories.items()
        for category in inside
        for labels in itertools.product(*axes)
    ]
    if not jobs:
        raise UsageError("the suite has no jobs")
    rows = content.get("published") or []
    if not isinstance(rows, list):
        raise UsageError("published is a list of rows")
    published = [_published(_mapping("a published row", row), set(categories)) for row in rows]
    title, about = (_text(key, content.get(key) or "") for key in ("title", "about"))
    return Suite(name, title, about, jobs, published)


def _refuse_endless(jobs: int) -> None:
    """By their number alone: to write all of them down may be what takes for ever."""
    if jobs > _MOST_JOBS:
        raise UsageError(f"the suite has {quoted(jobs)} jobs; {_MOST_JOBS} are the most")


def _mapping(what: str, content: Any) -> Mapping[str, Any]:
    """`content` as 'key: value' lines with texts as keys; none where there is nothing."""
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise ValueError(f"{what} holds 'key: value' lines, not {quoted(content)}")
    for key in content:
        if not isinstance(key, str):
            raise ValueError(f"{what} has the key {quoted(key)}, which is no text: quote it")
    return content


def _text(what: str, content: Any) -> str:
    if not isinstance(content, str):
        raise UsageError(f"{what} is a text, not {quoted(content)}")
    return content


def _axis(key: str, values: Any) -> dict[str, dict[str, Any]]:
    """What one key of `vary` stands for: labels, and the settings that each of them means.

    A list holds values of the option `key`; a mapping names its choices and lists their settings.
    """
    what = f"vary {quoted(key)[1:-1]}"
    if isinstance(values, Mapping) and values:
        named = {_label(label): settings for label, settings in values.items()}
        axis = {label: dict(_mapping(what, settings)) for label, settings in named.items()}
    else:
        values = _list(what, values)
        axis = {_label(value): {key: value} for value in values}
    if len(axis) < len(values):
        raise UsageError(f"{what} names something twice")
    return axis


def _label(value: Any) -> str:
    """A value as tables and the names of folders show it."""
    label = quoted(value) if not isinstance(value, str) else value
    if not label.isprintable() or len(label) > _LONGEST_NAME:
        raise UsageError(f"{quoted(value)} is too long, or not printable: give it a short name")
    return label


def _list(what: str, values: Any) -> list[Any]:
    if not isinstance(values, list) or not values:
        raise UsageError(f"{what} is a list, such as [a, b]")
    if len(values) > _LONGEST_LIST:
        raise UsageError(f"{what} has {len(values)} entries; {_LONGEST_LIST} are the most")
    if any(value in values[:index] for index, value in enumerate(values)):
        raise UsageError(f"{what} names something twice")
    return values


def _categories(data: str, which: Any) -> list[str]:
    if data != PLAIN and data not in SOURCES:
        raise UsageError(f"unknown data {quoted(data)}: choose from {PLAIN}, {', '.join(SOURCES)}")
    if which == "all" and data != PLAIN:
        return list(SOURCES[data].categories)
    # YAML reads an unquoted 01 as a number.
    listed = _list(f"data {data}", which)
    named = [_label(f"{c:02}" if type(c) is int and 0 <= c < 100 else c) for c in listed]
    if len(set(named)) < len(named):
        raise UsageError(f"data {data} names something twice")
    for category in named:
        if data != PLAIN and category not in SOURCES[data].categories:
            known = ", ".join(SOURCES[data].categories)
            raise UsageError(f"{data} has no category {quoted(category)}: {known}")
    return named


def _settings(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a job, later layers before earlier ones."""
    merged: dict[str, Any] = {}
    for layer in layers:
        if "preset" in layer:
            if layer["preset"] not in list(PRESETS):
                raise UsageError(
                    f"unknown preset {quoted(layer['preset'])}; known are {', '.join(PRESETS)}"
                )
            merged |= PRESETS[layer["preset"]]
            merged["backbone"] = merged.get(
                "backbone", FitConfig().backbone
            )  # a job never falls back
        merged |= {key: value for key, value in layer.items() if key != "preset"}
    untrained = {"weights": "none"} if merged.get("weights") == "none" else {}
    for key in _OF_THE_MACHINE:
        if key in merged and key not in untrained:
            raise UsageError(f"'{key}' belongs to a machine and not into a suite")
    if "," in str(merged.get("backbone")):
        raise UsageError("a job has one backbone; give several as 'vary: {backbone: [A, B]}'")
    settings = FitConfig.from_mapping(merged).to_dict()
    own = {key: value for key, value in settings.items() if key not in _OF_THE_MACHINE}
    return own | untrained


def _published(row: Mapping[str, Any], data: set[str]) -> dict[str, Any]:
    if row.get("data") not in data:
        name = quoted(row.get("name"))
        raise UsageError(f"published row {name} is of data that the suite has not")
    for key in ("name", "source"):
        if not row.get(key):
            raise UsageError(f"published row without {key}")
    texts = {key: _text(f"published {key}", row[key]) for key in _PUBLISHED_KEYS if row.get(key)}
    metrics = {key: value for key, value in row.items() if key not in _PUBLISHED_KEYS}
    for key, value in metrics.items():
        if key not in METRICS:
            raise UsageError(f"published row with {quoted(key)}; metrics are {', '.join(METRICS)}")
        if type(value) not in (int, float) or not 0 <= value <= 100:
            raise UsageError(f"published {key} is {quoted(value)}; give it in percent")
    return {**texts, **{key: float(value) for key, value in metrics.items()}}
