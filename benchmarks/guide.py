"""Shows the guide g_k of injection on test images: is it open on good parts, shut on defects?

    python benchmarks/guide.py RUN DATA

Information is injected at levels 2 and 3. For these it prints the mean of g_k over three sets of
locations: in good images, outside the defects of defective images, and inside the defects. It is
only for analysis, because it reads test labels.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from urd import Detector
from urd.data import read_layout, read_rgb, resize_rgb
from urd.evaluation.evaluate import mask_of
from urd.networks.injection import guide


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("data")
    options = parser.parse_args()
    detector = Detector.load(options.run, "cpu")
    values: dict[str, list[np.ndarray]] = {}
    for sample in read_layout(options.data).test:
        image = read_rgb(sample.path)
        size = detector.config.image_size
        mask = torch.from_numpy(mask_of(sample, (image.height, image.width), size))
        pixels = torch.tensor(resize_rgb(image, size)).float() / 255
        with torch.inference_mode():
            teacher, student = detector.model(pixels.permute(2, 0, 1)[None])
        for level in (2, 3):
            g = guide(student[level - 1], teacher[level - 1])[0, 0]
            share = functional.adaptive_avg_pool2d(mask[None, None].float(), g.shape)[0, 0]
            for name, where in _places(share, sample.defective).items():
                values.setdefault(f"level {level}, {name}", []).append(g[where].numpy())
    means = {name: round(float(np.concatenate(v).mean()), 4) for name, v in sorted(values.items())}
    print(json.dumps(means, indent=2))


def _places(share: torch.Tensor, defective: bool) -> dict[str, torch.Tensor]:
    if not defective:
        return {"good image": share == 0}
    return {"defective image, outside": share == 0, "defective image, inside": share >= 0.5}


if __name__ == "__main__":
    main()
