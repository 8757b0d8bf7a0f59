"""Measures on one GPU, in one call of at most eight minutes, and first packs what that needs.

    python benchmarks/gpu.py --pack FOLDER --data CATEGORY --weights FILE    (here; uses pip)
    python benchmarks/gpu.py --use FOLDER --json gpu.json                    (on the GPU's machine)

The GPU's machine needs no network. It needs this checkout, Python 3.11 or newer, torch,
torchvision, numpy and opencv-python-headless, which is too large to pack. FOLDER has wheels of
all else that urd imports, for x86-64 Linux and Python 3.12 (`--python`); a wheel is used only
where the package is missing. FOLDER also has the data set CATEGORY in MVTec layout at 256 px, and
weights of ResNet-18. Wide-ResNet-50-2 gets random weights: the time does not depend on them.

The parts run one after the other, each in a process of its own with a time limit. The JSON file is
written after each. A part that fails or takes too long is recorded and does not stop the others.
`--dry-run` runs all parts on the CPU with tiny numbers. The exit code is 1 if a part was not done.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gpu_parts import pack, parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pack", type=Path, metavar="FOLDER", help="pack into this folder and end")
    parser.add_argument("--data", type=Path, help="category to pack, in MVTec layout")
    parser.add_argument("--weights", type=Path, help="ResNet-18 weights to pack (safetensors)")
    parser.add_argument("--image-size", type=int, default=256, help="size of packed images")
    parser.add_argument("--python", default="3.12", help="Python of the GPU's machine")
    parser.add_argument("--no-wheels", action="store_true", help="pack no wheels")
    parser.add_argument("--use", type=Path, metavar="FOLDER", help="measure with this pack")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/gpu.json"))
    parser.add_argument("--parts", nargs="+", choices=list(parts.PARTS), default=list(parts.PARTS))
    parser.add_argument("--seconds", type=float, default=470.0, help="limit of all parts together")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, with tiny numbers")
    parser.add_argument("--one", choices=list(parts.PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=float, default=0.0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.pack is not None:
        if options.data is None or options.weights is None:
            parser.error("--pack needs --data and --weights")
        python = None if options.no_wheels else options.python
        pack.make(options.pack, options.data, options.weights, options.image_size, python)
        return
    if options.use is None:
        parser.error("give --pack FOLDER or --use FOLDER")
    if options.one is not None:
        parts.run_one(options.one, options.use, options.json, options.limit, options.dry_run)
        return
    sys.exit(
        parts.run_all(options.parts, options.use, options.json, options.seconds, options.dry_run)
    )


if __name__ == "__main__":
    main()
