"""A connection to Ray: an own cluster on this machine, or one that runs already."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from urd.errors import UrdError, UsageError, first_line
from urd.system.extras import optional

RAY = "ray"
_EXTRA = "ray"
_STDERR = 2  # its descriptor
_CONNECT_SECONDS = 10.0
_ATTEMPTS = "RAY_NUM_REDIS_GET_RETRIES"  # to reach the head: one a second if it has just started
_PRINTER = "print_to_stdstream"
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # else a thread of Ray that ends late starts another Ray
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a warning about a setting of Ray's future
}


def is_ray(where: str) -> bool:
    """Whether the value of `--on` means Ray: `ray` or `ray:ADDRESS`."""
    return where == RAY or where.startswith(f"{RAY}:")


@contextmanager
def ray_session(where: str, *, processors: int = 0, **options: Any) -> Iterator[Any]:
    """Connect to Ray and yield its module; disconnect at the end.

    With `ray`, Ray starts on this machine and ends with this process. It listens on the network, so
    it gets a token that only this process and its children know. With `ray:ADDRESS`, Ray must run
    there. Usage statistics and dashboard are off, unless the user has set `RAY_USAGE_STATS_ENABLED`
    or passes `include_dashboard`. Ray prints nothing: its logs are in the folder of its session. A
    program that is connected already keeps its connection.

    Args:
        where: the value of `--on`.
        processors: how many an own cluster has; 0: as many as this machine.
        options: for `ray.init`.

    Raises:
        UsageError: Ray is not installed, or `where` is not a value that means Ray.
        UrdError: there is no cluster at the address, or Ray does not start.
    """
    if not is_ray(where):
        raise UsageError(f"{where!r} is not ray or ray:ADDRESS")
    address = where.partition(":")[2]
    more = {_ATTEMPTS: "2"} if address else {_ATTEMPTS: "120", **_password()}
    for name, value in {**_SETTINGS, **more}.items():
        os.environ.setdefault(name, value)  # read while Ray is imported and started
    ray = optional("ray", _EXTRA)
    if ray.is_initialized():
        yield ray
        return
    with _without_native_stderr(), _without_messages():
        _connect(ray, address, processors, options)
        try:
            yield ray
        finally:
            ray.shutdown()


def _password() -> dict[str, str]:
    """Settings for a token, unless the user has an own way, or Ray was imported without one."""
    if "RAY_AUTH_MODE" in os.environ or RAY in sys.modules:
        return {}
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def _connect(ray: Any, address: str, processors: int, options: dict[str, Any]) -> None:
    own = {"num_cpus": processors or None, "include_dashboard": False}
    usual = {"logging_level": logging.CRITICAL, "log_to_driver": False}
    try:
        _refuse_dead(address)
        with _own_sigterm():
            ray.init(address or "local", **{**usual, **({} if address else own), **options})
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        place = f"at {address}" if address else "on this machine"
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UrdError(f"Ray cannot be reached {place}: {reason}") from error


def _refuse_dead(address: str) -> None:
    """Ray itself waits many minutes for an address where nobody listens.

    Raises:
        OSError: nobody listens there.
    """
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """What SIGTERM did before, it does again after the body: Ray's handler ends the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _without_messages() -> Iterator[None]:
    """Ray prints messages of its nodes to standard output, and has no switch for it."""
    module = sys.modules.get("ray._private.worker")
    before = getattr(module, _PRINTER, None)
    if module is None or before is None:  # a Ray that prints in another way
        yield
        return
    setattr(module, _PRINTER, lambda *_, **__: None)
    try:
        yield
    finally:
        setattr(module, _PRINTER, before)


@contextmanager
def _without_native_stderr() -> Iterator[None]:
    """Python's standard error stays as it is, but what Ray's own C++ code writes there is dropped.

    It is in the log files of the session, too.
    """
    before = sys.stderr
    try:
        kept = os.dup(_STDERR)
    except OSError:  # it is closed
        yield
        return
    try:
        is_native = before.fileno() == _STDERR
    except (OSError, ValueError, AttributeError):  # another program has replaced it
        is_native = False
    with os.fdopen(kept, "w", buffering=1, encoding="utf-8", errors="backslashreplace") as ours:
        if is_native:
            before.flush()
            sys.stderr = ours
        with Path(os.devnull).open("wb") as null:
            os.dup2(null.fileno(), _STDERR)
        try:
            yield
        finally:
            ours.flush()
            os.dup2(kept, _STDERR)
            sys.stderr = before


def quiet_ray_data() -> Any:
    """The module `ray.data`, which then writes to its log files only."""
    data = optional("ray.data", _EXTRA)
    data.DataContext.get_current().enable_progress_bars = False
    logger = logging.getLogger("ray.data")
    for handler in list(logger.handlers):
        if isinstance(handler, logging.StreamHandler) and not hasattr(handler, "baseFilename"):
            logger.removeHandler(handler)
    return data
