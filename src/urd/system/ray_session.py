"""A connection to Ray: an own cluster on this machine, or one that runs already."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from urd.errors import UrdError, UsageError
from urd.system.extras import optional

RAY = "ray"
_EXTRA = "ray"


def is_ray(where: str) -> bool:
    """Whether the value of `--on` means Ray: `ray` or `ray:ADDRESS`."""
    return where == RAY or where.startswith(f"{RAY}:")


@contextmanager
def ray_session(where: str, **options: Any) -> Iterator[Any]:
    """Connect to Ray and yield its module; disconnect at the end.

    With `ray`, Ray starts on this machine and ends with this process. With `ray:ADDRESS`, it must
    run there. Usage statistics and dashboard are off, unless the user has set
    `RAY_USAGE_STATS_ENABLED`. A program that is connected already keeps its connection.

    Args:
        where: the value of `--on`.
        options: for `ray.init`, for example `num_cpus`.

    Raises:
        UsageError: Ray is not installed, or `where` is not a value that means Ray.
        UrdError: there is no cluster at the address, or Ray does not start.
    """
    if not is_ray(where):
        raise UsageError(f"{where!r} is not ray or ray:ADDRESS")
    address = where.partition(":")[2] or None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read while Ray starts
    ray = optional("ray", _EXTRA)
    if ray.is_initialized():
        yield ray
        return
    own = {"include_dashboard": False} if address is None else {}
    try:
        ray.init(address or "local", logging_level=logging.ERROR, **own, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        place = f"at {address}" if address else "on this machine"
        said = next(iter(str(error).splitlines()), "")
        raise UrdError(f"Ray cannot be reached {place}: {said}") from error
    try:
        yield ray
    finally:
        ray.shutdown()
