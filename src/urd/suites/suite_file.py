"""Parses and checks the content of a suite file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from urd.data import SOURCES
from urd.errors import UsageError, quoted
from urd.metrics import METRICS

PLAIN = "folder"
_KEYS = {"title", "about", "data", "settings", "settings_for", "vary", "seeds", "published"}
_MOST_JOBS, _LONGEST_LIST, _LONGEST_NAME = 10_000, 1000, 100
Axis = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class PublishedRow:
    """Published figures: metrics in percent, by name."""

    name: str
    source: str
    data: str
    metrics: dict[str, float]
    note: str = ""


@dataclass(frozen=True)
class SuiteFile:
    """The content of the file. `FitConfig` checks the values of settings later.

    Attributes:
        data: the categories of each data set.
        settings_for: more settings for a data set, or for a category as `data/category`.
        axes: the varied settings: each axis has labels, and each label has settings.
    """

    title: str
    about: str
    data: dict[str, list[str]]
    settings: Mapping[str, Any]
    settings_for: dict[str, Mapping[str, Any]]
    axes: list[Axis]
    seeds: list[int]
    published: list[PublishedRow]


def parse_suite(content: Any) -> SuiteFile:
    """A suite from the content of its YAML file.

    Raises:
        UsageError: names the first problem.
    """
    content = _mapping("a suite", content)
    for key in content:
        if key not in _KEYS:
            raise UsageError(f"unknown key {quoted(key)}; choose from {', '.join(sorted(_KEYS))}")
    for key in ("title", "data"):
        if not content.get(key):
            raise UsageError(f"the key '{key}' is missing")
    data = {name: _categories(name, of) for name, of in _mapping("data", content["data"]).items()}
    file = SuiteFile(
        title=_text("title", content["title"]),
        about=_text("about", content.get("about") or ""),
        data=data,
        settings=_mapping("settings", content.get("settings")),
        settings_for=_settings_for(content.get("settings_for"), data),
        axes=[_axis(key, of) for key, of in _mapping("vary", content.get("vary")).items()],
        seeds=_seeds(content.get("seeds", [0])),
        published=_published(content.get("published"), data),
    )
    _refuse_what_has_its_own_key(file)
    _refuse_endless(file)
    return file


def _refuse_what_has_its_own_key(file: SuiteFile) -> None:
    varied = [settings for axis in file.axes for settings in axis.values()]
    if any("seed" in layer for layer in (file.settings, *varied, *file.settings_for.values())):
        raise UsageError("seed is not a setting here: write 'seeds: [0, 1, 2]'")
    if any("preset" in layer for layer in varied):
        raise UsageError("a preset cannot be varied: vary its options instead")


def _refuse_endless(file: SuiteFile) -> None:
    """Check only the number of jobs: building a huge list of jobs could take forever."""
    categories = sum(map(len, file.data.values()))
    jobs = math.prod([len(file.seeds), categories, *map(len, file.axes)])
    if jobs > _MOST_JOBS:
        raise UsageError(f"the suite has {quoted(jobs)} jobs; at most {_MOST_JOBS} are allowed")


def _mapping(what: str, content: Any) -> Mapping[str, Any]:
    """`content` as a mapping with texts as keys; `None` gives an empty one."""
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise UsageError(f"{what} must have 'key: value' lines, not {quoted(content)}")
    for key in content:
        if not isinstance(key, str):
            raise UsageError(f"{what} has the key {quoted(key)}, which is not a text: quote it")
    return content


def _text(what: str, content: Any) -> str:
    if not isinstance(content, str):
        raise UsageError(f"{what} must be a text, not {quoted(content)}")
    return content


def _list(what: str, values: Any) -> list[Any]:
    if not isinstance(values, list) or not values:
        raise UsageError(f"{what} must be a list, such as [a, b]")
    if len(values) > _LONGEST_LIST:
        raise UsageError(f"{what} has {len(values)} entries; at most {_LONGEST_LIST} are allowed")
    if any(value in values[:index] for index, value in enumerate(values)):
        raise UsageError(f"{what} has the same entry twice")
    return values


def _label(value: Any, option: str = "") -> str:
    """A value as it appears in tables and folder names; with an option, as `option=value`."""
    label = quoted(value) if not isinstance(value, str) else value
    label = f"{option}={label}" if option else label
    if not label.isprintable() or len(label) > _LONGEST_NAME:
        raise UsageError(f"{quoted(value)} is too long or not printable: give it a short name")
    return label


def _seeds(values: Any) -> list[int]:
    seeds = _list("seeds", values)
    if not all(type(seed) is int for seed in seeds):
        raise UsageError(f"seeds must be whole numbers, not {quoted(seeds)}")
    return seeds


_SPEAKS_FOR_ITSELF = ("variant", "backbone")  # options whose values need no name before them


def _axis(key: str, values: Any) -> Axis:
    """A list has values of the option `key`; a mapping has labels with their settings."""
    what = f"vary {quoted(key)[1:-1]}"
    if isinstance(values, Mapping) and values:
        named = {_label(label): settings for label, settings in values.items()}
        axis = {label: dict(_mapping(what, settings)) for label, settings in named.items()}
    else:
        values = _list(what, values)
        option = key if key not in _SPEAKS_FOR_ITSELF else ""
        axis = {_label(value, option): {key: value} for value in values}
    if len(axis) < len(values):
        raise UsageError(f"{what} has the same entry twice")
    return axis


def _settings_for(content: Any, data: Mapping[str, list[str]]) -> dict[str, Mapping[str, Any]]:
    places = {f"{name}/{category}" for name, inside in data.items() for category in inside}
    exceptions = {}
    for place, settings in _mapping("settings_for", content).items():
        if place not in places | set(data):
            raise UsageError(f"settings_for {quoted(place)}, but the suite has no such data")
        exceptions[place] = _mapping(f"settings_for {quoted(place)}", settings)
    return exceptions


def _categories(data: str, which: Any) -> list[str]:
    if data != PLAIN and data not in SOURCES:
        raise UsageError(f"unknown data {quoted(data)}: choose from {PLAIN}, {', '.join(SOURCES)}")
    if which == "all" and data != PLAIN:
        return list(SOURCES[data].categories)
    # YAML reads an unquoted 01 as a number.
    listed = _list(f"data {data}", which)
    named = [_label(f"{c:02}" if type(c) is int and 0 <= c < 100 else c) for c in listed]
    if len(set(named)) < len(named):
        raise UsageError(f"data {data} has the same entry twice")
    for category in named:
        if data != PLAIN and category not in SOURCES[data].categories:
            known = ", ".join(SOURCES[data].categories)
            raise UsageError(f"{data} has no category {quoted(category)}; choose from {known}")
    return named


def _published(content: Any, data: Mapping[str, list[str]]) -> list[PublishedRow]:
    rows = content or []
    if not isinstance(rows, list):
        raise UsageError("published must be a list of rows")
    return [_row(_mapping("a published row", row), data) for row in rows]


def _row(row: Mapping[str, Any], data: Mapping[str, list[str]]) -> PublishedRow:
    texts = {
        key: _text(f"published {key}", row.get(key) or "")
        for key in ("name", "source", "data", "note")
    }
    if texts["data"] not in data:
        name = quoted(texts["name"])
        raise UsageError(f"published row {name} has data that is not in the suite")
    for key in ("name", "source"):
        if not texts[key]:
            raise UsageError(f"a published row has no {key}")
    metrics = {key: _percent(key, value) for key, value in row.items() if key not in texts}
    return PublishedRow(**texts, metrics=metrics)


def _percent(metric: str, value: Any) -> float:
    if metric not in METRICS:
        raise UsageError(
            f"published row with unknown {quoted(metric)}; metrics are {', '.join(METRICS)}"
        )
    if type(value) not in (int, float) or not 0 <= value <= 100:
        raise UsageError(f"published {metric} is {quoted(value)}; give it in percent")
    return float(value)
