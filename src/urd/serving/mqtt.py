"""Send events and the state of the line to an MQTT broker."""

from __future__ import annotations

import json
import re
import secrets
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from urd.errors import UsageError, first_line
from urd.serving.line_state import LineState, State
from urd.serving.outbox import Outbox
from urd.serving.sender import Clock, NotDelivered, cut_off, reason_of, wait_after
from urd.serving.store import Delivery
from urd.system.documents import read_text
from urd.system.extras import optional
from urd.system.files import printable

_LOOP = 0.02  # seconds
_BEAT = 1.0
_KEEPALIVE = 5  # seconds; a dead connection is noticed after at most twice as much
_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 30.0  # for one event
_LONGEST_EVENT_WAIT = 300.0
_PORTION = 20
_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True)
class Broker:
    """An MQTT broker, and the beginning of our topics there.

    Attributes:
        prefix: without a slash at its end.
        login: user and password.
    """

    host: str
    port: int
    prefix: str
    tls: bool = False
    login: tuple[str, str] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return f"mqtt:{self.host}:{self.port}"


def broker_of(url: str, login: tuple[str, str] | None, usual_prefix: str) -> Broker:
    """The broker of mqtt://HOST:PORT/PREFIX or mqtts://...

    Raises:
        UsageError: it is none, or the prefix cannot begin a topic.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"--mqtt is no address: {first_line(error)}") from error
    if parts.scheme not in _PORTS or not host or port == 0 or parts.query or parts.fragment:
        raise UsageError("--mqtt needs mqtt://HOST:PORT/PREFIX, or mqtts:// for TLS")
    if "@" in parts.netloc:
        raise UsageError("--mqtt must not hold a password: put it into a file, --mqtt-login FILE")
    prefix = unquote(parts.path).strip("/") or usual_prefix
    if re.search("[+#]", prefix) or prefix.startswith("$") or not prefix.isprintable():
        raise UsageError("the prefix of --mqtt must have no +, # and no $ at its beginning")
    return Broker(host, port or _PORTS[parts.scheme], prefix, parts.scheme == "mqtts", login)


def usual_prefix(store: Path) -> str:
    """urd/NAME, where NAME is that of the store's file."""
    return "urd/" + re.sub(r"[+#\x00-\x1f]", "_", printable(Path(store.stem)))


def read_login(path: Path) -> tuple[str, str]:
    """User and password, the two lines of a file.

    Raises:
        UsageError: it cannot be read, or holds anything else. The message does not show it.
    """
    try:
        lines = read_text(path, 4096).splitlines()
    except ValueError as error:
        raise UsageError(f"the login {path} cannot be read: {first_line(error)}") from error
    if len(lines) != 2 or not all(lines):
        raise UsageError(f"{path} must hold two lines: the user and the password")
    return lines[0], lines[1]


