"""Which kernels a GPU may use: those that give the same values for the same input."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

_LOCK = threading.Lock()
_inside = 0
_restore = ExitStack()


@contextmanager
def exact_kernels(device: torch.device) -> Iterator[None]:
    """Inside, the same input gives the same values on a GPU, and float32 means float32.

    cuDNN chooses kernels by rule, not by timing, and takes none whose sums come in a random order.
    TensorFloat-32 is off: it rounds the factors of a product to 10 bits. The precision `bfloat16`
    is not affected. Afterwards the settings are as before: they belong to the user.

    The settings are those of the whole process, so threads that are inside at the same time share
    them. On a CPU nothing changes.
    """
    global _inside
    if device.type != "cuda":
        yield
        return
    with _LOCK:
        if _inside == 0:
            _enter()
        _inside += 1
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if _inside == 0:
                _restore.close()


def _enter() -> None:
    cudnn: Any = torch.backends.cudnn
    matmul: Any = torch.backends.cuda.matmul
    _set(cudnn, "deterministic", True)
    _set(cudnn, "benchmark", False)
    try:
        _set(cudnn, "allow_tf32", False)
        _set(matmul, "allow_tf32", False)
    except RuntimeError:  # the user has set it in PyTorch's newer way, which refuses the older one
        _set(cudnn.conv, "fp32_precision", "ieee")
        _set(matmul, "fp32_precision", "ieee")


def _set(owner: Any, name: str, value: object) -> None:
    _restore.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)
