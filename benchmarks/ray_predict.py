"""Compares `urd predict --on ray` with as many plain processes: images per second and memory.

    python benchmarks/ray_predict.py RUN [--images N] [--workers 1 2 4] [--out FILE]

Writes N images of 256 px (the demo's products, repeated) to a temporary folder. For each number of
workers, `urd predict --on ray --jobs WORKERS` judges them on this machine with one thread each; and
so do as many plain `urd predict` processes, which get equal shares of the list. Both ways also
judge a sixth of the images; the difference in time is the cost of the others, so rates are without
the start. Ray judges in parts of 128 images, so N is best a multiple of 128 times the most workers.
Memory is the highest of what belongs to a process alone (USS). The bytes that Ray moves are those
of the tables that it carries. Ray's workers usually give way to other programs (niceness 15); here
they do not, unless RAY_worker_niceness is set.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BATCH = 8
_WORKER = "ray::"  # Ray names the processes of its actors so


class Memory(threading.Thread):
    """Watches the processes below some processes until it is stopped.

    Attributes:
        workers: the most MiB of any worker. all: the most of all processes together.
    """

    def __init__(self, roots: Sequence[subprocess.Popen[str]], named: str) -> None:
        super().__init__(daemon=True)
        self._roots, self._named = roots, named
        self._ended = threading.Event()
        self.workers = self.all = 0.0
        self.start()

    def run(self) -> None:
        while not self._ended.wait(1.0):
            sizes = list(self._sizes())
            self.all = max(self.all, sum(size for _, size in sizes))
            of_workers = [size for name, size in sizes if self._named in name]
            self.workers = max([self.workers, *of_workers])

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def _sizes(self) -> Any:
        import psutil

        for root in self._roots:
            try:
                processes = [psutil.Process(root.pid)]
                processes += processes[0].children(recursive=True)
            except psutil.Error:
                continue
            for process in processes:
                try:
                    name = " ".join(process.cmdline())
                    yield name, process.memory_full_info().uss / 2**20
                except psutil.Error:
                    continue


def timed(commands: Sequence[list[str]], lists: Sequence[str], named: str) -> dict[str, float]:
    """Run commands at once, each with its list on standard input: seconds, and MiB."""
    began = time.perf_counter()
    processes = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for command in commands
    ]
    memory = Memory(processes, named)
    feeders = [
        threading.Thread(target=_finish, args=pair) for pair in zip(processes, lists, strict=True)
    ]
    for feeder in feeders:
        feeder.start()
    for feeder in feeders:
        feeder.join()
    seconds = time.perf_counter() - began
    memory.stop()
    return {"seconds": seconds, "worker_mib": memory.workers, "all_mib": memory.all}


def _finish(process: subprocess.Popen[str], names: str) -> None:
    _, said = process.communicate(names)
    if process.returncode:
        raise SystemExit(said)


def by_hand(run: Path, paths: Sequence[Path], workers: int, out: Path) -> dict[str, float]:
    shares = [paths[first::workers] for first in range(workers)]
    commands = [command(run, out / str(index)) for index in range(workers)]
    return timed(commands, ["\n".join(map(str, share)) for share in shares], "urd")


def on_ray(run: Path, paths: Sequence[Path], workers: int, out: Path) -> dict[str, float]:
    more = ("--on", "ray", "--jobs", str(workers))
    return timed([[*command(run, out), *more]], ["\n".join(map(str, paths))], _WORKER)


def command(run: Path, out: Path) -> list[str]:
    base = [sys.executable, "-m", "urd", "predict", str(run), "-", "--out", str(out)]
    return [*base, "--overlays", "none", "--batch-size", str(BATCH)]


def difference(few: dict[str, float], every: dict[str, float], images: int) -> dict[str, Any]:
    """Figures of two calls; `few` judged some images, `every` judged `images` more."""
    rate = images / (every["seconds"] - few["seconds"])
    return {**_rounded(every), "images_per_second": round(rate, 2)}


def _rounded(of: dict[str, float]) -> dict[str, Any]:
    return {
        "seconds_with_start": round(of["seconds"], 1),
        "mib_of_a_worker": round(of["worker_mib"]),
        "mib_of_all_processes": round(of["all_mib"]),
    }


def bytes_moved(run: Path, paths: Sequence[Path], out: Path) -> dict[str, Any]:
    """What a worker reads, and what Ray and the storage carry for each image."""
    import pyarrow

    from urd.bulk.images import ON_DISK, Image
    from urd.bulk.judged_parts import item_of
    from urd.bulk.order import model_files
    from urd.bulk.parts import parts_of
    from urd.bulk.worker import answer

    images = [Image(str(path), ON_DISK, str(path)) for path in paths]
    parts = parts_of(images, set(), BATCH)
    items = [item_of(part, range(len(part.images))) for part in parts]
    given = pyarrow.Table.from_pylist(items).nbytes
    lines = [line for file in (out / "jsonl").iterdir() for line in file.read_text().splitlines()]
    taken = answer(parts[0].name, range(len(lines)), lines).nbytes
    stored = {
        name: sum(file.stat().st_size for file in (out / name).iterdir())
        for name in ("jsonl", "parquet")
    }
    return {
        "model_bytes_for_each_node": sum(map(len, model_files(run).values())),
        "image_bytes_read_by_a_worker": round(sum(p.stat().st_size for p in paths) / len(paths)),
        "bytes_to_a_worker": round(given / len(paths)),
        "bytes_from_a_worker": round(taken / len(paths)),
        "bytes_stored": {name: round(size / len(paths)) for name, size in stored.items()},
        "images_in_a_part": len(parts[0].images),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder, model file or exported file")
    parser.add_argument("--images", type=int, default=1536)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--out", type=Path, help="write the figures here, as JSON")
    options = parser.parse_args()
    from predict import write_images

    from urd.system.files import write_json
    from urd.system.machine import machine

    os.environ.setdefault("RAY_worker_niceness", "0")  # as the plain processes
    few = max(BATCH, options.images // 6)
    result: dict[str, Any] = {"batch_size": BATCH, "images": options.images, "machine": machine()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "images")
        folder.mkdir()
        write_images(folder, options.images)
        paths = sorted(folder.iterdir())
        for workers in options.workers:
            of: dict[str, Any] = {
                way.__name__: difference(
                    *(
                        way(
                            options.run,
                            paths[:count],
                            workers,
                            Path(name, f"{way.__name__}{workers}-{count}"),
                        )
                        for count in (few, options.images)
                    ),
                    options.images - few,
                )
                for way in (on_ray, by_hand)
            }
            of["ray_against_by_hand"] = round(
                of["on_ray"]["images_per_second"] / of["by_hand"]["images_per_second"], 3
            )
            result[f"workers_{workers}"] = of
            print(json.dumps({workers: of}, indent=2), file=sys.stderr)
        result["per_image"] = bytes_moved(
            options.run, paths, Path(name, f"on_ray{workers}-{options.images}")
        )
    print(json.dumps(result, indent=2))
    if options.out is not None:
        write_json(options.out, result)


if __name__ == "__main__":
    main()
