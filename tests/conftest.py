"""Small data sets made in code, and a tiny backbone with drawn weights."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # a core each, also for what the tests start
    os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from urd import cli
from urd.backbones.registry import backbone_of
from urd.config import FitConfig
from urd.system import progress
from urd.system.seeding import generator
from urd.training import loop
from urd.training.prepare import prepare_networks
from urd.training.step import Networks

pytest.register_assert_rewrite("asking", "lines", "peers", "watched", "web")
TINY = "test_resnet.r160_in1k"  # timm's own test network, 0.3 M parameters
SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def urd(capsys, monkeypatch):
    """Run the command in this process: exit code, standard output, standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["urd", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return stop.value.code or 0, captured.out, captured.err

    return run


@pytest.fixture
def shown():
    """Progress and notes are written to standard error, as the command does it."""
    progress.show()
    yield
    progress.show(False)


@pytest.fixture(autouse=True)
def silent_at_first():
    """A command that ran in this process has switched progress on."""
    progress.show(False)
    progress.set_talk(progress.Talk.USUAL)


@pytest.fixture(autouse=True)
def few_threads():
    torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(autouse=True)
def no_wakeup():
    """An event loop of an earlier test may have left its wake-up file, whose number is now another.

    A signal would write a byte there, for example into the connection of the test runner.
    """
    signal.set_wakeup_fd(-1)


@pytest.fixture(autouse=True, scope="session")
def interruptible():
    """A shell's background jobs ignore Ctrl-C, and so would everything that they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn weights of the tiny backbone, as a file."""
    encoder = backbone_of(TINY, "none").load(torch.Generator().manual_seed(0))
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(encoder.body.state_dict(), path)
    return path


def picture(rng: np.random.Generator, size: int = 48) -> np.ndarray:
    """Soft stripes with noise, (size, size, 3) uint8."""
    x = np.arange(size)
    stripes = 128 + 60 * np.sin(x / 3 + rng.uniform(0, 6))
    image = stripes[None, :, None] + rng.normal(0, 6, (size, size, 3))
    return image.clip(0, 255).astype(np.uint8)


def save(image: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def put(*keys, value):
    """A change of one value somewhere inside of a JSON document."""

    def change(content):
        inner = content
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value

    return change


def networks_of(config: FitConfig) -> Networks:
    """What a training with these settings begins with."""
    backbone = backbone_of(config.tag, config.weights)
    expert = backbone.load(generator(config.seed, "encoder"))
    return prepare_networks(backbone, expert, config, torch.device("cpu"), None)


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def assert_same_weights(a: Path, b: Path) -> None:
    first, second = weights_of(a), weights_of(b)
    assert first.keys() == second.keys()
    assert [n for n in first if not torch.equal(first[n], second[n])] == []


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A category in MVTec layout: 12 good to train on, 4 good and 4 defective to test on."""
    rng = np.random.default_rng(0)
    root = tmp_path / "data"
    for index in range(12):
        save(picture(rng), root / "train" / "good" / f"{index:03}.png")
    for index in range(4):
        save(picture(rng), root / "test" / "good" / f"{index:03}.png")
        image, mask = picture(rng), np.zeros((48, 48), np.uint8)
        image[10:22, 12:26] = rng.integers(0, 255, (12, 14, 3))
        mask[10:22, 12:26] = 255
        save(image, root / "test" / "square" / f"{index:03}.png")
        save(mask, root / "ground_truth" / "square" / f"{index:03}_mask.png")
    return root


@pytest.fixture
def tiny_config(weights_file: Path) -> FitConfig:
    return FitConfig(
        backbone=TINY,
        weights=str(weights_file),
        iterations=4,
        batch_size=4,
        image_size=(64, 64),
        precision="float32",
        device="cpu",
        checkpoint_seconds=0.0,
    )


@pytest.fixture
def stopped_at(monkeypatch):
    """A context in which a training is stopped before an iteration, without a last checkpoint."""

    @contextmanager
    def at(iteration):
        real = loop.train_iteration

        def stopping(networks, data, config, number, *rest):
            if number == iteration:
                raise KeyboardInterrupt
            return real(networks, data, config, number, *rest)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(loop, "train_iteration", stopping)
            yield

    return at


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window; a test that asks for it is skipped where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("there is no chromium on this computer")
    with api.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()
