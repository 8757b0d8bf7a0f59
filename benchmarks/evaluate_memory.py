"""Peak memory of `urd evaluate` without its network, over the number of maps (Linux only).

    python benchmarks/evaluate_memory.py [--counts 5000 10000] [--resamples 1000]

Synthetic maps of 256 px, every fourth image defective with 200 marked pixels, are judged and
measured, each count in a process of its own. Printed is the growth of the peak per further image; a
map alone has 256 KiB. Below some thousand maps, the chunks in which pixels are sorted are the peak.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

SIZE = (256, 256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", nargs=2, type=int, default=[5000, 10000])
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(peak_kib(options.measure, options.resamples))
        return
    few, many = options.counts
    peaks = [_in_its_own_process(count, options.resamples) for count in (few, many)]
    print(f"{few} maps: {peaks[0] // 1024} MiB; {many} maps: {peaks[1] // 1024} MiB")
    print(f"{(peaks[1] - peaks[0]) / (many - few):.1f} KiB per further image")


def _in_its_own_process(count: int, resamples: int) -> int:
    given = ["--measure", str(count), "--resamples", str(resamples)]
    command = [sys.executable, __file__, *given]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def peak_kib(count: int, resamples: int) -> int:
    """Judge and measure so many maps; the peak of this process, in KiB."""
    from PIL import Image

    from urd.config import FitConfig
    from urd.data import DataSet, Sample
    from urd.evaluation.evaluate import evaluate_predictions

    with tempfile.TemporaryDirectory() as name:
        mask = np.zeros(SIZE, np.uint8)
        mask[100:110, 100:120] = 255
        file = Path(name, "mask.png")
        Image.fromarray(mask).save(file)
        good, bad = Sample(Path(name, "good.png")), Sample(Path(name, "bad.png"), "dent", (file,))
        samples = [good if index % 4 else bad for index in range(count)]
        data = DataSet(Path(name), "mvtec", [], samples, has_masks=True)
        evaluate_predictions(
            data, predictions(count), FitConfig(), in_rois=False, resamples=resamples
        )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def predictions(count: int) -> Iterator:
    from urd.inspection.prediction import Prediction

    rng = np.random.default_rng(0)
    for _ in range(count):
        anomaly_map = rng.random(SIZE, np.float32)
        yield Prediction(float(anomaly_map.max()), anomaly_map, SIZE)


if __name__ == "__main__":
    main()
