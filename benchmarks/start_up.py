"""Measures how long a user waits for small commands: whole processes, from start to end.

    python benchmarks/start_up.py RUN [--repeats 5]

It runs `urd --help`, `import urd`, and `urd predict` on one image, with the model of the run and
with its exported files. `import torch` and an empty interpreter are lower limits for such a
program. It prints medians over the repeats, after one call that fills the disk cache.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_URD = "from urd.cli import main; main()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder or model file")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/start_up.json"))
    options = parser.parse_args()
    from predict import write_images

    from urd.system.files import write_json
    from urd.system.machine import machine

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        write_images(folder / "images", 20)
        models = {"torch": options.run} | _exported(options.run, folder)
        calls = {
            "an empty interpreter": ["pass"],
            "import torch": ["import torch"],
            "import urd": ["import urd"],
            "urd --help": [_URD, "--help"],
        }
        for kind, model in models.items():
            image, out = folder / "images/00000.png", folder / kind
            words = ["predict", str(model), str(image), "--out", str(out), "--overwrite"]
            calls[f"urd predict, one image, {kind}"] = [_URD, *words]
        seconds = {name: _median(words, options.repeats) for name, words in calls.items()}
    result = {"seconds": seconds, "repeats": options.repeats, "machine": machine()}
    print(json.dumps(result, indent=2))
    write_json(options.json, result)


def _exported(run: Path, folder: Path) -> dict[str, Path]:
    files = {"onnx": folder / "model.onnx", "openvino": folder / "model.xml"}
    for form, out in files.items():
        words = ["export", str(run), str(folder / "images"), "--format", form, "--out", str(out)]
        _run([_URD, *words])
    return files


def _median(words: list[str], repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        _run(words)
        times.append(time.perf_counter() - began)
    return round(statistics.median(times[1:]), 3)


def _run(words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)


if __name__ == "__main__":
    main()
