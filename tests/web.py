"""`urd serve` in this process: as an application, and as a server with real connections."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lines import served
from starlette.testclient import TestClient

from urd.serving.http.app import create_app
from urd.serving.http.line_store import LineStore
from urd.serving.http.server import Server, bind
from urd.serving.http.settings import Settings
from urd.serving.http.tokens import Tokens
from urd.serving.kept_images import KeptImages
from urd.serving.service import Service
from urd.serving.station import Station

TOKENS = {
    "read": "read-4f1c0a9be2d7586301",
    "predict": "predict-0b1946f7ac3d",
    "admin": "admin-7be20c5d9a1f4386",
}
PREDICT = "/v1/models/m/predict"


def application(folder: Path, run: Path, rule: str = "none", camera: str = "warn", **settings):
    """The application with one model, m; its parts are `.state.parts`."""
    store = LineStore(folder / "line.sqlite")
    station = Station(store, "serve", KeptImages(store.images, rule), camera=camera)
    return create_app(Service(store, {"m": served(run, "m")}, station), Settings(**settings))


@contextmanager
def client_of(app, **headers: str) -> Iterator[TestClient]:
    with TestClient(app, base_url="http://127.0.0.1:8000", headers=headers) as client:
        until(lambda: app.state.parts.line.problem is None)
        yield client


def rows(app):
    """All rows of its store, the oldest first."""
    return list(app.state.parts.service.store.rows())


def tokens(folder: Path) -> Tokens:
    path = folder / "tokens"
    path.write_text("".join(f"{scope} {token} {scope}er\n" for scope, token in TOKENS.items()))
    return Tokens.read(path)


def bearer(scope: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[scope]}"}


def until(true, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true"
        time.sleep(0.01)


@contextmanager
def serving(app) -> Iterator[int]:
    """Real connections; gives the port."""
    listening = threading.Event()
    bound = bind("127.0.0.1", 0)
    server = Server(app, listening.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        assert listening.wait(30)
        until(lambda: app.state.parts.line.problem is None)
        yield bound.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(30)
        bound.close()
        assert not thread.is_alive()


class Talk:
    """A connection on which a test sends what it likes."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.rest = b""

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.socket.close()

    def send(self, *pieces: bytes) -> None:
        self.socket.sendall(b"".join(pieces))

    def head(self, length: int | None = None, *lines: str, path: str = PREDICT) -> None:
        """Begin a POST with a body of this length, or in chunks."""
        body = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        head = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", body, *lines, "", ""]
        self.send("\r\n".join(head).encode())

    def answer(self) -> tuple[int, dict[str, str], dict]:
        """Status, headers and JSON of the next answer."""
        while b"\r\n\r\n" not in self.rest:
            self._more()
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
        length = int(headers.get("content-length", 0))
        while len(self.rest) < length:
            self._more()
        body, self.rest = self.rest[:length], self.rest[length:]
        return int(first.split()[1]), headers, json.loads(body) if body else {}

    def closed(self) -> bool:
        """Wait until the server closes the connection."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionResetError:
            pass
        return True

    def _more(self) -> None:
        piece = self.socket.recv(65536)
        if not piece:
            raise EOFError(f"closed after {self.rest!r}")
        self.rest += piece
