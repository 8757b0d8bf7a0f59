"""What the machine has left."""

from __future__ import annotations

import psutil
import pytest
import torch

from urd.system import machine

CPU = torch.device("cpu")


@pytest.mark.parametrize(("limit", "free"), [("3000\n", 1400), ("900\n", 0), ("max\n", None)])
def test_a_container_limits_the_free_memory(tmp_path, limit, free):
    (tmp_path / "memory.max").write_text(limit)
    (tmp_path / "memory.current").write_text("2000\n")
    (tmp_path / "memory.stat").write_text("anon 1500\ninactive_file 400\n")
    found = machine.free_memory(CPU, tmp_path)
    assert found == free if free is not None else found > 2**20


def test_without_a_container_it_is_what_the_system_says(tmp_path):
    assert machine.free_memory(CPU, tmp_path / "absent") == pytest.approx(
        psutil.virtual_memory().available, rel=0.2
    )
