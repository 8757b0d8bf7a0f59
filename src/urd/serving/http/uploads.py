"""Places for requests, and the reading of their bodies within limits of size and time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastapi import Request
from starlette.requests import ClientDisconnect

from urd.serving.http.refusal import Refusal

_BODIES = 16  # of the largest size may be in memory at once


class Gate:
    """A limited number of places, and limited memory for bodies. For use in the event loop only.

    A request takes a place before its body is read and gives it back after its answer.
    """

    def __init__(self, places: int, most_bytes: int) -> None:
        self.places = places
        self.taken = 0
        self.held_bytes = 0
        self._most_held = _BODIES * most_bytes

    @contextmanager
    def place(self) -> Iterator[Callable[[int], None]]:
        """Take a place; gives a function to call with the size of each piece of the body.

        Raises:
            Refusal: all places are taken, or the memory for bodies is.
        """
        if self.taken >= self.places:
            raise Refusal.busy(f"all {self.places} places are taken: come again", "full")
        mine = 0

        def hold(size: int) -> None:
            nonlocal mine
            if self.held_bytes + size > self._most_held:
                raise Refusal.busy("too many large images at once: come again", "memory")
            self.held_bytes += size
            mine += size

        self.taken += 1
        try:
            yield hold
        finally:
            self.taken -= 1
            self.held_bytes -= mine


async def read_body(
    request: Request, most_bytes: int, seconds: float, hold: Callable[[int], None] | None = None
) -> bytes:
    """The whole body of a request.

    Raises:
        Refusal: it is too large (413), too slow (408), encoded (415), or the sender has gone (400).
    """
    refuse_length(request, most_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for piece in request.stream():
                if len(body) + len(piece) > most_bytes:
                    raise _too_large(most_bytes)
                if hold is not None:
                    hold(len(piece))
                body += piece
    except TimeoutError as error:
        raise Refusal(408, f"the body did not arrive in {seconds:g} seconds", "slow") from error
    except ClientDisconnect as error:
        raise Refusal(400, "the upload was broken off", "aborted") from error
    return bytes(body)


def refuse_length(request: Request, most_bytes: int) -> None:
    """Refuse a body by its headers, before a byte of it is read.

    Raises:
        Refusal: it is too large, or compressed.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(415, "Content-Encoding is not read: send the image file as it is", "type")
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise Refusal(400, "the header Content-Length is not a number", "value")
    if len(length) > 15 or int(length) > most_bytes:
        raise _too_large(most_bytes)


def _too_large(most_bytes: int) -> Refusal:
    return Refusal(413, f"the body is larger than {most_bytes} bytes", "large")
