"""What all senders have in common: clocks, waits after failures, and the failure itself."""

from __future__ import annotations

import random
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from urd.errors import UrdError, first_line

_LINGER = "hh" if sys.platform == "win32" else "ii"


@dataclass(frozen=True)
class Clock:
    """Times and chance, so that tests can give their own.

    Attributes:
        wall: seconds since 1970, for what outlives the process.
        steady: seconds that never go back, for what happens in the process.
        random: spreads the attempts of many senders.
    """

    wall: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic
    random: random.Random = field(default_factory=random.Random)


class NotDelivered(UrdError):
    """A receiver took nothing this time.

    `wait` is how many seconds to wait before the next attempt; `None`: the usual time.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class Sender(Protocol):
    """Sends to one receiver. One thread calls it; only one process has this thread at a time.

    Attributes:
        name: of the receiver; stable over restarts.
        longest_wait: seconds between two attempts.
        connected: whether the receiver did what it should the last time; `None`: not yet asked.
    """

    name: str
    longest_wait: float
    connected: bool | None

    def turn(self) -> float:
        """Do what is to be done now.

        Returns:
            Seconds until the next call.

        Raises:
            Exception: the receiver cannot be reached, or the store fails; `drop` comes next.
        """

    def drop(self) -> None:
        """Forget the connection at once; never raises. The next `turn` makes a new one."""

    def close(self) -> None:
        """Say that urd ends, and close the connection."""


def wait_after(failures: int, longest: float, chance: random.Random) -> float:
    """Seconds to wait after so many failures: about 1, 2, 4, ..., at most `longest`."""
    return min(longest, 2.0 ** min(failures - 1, 30)) * chance.uniform(0.5, 1.0)


def reason_of(error: BaseException) -> str:
    """Why a connection failed, in one line."""
    return (isinstance(error, OSError) and error.strerror) or first_line(error)


def cut_off(connection: socket.socket | None) -> None:
    """Close a connection so that the system throws away what it has not yet sent.

    A usual close would go on to send it, perhaps minutes later: an old state after a newer one.
    """
    if connection is None:
        return
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(_LINGER, 1, 0))
    with suppress(OSError):
        connection.close()
