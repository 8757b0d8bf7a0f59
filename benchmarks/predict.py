"""Compares `urd predict` with the bare network: images per second and memory.

    python benchmarks/predict.py RUN [--images N]

Writes N images of 256 px (the demo's products, repeated) to a temporary folder. `urd predict` then
judges a fifth of them and all of them, each time in a new process. The difference in time and peak
memory is the cost per image, with and without a picture of each image. The bare network has the
same precision. It runs in its own process, again and again on one batch of the same size.
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


def predict(run: Path, folder: Path, count: int, out: Path, overlays: str) -> tuple[float, int]:
    """Seconds and peak memory in MiB of `urd predict` on the first `count` images."""
    names = "\n".join(str(path) for path in sorted(folder.iterdir())[:count])
    code = (
        "import resource, sys; from urd.cli import cli; "
        "cli.main(sys.argv[1:], standalone_mode=False); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    command = [sys.executable, "-c", code, "predict", str(run), "-", "--out", str(out)]
    command += ["--batch-size", str(BATCH), "--overlays", overlays]
    began = time.perf_counter()
    done = subprocess.run(command, input=names, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(done.stderr)
    return seconds, int(done.stdout.split()[-1])


def bare(run: Path, batches: int) -> tuple[str, str, float]:
    """Backbone, precision, and images per second of teacher and student alone."""
    import torch

    from urd import Detector
    from urd.engines.torch_engine import TorchEngine

    detector = Detector.load(run)
    height, width = detector.config.image_size
    images = torch.rand(BATCH, 3, height, width, device=detector.device)
    images = images.contiguous(memory_format=torch.channels_last)
    assert isinstance(detector.engine, TorchEngine)
    networks = detector.engine.networks
    with torch.inference_mode():
        for _ in range(3):
            networks(images)
        began = time.perf_counter()
        for _ in range(batches):
            networks(images)
        if detector.device.type == "cuda":
            torch.cuda.synchronize()
        rate = batches * BATCH / (time.perf_counter() - began)
    return detector.config.backbone, detector.engine.precision, rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder or model file")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--overlays", nargs="+", default=["all", "none"])
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/predict.json"))
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        print(*bare(options.run, max(4, options.images // BATCH // 10)))
        return
    from urd.system.files import write_json
    from urd.system.machine import machine

    command = [sys.executable, __file__, str(options.run), "--bare"]
    alone = subprocess.run(
        [*command, "--images", str(options.images)], capture_output=True, text=True, check=True
    )
    few = max(BATCH, options.images // 5)
    backbone, precision, rate = alone.stdout.split()
    bare_rate = float(rate)
    result = {
        "backbone": backbone,
        "precision": precision,
        "batch_size": BATCH,
        "images": [few, options.images],
        "bare_network_images_per_second": round(bare_rate, 2),
        "machine": machine(),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "images")
        folder.mkdir()
        write_images(folder, options.images)
        for overlays in options.overlays:
            of_few, of_all = (
                predict(options.run, folder, count, Path(name, f"{overlays}{count}"), overlays)
                for count in (few, options.images)
            )
            per_second = (options.images - few) / (of_all[0] - of_few[0])
            result[f"overlays_{overlays}"] = {
                "seconds": [round(of_few[0], 1), round(of_all[0], 1)],
                "peak_mib": [of_few[1], of_all[1]],
                "images_per_second": round(per_second, 2),
                "share_of_the_bare_network": round(per_second / bare_rate, 3),
            }
    print(json.dumps(result, indent=2))
    write_json(options.json, result)


if __name__ == "__main__":
    main()
