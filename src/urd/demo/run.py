"""The demonstration: render, fit, evaluate, and make a contact sheet of the results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from urd.config import FitConfig
from urd.data import Sample, read_layout, read_masks, read_rgb
from urd.demo.dataset import render_dataset
from urd.detector import Detector
from urd.inspection.pictures import blend, contact_sheet, save_picture
from urd.results.report import write_report


def run_product(
    product: str, out: Path, config: FitConfig, *, train: int, test_good: int, per_defect: int
) -> dict[str, Any]:
    """Render one product to `out/data`, train in `out/runs`, report, draw `out/<product>.png`.

    Returns:
        The evaluation, as `Detector.evaluate` gives it.
    """
    folder = render_dataset(
        out / "data",
        product,
        train=train,
        test_good=test_good,
        per_defect=per_defect,
        seed=config.seed,
    )
    run = out / "runs" / product
    detector = Detector.fit(folder, run, config=config, overwrite=True)
    evaluation = detector.evaluation(folder)
    evaluation.write(run)
    write_report(run, device=config.device)
    save_picture(out / f"{product}.png", _sheet(detector, folder, product, evaluation.metrics))
    return evaluation.metrics


def _sheet(detector: Detector, folder: Path, product: str, result: dict[str, Any]) -> Any:
    """Image, mask and heat map of the first two test images of each kind, by name."""
    of_kind: dict[str, list[Sample]] = {}
    for sample in read_layout(folder).test:
        of_kind.setdefault(sample.defect, []).append(sample)
    kinds = sorted(of_kind, key=lambda kind: (kind != "good", kind))
    rows = [(kind, [p for s in of_kind[kind][:2] for p in _triple(detector, s)]) for kind in kinds]
    pretrained = "" if detector.header.encoder.pretrained else ", untrained encoder"
    title = (
        f"{product}: {detector.config.variant}, {detector.config.tag}{pretrained}   "
        f"image AUROC {result['image_auroc']:.3f}, pixel AUROC {result['pixel_auroc']:.3f}, "
        f"AUPRO {result['aupro']:.3f}"
    )
    return contact_sheet(rows, ("image", "mask", "heat map") * 2, title)


def _triple(detector: Detector, sample: Sample) -> list[np.ndarray]:
    image = np.asarray(read_rgb(sample.path))
    prediction = detector.predict(sample.path)
    mask = read_masks(sample.masks) if sample.masks else np.zeros(image.shape[:2], bool)
    white = np.repeat(mask[..., None], 3, axis=2).astype(np.uint8) * 255
    return [image, white, blend(image, prediction.anomaly_map, detector.heat_range())]
