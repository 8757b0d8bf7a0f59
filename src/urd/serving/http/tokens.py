"""Who may do what: tokens in a file, and sessions of browsers in memory."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from urd.errors import UsageError
from urd.system.documents import read_text

Scope = Literal["read", "predict", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
SESSION_SECONDS = 12 * 3600
_SHORTEST = 20  # characters of a token
_FILE_BYTES = 2**16
_MOST_SESSIONS = 1000
_MOST_ADDRESSES = 1000
_ATTEMPTS, _ATTEMPT_SECONDS = 10, 60.0


@dataclass(frozen=True)
class Caller:
    """Who asks: a name for people, and what it may do."""

    name: str
    scopes: frozenset[str]


EVERYBODY = Caller("local", frozenset(SCOPES))


@dataclass(frozen=True)
class Tokens:
    """The callers by the SHA-256 of their token; the tokens themselves are not kept."""

    callers: tuple[tuple[bytes, Caller], ...]

    @classmethod
    def read(cls, path: Path) -> Tokens:
        """Read a file with one token per line: SCOPES TOKEN [NAME].

        SCOPES are read, predict or admin, several with commas; admin includes the others. Empty
        lines and lines that begin with # are left out.

        Raises:
            UsageError: the file cannot be read, a line is wrong, or there is no token.
        """
        try:
            lines = read_text(path, _FILE_BYTES).splitlines()
        except ValueError as error:
            raise UsageError(f"{path} cannot be read: {error}") from error
        callers: dict[bytes, Caller] = {}
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            digest, caller = _caller(line, f"{path}, line {number}")
            if digest in callers:
                raise UsageError(f"{path}, line {number}: this token is there twice")
            callers[digest] = caller
        if not callers:
            raise UsageError(f"{path} has no token; a line is: SCOPE TOKEN [NAME]")
        return cls(tuple(callers.items()))

    def caller(self, token: str) -> Caller | None:
        """Whose token this is. The time that it takes says nothing about the tokens."""
        digest, found = _digest(token), None
        for known, caller in self.callers:
            if hmac.compare_digest(known, digest):
                found = caller
        return found


def _caller(line: str, place: str) -> tuple[bytes, Caller]:
    words = line.split(maxsplit=2)
    if len(words) < 2:
        raise UsageError(f"{place}: a line is SCOPE TOKEN [NAME]")
    scopes = words[0].split(",")
    if not set(scopes) <= set(SCOPES):  # not quoted: it may be the token
        raise UsageError(f"{place}: it must begin with read, predict or admin")
    if len(words[1]) < _SHORTEST:
        raise UsageError(f"{place}: the token is shorter than {_SHORTEST} characters")
    name = words[2].strip() if len(words) == 3 else words[0]
    return _digest(words[1]), Caller(name, frozenset(SCOPES if "admin" in scopes else scopes))


def readable_by_others(path: Path) -> bool:
    """Whether other users of this machine can read a file; false where it is not known."""
    return os.name == "posix" and bool(path.stat().st_mode & 0o077)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class Sessions:
    """Browsers that have shown a token. They end after twelve hours, or with the process."""

    def __init__(self) -> None:
        self._open: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()

    def begin(self, caller: Caller) -> str:
        """A new random identity for a cookie; at too many sessions the oldest one ends."""
        now = time.monotonic()
        while self._open and (
            len(self._open) >= _MOST_SESSIONS or next(iter(self._open.values()))[1] < now
        ):
            self._open.popitem(last=False)
        identity = secrets.token_urlsafe(32)
        self._open[_digest(identity)] = (caller, now + SESSION_SECONDS)
        return identity

    def caller(self, identity: str) -> Caller | None:
        caller, end = self._open.get(_digest(identity), (None, 0.0))
        return caller if time.monotonic() < end else None

    def end(self, identity: str) -> None:
        self._open.pop(_digest(identity), None)


class Attempts:
    """Wrong tokens of the last minute, by address; the memory for them is limited."""

    def __init__(self) -> None:
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()

    def too_many(self, address: str) -> bool:
        times = self._failed.get(address, deque())
        while times and times[0] < time.monotonic() - _ATTEMPT_SECONDS:
            times.popleft()
        return len(times) >= _ATTEMPTS

    def failed(self, address: str) -> None:
        self._failed.setdefault(address, deque(maxlen=_ATTEMPTS)).append(time.monotonic())
        self._failed.move_to_end(address)
        while len(self._failed) > _MOST_ADDRESSES:
            self._failed.popitem(last=False)
