"""Around all routes: which names are answered, security headers, and answers to unread bodies."""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from urd.errors import first_line, quoted
from urd.serving.http.refusal import Refusal, error_answer

_SECURITY = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_SAFE = ("GET", "HEAD", "OPTIONS")
_REST_SECONDS = 5.0


class Guard:
    """Refuses foreign names and foreign sites, and makes every failure an answer in JSON.

    A page of another site can lead a browser here, with a name that it controls (DNS rebinding) or
    by a form. So the header Host must be a known name, and a request that changes something must
    not come from another origin.
    """

    def __init__(
        self, app: ASGIApp, hosts: frozenset[str], refused: Callable[[Refusal], None]
    ) -> None:
        self.app = app
        self.hosts = hosts
        self.refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def with_headers(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in _SECURITY.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._check(scope)
            await self.app(scope, receive, with_headers)
        except Refusal as refusal:
            self.refused(refusal)
            answer = error_answer(refusal.status, str(refusal), refusal.headers)
            await answer(scope, receive, with_headers)
        except Exception as error:
            _log(scope, error)
            if begun:
                raise
            await error_answer(500, "the server failed; its log says why")(
                scope, receive, with_headers
            )

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or host_name(hosts[0]) not in self.hosts:
            hint = "start urd serve with --allow-host NAME"
            if hosts:
                hint = f"start urd serve with --allow-host {quoted(host_name(hosts[0]))}"
            raise Refusal(400, f"the name in the header Host is not answered: {hint}", "host")
        if scope["method"] in _SAFE:
            return
        for origin in headers.getlist("origin"):
            if _netloc(origin) != hosts[0].lower():
                raise Refusal(403, "the request comes from another site", "origin")


def host_name(host: str) -> str:
    """The name in a header Host, in lower case and without the port."""
    name, bracket, port = host.rpartition("]")
    if bracket:
        return f"{name}]".lower() if port == "" or port.startswith(":") else ""
    return host.partition(":")[0].lower().removesuffix(".")


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _log(scope: Scope, error: Exception) -> None:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    print(
        f"urd serve: {scope['method']} {scope['path']!r} failed: {type(error).__name__}: "
        f"{first_line(error)} ({frame.filename}:{frame.lineno})",
        file=sys.stderr,
        flush=True,
    )


class EarlyAnswers:
    """Sends an answer at once when the body is not read, then reads the rest for five seconds.

    Many clients send their whole body before they read. If the server closed the connection at
    once, they would see a broken connection instead of the answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_body(scope):
            await self.app(scope, receive, send)
            return
        unread = True

        async def noted() -> Message:
            nonlocal unread
            message = await receive()
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                unread = False
            return message

        async def early(message: Message) -> None:
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if not (last and unread):
                await send(message)
                return
            await send({**message, "more_body": True})
            with suppress(TimeoutError):
                async with asyncio.timeout(_REST_SECONDS):
                    while unread:
                        await noted()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        await self.app(scope, noted, early)


def _has_body(scope: Scope) -> bool:
    """Whether a body comes; a client that waits for "100 Continue" sends none after a refusal."""
    headers = Headers(scope=scope)
    length = headers.get("content-length", "0")
    return (length != "0" or "transfer-encoding" in headers) and "expect" not in headers
