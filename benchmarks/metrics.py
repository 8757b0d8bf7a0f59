"""Compares speed and memory of the exact metrics with other implementations in the same run.

    python benchmarks/metrics.py [--anomalib PYTHON] [--json FILE]

The input is 83 synthetic maps of 256 px and 83 of 900 px (21 good; blobs of many sizes as defects).
It measures: all pixel metrics of `urd.metrics` together; scikit-learn's AUROC and AP; a plain
per-image AUPRO at 200 thresholds (regions found again for each threshold, or once per image); and
anomalib's AUPRO, AUROC and F1Max, with the interpreter of an environment that has anomalib. Figures
that should agree are compared. Each measurement runs in its own process, so that peak memory,
without maps and masks, is its own (Linux only).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

IMAGES, GOOD = 83, 21
SIZES = (256, 900)


def make_set(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps (83, size, size) float32 and masks of the same shape."""
    import cv2

    rng = np.random.default_rng(size)
    maps = np.empty((IMAGES, size, size), np.float32)
    masks = np.zeros((IMAGES, size, size), bool)
    for index in range(IMAGES):
        noise = rng.random((size // 8, size // 8), np.float32)
        maps[index] = cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
        if index < GOOD:
            continue
        canvas = np.zeros((size, size), np.uint8)
        for _ in range(rng.integers(1, 6)):
            centre = tuple(int(c) for c in rng.integers(0, size, 2))
            axes = tuple(int(a) for a in rng.integers(1, max(2, size // 12), 2))
            cv2.ellipse(canvas, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
        masks[index] = canvas > 0
        maps[index] += 0.5 * cv2.GaussianBlur(canvas.astype(np.float32), (0, 0), size / 60)
    return maps, masks


def ours(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    from urd.metrics import evaluate_maps

    defects = ["defect" if mask.any() else "good" for mask in masks]
    found = evaluate_maps(maps, maps.max(axis=(1, 2)), defects, masks)
    return {key: found[key] for key in ("pixel_auroc", "pixel_ap", "pixel_f1max", "aupro")} | {
        "aupro_per_image": found["aupro_per_image"]
    }


def scikit_learn(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import average_precision_score, roc_auc_score

    truth, scores = masks.ravel(), maps.ravel()
    return {
        "pixel_auroc": float(roc_auc_score(truth, scores)),
        "pixel_ap": float(average_precision_score(truth, scores)),
    }


def plain_per_image(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """Apply each threshold to the whole map and find the regions again each time."""
    return _per_image(maps, masks, labelled_once=False)


def plain_labelled_once(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    """The same, but find the regions of an image only once."""
    return _per_image(maps, masks, labelled_once=True)


def _per_image(maps: np.ndarray, masks: np.ndarray, labelled_once: bool) -> dict[str, float]:
    from scipy.ndimage import label

    def regions_of(mask: np.ndarray) -> list[tuple[np.ndarray, ...]]:
        labels, count = label(mask, structure=np.ones((3, 3)))
        return [np.nonzero(labels == index) for index in range(1, count + 1)]

    values = []
    for anomaly_map, mask in zip(maps, masks, strict=True):
        if not mask.any():
            continue
        rois = regions_of(mask)
        outside = ~mask
        low, high = float(anomaly_map.min()), float(anomaly_map.max())
        points = []
        for step in range(200):
            if not labelled_once:
                rois = regions_of(mask)
            above = anomaly_map > low + (high - low) * step / 200
            overlap = np.mean([above[roi].mean() for roi in rois])
            points.append(((above & outside).sum() / outside.sum(), overlap))
        kept = [point for point in points if point[0] < 0.3][::-1]
        rates, overlaps = np.array(kept).T
        values.append(float(np.trapezoid(overlaps, rates / rates[-1])))
    return {"aupro_per_image": float(np.mean(values))}


def anomalib(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    import torch
    from anomalib.metrics.aupro import _AUPRO
    from anomalib.metrics.auroc import _AUROC
    from anomalib.metrics.f1_score import _F1Max

    scores, truth = torch.from_numpy(maps), torch.from_numpy(masks)
    found = {}
    for name, metric in (("aupro", _AUPRO()), ("pixel_auroc", _AUROC()), ("pixel_f1max", _F1Max())):
        if name == "aupro":
            metric.update(scores, truth)
        else:
            metric.update(scores.flatten(), truth.flatten().int())
        found[name] = float(metric.compute())
    return found


MEASURED: dict[str, Callable[[np.ndarray, np.ndarray], dict[str, float]]] = {
    "ours": ours,
    "scikit_learn": scikit_learn,
    "plain_per_image": plain_per_image,
    "plain_labelled_once": plain_labelled_once,
    "anomalib": anomalib,
}


def measure(name: str, file: Path) -> dict[str, object]:
    """Runs in its own process: seconds of the call, and peak memory without the data."""
    with np.load(file) as stored:
        maps, masks = stored["maps"], stored["masks"]
    tiny = maps[:: IMAGES - 1, :32, :32].copy(), np.zeros((2, 32, 32), bool)
    tiny[1][1, :8, :8] = True
    MEASURED[name](*tiny)  # imports and first-call costs are not measured
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak, which counts from here
    began = time.perf_counter()
    figures = MEASURED[name](maps, masks)
    seconds = time.perf_counter() - began
    peak = _memory("VmHWM") - before
    return {"seconds": round(seconds, 4), "peak_mib": round(peak / 1024), "figures": figures}


def _memory(name: str) -> int:
    """A line of /proc/self/status, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--anomalib", help="Python interpreter of an environment with anomalib")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure[0], Path(options.measure[1]))))
        return
    from urd.system.machine import machine  # not at the top: anomalib's environment has no urd

    interpreters = dict.fromkeys(list(MEASURED)[:-1], sys.executable)
    if options.anomalib:
        interpreters["anomalib"] = options.anomalib
    result: dict[str, object] = {"images": IMAGES, "machine": machine()}
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            file = Path(folder) / f"{size}.npz"
            maps, masks = make_set(size)
            np.savez(file, maps=maps, masks=masks)
            data_mib = round((maps.nbytes + masks.nbytes) / 2**20)
            result[f"{size} px"] = compare(interpreters, file, options.repeats, data_mib)
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


def compare(
    interpreters: dict[str, str], file: Path, repeats: int, data_mib: int
) -> dict[str, object]:
    """Best of alternating repeats, speed-up of ours, and a check of figures that must agree."""
    best: dict[str, dict] = {}
    for _ in range(repeats):
        for name, interpreter in interpreters.items():
            if name in best and best[name]["seconds"] > 20:
                continue  # slow ones run once
            command = [interpreter, __file__, "--measure", name, str(file)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{name} failed: {done.stderr.strip().splitlines()[-1]}")
            found = json.loads(done.stdout.strip().splitlines()[-1])
            if name not in best or found["seconds"] < best[name]["seconds"]:
                best[name] = found
            print(f"{file.stem} px, {name}: {found['seconds']} s", file=sys.stderr, flush=True)
    for name, found in best.items():
        found["ours_is_faster"] = round(found["seconds"] / best["ours"]["seconds"], 1)
        for metric, value in found["figures"].items():
            difference = abs(value - best["ours"]["figures"][metric])
            # The comparison with the float32 map rounds the plain thresholds to float32.
            tolerance = 1e-6 if metric == "aupro_per_image" else 1e-9
            if name != "anomalib" and difference > tolerance:
                raise SystemExit(f"{name} and ours differ in {metric} by {difference}")
    return {"data_mib": data_mib, **best}


if __name__ == "__main__":
    main()
