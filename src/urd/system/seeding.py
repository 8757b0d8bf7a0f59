"""Generators derived from one seed: what is random depends on its purpose and index only.

Nothing random has state that a checkpoint would have to carry, and any number of workers draws
the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derived_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed of its own for each purpose, such as `derived_seed(0, "synthesis", 17)`."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator seeded by `derived_seed`."""
    import torch

    return torch.Generator().manual_seed(derived_seed(seed, *purpose))


@contextmanager
def on_seeded_generator(generator: torch.Generator) -> Iterator[None]:
    """Let libraries that know the global generator only draw as `generator` says; put it back."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        yield
