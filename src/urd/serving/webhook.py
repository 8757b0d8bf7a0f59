"""Send events to a web server, signed as https://www.standardwebhooks.com describes it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.client
import socket
import ssl
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from urd.errors import UsageError, first_line, one_line, quoted
from urd.serving.outbox import LONGEST_DELAY, Outbox
from urd.serving.saying import Counted
from urd.serving.sender import Clock, NotDelivered, reason_of, wait_after
from urd.serving.store import Delivery
from urd.system.documents import read_text
from urd.system.versions import VERSION

_POLL = 0.1  # seconds
_CONNECT_SECONDS, _READ_SECONDS, _ALL_SECONDS = 5.0, 10.0, 20.0
_MOST_ANSWER = 4096  # bytes
_PORTION = 20
_LATER = (408, 409, 425, 429)  # of 400 to 499: the same event may be taken later
_ASKS_FOR_WAIT = (429, 503)
_SECRET = "whsec_"
_PARKED_PAUSE = 60.0  # seconds between two lines about parked events


@dataclass(frozen=True)
class Webhook:
    """A web server that takes events.

    Attributes:
        secret: the key of the signatures, 24 to 64 bytes.
        name: of the receiver; stable, and without the path, which may hold a token.
    """

    url: str = field(repr=False)
    secret: bytes = field(repr=False)
    name: str

    @property
    def secure(self) -> bool:
        return urlsplit(self.url).scheme.lower() == "https"

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or (443 if self.secure else 80)

    @property
    def target(self) -> str:
        """The path and the query."""
        parts = urlsplit(self.url)
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def webhooks_of(urls: list[str], secrets: list[bytes]) -> list[Webhook]:
    """Receivers with names: webhook:HOST, and for further ones on the same host with a suffix.

    Args:
        secrets: one for all, or one for each.

    Raises:
        UsageError: an address is wrong or there twice, or the number of secrets is.
    """
    if len(secrets) not in (1, len(urls)):
        raise UsageError(
            f"{len(urls)} webhooks and {len(secrets)} secrets: give --webhook-secret once for all, "
            "or once for each --webhook in the same order"
        )
    found: dict[str, Webhook] = {}
    for index, url in enumerate(urls):
        _check(url)
        if url in urls[:index]:
            raise UsageError(f"the webhook on {urlsplit(url).hostname} is given twice")
        name = f"webhook:{urlsplit(url).netloc.lower()}"
        if name in found:
            name += f"#{hashlib.sha256(url.encode()).hexdigest()[:8]}"
        found[name] = Webhook(url, secrets[index % len(secrets)], name)
    return list(found.values())


def _check(url: str) -> None:
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port  # raises if it is none
    except ValueError as error:
        raise UsageError(f"--webhook is no address: {first_line(error)}") from error
    if parts.scheme.lower() not in ("http", "https") or not host:
        raise UsageError("--webhook needs an address such as https://mes.example/urd")
    if "@" in parts.netloc:
        raise UsageError("--webhook must not hold a password: events are signed instead")
    if parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        raise UsageError("--webhook needs an address without #, spaces and letters beyond ASCII")


def read_secret(path: Path) -> bytes:
    """The key in a file that holds whsec_ and 24 to 64 bytes in base64.

    Raises:
        UsageError: it cannot be read, or holds anything else. The message does not show it.
    """
    try:
        text = read_text(path, 4096).strip()
    except ValueError as error:
        raise UsageError(f"the secret {path} cannot be read: {first_line(error)}") from error
    try:
        secret = base64.b64decode(text.removeprefix(_SECRET), validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if not text.startswith(_SECRET) or not 24 <= len(secret) <= 64:
        raise UsageError(
            f"{path} must hold one line: {_SECRET} followed by 24 to 64 random bytes in base64"
        )
    return secret


def signature(secret: bytes, identity: str, timestamp: int, body: bytes) -> str:
    """The value of the header webhook-signature."""
    signed = f"{identity}.{timestamp}.".encode() + body
    digest = hmac.new(secret, signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


class WebhookSender:
    """Sends the events of one webhook, one after the other.

    It follows no redirect. It verifies certificates; `context` is for tests.
    """

    longest_wait = 300.0

    def __init__(
        self,
        webhook: Webhook,
        outbox: Outbox,
        clock: Clock | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.webhook = webhook
        self.name = webhook.name
        self.outbox = outbox
        self.clock = clock or Clock()
        self.connected: bool | None = None
        self._context = context
        self._connection: http.client.HTTPConnection | None = None
        self._portion: deque[Delivery] = deque()
        self._parked = Counted(_PARKED_PAUSE, self.clock.steady)

    def turn(self) -> float:
        if not self._portion:
            now = self.clock.wall()
            self._portion.extend(self.outbox.due(now, _PORTION))
            if not self._portion:
                self._parked.look()
                self._disconnect()  # a server should not have to keep it open for the next part
                return min(self.outbox.wait(now) or _POLL, 1.0)
        self._deliver(self._portion.popleft())
        return 0.0

    def drop(self) -> None:
        self._portion.clear()
        self._disconnect()

    def close(self) -> None:
        self._parked.say_rest()
        self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _deliver(self, delivery: Delivery) -> None:
        """Send an event, and store what became of it.

        Raises:
            NotDelivered: it has to be sent again.
            StoreError: the store does not take what became of it; it will be sent again.
        """
        try:
            status, reason, asked = self._post(delivery)
        except (OSError, http.client.HTTPException) as error:
            status, reason, asked = 0, reason_of(error), 0.0
        refused = 400 <= status < 500 and status not in _LATER
        self.connected = 200 <= status < 300 or refused
        if 200 <= status < 300:
            self.outbox.sent(delivery)
        elif refused:
            self._park(delivery, reason)
        else:
            usual = wait_after(delivery.attempts + 1, self.longest_wait, self.clock.random)
            wait = max(usual, asked)
            self.outbox.again(delivery, self.clock.wall() + wait, reason)
            raise NotDelivered(reason, wait)

    def _park(self, delivery: Delivery, reason: str) -> None:
        self.outbox.park(delivery, reason)
        self._parked.add(
            f"{self.name} refused event {delivery.sequence}, which is parked: {reason}"
        )

    def _post(self, delivery: Delivery) -> tuple[int, str, float]:
        """The status of the answer, what it says, and for how many seconds it asks us to wait."""
        if self._connection is not None:
            with suppress(ConnectionError):  # the server may have closed it in the meantime
                return self._exchange(self._connection, delivery)
            self._disconnect()
        self._connection = self._connect()
        return self._exchange(self._connection, delivery)

    def _connect(self) -> http.client.HTTPConnection:
        hook = self.webhook
        if not hook.secure:
            connection = http.client.HTTPConnection(hook.host, hook.port, _CONNECT_SECONDS)
        else:
            context = self._context or ssl.create_default_context()
            connection = http.client.HTTPSConnection(
                hook.host, hook.port, timeout=_CONNECT_SECONDS, context=context
            )
        connection.connect()
        connection.sock.settimeout(_READ_SECONDS)
        return connection

    def _exchange(
        self, connection: http.client.HTTPConnection, delivery: Delivery
    ) -> tuple[int, str, float]:
        body, timestamp = delivery.body.encode(), int(self.clock.wall())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"urd/{VERSION}",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(self.webhook.secret, delivery.id, timestamp, body),
        }
        with _within(_ALL_SECONDS, connection.sock):
            connection.request("POST", self.webhook.target, body, headers)
            answer = connection.getresponse()
            text = answer.read(_MOST_ANSWER).decode("utf-8", "replace")
        if answer.will_close or not answer.isclosed():  # the rest of a long answer is not read
            self._disconnect()
        asked = answer.getheader("Retry-After") if answer.status in _ASKS_FOR_WAIT else None
        return answer.status, self._said_by(answer, text), _seconds(asked, self.clock.wall())

    def _said_by(self, answer: http.client.HTTPResponse, text: str) -> str:
        if 300 <= answer.status < 400:
            place = quoted(answer.getheader("Location") or "another address")
            return f"HTTP {answer.status}: it redirects to {place}, which urd does not follow"
        return one_line(f"HTTP {answer.status} {' '.join((text or answer.reason).split())}")


@contextmanager
def _within(seconds: float, connection: socket.socket) -> Iterator[None]:
    """Stop what the body reads and writes after so many seconds.

    An answer that comes byte by byte never meets the timeout of one read.

    Raises:
        TimeoutError: the time is over.
    """
    over = threading.Event()

    def stop() -> None:
        over.set()
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    watchdog = threading.Timer(seconds, stop)
    watchdog.daemon = True
    watchdog.start()
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        if over.is_set():
            raise TimeoutError(f"no whole answer in {seconds:.0f} s") from error
        raise
    finally:
        watchdog.cancel()


def _seconds(asked: str | None, now: float) -> float:
    """The seconds of a header Retry-After, at most an hour; 0 if it is absent or wrong."""
    text = (asked or "").strip()
    try:
        wait = float(text) if text.isdigit() else parsedate_to_datetime(text).timestamp() - now
    except (ValueError, OverflowError):
        return 0.0
    return min(max(wait, 0.0), LONGEST_DELAY)
