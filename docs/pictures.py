"""Make the pictures of the documents from what `urd demo` has written.

    urd demo --out demo
    python docs/pictures.py demo

The screenshots of the report need Chromium and playwright; without them they stay as they are.
`page.jpg`, the page of the operator, is not made here.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from urd import Detector
from urd.data import Sample, read_layout, read_masks, read_rgb
from urd.inspection.pictures import blend

HERE = Path(__file__).parent
GAP = 8
QUALITY = 82
SHOWN = {  # kind of defect and its number
    "flange_nut": (("scratch", 0), ("missing part", 0), ("contamination", 1)),
    "denim": (("hole", 0), ("loose thread", 0), ("missing yarn", 1)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", type=Path, help="folder that urd demo has written")
    demo = parser.parse_args().demo
    write(grid([triples(demo, name, 176) for name in SHOWN], columns=2, gap=24), "demo.jpg")
    nuts = read_layout(demo / "data" / "flange_nut")
    good = [read_rgb(sample.path) for sample in nuts.train[:8]]
    write(grid([image.resize((200, 200)) for image in good], columns=4), "pictures/good.jpg")
    detector = Detector.load(demo / "runs" / "flange_nut")
    shown = [one_of(nuts.test, kind, n) for kind, n in (*SHOWN["flange_nut"], ("dent", 0))]
    overlays = [detector.predict(sample.path).overlay() for sample in shown]
    write(grid(overlays, columns=4), "pictures/defects.jpg")
    write(grid(overlays[:2], columns=2), "overlay.jpg")
    screenshots(demo / "runs" / "flange_nut" / "report.html")


def one_of(samples: Sequence[Sample], kind: str, number: int) -> Sample:
    return [s for s in samples if s.defect.replace("_", " ") == kind][number]


def triples(demo: Path, product: str, side: int) -> Image.Image:
    """Image, mask and heat map of three defects, one in each row."""
    detector = Detector.load(demo / "runs" / product)
    test = read_layout(demo / "data" / product).test
    tiles = []
    for kind, number in SHOWN[product]:
        sample = one_of(test, kind, number)
        image = read_rgb(sample.path)
        mask = Image.fromarray(read_masks(sample.masks).astype(np.uint8) * 255).convert("RGB")
        found = detector.predict(sample.path).anomaly_map
        heat = Image.fromarray(blend(np.asarray(image), found, detector.heat_range()))
        tiles += [picture.resize((side, side)) for picture in (image, mask, heat)]
    return grid(tiles, columns=3)


def grid(pictures: Sequence[Image.Image], columns: int, gap: int = GAP) -> Image.Image:
    """The pictures in rows on white, each in a cell as large as the largest."""
    width, height = (max(p.size[axis] for p in pictures) for axis in (0, 1))
    rows = -(-len(pictures) // columns)
    size = (columns * (width + gap) - gap, rows * (height + gap) - gap)
    sheet = Image.new("RGB", size, "white")
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        sheet.paste(picture, (column * (width + gap), row * (height + gap)))
    return sheet


def screenshots(report: Path) -> None:
    """The beginning of the report, and its histogram of scores."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1000, "height": 860}, device_scale_factor=1.2)
        page.goto(report.resolve().as_uri())
        page.screenshot(path=HERE / "report.tmp.png")
        charts = [svg for svg in page.locator("svg:visible").all() if _height(svg) > 100]
        charts[0].screenshot(path=HERE / "scores.tmp.png")
        browser.close()
    for name in ("report", "scores"):
        made = HERE / f"{name}.tmp.png"
        with Image.open(made) as picture:
            write(picture.convert("RGB"), f"pictures/{name}.jpg")
        made.unlink()


def _height(element: Any) -> float:
    box = element.bounding_box()
    return float(box["height"]) if box else 0.0


def write(picture: Image.Image, name: str) -> None:
    picture.save(HERE / name, quality=QUALITY, optimize=True)
    print(f"{HERE / name}: {picture.width}x{picture.height}")


if __name__ == "__main__":
    main()
