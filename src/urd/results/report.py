"""The report of a run: collects its content and renders the page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from urd.detector import Detector
from urd.errors import UsageError
from urd.evaluation.records import Evaluation, JudgedImage, read_evaluation
from urd.evaluation.tally import VERDICTS, Tally
from urd.inspection.calibration import CONFIDENCE, Limit, Thresholds
from urd.metrics import METRICS
from urd.metrics.components import FPR_LIMIT
from urd.metrics.protocol import describe
from urd.model.run_folder import RunFolder, model_file_of
from urd.results import charts
from urd.results.counts import counts_of, thresholds_in_words
from urd.results.curve import training_charts
from urd.results.gallery import (
    LARGE,
    LARGE_SIDE,
    MOST,
    SIDE,
    Gallery,
    Masks,
    galleries,
    unlike_others,
)
from urd.results.pages import moment, render, size, this_machine, written
from urd.results.tables import METRICS_BY_TYPE, by_type, confusion, observed_limits, scores_of
from urd.results.trained_on import read_unlike
from urd.system.files import absolute, printable, write_text, writing
from urd.training.schema import GoodImageDistance

_HEAD = ("image_auroc", "aupro", "pixel_ap")  # the metrics in the head of the page


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
    if not run.exists():
        raise UsageError(f"there is no run folder or model file {run}: check the name")
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
    training = [(Markup(chart), about) for chart, about in training_charts(run)]
    return _render(run, detector, evaluation, training, read_unlike(run))


def _render(
    run: Path,
    detector: Detector,
    evaluation: Evaluation | None,
    training: list[tuple[Markup, str]],
    unlike: list[GoodImageDistance],
) -> str:
    """Render checked content; an error in here is a bug."""
    images = _judged(detector, evaluation.images) if evaluation else []
    metrics = evaluation.metrics if evaluation else None
    thresholds = detector.thresholds()
    header = detector.header
    return render(
        "results/page.html",
        name=_name(run),
        facts=_facts(run, detector, metrics, images),
        header=header,
        thresholds=_limits(thresholds),
        limits_in_words=thresholds_in_words(thresholds) if thresholds else "",
        shortfall=thresholds.shortfall() if thresholds else None,
        metrics=metrics,
        figures=describe(metrics) if metrics else [],
        counts=counts_of(Tally.of(images)) if images else [],
        tiles=_tiles(metrics) if metrics else [],
        confusion=confusion(images),
        histogram=Markup(_histogram(detector, images)),
        curves=list(_curves(evaluation, images, thresholds)) if evaluation else [],
        limits=observed_limits(detector, images),
        defects=by_type(metrics, images) if metrics else [],
        metrics_by_type=[metric.title for metric in METRICS_BY_TYPE],
        galleries=list(_galleries(detector, images, metrics, unlike)),
        large=LARGE,
        large_side=LARGE_SIDE,
        side=SIDE,
        most=MOST,
        not_judged=[image for image in images if not image.judged],
        training=training,
        settings=_plain(detector.config.to_dict()),
        provenance=_plain({**header.data.to_dict(), **header.encoder.to_dict(), **header.versions}),
        verdicts=VERDICTS,
        confidence=CONFIDENCE,
    )


def _name(run: Path) -> str:
    """The run's name: that of its folder, or of the model file without its suffix."""
    path = absolute(run)
    return printable(Path(path.name if run.is_dir() else path.stem)) or "urd"


def _facts(
    run: Path,
    detector: Detector,
    metrics: dict[str, Any] | None,
    images: list[JudgedImage],
) -> list[tuple[str, str]]:
    """What the head of the page says about run, data and machine, as (label, text)."""
    config, data, encoder = detector.config, detector.header.data, detector.header.encoder
    trained = f"{config.iterations} iterations of {config.batch_size} images"
    good = "an unknown number of" if data.train_images is None else data.train_images
    held_out = f", {data.holdout_images} more held out" if data.holdout_images else ""
    facts = [
        (
            "Detector",
            f"{config.variant}, {config.tag}{'' if encoder.pretrained else ' (untrained)'}, "
            f"{size(*config.image_size)} px (height x width), seed {config.seed}",
        ),
        (
            "Training",
            f"{trained if config.trains else 'none'}, {good} good images{held_out}",
        ),
        ("Model file", f"{printable(model_file_of(run))}, written {written(model_file_of(run))}"),
    ]
    if metrics is not None:
        tally = Tally.of(images)
        facts.append(("Test data", metrics["data"]))
        facts.append(
            (
                "Test images",
                f"{tally.good} good and {tally.defective} defective, {tally.not_judged} not "
                f"judged; evaluated {written(RunFolder(run).evaluation)}",
            )
        )
    return [
        *facts,
        ("Report", f"{moment()}, urd {detector.header.versions.get('urd', '?')}"),
        ("Machine", f"{this_machine(detector.device)}, {detector.engine.precision}"),
    ]


