"""What `urd predict` says when it is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from urd.inspection.calibration import Thresholds

_FIRST = 10  # NG and REVIEW files that are named


def summary(
    rows: Sequence[dict[str, Any]], run: Path, out: Path, thresholds: Thresholds | None
) -> Iterator[str]:
    """Lines for people, after the images are judged.

    Args:
        rows: what `urd.results.prediction_files.predict_to` returns.
        run: as the user named it.
    """
    verdicts = Counter(row["verdict"] for row in rows)
    if len(rows) == 1 and not rows[0]["error"]:
        yield from _of_one(rows[0], out)
    else:
        yield from counts(verdicts, out, thresholds)
        yield from _worst(rows)
    yield from limits(thresholds, run)
    yield f"Page, worst first: {out / 'index.html'}"


def counts(
    verdicts: Counter[str | None], out: Path | str, thresholds: Thresholds | None
) -> Iterator[str]:
    """How many images were judged, and how: `verdicts` counts all of them."""
    from urd.evaluation.tally import VERDICTS

    not_judged = verdicts["ERROR"]
    yield f"{verdicts.total() - not_judged} images judged, {not_judged} not; see {out}"
    if thresholds is not None:
        yield ", ".join(f"{verdicts[name]} {name}" for name in VERDICTS)


def limits(thresholds: Thresholds | None, run: Path) -> Iterator[str]:
    """The thresholds in force, and whether they rest on too few images."""
    from urd.results.counts import thresholds_in_words

    if thresholds is None:
        yield f"No thresholds, so no verdicts except ERROR: run urd calibrate {run} GOOD"
        return
    yield f"Thresholds: {thresholds_in_words(thresholds)}"
    if short := thresholds.shortfall():
        yield short


def camera(count: int, path: str, message: str) -> str:
    """How many images the camera watch finds odd, and the first of them."""
    return f"Camera: {count} images are odd. {path}: {message}"


def reduced_overlays(rows: Sequence[dict[str, Any]], side: int) -> str | None:
    """A remark if overlays are smaller than their images."""
    larger = [r for r in rows if r["overlay"] and max(r["width"], r["height"]) > side > 0]
    if not larger:
        return None
    return (
        f"{len(larger)} overlays are reduced to {side} px on their longer side; "
        "--overlay-size 0 keeps every pixel."
    )


def _of_one(row: dict[str, Any], out: Path) -> Iterator[str]:
    """Verdict, score and defects of the only image, and its overlay."""
    said = f"{row['verdict'] or 'No verdict'}: {row['path']}, score {row['score']:.4g}"
    if row["verdict"] is not None:
        count = row["n_defects"]
        calibrated = f" (calibrated {row['calibrated']:.3f}; OK up to 0.5)"
        said += f"{calibrated}, {count} {'defect' if count == 1 else 'defects'}"
    yield said
    if row["overlay"]:
        yield f"Overlay: {out / row['overlay']}"


def _worst(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The first NG and REVIEW files, the worst first."""
    from urd.results.index_page import badness

    found = [row for row in rows if row["verdict"] in ("NG", "REVIEW")]
    for row in sorted(found, key=badness, reverse=True)[:_FIRST]:
        yield f"  {row['verdict']:<6}  {row['score']:<8.4g}  {row['path']}"
    if len(found) > _FIRST:
        yield f"  and {len(found) - _FIRST} more, see the page"
