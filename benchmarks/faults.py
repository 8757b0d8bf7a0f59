"""Checks that `urd` fails visibly with damaged files, when killed, and on a full disk.

    python benchmarks/faults.py              # everything: about an hour on two cores
    python benchmarks/faults.py --short      # a few of each, as in the tests

Files get damaged bytes and damaged values; half of the models get a matching checksum. Each file is
used once in a child with limits of 20 seconds and 2 GB. Verbs are killed at random moments. They
also run on a disk that is full from their n-th write on, with a small preloaded C library. Without
a C compiler this part is skipped with a message. The exit code is 1 if a fault is found.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LONG = {"models": 2000, "reports": 500, "exports": 200, "checkpoints": 100, "yamls": 100}
SHORT = {"models": 24, "reports": 6, "exports": 4, "checkpoints": 3, "yamls": 8}
KILLS = {"fit": 100, "calibrate": 20, "evaluate": 20, "predict": 20, "report": 20, "benchmark": 20}
KILLS |= {"export onnx": 20, "export openvino": 20}
SHORT_KILLS = {"fit": 1, "predict": 1}
PARTS = ("files", "kills", "disk")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="run a few trials of each kind")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--kinds", nargs="+", choices=list(LONG), default=list(LONG))
    parser.add_argument("--verbs", nargs="+", choices=list(KILLS), default=list(KILLS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--json", type=Path, help="results file; default: benchmarks/results/faults.json"
    )
    options = parser.parse_args()
    if "disk" in options.parts and "FAULTS_STATE" not in os.environ:
        _start_with_a_disk_that_can_be_full()
    with tempfile.TemporaryDirectory() as name:
        result = measure(Path(name), options)
    print(json.dumps(result, indent=2))
    path = options.json or (None if options.short else Path("benchmarks/results/faults.json"))
    if path is not None:
        from urd.system.files import write_json

        write_json(path, result)
    sys.exit(1 if result["faults"] else 0)


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run the requested parts."""
    _import_everything()
    from fault_injection import hostile_files, interruptions, stage

    began = time.monotonic()
    world = stage.build(folder)
    result: dict[str, Any] = {"seed": options.seed, "short": options.short}
    faults: list[str] = []
    counts = SHORT if options.short else LONG
    if "files" in options.parts:
        result["files"] = {}
        for kind in options.kinds:
            cases = getattr(hostile_files, kind)
            rng = random.Random(f"{options.seed} {kind}")
            result["files"][kind], found = hostile_files.run_cases(cases(world, counts[kind], rng))
            faults += found
            _say(kind, result["files"][kind], found)
    tried: dict[str, Iterator[tuple[str, interruptions.Tried]]] = {}
    if "kills" in options.parts:
        wanted = SHORT_KILLS if options.short else KILLS
        wanted = {verb: count for verb, count in wanted.items() if verb in options.verbs}
        tried["kills"] = interruptions.kills(world, wanted, random.Random(f"{options.seed} kills"))
    if "disk" in options.parts and "FAULTS_STATE" in os.environ:
        disk = interruptions.FullDisk(Path(os.environ["FAULTS_STATE"]))
        tried["disk"] = interruptions.full_disks(
            world, options.verbs, disk, 2 if options.short else 300
        )
    for part, verbs in tried.items():
        result[part] = {}
        for name, of_verb in verbs:
            result[part][name] = {"trials": of_verb.trials, **of_verb.ended}
            faults += of_verb.faults
            _say(f"{part} {name}", result[part][name], of_verb.faults)
    from urd.system.machine import machine

    return {
        **result,
        "faults": faults,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "machine": machine(),
    }


def _say(what: str, counts: Any, faults: list[str]) -> None:
    print(f"{what}: {json.dumps(counts)}", file=sys.stderr, flush=True)
    for fault in faults[:20]:
        print(f"  FAULT {fault}", file=sys.stderr, flush=True)


def _import_everything() -> None:
    """Import here, not in each child. Compute nothing: threads do not survive a fork."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
    for name in (  # urd before the runtimes, whose telemetry it switches off
        *(
            "urd.suites.runner",
            "urd.export.files",
            "urd.training.fit",
            "urd.results.prediction_files",
            "urd.results.report",
        ),
        *("onnx", "onnxruntime", "openvino", "timm"),
    ):
        importlib.import_module(name)
    from urd import cli

    for verb in cli.VERBS:
        importlib.import_module(f"urd.cli.{verb.replace('-', '_')}")


def _start_with_a_disk_that_can_be_full() -> None:
    """Run this script again with the library loaded."""
    from fault_injection import interruptions

    folder = Path(tempfile.mkdtemp())
    environment = interruptions.preload(folder)
    if environment is None:
        print("No C compiler: full disks are left out.", file=sys.stderr)
        return
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **environment})


if __name__ == "__main__":
    main()
