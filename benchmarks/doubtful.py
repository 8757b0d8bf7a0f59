"""Are bad images among the good ones named? Mixes drawn defects into the training images.

    python benchmarks/doubtful.py DATA [DATA ...] --weights FILE [--share 0.05] [--json FILE]

In each data set, 5 % of the good training images get a drawn defect. A memory is fitted on all of
them, and `unlike.json` orders them: first what is least like the others. Printed is how many of the
bad images are among the first ones, as many as there are bad ones, and among the first twice that
number; by chance it would be 5 % and 10 %. No test image is opened.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from urd import Detector
from urd.data import decode_all, read_layout
from urd.synthesis.drawn_defects import draw_defect
from urd.system.files import write_json
from urd.system.machine import machine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], metavar="OPTION=VALUE")
    parser.add_argument("--json", type=Path, help="add the rows to this file")
    options = parser.parse_args()
    settings = {
        "variant": "memory",
        "backbone": "resnet18.tv_in1k",
        "weights": options.weights,
        "memory": 4096,
        **dict(text.split("=", 1) for text in options.set),
    }
    for data in options.data:
        row = _measured(data, options.share, options.seed, settings)
        print(_said(row), flush=True)
        if options.json:
            known = json.loads(options.json.read_text()) if options.json.exists() else []
            write_json(options.json, [*known, row])


def _measured(data: Path, share: float, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    paths = [sample.path for sample in read_layout(data).train]
    images, *_ = decode_all(paths, (256, 256))
    random = np.random.default_rng(seed)
    count = max(1, round(share * len(images)))
    bad = set(random.choice(len(images), count, replace=False).tolist())
    with tempfile.TemporaryDirectory() as place:
        folder, run = Path(place, "good"), Path(place, "run")
        folder.mkdir()
        for n, image in enumerate(images):
            shown = draw_defect(image, images[n - 1], random)[0] if n in bad else image
            Image.fromarray(shown).save(folder / f"{n:05}.png")
        Detector.fit(folder, run, seed=seed, holdout=0.0, **settings)
        order = [int(Path(r["path"]).stem) for r in json.loads((run / "unlike.json").read_text())]
    named = [sum(n in bad for n in order[:most]) for most in (count, 2 * count)]
    return {
        "data": data.name,
        "images": len(images),
        "bad": count,
        "among_the_first": named[0],
        "among_the_first_twice": named[1],
        "first_bad": min(order.index(n) for n in bad) + 1,
        "settings": {k: v for k, v in settings.items() if k != "weights"},
        "seed": seed,
        "machine": machine(),
    }


def _said(row: dict[str, Any]) -> str:
    count = row["bad"]
    return (
        f"{row['data']}: of {count} bad images among {row['images']}, {row['among_the_first']} are "
        f"among the first {count} and {row['among_the_first_twice']} among the first {2 * count}"
    )


if __name__ == "__main__":
    main()
