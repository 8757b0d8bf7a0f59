"""Find how much memory a network needs for one image, without allocating it."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from urd.errors import UsageError
from urd.system.machine import free_memory

_GB = 1e9


def refuse_too_large(network: nn.Module, size: tuple[int, int], device: torch.device) -> None:
    """Refuse an image size (H, W) if one image needs more than the free memory of a device.

    Args:
        network: on the meta device.

    Raises:
        UsageError: the memory is too small.
    """
    needed, free = peak_bytes(network, size), free_memory(device)
    if needed > free:
        raise UsageError(
            f"one image of {size[0]}x{size[1]} needs about {needed / _GB:.1f} GB of memory, but "
            f"only {free / _GB:.1f} GB are free"
        )


def peak_bytes(network: nn.Module, size: tuple[int, int]) -> int:
    """The largest number of bytes of activations alive at once, for one float32 image."""
    with torch.no_grad(), _LiveBytes() as live:
        network.eval()(torch.zeros(1, 3, *size, device="meta"))
    return live.peak


class _LiveBytes(TorchDispatchMode):
    """Count the bytes of each tensor from its creation until nothing refers to it."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.peak = 0, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        given = {id(value) for value in tree_leaves((args, kwargs))}  # in-place results are not new
        for tensor in tree_leaves(found):
            if isinstance(tensor, Tensor) and id(tensor) not in given:
                self._count(tensor)
        return found

    def _count(self, tensor: Tensor) -> None:
        size = tensor.numel() * tensor.element_size()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(tensor, self._release, size)

    def _release(self, size: int) -> None:
        self.now -= size