def _judged(detector: Detector, images: list[JudgedImage]) -> list[JudgedImage]:
    """The images with verdicts by the current thresholds, which may be newer than the scores."""
    thresholds = detector.thresholds()
    if thresholds is None:
        return images
    return [
        image if image.score is None else replace(image, verdict=thresholds.verdict(image.score))
        for image in images
    ]


def _limits(thresholds: Thresholds | None) -> list[tuple[str, Limit]]:
    if thresholds is None:
        return []
    return [("REVIEW", thresholds.review), ("NG", thresholds.reject), ("pixels", thresholds.pixel)]


def _histogram(detector: Detector, images: list[JudgedImage]) -> str:
    calibration, thresholds = detector.header.calibration, detector.thresholds()
    groups = [
        ("good, calibration", calibration.scores if calibration else ()),
        ("synthetic anomalies", detector.header.synthetic),
        ("good, test", scores_of(images, good=True)),
        ("defective, test", scores_of(images, good=False)),
    ]
    if not any(len(values) for _, values in groups):
        return ""
    limits = (
        None if thresholds is None else (thresholds.review.threshold, thresholds.reject.threshold)
    )
    return charts.histogram(groups, limits)


def _curves(
    evaluation: Evaluation, images: list[JudgedImage], thresholds: Thresholds | None
) -> Iterator[tuple[str, Markup, str]]:
    """(title, chart, what it shows) of the curves that are defined."""
    if "roc" in evaluation.curves:
        points = _operating_points(images, thresholds)
        about = "share of the defective images that are found"
        dots = "; the dots are the thresholds of REVIEW and NG" if points else ""
        chart = charts.rate_curve(evaluation.curves["roc"], "ROC of the images", None, points)
        yield "ROC of the images", Markup(chart), about + dots
    if "pro" in evaluation.curves:
        chart = charts.rate_curve(evaluation.curves["pro"], "PRO of the pixels", FPR_LIMIT)
        about = f"mean share of a defect's region that is found; AUPRO is the area to {FPR_LIMIT}"
        yield "PRO of the pixels", Markup(chart), about


def _operating_points(
    images: list[JudgedImage], thresholds: Thresholds | None
) -> list[tuple[str, float, float]]:
    good, bad = scores_of(images, good=True), scores_of(images, good=False)
    if thresholds is None or not good or not bad:
        return []
    return [
        (
            verdict,
            sum(score > limit for score in good) / len(good),
            sum(score > limit for score in bad) / len(bad),
        )
        for verdict, limit in (
            ("REVIEW", thresholds.review.threshold),
            ("NG", thresholds.reject.threshold),
        )
    ]


def _galleries(
    detector: Detector,
    images: list[JudgedImage],
    metrics: dict[str, Any] | None,
    unlike: list[GoodImageDistance],
) -> Iterator[Gallery]:
    if images and metrics:
        yield from galleries(detector, images, Masks(metrics["data"], detector.reading))
    if unlike:
        yield unlike_others(detector, unlike)


@dataclass(frozen=True)
class Tile:
    """A metric in the head of the page, in percent."""

    value: str
    name: str
    note: str


def _tiles(metrics: dict[str, Any]) -> list[Tile]:
    tiles = []
    for name in _HEAD:
        if metrics.get(name) is not None:
            ends = [metrics[f"{name}_{e}"] for e in ("low", "high") if f"{name}_{e}" in metrics]
            note = "95 %: " + " to ".join(f"{100 * end:.1f}" for end in ends) if ends else ""
            tiles.append(Tile(f"{100 * metrics[name]:.1f}", METRICS[name].title, note))
    return tiles


def _plain(values: dict[str, Any]) -> dict[str, str]:
    """Names and values for people: sizes as everywhere, no brackets, no empty values."""
    return {name: _text(name, value) for name, value in values.items() if value not in ("", None)}


def _text(name: str, value: Any) -> str:
    if name == "image_size":
        return f"{size(*value)} px (height x width)"
    if name == "image_sizes":
        return ", ".join(size(*one) for one in value) + " px (height x width)"
    if isinstance(value, list | tuple):
        return ", ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in value)
    return str(value)