class MqttSender:
    """Sends events at least once, and the newest state only.

    A client of the library lives as long as its connection, so nothing old waits inside it. The
    state goes without acknowledgement, so that no broker keeps it for a client that is away.
    """

    longest_wait = 15.0

    def __init__(
        self,
        broker: Broker,
        outbox: Outbox,
        state: LineState,
        clock: Clock | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.broker = broker
        self.name = broker.name
        self.outbox = outbox
        self.state = state
        self.clock = clock or Clock()
        self.connected: bool | None = None
        self._context = context
        self._client: Any = None
        self._answer: Any = None  # of the broker to our wish to connect
        self._waiting: dict[int, Delivery] = {}
        self._taken: list[int] = []
        self._deadline = 0.0
        self._heartbeat = 0
        self._beat_at = 0.0
        self._shown: tuple[int, int, bool] | None = None

    def turn(self) -> float:
        if self._client is None:
            self._connect()
        try:
            self._loop(_LOOP)
        except NotDelivered as error:
            self._put_off(str(error))
            raise
        self._send_state(self.state.look())
        self._send_events()
        return 0.0  # `_loop` has waited

    def drop(self) -> None:
        if self._client is not None:
            cut_off(self._client.socket())  # without a farewell: the broker tells our last will
        self._client, self.connected = None, False
        self._waiting.clear()
        self._taken.clear()

    def close(self) -> None:
        if self._client is None:
            return
        self._publish("state", self.state.look().ended().to_dict(), retain=True)
        told = self._publish("status", "offline", qos=1, retain=True)
        for _ in range(20):
            if told.is_published():
                break
            self._loop(0.05)
        self._acknowledged()
        self._client.disconnect()
        self.drop()

    def _connect(self) -> None:
        """Make a client and wait until the broker greets it.

        Raises:
            NotDelivered: it refuses us, or does not answer.
            OSError: there is no connection.
        """
        self.connected, self._answer = False, None
        client = self._new_client()
        try:
            client.connect(self.broker.host, self.broker.port, _KEEPALIVE)
        except OSError as error:
            raise NotDelivered(
                f"no connection to {self.broker.host}:{self.broker.port}: {reason_of(error)}"
            ) from error
        self._client = client
        for _ in range(100):
            if self._answer is not None:
                break
            self._loop(0.1)
        if self._answer is None:
            raise NotDelivered("the broker does not answer")
        if self._answer.is_failure:
            raise NotDelivered(f"the broker refuses us: {self._answer}")
        self._shown, self._beat_at, self.connected = None, self.clock.steady(), True
        self.state.begin()

    def _new_client(self) -> Any:
        library = optional("paho.mqtt.client", "mqtt")
        client = library.Client(
            library.CallbackAPIVersion.VERSION2,
            client_id=f"urd-{secrets.token_hex(8)}",
            reconnect_on_failure=False,
        )
        client.connect_timeout = _CONNECT_SECONDS
        client.max_inflight_messages_set(4 * _PORTION)
        client.on_connect = lambda _client, _data, _flags, answer, _props: self._greeted(answer)
        client.on_publish = lambda _client, _data, mid, _code, _props: self._taken.append(mid)
        client.will_set(self._topic("status"), "offline", qos=1, retain=True)
        if self.broker.login is not None:
            client.username_pw_set(*self.broker.login)
        if self.broker.tls:
            client.tls_set_context(self._context or ssl.create_default_context())
        return client

    def _greeted(self, answer: Any) -> None:
        self._answer = answer

    def _topic(self, last: str) -> str:
        return f"{self.broker.prefix}/{last}"

    def _loop(self, seconds: float) -> None:
        """Let the library read and write.

        Raises:
            NotDelivered: the connection is lost.
        """
        code = self._client.loop(seconds)
        if code and (self._answer is None or not self._answer.is_failure):
            raise NotDelivered(f"the connection to the broker is lost (code {int(code)})")

    def _publish(self, last: str, content: Any, qos: int = 0, retain: bool = False) -> Any:
        text = content if isinstance(content, str) else json.dumps(content, allow_nan=False)
        sent = self._client.publish(self._topic(last), text, qos=qos, retain=retain)
        if sent.rc:
            raise NotDelivered(f"the connection to the broker is lost (code {int(sent.rc)})")
        return sent

    def _send_state(self, state: State) -> None:
        shown = (state.code, state.sequence, state.stalled)
        if shown != self._shown:
            self._publish("state", state.to_dict(), retain=True)
        if self._shown is None or self._shown[2] != state.stalled:  # never before the state
            status = "stalled" if state.stalled else "online"
            self._publish("status", status, qos=1, retain=True)
        self._shown = shown
        now = self.clock.steady()
        if now >= self._beat_at and not state.stalled:
            self._beat_at = now + _BEAT
            self._heartbeat += 1
            self._publish("heartbeat", str(self._heartbeat))

    def _send_events(self) -> None:
        """Send a portion when the one before is acknowledged.

        Raises:
            NotDelivered: the broker does not acknowledge.
            StoreError: the store fails.
        """
        self._acknowledged()
        steady, wall = self.clock.steady(), self.clock.wall()
        if self._waiting and steady > self._deadline:
            reason = f"the broker has not acknowledged an event in {_ANSWER_SECONDS:.0f} s"
            self._put_off(reason)
            raise NotDelivered(reason)
        if self._waiting:
            return
        for delivery in self.outbox.due(wall, _PORTION):
            event = {"id": delivery.id, **json.loads(delivery.body)}
            self._waiting[self._publish("events", event, qos=1).mid] = delivery
            self._deadline = steady + _ANSWER_SECONDS

    def _put_off(self, reason: str) -> None:
        """Wait longer and longer with an event that the broker does not take.

        It may be the event that makes the broker close the connection; the state needs it open.
        """
        self._acknowledged()
        for first in list(self._waiting.values())[:1]:
            wait = wait_after(first.attempts + 1, _LONGEST_EVENT_WAIT, self.clock.random)
            self.outbox.again(first, self.clock.wall() + wait, reason)

    def _acknowledged(self) -> None:
        """Remove the events that the broker has taken from the outbox."""
        taken = [self._waiting.pop(mid) for mid in self._taken if mid in self._waiting]
        self._taken.clear()
        if taken:
            self.outbox.sent(*taken)
