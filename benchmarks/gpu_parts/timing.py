"""Clock readings around work on a GPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch


def finish(device: torch.device) -> None:
    """Wait for all work on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, from when the device is idle until it is idle again."""
    finish(device)
    began = time.perf_counter()
    work()
    finish(device)
    return time.perf_counter() - began


def median_seconds(
    work: Callable[[], object], device: torch.device, *, calls: int, most_seconds: float
) -> float:
    """Median of single calls after two to warm up; at least three."""
    for _ in range(2):
        work()
    times: list[float] = []
    while len(times) < 3 or (len(times) < calls and sum(times) < most_seconds):
        times.append(seconds_of(work, device))
    return statistics.median(times)


def memory_mib(device: torch.device) -> dict[str, int]:
    """The most memory of a GPU since `forget_memory`: in tensors, and taken from the driver."""
    if device.type != "cuda":
        return {}
    return {
        "in_tensors": torch.cuda.max_memory_allocated(device) >> 20,
        "taken": torch.cuda.max_memory_reserved(device) >> 20,
    }


def forget_memory(device: torch.device) -> None:
    """Give back what is free, and begin anew to look for the most."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
