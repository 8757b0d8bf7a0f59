"""The card and the versions, and the tests that are marked for CUDA."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from gpu_parts.parts import ROOT, Report, Setting

_ASKED = (
    "name",
    "driver_version",
    "memory.total",
    "clocks.sm",
    "clocks.mem",
    "clocks.max.sm",
    "clocks.max.mem",
    "power.limit",
    "power.draw",
    "temperature.gpu",
)
_MESSAGE_CHARACTERS = 1500


def card(report: Report, setting: Setting) -> None:
    """What everything else was measured on."""
    import torch

    from urd.method_version import METHOD_VERSION
    from urd.system.machine import machine
    from urd.system.versions import current_versions

    report(
        machine=machine(setting.device),
        versions=current_versions(),
        method_version=METHOD_VERSION,
        system=platform.platform(),
        cores=os.cpu_count(),
        nvidia_smi=nvidia_smi(),
    )
    if setting.dry:
        return
    properties = torch.cuda.get_device_properties(0)
    report(
        cuda=torch.version.cuda,
        cudnn=torch.backends.cudnn.version(),
        capability=f"{properties.major}.{properties.minor}",
        multiprocessors=properties.multi_processor_count,
        memory_mib=properties.total_memory >> 20,
        bfloat16=torch.cuda.is_bf16_supported(including_emulation=False),
    )


def nvidia_smi() -> dict[str, str] | str:
    """Name, driver, clocks, power and temperature as nvidia-smi gives them, or why it does not."""
    command = ["nvidia-smi", f"--query-gpu={','.join(_ASKED)}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode != 0:
        return (done.stdout + done.stderr).strip()[-300:]
    values = done.stdout.strip().splitlines()[0].split(",")
    return dict(zip(_ASKED, (value.strip() for value in values), strict=False))


def tests(report: Report, setting: Setting) -> None:
    """Run `tests/test_cuda.py`; without a GPU all are skipped."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder, "tests.xml")
        command = [sys.executable, "-m", "pytest", "tests/test_cuda.py", "-p", "no:cacheprovider"]
        command += ["--tb=short", f"--junitxml={found}", f"--basetemp={folder}/tests"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        print(done.stdout[-6000:], done.stderr[-2000:], flush=True)
        if not found.exists():
            raise RuntimeError(f"pytest ended with {done.returncode}: {done.stdout[-2000:]}")
        outcomes = [_outcome(case) for case in ElementTree.parse(found).iter("testcase")]
    counts = dict.fromkeys(("passed", "failed", "skipped"), 0)
    for outcome in outcomes:
        counts[outcome["outcome"]] += 1
    report(counts=counts, tests=outcomes)
    if counts["failed"] or (counts["skipped"] and not setting.dry):
        raise RuntimeError("tests failed or were skipped")


def _outcome(case: ElementTree.Element) -> dict[str, Any]:
    row: dict[str, Any] = {"test": case.get("name"), "outcome": "passed"}
    row["seconds"] = round(float(case.get("time", 0)), 2)
    for kind, outcome in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
        problem = case.find(kind)
        if problem is not None:
            text = problem.text if outcome == "failed" else problem.get("message")
            row |= {"outcome": outcome, "message": (text or "")[-_MESSAGE_CHARACTERS:]}
    return row
