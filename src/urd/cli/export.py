"""`urd export`."""

from __future__ import annotations

from pathlib import Path

import click

from urd.cli.options import reading_options


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
    """
    from urd.config import convert
    from urd.detector import Detector
    from urd.errors import UsageError
    from urd.export import Export
    from urd.export import export as write

    fixed = None if size == "any" else convert("size", tuple[int, int], size)
    wanted = Export(form, precision, fixed, allow_changes)
    for file in wanted.files(out):
        if file.exists() and not overwrite:
            raise UsageError(f"{file} exists; pass --overwrite to replace it")
    detector = Detector.load(run, "cpu", "float32")
    detector.reading = detector.reading.changed(max_megapixels=max_megapixels, page=page)
    images, good = _images(run, data)
    parity = write(detector, out, wanted, images, good)
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


def _images(run: Path, data: str | None) -> tuple[list[Path], list[Path]]:
    """Images to compare on, spread over the whole list, and good ones for the ranges of INT8.

    The latter are never test images: what was made with these cannot be measured on them.
    """
    from urd.data import read_layout
    from urd.errors import UsageError
    from urd.evaluation import DETAILS_NAME, read_written

    if data is not None:
        found = read_layout(data)
        good = [sample.path for sample in found.train]
        return _spread([sample.path for sample in found.test] or good), _spread(good)
    details = read_written(run / DETAILS_NAME)
    if details is None:
        raise UsageError(f"give DATA, images to compare on: {run} has no evaluation that names any")
    try:
        return _spread([Path(row["path"]) for row in details["images"]]), []
    except (KeyError, TypeError) as error:
        raise UsageError(f"the evaluation in {run} is damaged: give DATA") from error


def _spread(paths: list[Path], count: int = 64) -> list[Path]:
    step = max(1, len(paths) // count)
    return paths[::step][:count]
