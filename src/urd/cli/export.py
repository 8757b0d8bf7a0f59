"""`urd export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from urd.cli.options import reading_options

if TYPE_CHECKING:
    from urd.engines.facts import Facts
    from urd.inspection.calibration import Thresholds


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("data", required=False)
@click.option("--format", "form", type=click.Choice(["onnx", "openvino"]), required=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="FILE.onnx, or FILE.xml, beside which FILE.bin will hold the weights.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "float16", "int8"]),
    default="float32",
    show_default=True,
    help="float16: weights in half the space; int8: convolutions, ranges from DATA's good images.",
)
@click.option(
    "--size", default="any", show_default=True, help="Of the input: any, N or HEIGHTxWIDTH."
)
@click.option(
    "--calibrate",
    "good_folder",
    type=click.Path(path_type=Path),
    help="Folder of good images that training did not see: thresholds by this file's own scores. "
    "[default: the images of RUN's own calibration, if they are found]",
)
@click.option("--allow-changes", is_flag=True, help="Write it also if verdicts differ from torch.")
@click.option("--overwrite", is_flag=True, help="Replace --out.")
@reading_options
def export(
    run: Path,
    data: str | None,
    form: str,
    precision: str,
    out: Path,
    size: str,
    good_folder: Path | None,
    allow_changes: bool,
    overwrite: bool,
    max_megapixels: int | None,
    page: int | None,
) -> None:
    """Write RUN (a run folder or a model file) for ONNX Runtime or OpenVINO, all steps inside.

    The network takes uint8 RGB images (batch, height, width, 3) and gives `map`, `score` and
    `calibrated`; resizing, normalisation and blur are inside. It is compared with torch on the
    images of DATA (a data set or a folder; by default those of the last urd evaluate) and refused
    where verdicts differ. FILE.parity.json keeps the differences. `urd predict FILE.onnx` works.

    Its thresholds are by its own scores where DATA holds the images that training held out, or the
    folder of the last urd calibrate is still there, or --calibrate names one; else they are
    torch's. Test images are never taken for it.
    """
    from urd.config import convert
    from urd.detector import Detector
    from urd.errors import UsageError
    from urd.export.files import Export
    from urd.export.files import export as write
    from urd.export.own_thresholds import Unseen

    fixed = None if size == "any" else convert("size", tuple[int, int], size)
    wanted = Export(form, precision, fixed, allow_changes)
    for file in wanted.files(out):
        if file.exists() and not overwrite:
            raise UsageError(f"{file} exists; pass --overwrite to replace it")
    detector = Detector.load(run, "cpu", "float32")
    detector.reading = detector.reading.changed(max_megapixels=max_megapixels, page=page)
    images, good = _images(run, data)
    unseen = None if good_folder is None else Unseen.given(good_folder)
    before = detector.thresholds()
    written = write(detector, out, wanted, images, good, unseen, _calibrated_on(run))
    parity = written.parity
    faster = parity.torch_ms / parity.exported_ms
    megabytes = sum(file.stat().st_size for file in wanted.files(out)[:-1]) / 1e6
    print(
        f"{out}: {megabytes:.1f} MB, {precision}. On {parity.images} images the maps differ "
        f"by {parity.map_difference:.2g} at most, the scores by {parity.score_difference:.2g} of "
        f"their value, {len(parity.verdicts_changed)} verdicts changed."
    )
    print(
        f"One image: {parity.exported_ms:.1f} ms, by torch in float32 {parity.torch_ms:.1f} ms "
        f"({faster:.1f} times faster)."
    )
    print(_thresholds_said(written.facts, before, out))


def _calibrated_on(run: Path) -> Path | None:
    """The folder of the last `urd calibrate` of a run folder, if it is known."""
    from urd.errors import UrdError, first_line
    from urd.model.run_folder import RunFolder
    from urd.system.documents import MIB, read_json

    known = RunFolder(run).calibration
    if not known.is_file():
        return None
    try:
        return Path(str(read_json(known, MIB)["folder"]))
    except (ValueError, KeyError, TypeError) as error:
        raise UrdError(
            f"{known} is damaged ({first_line(error)}): run urd calibrate anew"
        ) from error


def _thresholds_said(facts: Facts, before: Thresholds | None, out: Path) -> str:
    """Whose thresholds the file has, in one line."""
    from urd.engines.facts import THIS_FILE

    calibration = facts.header.calibration
    if calibration is None:
        return f"No thresholds, so no verdicts: urd calibrate {out} GOOD gives it some."
    if facts.thresholds_of != THIS_FILE:
        return (
            "The thresholds are torch's: the images that they are of were not found. "
            f"urd calibrate {out} GOOD takes them from this file's own scores."
        )
    now = calibration.thresholds()
    torchs = (
        [f" (torch's: {limit.threshold:.4f})" for limit in (before.review, before.reject)]
        if before
        else ["", ""]
    )
    return (
        f"Thresholds by its own scores of {len(calibration.scores)} good images "
        f"({calibration.source}): REVIEW above {now.review.threshold:.4f}{torchs[0]}, NG above "
        f"{now.reject.threshold:.4f}{torchs[1]}."
    )


def _images(run: Path, data: str | None) -> tuple[list[Path], list[Path]]:
    """Images to compare on, and the training images for the ranges of INT8 and the thresholds.

    The latter are never test images: what was made with these cannot be measured on them.
    """
    from urd.data import read_layout
    from urd.errors import UsageError
    from urd.evaluation.records import read_details

    if data is not None:
        found = read_layout(data)
        good = [sample.path for sample in found.train]
        return [sample.path for sample in found.test] or good, good
    details = read_details(run)
    if details is None:
        raise UsageError(f"give DATA, images to compare on: {run} has no evaluation that names any")
    return [Path(image.path) for image in details.images], []
