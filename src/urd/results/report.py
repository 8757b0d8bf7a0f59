"""The report of a run: collects its content and renders the page."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import jinja2
import numpy as np
from markupsafe import Markup
from pydantic import Field

from urd.detector import Detector
from urd.errors import UrdError, UsageError, first_line
from urd.evaluation.records import Evaluation, JudgedImage, read_evaluation
from urd.evaluation.tally import VERDICTS, Tally
from urd.inspection.calibration import CONFIDENCE, Limit, chance_of_at_least
from urd.metrics import METRICS
from urd.metrics.components import FPR_LIMIT
from urd.metrics.protocol import describe
from urd.model.run_folder import RunFolder
from urd.results import charts
from urd.results.gallery import galleries, unlike_others
from urd.system.documents import MIB, parse_json, read_json, read_text
from urd.system.files import write_text, writing
from urd.system.schema import check
from urd.training.schema import CurveLine, GoodImageDistance

_MOST_BYTES = 64 * MIB
_Unlike = Annotated[list[GoodImageDistance], Field(max_length=1_000_000)]
_WANTED = (0.01, 0.05, 0.10)  # target shares of false rejects in the table of the report


def write_report(
    run: Path,
    out: Path | None = None,
    device: str = "auto",
    *,
    roi: str = "",
    ignore: str = "",
    **reading: int | None,
) -> Path:
    """Write the report of a run folder or a model file and return its path.

    It shows the test set too if the run folder has the files of `urd evaluate`. The galleries read
    the images again, from the same paths.

    Args:
        out: the HTML file; `None`: report.html in the run folder.
        roi, ignore: as `Detector.inspect_in`.
        reading: as `Reading.changed`.

    Raises:
        UsageError: there is no run, or it is a model file and `out` is missing.
        UrdError: a file of the run is damaged, or the report cannot be written.
    """
    if out is None and not run.is_dir():
        raise UsageError(
            f"{run} is not a run folder: say where to write the report with --out FILE"
        )
    path = out or RunFolder(run).report
    with nullcontext() if out else writing(run):
        write_text(path, _page_of(run, device, roi, ignore, reading))
    return path


def _page_of(run: Path, device: str, roi: str, ignore: str, reading: dict[str, int | None]) -> str:
    detector = Detector.load(run, device)
    detector.reading = detector.reading.changed(**reading)
    if roi or ignore:
        detector.inspect_in(roi, ignore)
    evaluation = read_evaluation(run, detector.engine.weights_sha256())
    page = _render(detector, evaluation, _curve(run), _unlike(run))
    return page.encode("utf-8", "backslashreplace").decode()  # file names may not be valid UTF-8


def _render(
    detector: Detector,
    evaluation: Evaluation | None,
    training: list[dict[str, Any]],
    unlike: list[GoodImageDistance],
) -> str:
    """Render checked content; an error in here is a bug."""
    images = _judged(detector, evaluation.images) if evaluation else []
    metrics = evaluation.metrics if evaluation else None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("urd.results", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    header = detector.header
    return environment.get_template("page.html").render(
        name=Path(metrics["data"]).name if metrics else "A detector without a test set",
        config=detector.config,
        header=header,
        thresholds=_thresholds(detector),
        shortfall=found.shortfall() if (found := detector.thresholds()) else None,
        metrics=metrics,
        figures=describe(metrics) if metrics else [],
        tiles=_tiles(metrics, images),
        confusion=_confusion(images),
        histogram=Markup(_histogram(detector, images)),
        curves=[
            (title, Markup(charts.rate_curve(evaluation.curves[name], title, limit)), about)
            for name, title, limit, about in _CURVES
            if evaluation and name in evaluation.curves
        ],
        limits=_limits(detector, images),
        defects=_by_type(metrics, images) if metrics else [],
        metrics_by_type=[metric.title for metric in _METRICS_BY_TYPE],
        galleries=[
            *(galleries(detector, images) if images else []),
            *([unlike_others(detector, unlike)] if unlike else []),
        ],
        not_judged=[image for image in images if not image.judged],
        training=training,
        settings={k: v for k, v in detector.config.to_dict().items() if v != ""},
        provenance=_provenance(header.data.to_dict(), header.encoder.to_dict(), header.versions),
        verdicts=VERDICTS,
        percent=_percent,
        confidence=CONFIDENCE,
    )


def _judged(detector: Detector, images: list[JudgedImage]) -> list[JudgedImage]:
    """The images with verdicts by the current thresholds, which may be newer than the scores."""
    thresholds = detector.thresholds()
    if thresholds is None:
        return images
    return [
        image if image.score is None else replace(image, verdict=thresholds.verdict(image.score))
        for image in images
    ]


_METRICS_BY_TYPE = [metric for metric in METRICS.values() if metric.by_type]
_CURVES = (
    ("roc", "ROC of the images", None, "share of the defective images that are found"),
    ("pro", "PRO of the pixels", FPR_LIMIT, "mean share of a defect's region that is found"),
)


@dataclass(frozen=True)
class Observed:
    """A target share of false rejects, its bound, and the result on the good test images.

    `conclusion` is empty if there are no good test images.
    """

    limit: Limit
    rejected: int
    good: int
    conclusion: str


def _limits(detector: Detector, images: list[JudgedImage]) -> list[Observed]:
    calibration = detector.header.calibration
    if calibration is None:
        return []
    scores = np.array(_scores(images, good=True))
    found = []
    for wanted in _WANTED:
        limit = calibration.thresholds(false_reject=wanted).reject
        rejected = int((scores > limit.threshold).sum())
        found.append(Observed(limit, rejected, len(scores), _conclusion(limit, rejected, scores)))
    return found


def _conclusion(limit: Limit, rejected: int, scores: np.ndarray) -> str:
    """Whether the good test images agree with the bound, which comes from other images."""
    if not len(scores):
        return ""
    if rejected <= limit.bound * len(scores):
        return "within the bound"
    chance = chance_of_at_least(rejected, len(scores), limit.bound)
    if chance > 1 - CONFIDENCE:
        return f"above the bound, possibly by chance ({_percent(chance)})"
    return f"not like the calibration images (by chance only {_percent(chance)})"


def _thresholds(detector: Detector) -> list[tuple[str, Limit]]:
    found = detector.thresholds()
    if found is None:
        return []
    return [("REVIEW", found.review), ("NG", found.reject), ("pixels", found.pixel)]


def _histogram(detector: Detector, images: list[JudgedImage]) -> str:
    calibration, thresholds = detector.header.calibration, detector.thresholds()
    groups = [
        ("good, calibration", "good", calibration.scores if calibration else ()),
        ("synthetic anomalies", "synthetic", detector.header.synthetic),
        ("good, test", "good", _scores(images, good=True)),
        ("defective, test", "bad", _scores(images, good=False)),
    ]
    if not any(len(values) for _, _, values in groups):
        return ""
    lines = []
    if thresholds is not None:
        lines = [("REVIEW", thresholds.review.threshold), ("NG", thresholds.reject.threshold)]
    return charts.histogram(groups, lines)


def _scores(images: list[JudgedImage], *, good: bool) -> list[float]:
    """The scores of the judged good or defective images."""
    return [i.score for i in images if i.score is not None and i.good == good]


@dataclass(frozen=True)
class Tile:
    """A figure at the top of the page; `style` is `bad` if the user should act on it."""

    value: str
    name: str
    note: str
    style: str = ""


def _tiles(metrics: dict[str, Any] | None, images: list[JudgedImage]) -> list[Tile]:
    """The first figures of the page: mistakes, then metrics."""
    tiles = _counts(Tally.of(images)) if images else []
    for name in ("image_auroc", "aupro", "pixel_ap"):
        if metrics and metrics.get(name) is not None:
            ends = [metrics[f"{name}_{e}"] for e in ("low", "high") if f"{name}_{e}" in metrics]
            note = "95 %: " + " to ".join(f"{100 * end:.1f}" for end in ends) if ends else ""
            tiles.append(Tile(f"{100 * metrics[name]:.1f}", METRICS[name].title, note))
    return tiles


def _counts(tally: Tally) -> list[Tile]:
    counts = [("not judged", tally.not_judged, tally.images, "bad")]
    if tally.calibrated:
        counts = [
            ("missed defects", tally.missed, tally.defective, "bad"),
            ("good parts rejected", tally.rejected, tally.good, "bad"),
            ("good parts to review", tally.to_review, tally.good, "synthetic"),
            *counts,
        ]
    return [
        Tile(f"{count} of {total}", name, _percent(count / total), style if count else "")
        for name, count, total, style in counts
        if total
    ]


def _confusion(images: list[JudgedImage]) -> list[tuple[str, list[int]]]:
    """For each label the number of images per verdict of `VERDICTS`; empty without thresholds."""
    if not images or not Tally.of(images).calibrated:
        return []
    counts = Counter((image.good, image.verdict) for image in images)
    return [
        (name, [counts[label, verdict] for verdict in VERDICTS])
        for name, label in (("good", True), ("defective", False))
    ]


@dataclass(frozen=True)
class DefectRow:
    """A type of defect: its number of images per verdict of `VERDICTS` (empty without thresholds)
    and the metrics that exist per type.
    """

    name: str
    count: int
    verdicts: list[int]
    figures: list[float | None]


def _by_type(metrics: dict[str, Any], images: list[JudgedImage]) -> list[DefectRow]:
    rows = []
    for defect in sorted({image.defect for image in images if not image.good}):
        verdicts = Counter(image.verdict for image in images if image.defect == defect)
        rows.append(
            DefectRow(
                defect,
                sum(verdicts.values()),
                [verdicts[v] for v in VERDICTS] if None not in verdicts else [],
                [metrics.get(f"{metric.name}:{defect}") for metric in _METRICS_BY_TYPE],
            )
        )
    return rows


def _provenance(*parts: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("_", " "): value for part in parts for name, value in part.items()}


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.0995 else f"{100 * share:.0f} %"


def _unlike(run: Path) -> list[GoodImageDistance]:
    """The training images, those least like the others first; empty if there is no such file.

    Raises:
        UrdError: the file is damaged.
    """
    path = RunFolder(run).unlike
    if not path.exists():
        return []
    try:
        found: list[GoodImageDistance] = check(_Unlike, read_json(path, _MOST_BYTES))
    except ValueError as error:
        raise UrdError(
            f"{path} is damaged ({first_line(error)}): move it away for a report without it"
        ) from error
    return found


def _curve(run: Path) -> list[dict[str, Any]]:
    """About a dozen lines of the training curve; empty if there is none or the run is unfinished.

    Raises:
        UrdError: a line is damaged. The last line may be cut off by a kill, so it is not read.
    """
    path = RunFolder(run).curve
    if not path.exists() or not RunFolder(run).is_finished:
        return []
    lines = []
    try:
        *whole, _ = read_text(path, _MOST_BYTES).split("\n")
        for number, line in enumerate(whole, start=1):
            content = parse_json(line)
            check(CurveLine, content)
            if content.get("loss"):
                lines.append(content)
            if lines and content.get("loss", lines[0]["loss"]).keys() != lines[0]["loss"].keys():
                raise ValueError(f"line {number} has other losses than the first line")
    except ValueError as error:
        raise UrdError(
            f"the training curve {path} is damaged ({first_line(error)}): move the file away for a "
            "report without the curve"
        ) from error
    return lines[:: max(1, len(lines) // 12)]
