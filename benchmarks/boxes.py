"""Compares the boxes of a model with squares drawn at known places of good images.

    python benchmarks/boxes.py RUN DATA [--side 48]

Each good test image of DATA with the most frequent size gets a dark square, and in a second copy a
bright one. Errors are those of the four edges, in pixels of the original image, outward positive.
The output also gives the size of one map pixel in image pixels.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

EDGES = ("left", "top", "right", "bottom")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder, model file or exported file")
    parser.add_argument("data", type=Path)
    parser.add_argument("--side", type=int, default=48, help="side of a square, in image pixels")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/boxes.json"))
    options = parser.parse_args()
    from urd import Detector
    from urd.data import read_layout, read_rgb
    from urd.system.files import write_json
    from urd.system.machine import machine

    detector = Detector.load(options.run)
    good = [s.path for s in read_layout(options.data).test if s.defect == "good"]
    images = [np.asarray(read_rgb(path)) for path in good]
    height, width = Counter(image.shape[:2] for image in images).most_common(1)[0][0]
    random = np.random.default_rng(0)
    errors, several, missed = [], 0, 0
    for image in (image for image in images if image.shape[:2] == (height, width)):
        for level in (20, 240):
            x, y = (int(random.integers(0, n - options.side)) for n in (width, height))
            drawn = image.copy()
            drawn[y : y + options.side, x : x + options.side] = level
            found = detector.predict(drawn).defects
            several += len(found) > 1
            missed += not found
            if found:
                left, top, right, bottom = found[0].box
                wide, high = x + options.side, y + options.side
                errors.append((x - left, y - top, right - wide, bottom - high))
    if not errors:
        raise SystemExit(f"{options.run} finds none of {missed} squares: calibrate it first")
    net_height, net_width = detector.config.image_size
    result = {
        "image": [width, height],
        "pixels_of_the_image_per_pixel_of_the_map": [width / net_width, height / net_height],
        "side": options.side,
        "squares": len(errors) + missed,
        "missed": missed,
        "with_several_defects": several,
        **_summary(np.array(errors)),
        "machine": machine(),
    }
    print(json.dumps(result, indent=2))
    write_json(options.json, result)


def _summary(errors: np.ndarray) -> dict[str, Any]:
    sizes = np.abs(errors)
    return {
        "median_error": dict(zip(EDGES, np.median(errors, axis=0).round(1).tolist(), strict=True)),
        "median_size_of_an_error": round(float(np.median(sizes)), 1),
        "nine_of_ten_errors_up_to": round(float(np.quantile(sizes, 0.9)), 1),
    }


if __name__ == "__main__":
    main()
