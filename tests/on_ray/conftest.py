"""One Ray on this machine for the tests of a file that need no cluster of their own."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from conftest import picture, save
from exporting import small_file
from lines import tiny_run

# Each Python process of Ray runs this first: opening a file of this name ends it.
CRASH = """
import os, pathlib
opened = pathlib.Path.open
def open_or_end(self, *arguments, **options):
    if self.name == "crash.png":
        os._exit(1)
    return opened(self, *arguments, **options)
pathlib.Path.open = open_or_end
"""


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    """Ray with two processors; `--on ray` in this process uses it."""
    pytest.importorskip("ray")
    from urd.system.ray_session import ray_session

    hook = tmp_path_factory.mktemp("hook")
    (hook / "sitecustomize.py").write_text(CRASH)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(hook))
        patch.setenv("RAY_worker_niceness", "0")  # else they wait where the machine is busy
        patch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))  # Ray may set it
        with ray_session("ray", processors=2) as module:
            yield module


@pytest.fixture
def one_thread(monkeypatch):
    """This process computes as a worker does."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def run(tmp_path_factory, weights_file):
    """A run folder with thresholds."""
    return tiny_run(tmp_path_factory.mktemp("run"), weights_file)


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """An exported file with thresholds; its workers start in a moment, without PyTorch."""
    return small_file(tmp_path_factory.mktemp("small") / "small.onnx")


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    """60 images of all verdicts in two folders; one is cut, and one is no image."""
    root = tmp_path_factory.mktemp("archive")
    rng = np.random.default_rng(3)
    for index in range(58):
        image = picture(rng)
        if index % 5 == 0:
            image[10:30, 12:36] = 255
        elif index % 7 == 0:
            image[10:30, 12:36] = 246
        save(image, root / f"line{index % 2}" / f"{index:03}.png")
    whole = (root / "line0" / "000.png").read_bytes()
    (root / "line0" / "zz_cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "line1" / "none.png").write_text("not an image")
    return root
