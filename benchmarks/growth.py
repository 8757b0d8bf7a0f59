"""Measures time and memory of `urd predict` and `urd evaluate` for more and more images.

    python benchmarks/growth.py RUN [--counts 100 1000 10000]

The images are the demo's products, 256 px, repeated as separate files. Every fourth test image of
`evaluate` is defective. Each call runs in its own process. `predict` writes rows and no pictures.
With linear growth, the time per additional image is constant.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_CODE = (
    "import resource, sys; from urd.cli import cli; "
    "cli.main(sys.argv[1:], standalone_mode=False); "
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder or model file")
    parser.add_argument("--counts", nargs="+", type=int, default=[100, 1000, 10000])
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/growth.json"))
    options = parser.parse_args()
    from urd.system.files import write_json
    from urd.system.machine import machine

    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources = write_sources(folder / "sources")
        for count in options.counts:
            data = folder / str(count)
            write_data_set(data, sources, count)
            out = str(folder / f"out{count}")
            judged = ["predict", str(options.run), str(data / "test"), "--out", out]
            row = {"images": count, "predict": measured([*judged, "--overlays", "none"])}
            row["evaluate"] = measured(["evaluate", str(options.run), str(data)])
            rows.append(row)
            print(json.dumps(row), flush=True)
    for verb in ("predict", "evaluate"):
        for before, after in itertools.pairwise(rows):
            further = after["images"] - before["images"]
            spent = after[verb]["seconds"] - before[verb]["seconds"]
            after[verb]["ms_per_further_image"] = round(1000 * spent / further, 2)
    result = {"rows": rows, "machine": machine()}
    print(json.dumps(result, indent=2))
    write_json(options.json, result)


def write_sources(folder: Path) -> list[tuple[Path, Path | None]]:
    """Forty different images, with a mask if they are defective."""
    from PIL import Image

    from urd.demo.dataset import PRODUCTS, render_sample

    folder.mkdir()
    sources: list[tuple[Path, Path | None]] = []
    product = next(iter(PRODUCTS))
    defect = PRODUCTS[product][1][0]
    for index in range(40):
        image, mask = render_sample(product, None if index % 4 else defect, "test", index, 0)
        path, marked = folder / f"{index}.png", folder / f"{index}_mask.png"
        Image.fromarray(image).save(path)
        if index % 4 == 0:
            Image.fromarray(mask).save(marked)
        sources.append((path, None if index % 4 else marked))
    return sources


def write_data_set(data: Path, sources: list[tuple[Path, Path | None]], count: int) -> None:
    """A data set in MVTec layout, with hard links so that many images need no disk space."""
    for part in ("train/good", "test/good", "test/bad", "ground_truth/bad"):
        (data / part).mkdir(parents=True)
    os.link(sources[1][0], data / "train/good/0.png")
    for index in range(count):
        image, mask = sources[index % len(sources)]
        os.link(image, data / "test" / ("bad" if mask else "good") / f"{index:05}.png")
        if mask:
            os.link(mask, data / "ground_truth/bad" / f"{index:05}_mask.png")


def measured(words: list[str]) -> dict[str, float]:
    """Seconds and peak memory in MiB of a call of `urd`."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", _CODE, *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    seconds = time.perf_counter() - began
    return {"seconds": round(seconds, 1), "peak_mib": int(done.stdout.split()[-1])}


if __name__ == "__main__":
    main()
