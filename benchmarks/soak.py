"""Do memory and handles stay flat? Runs `urd watch` and `urd serve` together on one store.

    python benchmarks/soak.py RUN IMAGES [--minutes 60] [--per-second 1] [--json FILE]

Each of both gets so many images per second, with new content each time. Once a minute the memory
(RSS) and the open files of both processes are noted. What they were after five minutes, when caches
are full, is compared with the end. Kept images are pruned as in production.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from urd.serving.retention import prune
from urd.serving.store import Store
from urd.system.files import write_json
from urd.system.machine import machine

_WARM_MINUTES = 5
_KEEP_BYTES = 200 * 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("images", type=Path, help="folder of images")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--per-second", type=float, default=1.0)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    images = [path.read_bytes() for path in sorted(options.images.rglob("*.png"))]
    with tempfile.TemporaryDirectory() as place:
        result = _soaked(options, images, Path(place))
    print(_said(result))
    if options.json:
        write_json(options.json, result)


def _soaked(options: argparse.Namespace, images: list[bytes], place: Path) -> dict[str, Any]:
    folder, store = place / "camera", place / "line.sqlite"
    folder.mkdir()
    common = ["--store", str(store), "--keep", "all"]
    watch = _started(place / "watch.log", "watch", options.run, folder, *common,
                     "--ready", "rename", "--then", "delete", "--quiet")  # fmt: skip
    serve = _started(
        place / "serve.log", "serve", f"m={options.run}", *common, "--port", options.port
    )
    address = f"http://127.0.0.1:{options.port}"
    _wait_for(f"{address}/readyz")
    notes: list[dict[str, Any]] = []
    sent = {"watch": 0, "serve": 0}
    began = time.monotonic()
    end, next_note = began + 60 * options.minutes, began
    try:
        while (now := time.monotonic()) < end:
            # PNG readers ignore what follows the last chunk: new content, the same picture
            image = images[sent["serve"] % len(images)] + str(sent["serve"]).encode()
            sent["watch"] += _dropped(folder, sent["watch"], image)
            sent["serve"] += _posted(f"{address}/v1/models/m/predict", image)
            if now >= next_note:
                next_note += 60
                notes.append({"minute": round((now - began) / 60, 1), **_seen(watch, serve)})
                print(notes[-1], flush=True)
                prune(Store(store, create=False), keep_image_bytes=_KEEP_BYTES)
            time.sleep(max(0.0, 1 / options.per_second - (time.monotonic() - now)))
        time.sleep(5)
        counts = {}
        for row in Store(store, create=False).rows():
            key = f"{row.body['source']} {row.body['verdict']}"
            counts[key] = counts.get(key, 0) + 1
    finally:
        for process in (watch, serve):
            process.terminate()
        codes = [process.wait(30) for process in (watch, serve)]
    return {"sent": sent, "rows": counts, "exit_codes": codes, "notes": notes, "machine": machine()}


def _started(log: Path, *arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "urd", *map(str, arguments)]
    with log.open("wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, env=os.environ)


def _wait_for(address: str) -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(address):
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"nothing answers at {address}")


def _dropped(folder: Path, number: int, image: bytes) -> int:
    part = folder / f"{number}.png.part"
    part.write_bytes(image)
    part.rename(folder / f"{number}.png")
    return 1


def _posted(address: str, image: bytes) -> int:
    with urllib.request.urlopen(urllib.request.Request(address, data=image, method="POST")) as got:
        return got.status == 200


def _seen(*processes: subprocess.Popen[bytes]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, process in zip(("watch", "serve"), processes, strict=True):
        seen = psutil.Process(process.pid)
        found[f"{name}_mib"] = round(seen.memory_info().rss / 2**20, 1)
        found[f"{name}_files"] = seen.num_fds() if hasattr(seen, "num_fds") else None
        found[f"{name}_threads"] = seen.num_threads()
    return found


def _said(result: dict[str, Any]) -> str:
    notes = [note for note in result["notes"] if note["minute"] >= _WARM_MINUTES]
    lines = [f"sent {result['sent']}, rows {result['rows']}, exit codes {result['exit_codes']}"]
    for name in notes[0] if notes else ():
        values = [note[name] for note in notes]
        if name != "minute" and None not in values:
            lines.append(f"{name}: {values[0]} to {values[-1]}, most {max(values)}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
