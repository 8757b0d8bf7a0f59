"""Run the application: its address, the limits of connections, and how it ends."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from urd.errors import UrdError, UsageError
from urd.serving.http.parts import Parts
from urd.serving.http.refusal import RETRY_SECONDS, Refusal
from urd.system.signals import stop_signals

_HEAD_BYTES = 2**14

_HEAD_SECONDS = 10.0  # for the head of a request
_CONNECTIONS = 500
_IDLE_SECONDS = 75  # of a connection; a slow line sends a part a minute
_DRAIN_SECONDS = 30
_STOPPED_AT_ONCE = 130


def bind(host: str, port: int) -> socket.socket:
    """A socket that has the address but does not listen yet.

    Raises:
        UsageError: there is no such address on this machine.
        UrdError: it is in use, or not allowed.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--host {host}: there is no such address") from error
    family, kind, protocol, _, address = found[0]
    try:
        bound = socket.socket(family, kind, protocol)
        if (
            os.name == "posix"
        ):  # a server that ended a moment ago; on Windows it means another thing
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        raise UrdError(f"cannot listen at {host} port {port}: {error.strerror}") from error
    return bound


def is_loopback(bound: socket.socket) -> bool:
    """Whether only programs on this machine can reach an address."""
    return ipaddress.ip_address(bound.getsockname()[0].partition("%")[0]).is_loopback


def address_of(bound: socket.socket) -> str:
    """An address as in a browser: HOST:PORT."""
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def serve(
    app: FastAPI, bound: socket.socket, announce: Callable[[], None], *, access_log: bool = False
) -> bool:
    """Answer requests until SIGTERM or Ctrl-C, then answer those that are in and return.

    A second signal ends the process at once.

    Args:
        announce: called when it listens.

    Returns:
        Whether it was Ctrl-C.
    """
    _log_to_stderr("uvicorn.error", logging.ERROR)
    _log_to_stderr("uvicorn.access", logging.INFO)
    server = Server(app, announce, access_log=access_log)
    server.run(sockets=[bound])
    return signal.SIGINT in server.caught


class Server(uvicorn.Server):
    """uvicorn with limits for connections, and with our way to end.

    It does not raise a signal again after it has ended, so SIGTERM gives the exit code 0.
    """

    def __init__(
        self, app: FastAPI, announce: Callable[[], None], *, access_log: bool = False
    ) -> None:
        parts: Parts = app.state.parts
        super().__init__(
            uvicorn.Config(
                app,
                http=_protocol(parts.metrics.refuse),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=access_log,
                proxy_headers=False,
                server_header=False,
                h11_max_incomplete_event_size=_HEAD_BYTES,
                timeout_keep_alive=_IDLE_SECONDS,
                timeout_graceful_shutdown=int(parts.settings.upload_seconds) + _DRAIN_SECONDS,
            )
        )
        self.announce = announce
        self.caught: list[int] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.announce()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with stop_signals(self.handle_exit):
            yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.caught:  # the store is safe: each row is a transaction
            os._exit(_STOPPED_AT_ONCE)
        self.caught.append(sig)
        self.should_exit = True


def _log_to_stderr(name: str, level: int) -> None:
    logger = logging.getLogger(name)
    logger.handlers = [logging.StreamHandler(sys.stderr)]
    logger.handlers[0].setFormatter(logging.Formatter("urd serve: %(message)s"))
    logger.setLevel(level)
    logger.propagate = False


def _protocol(refused: Callable[[Refusal], None]) -> type[asyncio.Protocol]:
    """uvicorn's protocol with JSON errors, and limits for connections that send no request."""

    class Protocol(H11Protocol):
        _head_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > _CONNECTIONS:
                refused(Refusal(503, "", "connections"))
                self._refuse(503, "too many connections: come again")
                return
            self._time_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._drop_timer()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:
                self._drop_timer()  # the head is whole
            elif self._head_timer is None:
                self._time_head()

        def on_response_complete(self) -> None:
            unread = self.conn.their_state is h11.SEND_BODY  # now: the next request may be there
            super().on_response_complete()
            if unread:  # `EarlyAnswers` has waited long enough
                self.transport.close()

        def send_400_response(self, msg: str) -> None:
            """Called while a head or a chunk that breaks the rules of HTTP is handled."""
            refused(Refusal(400, msg, "damaged"))
            if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
                self.transport.close()  # an answer is under way
                return
            if self.cycle is not None:
                self.cycle.disconnected = True
            hint = getattr(sys.exc_info()[1], "error_status_hint", 400)
            text = "the header is too long" if hint == 431 else "this is not HTTP"
            self._refuse(431 if hint == 431 else 400, text)

        def _refuse(self, status: int, text: str) -> None:
            body = json.dumps({"error": text}).encode()
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"cache-control", b"no-store"),
                (b"connection", b"close"),
            ]
            if status == 503:
                headers.append((b"retry-after", str(RETRY_SECONDS).encode()))
            events: list[Any] = [
                h11.Response(status_code=status, headers=headers, reason=b""),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ]
            for event in events:
                self.transport.write(self.conn.send(event) or b"")
            self.transport.close()

        def _time_head(self) -> None:
            self._drop_timer()
            self._head_timer = self.loop.call_later(_HEAD_SECONDS, self._head_late)

        def _head_late(self) -> None:
            if self.transport.is_closing():
                return
            if not self.conn.trailing_data[0]:  # a browser that connected in advance
                self.transport.close()
                return
            refused(Refusal(408, "", "slow"))
            self._refuse(408, f"the head of the request did not come in {_HEAD_SECONDS:g} seconds")

        def _drop_timer(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

    return Protocol
