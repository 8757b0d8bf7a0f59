"""The world that faults are tried in: a small data set, a trained run, its reports and exports."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from fault_injection.children import Ended, exit_code, in_child, verb

BACKBONE = "test_resnet.r160_in1k"
SIDE = 64
FIT = (
    *("--backbone", BACKBONE, "--weights", "none", "--student", "slim", "--image-size", SIDE),
    *("--iterations", 6, "--batch-size", 2, "--precision", "float32", "--device", "cpu"),
    *("--checkpoint-seconds", 0, "--holdout", 0.5),
)


@dataclass(frozen=True)
class Stage:
    """Folders and files that every trial begins with; trials work on copies."""

    root: Path
    data: Path
    good: Path
    run: Path
    onnx: Path
    xml: Path
    stopped: Path
    suite: Path


def build(root: Path) -> Stage:
    """Render, train, evaluate, report, export, and keep a run that was stopped on its way."""
    root = root.resolve()
    data, good = root / "data", root / "good"
    render(data, good)
    stage = Stage(
        root=root,
        data=data,
        good=good,
        run=root / "run",
        onnx=root / "model.onnx",
        xml=root / "model.xml",
        stopped=root / "stopped",
        suite=root / "suite.yaml",
    )
    must("fit", data, "--out", stage.run, *FIT)
    must("evaluate", stage.run, data, "--resamples", 0)
    must("report", stage.run)
    for path, form in ((stage.onnx, "onnx"), (stage.xml, "openvino")):
        must("export", stage.run, data, "--format", form, "--out", path, "--size", SIDE)
    stage.suite.write_text(
        "title: faults\ndata: {folder: [data]}\nseeds: [0]\n"
        f"settings: {{backbone: {BACKBONE}, weights: none, student: slim, image_size: {SIDE}, "
        "iterations: 2, batch_size: 2, precision: float32}\n"
    )
    _stop_a_run(stage)
    return stage


def must(*arguments: object) -> Ended:
    """A verb that has to succeed."""
    ended = in_child(lambda: verb(*arguments), seconds=300)
    if exit_code(ended) != "0":
        raise SystemExit(f"urd {' '.join(map(str, arguments))} failed: {ended.text}")
    return ended


def _stop_a_run(stage: Stage) -> None:
    """A run with a checkpoint: killed as soon as it has one."""
    for tenths in range(1, 100):
        shutil.rmtree(stage.stopped, ignore_errors=True)
        arguments = ("fit", stage.data, "--out", stage.stopped, *FIT, "--iterations", 40)
        ended = in_child(lambda a=arguments: verb(*a), kill_after=0.2 * tenths)
        if ended.kind == "killed" and (stage.stopped / "checkpoint/state.safetensors").exists():
            return
    raise SystemExit("no run could be stopped between its first checkpoint and its end")


def render(data: Path, good: Path) -> None:
    """Striped pictures of 48 px: 16 to train on, 4 good and 4 defective to test, 8 more good."""
    rng = np.random.default_rng(0)
    for folder, count in ((data / "train/good", 16), (data / "test/good", 4), (good, 8)):
        for index in range(count):
            _save(_picture(rng), folder / f"{index:03}.png")
    for index in range(4):
        image, mask = _picture(rng), np.zeros((48, 48), np.uint8)
        image[10:22, 12:26] = rng.integers(0, 255, (12, 14, 3))
        mask[10:22, 12:26] = 255
        _save(image, data / "test/square" / f"{index:03}.png")
        _save(mask, data / "ground_truth/square" / f"{index:03}_mask.png")


def _picture(rng: np.random.Generator) -> np.ndarray:
    x = np.arange(48)
    stripes = 128 + 60 * np.sin(x / 3 + rng.uniform(0, 6))
    image = stripes[None, :, None] + rng.normal(0, 6, (48, 48, 3))
    return image.clip(0, 255).astype(np.uint8)


def _save(image: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
