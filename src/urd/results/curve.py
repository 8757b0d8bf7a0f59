"""The training curve of a run, as charts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from urd.errors import UrdError, first_line
from urd.model.run_folder import RunFolder
from urd.results.charts import Line, line_chart
from urd.system.documents import MIB, parse_json, read_text
from urd.system.schema import check
from urd.training.schema import CurveLine

_MOST_BYTES = 64 * MIB
_DISTANCE, _SYNTHETIC = "good_distance", "synthetic_"
_TITLES = {
    "synthetic_image_auroc": "image AUROC",
    "synthetic_pixel_ap": "pixel AP",
    _DISTANCE: "mean distance",
}


def training_charts(run: Path) -> list[tuple[str, str]]:
    """(chart, what it shows) of losses and validation; empty if there is no curve.

    Raises:
        UrdError: a line of the curve is damaged.
    """
    content = _lines(run)
    losses = _series(content, "loss")
    scores = _series(content, "validation")
    groups = [
        ("Losses", losses, "losses, means since the line before", True),
        (
            "Distance of good images",
            [line for line in scores if line.name == _DISTANCE],
            "mean value of the maps of held-out good images",
            False,
        ),
        (
            "Validation",
            [line for line in scores if line.name.startswith(_SYNTHETIC)],
            "synthetic anomalies on held-out good images",
            False,
        ),
    ]
    return [
        (
            line_chart(
                [Line(_TITLES.get(line.name, line.name), line.x, line.y) for line in lines],
                name,
                logarithmic=logarithmic,
            ),
            about,
        )
        for name, lines, about, logarithmic in groups
        if lines
    ]


def _series(content: list[dict[str, Any]], key: str) -> list[Line]:
    """One line for each name that occurs under a key, over the iterations."""
    points: dict[str, list[tuple[float, float]]] = {}
    for entry in content:
        for name, value in (entry.get(key) or {}).items():
            if value is not None:
                points.setdefault(name, []).append((entry["iteration"], value))
    return [Line(name, *zip(*sorted(found), strict=True)) for name, found in points.items()]


def _lines(run: Path) -> list[dict[str, Any]]:
    """The training curve; empty if there is none or the run is unfinished.

    Raises:
        UrdError: a line is damaged. The last line may be cut off by a kill, so it is not read.
    """
    path = RunFolder(run).curve
    if not path.exists() or not RunFolder(run).is_finished:
        return []
    lines: list[dict[str, Any]] = []
    names: set[str] = set()
    try:
        *whole, _ = read_text(path, _MOST_BYTES).split("\n")
        for number, line in enumerate(whole, start=1):
            content = parse_json(line)
            check(CurveLine, content)
            losses = set(content.get("loss") or ())
            names = names or losses
            if losses and losses != names:
                raise ValueError(f"line {number} has other losses than the first line")
            lines.append(content)
    except ValueError as error:
        raise UrdError(
            f"the training curve {path} is damaged ({first_line(error)}): move the file away for a "
            "report without the curve"
        ) from error
    return lines
