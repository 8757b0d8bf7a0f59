"""Verbs that are cut short, by SIGKILL or by a full disk, and what the next call makes of it."""

from __future__ import annotations

import mmap
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fault_injection.children import Ended, exit_code
from fault_injection.stage import Stage
from fault_injection.verbs import WritingVerb, names, writing_verbs

_STATE = struct.Struct("qq4080s")
_NEVER = 1 << 40


@dataclass
class Tried:
    """How many trials, how they ended, and a line about each fault."""

    trials: int = 0
    ended: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def count(self, kind: str) -> None:
        self.trials += 1
        self.ended[kind] = self.ended.get(kind, 0) + 1


def kills(stage: Stage, verbs: dict[str, int], rng: random.Random) -> Iterator[tuple[str, Tried]]:
    """SIGKILL at random moments of each verb, so many times."""
    for trial in writing_verbs(stage):
        count = verbs.get(trial.name, 0)
        if not count:
            continue
        tried = Tried()
        folder = stage.root / "killed"
        whole, expected, seconds = _reference(trial, folder)
        for number in range(count):
            trial.fresh(folder)
            ended = trial.run(folder, kill_after=rng.uniform(0.0, 1.05 * seconds))
            tried.count(ended.kind)
            _judge(trial, folder, whole, expected, tried, f"kill {number} at {ended.seconds:.2f} s")
        yield trial.name, tried


def _reference(trial: WritingVerb, folder: Path) -> tuple[dict[str, str], list[str], float]:
    """What an undisturbed call leaves: the outcome, all names, and the time it takes."""
    ended = trial.run(trial.fresh(folder))
    if exit_code(ended) != "0":
        raise SystemExit(f"{trial.name} fails undisturbed: {ended.text[-500:]}")
    damage, whole = trial.found(folder)
    if damage or not whole:
        raise SystemExit(f"{trial.name} leaves nothing: {damage}")
    return whole, names(folder), ended.seconds


def _judge(
    trial: WritingVerb,
    folder: Path,
    whole: dict[str, str],
    expected: list[str],
    tried: Tried,
    label: str,
) -> None:
    """Nothing half-written is taken as good, the next call ends well, and nothing is left over."""
    damage, _ = trial.found(folder)
    if damage:
        tried.faults.append(f"{trial.name}, {label}: damaged: {damage}")
    ended = trial.finish(folder)
    if exit_code(ended) != "0":
        tried.faults.append(f"{trial.name}, {label}: the next call: {ended.text[-300:]!r}")
        return
    damage, after = trial.found(folder)
    if damage or after != whole:
        tried.faults.append(f"{trial.name}, {label}: then {damage or after} instead of {whole}")
    left = set(names(folder)) - set(expected)
    if left:
        tried.faults.append(f"{trial.name}, {label}: left behind: {sorted(left)[:5]}")


class FullDisk:
    """The switch of `full_disk.c`: from the n-th write below a folder on, the disk is full."""

    def __init__(self, state: Path) -> None:
        with state.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _STATE.size)

    def fill(self, prefix: Path, at: int = _NEVER) -> None:
        """Count from 0, and fail from write number `at` on."""
        self._memory[:] = _STATE.pack(0, at, os.fsencode(prefix))

    def clear(self) -> int:
        """The disk has room again; how many writes were counted."""
        count, _, _ = _STATE.unpack(self._memory[:])
        self._memory[:] = bytes(_STATE.size)
        return count


def preload(folder: Path) -> dict[str, str] | None:
    """Environment of a process whose disk can be filled; `None` without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    library, state = folder / "full_disk.so", folder / "full_disk.state"
    source = Path(__file__).with_name("full_disk.c")
    command = [compiler, "-shared", "-fPIC", "-O1", "-w", "-o", library, source, "-ldl"]
    subprocess.run(command, check=True)
    state.write_bytes(bytes(_STATE.size))
    return {"LD_PRELOAD": str(library), "FAULTS_STATE": str(state)}


def full_disks(
    stage: Stage, verbs: Sequence[str], disk: FullDisk, most: int
) -> Iterator[tuple[str, Tried]]:
    """The disk is full from each write of each verb on, at most `most` of them, evenly spread."""
    for trial in writing_verbs(stage):
        if trial.name not in verbs:
            continue
        tried = Tried()
        folder = stage.root / "full"
        whole, expected, _ = _reference(trial, folder)
        trial.fresh(folder)
        disk.fill(folder)
        trial.run(folder)
        writes = disk.clear()
        for at in range(1, writes + 1, max(1, -(-writes // most))):
            trial.fresh(folder)
            disk.fill(folder, at)
            ended = trial.run(folder)
            disk.clear()
            tried.count(exit_code(ended))
            label = f"full at write {at} of {writes}"
            if complaint := _complaint(ended):
                tried.faults.append(f"{trial.name}, {label}: {complaint}")
            _judge(trial, folder, whole, expected, tried, label)
        yield trial.name, tried


def _complaint(ended: Ended) -> str:
    if exit_code(ended) != "1":
        return f"exit code {exit_code(ended)}: {ended.text[-300:]!r}"
    if "Traceback" in ended.text:
        return f"a traceback: {ended.text[-300:]!r}"
    return ""
