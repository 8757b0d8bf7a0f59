"""The machine that a figure was measured on."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch


def machine(device: torch.device | None = None) -> dict[str, Any]:
    """Processor, threads, GPU (of a CUDA device) and PyTorch's version, as results record them."""
    model = platform.processor()
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        lines = cpu_info.read_text(encoding="utf-8").splitlines()
        model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), model)
    on_gpu = device is not None and device.type == "cuda"
    return {
        "cpu": model,
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if on_gpu else None,
        "torch": torch.__version__,
    }
