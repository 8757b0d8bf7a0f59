"""`urd export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from urd.cli.options import DATA, reading_options
from urd.cli.tables import compared
from urd.engines.base import PRECISIONS
from urd.engines.registry import ENGINES

if TYPE_CHECKING:
    from urd.engines.facts import Facts
    from urd.inspection.calibration import Thresholds

_FORMATS = [engine.format for engine in ENGINES]


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("data", type=DATA, required=False)
@click.option(
    "--format", "form", type=click.Choice([engine.format for engine in ENGINES]), required=True
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="FILE.onnx, or FILE.xml; the weights of FILE.xml go into FILE.bin.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="float32",
    show_default=True,
    help="float16: half-size weights; int8: INT8 convolutions, ranges from DATA's good images.",
)
@click.option(
    "--size", default="any", show_default=True, help="Input size: any, N or HEIGHTxWIDTH."
)
@click.option(
    "--calibrate",
    "good_folder",
    type=click.Path(path_type=Path),
    help="Folder of good images that training did not see; sets thresholds by this file's scores.  "
    "[default: the images that calibrated RUN, if they are found]",
)
@click.option(
    "--allow-changes", is_flag=True, help="Write the file even if verdicts differ from torch."
)
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
    """Write RUN (a run folder or a model file) as one network for ONNX Runtime or OpenVINO.

    The network takes uint8 RGB images (batch, height, width, 3) and returns `map`, `score` and
    `calibrated`. It includes resizing, normalisation and blur. It is first compared with torch on
    the images of DATA (a data set or a folder; default: those of the last urd evaluate) and refused
    if a verdict differs. FILE.onnx.parity.json (or
    FILE.xml.parity.json) lists the differences. `urd predict FILE.onnx` works.

    The file gets thresholds from its own scores if the calibration images are found. These are the
    folder of --calibrate, the held-out images of training in DATA, or the folder of the last urd
    calibrate. Otherwise it keeps torch's thresholds. Test images never set thresholds.
    """
    from urd.detector import Detector
    from urd.errors import UsageError
    from urd.export.files import Export
    from urd.export.files import export as write
    from urd.export.own_thresholds import Unseen
    from urd.option_values import convert
    from urd.system import progress

    progress.show()
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
    speed = compared(parity.torch_ms / parity.exported_ms)
    megabytes = sum(file.stat().st_size for file in wanted.files(out)[:-1]) / 1e6
    print(
        f"{out}: {megabytes:.1f} MB, {precision}. On {parity.images} images the maps differ by at "
        f"most {parity.map_difference:.2g}, the scores by at most {parity.score_difference:.2g} "
        f"(relative); {len(parity.verdicts_changed)} verdicts changed."
    )
    if parity.near:
        print(
            f"The scores of {parity.near} of these images are so close to a threshold that such a "
            "difference can change the verdict. The same goes for new images."
        )
    print(
        f"One image: {parity.exported_ms:.1f} ms; torch in float32: {parity.torch_ms:.1f} ms "
        f"({speed} {'as' if speed == 'as fast' else 'than'} torch)."
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
            f"{known} is damaged ({first_line(error)}): run urd calibrate again"
        ) from error


def _thresholds_said(facts: Facts, before: Thresholds | None, out: Path) -> str:
    """One line that says where the thresholds of the file come from."""
    from urd.engines.facts import THIS_FILE

    calibration = facts.header.calibration
    if calibration is None:
        return f"No thresholds, so no verdicts: set them with urd calibrate {out} GOOD."
    if facts.thresholds_of != THIS_FILE:
        return (
            "The thresholds are torch's, because the calibration images were not found. "
            f"urd calibrate {out} GOOD sets them by this file's own scores."
        )
    now = calibration.thresholds()
    torchs = (
        [f" (torch's: {limit.threshold:.4f})" for limit in (before.review, before.reject)]
        if before
        else ["", ""]
    )
    return (
        f"Thresholds from its own scores on {len(calibration.scores)} good images "
        f"({calibration.source}): REVIEW above {now.review.threshold:.4f}{torchs[0]}, NG above "
        f"{now.reject.threshold:.4f}{torchs[1]}."
    )


def _images(run: Path, data: str | None) -> tuple[list[Path], list[Path]]:
    """Images to compare on, and training images for the INT8 ranges and the thresholds.

    The second list never has test images: only images that the file did not use can measure it.
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
        raise UsageError(f"give DATA with images to compare on: {run} has no evaluation")
    return [Path(image.path) for image in details.images], []
