"""Runs the parts, each in a process with a time limit, and writes the JSON file after each."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_parts import pack

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.py"
LEAST_SECONDS = 15.0  # no part begins with less
_ERROR_CHARACTERS = 3000
_DRY_PATIENCE = 5  # a dry run is no measurement, and its machine may be busy

Report = Callable[..., None]


@dataclass(frozen=True)
class Setting:
    """What a part needs to know.

    Attributes:
        ends: value of `time.monotonic` at which the part should be done.
        dry: on the CPU, with tiny numbers.
    """

    pack: Path
    ends: float
    dry: bool

    @property
    def device(self) -> str:
        return "cpu" if self.dry else "cuda"

    @property
    def seconds_left(self) -> float:
        return self.ends - time.monotonic()


@dataclass(frozen=True)
class Part:
    """A part: `function` of `gpu_parts.<module>`, and its longest time."""

    module: str
    function: str
    seconds: float
    what: str


PARTS = {
    "card": Part("card", "card", 40, "the card, its driver and clocks, versions"),
    "step": Part("step", "step", 120, "the training step against a plain one and the peak"),
    "tests": Part("card", "tests", 120, "the tests marked for CUDA"),
    "inference": Part("inference", "inference", 60, "latency and throughput"),
    "fit_wide": Part("fits", "fit_wide", 260, "5,000 iterations of Wide-ResNet-50-2"),
    "fit_resnet18": Part("fits", "fit_resnet18", 150, "5,000 iterations of ResNet-18, evaluated"),
    "compiled": Part("step", "compiled", 300, "the step with torch.compile, for comparison"),
}


def run_all(names: Sequence[str], packed: Path, out: Path, seconds: float, dry: bool) -> int:
    """Run the parts and write what they report; returns the exit code."""
    ends = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder, "site")
        lacking = pack.unpack_missing(packed, site)
        if lacking:
            sys.exit(f"these packages are missing here and not packed: {', '.join(lacking)}")
        environment = environment_of(site, dry)
        result: dict[str, Any] = {"dry_run": dry, "seconds_allowed": seconds, "parts": {}}
        for name in names:
            longest = PARTS[name].seconds * (_DRY_PATIENCE if dry else 1)
            limit = min(longest, ends - time.monotonic())
            print(f"== {name}: {PARTS[name].what} (at most {limit:.0f} s)", flush=True)
            report = Path(folder, f"{name}.jsonl")
            result["parts"][name] = _run(name, packed, report, limit, dry, environment)
            _write(out, result)
            print(f"== {name}: {result['parts'][name]['status']}", flush=True)
    print(json.dumps(result, indent=2))
    return int(any(part["status"] != "done" for part in result["parts"].values()))


def environment_of(site: Path, dry: bool) -> dict[str, str]:
    """The environment in which `urd` of this checkout, and what was unpacked, can be imported."""
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if dry else {}
    paths = [str(site), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
        **hidden,
    }


def _run(
    name: str, packed: Path, report: Path, limit: float, dry: bool, environment: dict[str, str]
) -> dict[str, Any]:
    """What one part reported until it ended or was ended."""
    if limit < LEAST_SECONDS:
        return {"status": "skipped", "reason": "no time was left"}
    command = [sys.executable, str(SCRIPT), "--one", name]
    command += ["--use", str(packed.resolve()), "--json", str(report), f"--limit={limit}"]
    command += ["--dry-run"] * dry
    began = time.monotonic()
    process = subprocess.Popen(command, env=environment, cwd=ROOT, start_new_session=True)
    try:
        code = process.wait(limit)
        status = "done" if code == 0 else "failed"
    except subprocess.TimeoutExpired:
        status = "took too long"
    except BaseException:
        _end(process)
        raise
    _end(process)
    found = {"status": status, "seconds": round(time.monotonic() - began, 1)}
    if status == "failed":
        found["exit_code"] = code
    return {**found, **_read(report)}


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a part and whatever it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read(report: Path) -> dict[str, Any]:
    """The pieces that a part has reported; the last line may be cut off."""
    found: dict[str, Any] = {}
    for line in report.read_text().splitlines() if report.exists() else ():
        with contextlib.suppress(ValueError):
            found |= json.loads(line)
    return found


def _strict(value: Any) -> Any:
    """The same for JSON, which has no NaN and no infinity: `null` for these."""
    if isinstance(value, dict):
        return {key: _strict(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(out: Path, result: dict[str, Any]) -> None:
    """Replace the file in one step, so that it is whole at any time."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(out.name + ".part")
    temporary.write_text(json.dumps(result, indent=2) + "\n")
    temporary.replace(out)


def run_one(name: str, packed: Path, report: Path, limit: float, dry: bool) -> None:
    """Run a part in this process; each piece that it reports is a line in the file `report`."""

    def add(**piece: Any) -> None:
        line = json.dumps(_strict(piece), allow_nan=False)
        print(line, flush=True)
        with report.open("a") as file:
            file.write(line + "\n")

    part = PARTS[name]
    try:
        function = getattr(importlib.import_module(f"gpu_parts.{part.module}"), part.function)
        function(add, Setting(packed, time.monotonic() + limit, dry))
    except Exception:
        add(error=traceback.format_exc()[-_ERROR_CHARACTERS:])
        sys.exit(1)
