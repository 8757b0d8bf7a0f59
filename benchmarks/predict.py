"""`urd predict` against the bare network: images per second and memory, whole process.

    python benchmarks/predict.py RUN [--images N]

Writes N pictures of 256 px (the demo's products, over and over) to a temporary folder, and lets
`urd predict` judge a fifth of them and all of them, each in a process of its own: time and peak
memory of the difference tell what an image costs. The bare network runs in a third process, on one
batch of the same size again and again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BATCH = 8


def write_images(folder: Path, count: int) -> None:
    from PIL import Image

    from urd.demo.dataset import PRODUCTS, render_sample

    different = [
        Image.fromarray(render_sample(product, None, "test", index, 0)[0])
        for product in PRODUCTS
        for index in range(20)
    ]
    for index in range(count):
        different[index % len(different)].save(folder / f"{index:05}.png")


def predict(run: Path, folder: Path, count: int, out: Path) -> tuple[float, int]:
    """Seconds and peak memory in MiB of `urd predict` on the first `count` images."""
    names = "\n".join(str(path) for path in sorted(folder.iterdir())[:count])
    code = (
        "import resource, sys; from urd.cli import cli; "
        "cli.main(sys.argv[1:], standalone_mode=False); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    command = [sys.executable, "-c", code, "predict", str(run), "-", "--out", str(out)]
    began = time.perf_counter()
    done = subprocess.run(
        [*command, "--batch-size", str(BATCH)], input=names, capture_output=True, text=True
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(done.stderr)
    return seconds, int(done.stdout.split()[-1])


def bare(run: Path, batches: int) -> float:
    """Images per second of teacher and student alone."""
    import torch

    from urd import Detector

    detector = Detector.load(run)
    height, width = detector.config.image_size
    images = torch.rand(BATCH, 3, height, width, device=detector.device)
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        for _ in range(3):
            detector.model(images)
        began = time.perf_counter()
        for _ in range(batches):
            detector.model(images)
        if detector.device.type == "cuda":
            torch.cuda.synchronize()
        return batches * BATCH / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder or model file")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/predict.json"))
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        print(bare(options.run, max(4, options.images // BATCH // 10)))
        return
    from urd.files import write_json
    from urd.machine import machine

    few = max(BATCH, options.images // 5)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "images")
        folder.mkdir()
        write_images(folder, options.images)
        of_few = predict(options.run, folder, few, Path(name, "few"))
        of_all = predict(options.run, folder, options.images, Path(name, "all"))
    command = [sys.executable, __file__, str(options.run), "--bare"]
    alone = subprocess.run(
        [*command, "--images", str(options.images)], capture_output=True, text=True, check=True
    )
    per_second = (options.images - few) / (of_all[0] - of_few[0])
    result = {
        "images": [few, options.images],
        "seconds": [round(of_few[0], 1), round(of_all[0], 1)],
        "peak_mib": [of_few[1], of_all[1]],
        "images_per_second": round(per_second, 2),
        "bare_network_images_per_second": round(float(alone.stdout), 2),
        "share_of_the_bare_network": round(per_second / float(alone.stdout), 3),
        "machine": machine(),
    }
    print(json.dumps(result, indent=2))
    write_json(options.json, result)


if __name__ == "__main__":
    main()
