"""`urd metrics`."""

from __future__ import annotations

from pathlib import Path

import click

from urd.cli.options import ImageFolder, reading_option
from urd.cli.tables import metrics_table, resamples_option


@click.command()
@click.option("--maps", type=ImageFolder(), required=True, help="Folder of anomaly maps.")
@click.option("--masks", type=ImageFolder(), required=True, help="Folder of ground-truth masks.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write the figures here."
)
@click.option(
    "--scores",
    "score_file",
    type=click.Path(path_type=Path),
    help="Image scores: CSV with the columns path and score, or JSON. [default: maxima of maps]",
)
@click.option("--resize", is_flag=True, help="Resize maps to the size of their masks, bilinearly.")
@resamples_option
@reading_option("max_megapixels", default="100")
def metrics(
    maps: Path,
    masks: Path,
    json_file: Path | None,
    score_file: Path | None,
    resize: bool,
    resamples: int,
    max_megapixels: int | None,
) -> None:
    """Compute exact metrics of anomaly maps from any method.

    Maps are TIFF, NPY or PNG files with one number per pixel, in one folder per type of defect and
    the folder good. Masks have the MVTec layout: TYPE/NAME_mask.png, TYPE/NAME.png, or several in
    TYPE/NAME/. Without such folders, each map needs a mask of the same name, black for a good
    image. The score of an image is the maximum of its map, unless --scores gives others.
    """
    from urd.data import Reading
    from urd.evaluation.map_files import as_test_images, find_maps
    from urd.evaluation.score_files import read_scores
    from urd.metrics import PIXEL_PROTOCOL, evaluate
    from urd.system import progress
    from urd.system.files import write_json

    progress.show()
    reading = Reading().changed(max_megapixels=max_megapixels)
    files = find_maps(maps, masks, reading)
    scores = read_scores(score_file, files) if score_file else None
    images = as_test_images(files, resize=resize, reading=reading, scores=scores)
    result = evaluate(images, resamples=resamples)
    size = "maps resized bilinearly to their masks" if resize else "maps as they are"
    score = f"from {score_file.name}" if score_file else "maximum of the map"
    result["protocol"] = f"{size}, labels from folders, image score: {score}, {PIXEL_PROTOCOL}"
    counts = f"{result['n_good']} good, {result['n_defective']} defective"
    metrics_table(f"{maps}: {counts}\n{result['protocol']}", result)
    if json_file is not None:
        write_json(json_file, result)
