"""This machine: its description for results, its free memory, and which precision is fast."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import psutil
import torch

from urd.errors import UsageError, first_line
from urd.system.processor import processor_name

_CONTAINER = Path("/sys/fs/cgroup")


def machine(device: torch.device | str | None = None) -> dict[str, Any]:
    """Processor, its fastest instructions, threads, GPU (for a CUDA device), PyTorch's version.

    Results record them: figures compare on the same machine only.
    """
    on_gpu = device is not None and torch.device(device).type == "cuda"
    return {
        "cpu": processor_name(),
        "instructions": _fastest_instructions(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if on_gpu else None,
        "torch": torch.__version__,
    }


def pick_device(name: str) -> torch.device:
    """The device of this name; `auto` is a GPU if there is one, else the CPU.

    Raises:
        UsageError: the name is unknown, or this machine cannot use such a device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise UsageError(f"device '{name}' is unknown; choose auto, cpu, cuda or cuda:N")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device '{name}' cannot be used here: {first_line(error)}") from error
    return device


def free_memory(device: torch.device, container: Path = _CONTAINER) -> int:
    """Bytes that a process can still allocate on a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min(int(psutil.virtual_memory().available), _left_to_container(container))


def _left_to_container(container: Path) -> int:
    """Bytes left below the limit of a Linux container (cgroup version 2); psutil ignores it."""
    try:
        limit = int((container / "memory.max").read_text())
        used = int((container / "memory.current").read_text())
        parts = dict(line.split() for line in (container / "memory.stat").open())
    except (OSError, ValueError):  # not in a container, or the limit is "max": none
        return sys.maxsize
    return max(0, limit - used + int(parts.get("inactive_file", 0)))  # the file cache is freed


def precision_on(device: torch.device | str, precision: str) -> str:
    """The precision that a setting means on a device: `auto` is bfloat16 where that is fast."""
    if precision != "auto":
        return precision
    return "bfloat16" if computes_in_bfloat16(torch.device(device)) else "float32"


def _fastest_instructions() -> str:
    """The newest vector instructions of this processor that PyTorch uses."""
    capabilities = _processor_capabilities()
    for name in ("amx_bf16", "avx512_bf16"):
        if capabilities.get(name):
            return name.upper().replace("_", "-")
    return torch.backends.cpu.get_cpu_capability()


def _processor_capabilities() -> dict[str, Any]:
    found: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return found


def computes_in_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16, so that it is faster than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = _processor_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
