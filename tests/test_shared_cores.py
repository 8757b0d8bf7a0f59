"""How a training notices that other programs use its cores."""

from __future__ import annotations

import pytest
import torch

from urd import Detector
from urd.training import shared_cores as module
from urd.training.shared_cores import SharedCores, shared_cores

CPU = torch.device("cpu")


@pytest.fixture
def clocks(monkeypatch):
    """Seconds on the wall and of the processor, for each of the first iterations."""

    def per_iteration(wall, processor):
        now = {"perf_counter": 0.0, "process_time": 0.0}
        step = {"perf_counter": wall, "process_time": processor}

        class Clock:
            def __getattr__(self, name):
                now[name] += step[name]
                return lambda: now[name]

        monkeypatch.setattr(module, "time", Clock())

    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    return per_iteration


def threads_after(iterations, cores):
    for done in range(1, iterations + 1):
        cores.done(done)
    return cores.threads


@pytest.mark.parametrize(
    ("threads", "wall", "processor", "expected"),
    [
        (2, 2.0, 3.8, 2),  # alone
        (2, 4.0, 5.3, 1),  # beside one busy program
        (16, 2.0, 16.0, 8),  # half of the cores are used
        (16, 2.0, 31.0, 16),
        (2, 0.1, 0.1, 2),  # too short to show anything
        (1, 4.0, 2.0, 1),
    ],
)
def test_fewer_threads_where_the_cores_are_shared(
    clocks, monkeypatch, threads, wall, processor, expected
):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    clocks(wall, processor)
    cores = SharedCores(None)
    assert threads_after(8, cores) == expected
    words = str(expected) if expected == threads else f"{expected} ({threads} for 4 iterations)"
    assert cores.in_words == words


def test_it_decides_once_and_not_in_a_resumed_training(clocks, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    clocks(4.0, 5.0)
    assert threads_after(3, SharedCores(None)) == 2
    assert threads_after(8, SharedCores(2)) == 2


def test_the_users_number_stays_and_all_is_as_before_afterwards(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with shared_cores(CPU, 1) as cores:
        assert (cores.threads, torch.get_num_threads()) == (1, 1)
    assert torch.get_num_threads() == before
    monkeypatch.setenv("OMP_NUM_THREADS", str(before))
    with shared_cores(CPU, before + 1) as cores:
        assert cores.threads == torch.get_num_threads() == before


def test_the_number_is_in_checkpoint_and_header(
    data, tiny_config, tmp_path, monkeypatch, stopped_at
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    from urd.model.run_folder import RunFolder
    from urd.training.checkpoint import read_facts

    run = RunFolder(tmp_path / "run")
    with stopped_at(2):
        Detector.fit(data, run.path, config=tiny_config)
    assert read_facts(run).threads == torch.get_num_threads()
    detector = Detector.fit(data, run.path, config=tiny_config, resume=True)
    assert detector.header.versions["threads"] == str(torch.get_num_threads())
