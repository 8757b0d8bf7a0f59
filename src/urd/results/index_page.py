"""The page of `urd predict`: all images of a call, the worst first."""

from __future__ import annotations

import heapq
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from urd.detector import Detector
from urd.inspection.calibration import Thresholds
from urd.inspection.prediction import Prediction
from urd.results.counts import thresholds_in_words
from urd.results.pages import moment, render, size, this_machine
from urd.results.shots import Shot, shot_of

MOST, SIDE = 200, 800  # pictures of a page, and pixels of their longer side
_MOST_NAMES = 1000
_WORST_FIRST = ("ERROR", "NG", "REVIEW", None, "OK")
_TITLES = {None: "Without a verdict", "ERROR": "ERROR: not judged"}


def badness(row: dict[str, Any]) -> tuple[int, float]:
    """Sorts rows; the largest value is the worst."""
    return -_WORST_FIRST.index(row["verdict"]), row["score"] or 0.0


class WorstShots:
    """The pictures of the worst images that it has seen; threads may add at the same time.

    Memory does not grow with the number of images.
    """

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._heap: list[tuple[tuple[int, float], int, Shot]] = []
        self._lock = threading.Lock()

    def add(self, order: int, row: dict[str, Any], prediction: Prediction) -> None:
        """Keep a picture of this image, if it is among the worst.

        Args:
            order: the number of the image in the call; earlier ones go first.
        """
        entry = (badness(row), -order)
        with self._lock:
            if not self._is_wanted(entry):
                return
        assert prediction.picture is not None
        link = quote(row["overlay"]) if row["overlay"] else ""
        shot = shot_of(prediction, prediction.picture, SIDE, name=row["path"], link=link)
        with self._lock:  # another image may have come meanwhile, so nothing is sure
            heapq.heappush(self._heap, (*entry, shot))
            if len(self._heap) > self.most:
                heapq.heappop(self._heap)

    def _is_wanted(self, entry: tuple[tuple[int, float], int]) -> bool:
        return len(self._heap) < self.most or entry > self._heap[0][:2]

    def by_order(self) -> dict[int, Shot]:
        """The pictures by the number of their image."""
        return {-order: shot for _, order, shot in self._heap}


@dataclass(frozen=True)
class Named:
    """An image without a picture on the page."""

    name: str
    about: str
    link: str


@dataclass(frozen=True)
class Section:
    """All images with one verdict, the worst first."""

    verdict: str | None
    title: str
    count: int
    shots: list[Shot]
    others: list[Named]


def index_page(
    run: Path | None,
    out: Path,
    detector: Detector,
    thresholds: Thresholds | None,
    rows: Sequence[dict[str, Any]],
    worst: WorstShots,
) -> str:
    """The page as text.

    Args:
        run: the run or file of the detector, as the user named it.
        rows: as in `predictions.jsonl`, in the order of the images.
    """
    sections = _sections(rows, worst.by_order())
    config = detector.config
    facts = [
        ("Run", str(run) if run else "not named"),
        (
            "Detector",
            f"{config.variant}, {config.tag}, {size(*config.image_size)} px (height x width)",
        ),
        ("Thresholds", thresholds_in_words(thresholds) if thresholds else "none: not calibrated"),
        ("Judged", f"{moment()}, on {this_machine(detector.device)}, {detector.engine.precision}"),
    ]
    return render(
        "results/index.html",
        name=out.absolute().name or "Images",
        facts=facts,
        shortfall=thresholds.shortfall() if thresholds else None,
        total=len(rows),
        sections=sections,
        pictures=sum(len(section.shots) for section in sections),
        odd=[(row["path"], row["camera"]) for row in rows if row["camera"]],
        most=MOST,
        side=SIDE,
    )


def _sections(rows: Sequence[dict[str, Any]], shots: dict[int, Shot]) -> list[Section]:
    short = _without_common_folder([row["path"] for row in rows])
    sections = []
    for verdict in _WORST_FIRST:
        of_verdict = [n for n, row in enumerate(rows) if row["verdict"] == verdict]
        if not of_verdict:
            continue
        of_verdict.sort(key=lambda n: (badness(rows[n]), -n), reverse=True)
        others = [n for n in of_verdict if n not in shots][:_MOST_NAMES]
        sections.append(
            Section(
                verdict,
                _TITLES.get(verdict) or str(verdict),
                len(of_verdict),
                [replace(shots[n], name=short[n]) for n in of_verdict if n in shots],
                [_named(rows[n], short[n]) for n in others],
            )
        )
    return sections


def _named(row: dict[str, Any], name: str) -> Named:
    score = "" if row["score"] is None else f"score {row['score']:.4g}"
    about = "; ".join(filter(None, (score, row["error"])))
    return Named(name, about, quote(row["overlay"]) if row["overlay"] else "")


def _without_common_folder(paths: Sequence[str]) -> list[str]:
    """The paths without the folders that all have in common."""
    folders = [os.path.dirname(path) for path in paths]  # noqa: PTH120 - texts, not real paths
    try:
        common = os.path.commonpath(folders)
    except ValueError:  # some are absolute, or there are none
        return list(paths)
    return [os.path.relpath(path, common) if common else path for path in paths]
