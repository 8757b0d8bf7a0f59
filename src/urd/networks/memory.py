"""How much memory an image takes on its way through a network, found without taking any."""

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
    """Refuse a size (H, W) of which one image would not fit into the free memory of a device.

    Args:
        network: on the meta device.

    Raises:
        UsageError: it would not.
    """
    needed, free = peak_bytes(network, size), free_memory(device)
    if needed > free:
        raise UsageError(
            f"one image of {size[0]}x{size[1]} needs about {needed / _GB:.1f} GB of memory, and "
            f"{free / _GB:.1f} GB are free"
        )


def peak_bytes(network: nn.Module, size: tuple[int, int]) -> int:
    """The most bytes of activations that are alive at once, for one image in single precision."""
    with torch.no_grad(), _LiveBytes() as live:
        network.eval()(torch.zeros(1, 3, *size, device="meta"))
    return live.peak


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors from when an operation makes them until nobody holds them."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.peak = 0, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        given = {id(value) for value in tree_leaves((args, kwargs))}  # changed in place
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
