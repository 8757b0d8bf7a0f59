"""Generators derived from one seed: a random draw depends only on its purpose and index.

So a checkpoint saves no random state, and any number of workers draws the same numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derived_seed(seed: int, *purpose: str | int) -> int:
    """A separate 63-bit seed for each purpose, for example `derived_seed(0, "synthesis", 17)`."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator seeded by `derived_seed`."""
    import torch

    return torch.Generator().manual_seed(derived_seed(seed, *purpose))


@contextmanager
def on_seeded_generator(generator: torch.Generator) -> Iterator[None]:
    """Seed PyTorch's global generator from `generator`; restore it after the body.

    For libraries that can only draw from the global generator.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        yield
