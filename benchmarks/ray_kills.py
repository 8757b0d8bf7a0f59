"""Kills a node of a Ray cluster, then the driver, and counts what is missing or there twice.

    python benchmarks/ray_kills.py RUN [--images 20000] [--side 128] [--out FILE]

Writes small images to a temporary folder, all different, one in two hundred broken. `urd
predict` judges them on this machine. Then a Ray cluster of three nodes with one processor each
starts here, and `urd predict --on ray:ADDRESS` judges them again. When a quarter of the rows is
stored, one node is killed; when a half is, the driver is killed by SIGKILL. The same command then
goes on. In the end each image must have exactly one row with the verdict of the local call, and
nothing that was stored before the kill may have been written again.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

BATCH = 8  # as usual
BROKEN = 200  # one image of so many
_LEFT = re.compile(r"(\d+) rows are stored in .*; (\d+) images are left")


def write_images(folder: Path, count: int, side: int, seed: int) -> None:
    """The demo's pictures, each with its number in the lowest bits of eight pixels."""
    import cv2
    from PIL import Image

    from urd.demo.dataset import PRODUCTS, render_sample

    kinds = [(p, kind) for p, (_, of) in PRODUCTS.items() for kind in (*[None] * len(of), *of)]
    pictures = [
        cv2.resize(
            render_sample(product, kind, "test", index, seed)[0],
            (side, side),
            interpolation=cv2.INTER_AREA,
        )
        for index, (product, kind) in enumerate(kinds)
    ]
    for index in range(count):
        picture = pictures[index % len(pictures)].copy()
        for bit in range(24):
            picture[0, bit // 3, bit % 3] ^= index >> bit & 1
        path = folder / f"{index // 1000:03}" / f"{index:06}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture).save(path, compress_level=1)
        if index % BROKEN == BROKEN // 2:
            path.write_bytes(path.read_bytes()[:200])


def command(run: Path, images: Path, out: Path, *more: str) -> list[str]:
    base = [sys.executable, "-m", "urd", "predict", str(run), str(images), "--out", str(out)]
    return [*base, "--overlays", "none", *more]


def rows_of(*files: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in files for line in file.open(encoding="utf-8")]


def parts(out: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of each stored part."""
    folder = out / "parquet"
    found = folder.glob("*.parquet") if folder.is_dir() else ()
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


class Driver:
    """One call of `urd predict` on the cluster."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(arguments, stdout=file, stderr=file)

    def wait_for_parts(self, out: Path, count: int, patience: float) -> None:
        end = time.monotonic() + patience
        while len(parts(out)) < count:
            if self.process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{len(parts(out))} of {count} parts came: {self.said()[-1000:]}")
            time.sleep(0.02)

    def wait(self, patience: float) -> int:
        return self.process.wait(patience)

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


def run(options: argparse.Namespace, root: Path) -> dict[str, Any]:
    images, out = root / "images", root / "out"
    images.mkdir()
    write_images(images, options.images, options.side, options.seed)
    began = time.monotonic()
    local = subprocess.run(command(options.run, images, root / "local"), capture_output=True)
    local_seconds = time.monotonic() - began
    if local.returncode not in (0, 1):
        raise SystemExit(local.stderr.decode())
    expected = rows_of(root / "local" / "predictions.jsonl")

    from ray.cluster_utils import Cluster

    from urd.bulk.parts import images_per_part

    node = {"num_cpus": 1, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        arguments = command(options.run, images, out, "--on", f"ray:{cluster.address}")
        n_parts = options.images // images_per_part(options.images, BATCH)
        began = time.monotonic()
        driver = Driver(arguments, root / "first.log")
        driver.wait_for_parts(out, max(1, n_parts // 4), options.patience)
        cluster.remove_node(nodes[0], allow_graceful=False)
        at_node_kill = len(parts(out))
        driver.wait_for_parts(out, max(2, n_parts // 2), options.patience)
        driver.process.kill()
        driver.wait(60)
        before = parts(out)
        again = Driver(arguments, root / "again.log")
        code = again.wait(options.patience)
        seconds = time.monotonic() - began
    finally:
        cluster.shutdown()
    said = _LEFT.search(again.said())
    if said is None:
        raise SystemExit(f"exit code {code}: {again.said()[-2000:]}")
    after = parts(out)
    found = rows_of(*sorted((out / "jsonl").glob("*.jsonl")))
    return {
        "images": options.images,
        "seconds_local": round(local_seconds, 1),
        "seconds_ray_with_both_kills": round(seconds, 1),
        "exit_codes": [local.returncode, code],
        "parts": len(after),
        "parts_at_the_kill_of_a_node": at_node_kill,
        "parts_at_the_kill_of_the_driver": len(before),
        "rows_stored_then": int(said[1]),
        "images_judged_afterwards": int(said[2]),
        "stored_parts_written_again": sum(after.get(name) != at for name, at in before.items()),
        **_compared(expected, found, out),
    }


def _compared(
    expected: list[dict[str, Any]], found: list[dict[str, Any]], out: Path
) -> dict[str, Any]:
    import pyarrow.dataset

    wanted = {row["path"]: row for row in expected}
    counts = Counter(row["path"] for row in found)
    table = pyarrow.dataset.dataset(out / "parquet").to_table(columns=["path", "verdict"])
    in_parquet = Counter(table["path"].to_pylist())
    pairs = [(row, wanted[row["path"]]) for row in found if row["path"] in wanted]
    scored = [(a["score"], b["score"]) for a, b in pairs if b["score"] is not None]
    return {
        "rows": len(found),
        "verdicts": dict(Counter(row["verdict"] for row in found)),
        "images_without_a_row": len(wanted.keys() - counts.keys()),
        "rows_too_many": sum(counts.values()) - len(wanted.keys() & counts.keys()),
        "rows_that_parquet_has_otherwise": (
            (counts - in_parquet).total() + (in_parquet - counts).total()
        ),
        "verdicts_that_differ": sum(a["verdict"] != b["verdict"] for a, b in pairs),
        "defects_that_differ": sum(a["defects"] != b["defects"] for a, b in pairs),
        "scores_that_differ": sum(a != b for a, b in scored),
        "largest_difference_of_scores": max((abs(a - b) for a, b in scored), default=0.0),
    }


_FAULTS = (
    *("images_without_a_row", "rows_too_many", "rows_that_parquet_has_otherwise"),
    *("verdicts_that_differ", "defects_that_differ", "stored_parts_written_again"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder, model file or exported file")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=128, help="of the images, in pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patience", type=float, default=7200.0, help="seconds for each call")
    parser.add_argument("--out", type=Path, help="write the counts here, as JSON")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # as other programs on this machine
    from urd.system.files import write_json
    from urd.system.machine import machine

    with tempfile.TemporaryDirectory() as name:
        result = run(options, Path(name))
    result["faults"] = sum(result[fault] for fault in _FAULTS)
    result["faults"] += result["largest_difference_of_scores"] > 1e-5
    result["faults"] += result["rows_stored_then"] + result["images_judged_afterwards"] != (
        options.images
    )
    result["machine"] = machine()
    print(json.dumps(result, indent=2))
    if options.out is not None:
        write_json(options.out, result)
    if result["faults"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
