"""Whole trainings, from packed images to a calibrated model."""

from __future__ import annotations

import json
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from gpu_parts import images
from gpu_parts.pack import DATA
from gpu_parts.parts import Report, Setting
from gpu_parts.timing import forget_memory, memory_mib
from urd import Detector
from urd.config import FitConfig
from urd.system import progress
from urd.training import fit as fitting
from urd.training.loop import Interrupted

_ITERATIONS, _DRY_ITERATIONS = 5000, 6
_TO_STOP = 15.0  # seconds before the end of the part: enough to write a checkpoint


def fit_wide(report: Report, setting: Setting) -> None:
    """The default of `urd fit`, with random weights: the figures of its maps mean nothing."""
    report(weights="random: the time does not depend on them; there is nothing to evaluate")
    _fit(report, setting, _config(setting, images.WIDE), evaluate=setting.dry)


def fit_resnet18(report: Report, setting: Setting) -> None:
    """ResNet-18 with its weights, evaluated on the packed test images at the network's size."""
    report(evaluated_on="test images at the network's size, not at their own")
    config = _config(setting, images.RESNET18, images.weights_of(setting))
    _fit(report, setting, config, evaluate=True)


def _config(setting: Setting, tag: str, weights: str = "none") -> FitConfig:
    iterations = _DRY_ITERATIONS if setting.dry else _ITERATIONS
    settings = images.config_of(setting, tag, iterations=iterations).to_dict()
    return FitConfig.from_mapping({**settings, "weights": weights})


def _fit(report: Report, setting: Setting, config: FitConfig, *, evaluate: bool) -> None:
    """Train; a training that would take too long is stopped, and its speed reported."""
    device = torch.device(setting.device)
    progress.show()
    forget_memory(device)
    data = setting.pack / DATA
    phases: dict[str, float] = {}
    for name in ("load_training_data", "train", "_judged"):
        setattr(fitting, name, _timed(getattr(fitting, name), name.strip("_"), phases))
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        report(backbone=config.tag, batch_size=config.batch_size, iterations=config.iterations)
        signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGTERM))
        signal.setitimer(signal.ITIMER_REAL, max(1.0, setting.seconds_left - _TO_STOP))
        began = time.monotonic()
        try:
            detector = Detector.fit(data, run, config=config)
        except Interrupted:
            detector = None
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        report(
            seconds=round(time.monotonic() - began, 1),
            finished=detector is not None,
            phases={name: round(spent, 1) for name, spent in phases.items()},
            memory_mib=memory_mib(device),
            **_curve(run, config.batch_size),
        )
        if detector is None:
            raise RuntimeError(f"stopped before the end of {config.iterations} iterations")
        if evaluate:
            began = time.monotonic()
            found = detector.evaluate(data, batch_size=32, resamples=0)
            figures = {k: v for k, v in found.items() if isinstance(v, int | float)}
            report(evaluate_seconds=round(time.monotonic() - began, 1), evaluation=figures)


def _timed(function: Callable[..., Any], name: str, phases: dict[str, float]) -> Callable[..., Any]:
    """The same function; its seconds are added to `phases`, also if it is stopped."""

    def timed(*values: Any, **named: Any) -> Any:
        began = time.monotonic()
        try:
            return function(*values, **named)
        finally:
            phases[name] = phases.get(name, 0.0) + time.monotonic() - began

    return timed


def _curve(run: Path, batch_size: int) -> dict[str, Any]:
    """How far the training came and how fast, from the curve in its folder."""
    path = run / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    rates = [line["images_per_second"] for line in lines if "images_per_second" in line]
    if not rates:
        return {"iterations_done": 0}
    return {
        "iterations_done": lines[-1]["iteration"],
        "iterations_per_second": round(statistics.median(rates) / batch_size, 2),
        "first_loss": lines[0]["loss"],
        "last_loss": [line["loss"] for line in lines if "loss" in line][-1],
    }
