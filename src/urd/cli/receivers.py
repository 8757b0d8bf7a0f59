"""Flags of the verbs that tell other machines: who is told, and how to reach them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from urd.cli.options import with_flags

if TYPE_CHECKING:
    from urd.serving.deliveries import Deliveries
    from urd.serving.store import Store


@dataclass(frozen=True)
class Receivers:
    """Who is told: the values of the flags of `receiver_options`."""

    webhook: tuple[str, ...] = ()
    webhook_secret: tuple[Path, ...] = ()
    mqtt: str | None = None
    mqtt_login: Path | None = None
    modbus: str | None = None
    modbus_unit: int | None = None
    modbus_address: int | None = None
    state_seconds: float | None = None

    def check(self) -> None:
        """Find what is wrong with the flags before anything is loaded.

        Raises:
            UsageError: an address, a file or a combination is wrong, or an extra is missing.
        """
        self._settings(Path("line.sqlite"))

    def deliveries(self, store: Store, idle_seconds: Callable[[], float]) -> Deliveries:
        """What sends to them. Call `start` and `stop`.

        Args:
            idle_seconds: how long ago the judging loop turned.

        Raises:
            UsageError: as `check`.
        """
        from urd.serving.deliveries import Deliveries

        return Deliveries(store, self._settings(store.path), idle_seconds)

    def _settings(self, store: Path) -> Any:
        from urd.errors import UsageError
        from urd.serving.deliveries import ReceiverSettings
        from urd.serving.modbus import plc_of
        from urd.serving.mqtt import broker_of, read_login, usual_prefix
        from urd.serving.webhook import read_secret, webhooks_of
        from urd.system.extras import optional

        self._refuse_alone()
        webhooks, broker, plc = [], None, None
        if self.webhook:
            if not self.webhook_secret:
                raise UsageError("--webhook needs --webhook-secret FILE, to sign what it sends")
            secrets = [read_secret(path) for path in self.webhook_secret]
            webhooks = webhooks_of(list(self.webhook), secrets)
        if self.mqtt is not None:
            login = None if self.mqtt_login is None else read_login(self.mqtt_login)
            broker = broker_of(self.mqtt, login, usual_prefix(store))
            optional("paho.mqtt.client", "mqtt")
        if self.modbus is not None:
            unit = 1 if self.modbus_unit is None else self.modbus_unit
            plc = plc_of(self.modbus, unit, self.modbus_address or 0)
            optional("pymodbus.client", "modbus")
        return ReceiverSettings(webhooks, broker, plc, self.state_seconds)

    def _refuse_alone(self) -> None:
        """Refuse a flag that does nothing without another one."""
        from urd.errors import UsageError

        needs = {
            "--webhook-secret": (self.webhook_secret or None, self.webhook, "--webhook"),
            "--mqtt-login": (self.mqtt_login, self.mqtt, "--mqtt"),
            "--modbus-unit": (self.modbus_unit, self.modbus, "--modbus"),
            "--modbus-address": (self.modbus_address, self.modbus, "--modbus"),
            "--state-seconds": (
                self.state_seconds,
                self.mqtt or self.modbus,
                "--mqtt or --modbus",
            ),
        }
        for flag, (value, other, name) in needs.items():
            if value is not None and not other:
                raise UsageError(f"{flag} does nothing without {name}")


@contextmanager
def sending(deliveries: Deliveries) -> Iterator[Deliveries]:
    """Send while the body runs. Then the state becomes none; what was not sent waits.

    Raises:
        StoreError: the store cannot be opened.
    """
    deliveries.start()
    try:
        yield deliveries
    finally:
        deliveries.stop()


def receiver_options(function: Callable[..., None]) -> Callable[..., None]:
    """Flags that say who is told of judgements; the verb gets `receivers`, already checked."""

    @functools.wraps(function)
    def with_receivers(**options: Any) -> None:
        names = [field.name for field in dataclasses.fields(Receivers)]
        receivers = Receivers(**{name: options.pop(name) for name in names})
        receivers.check()
        function(receivers=receivers, **options)

    return with_flags(_FLAGS, with_receivers)


_FILE = click.Path(path_type=Path)
_FLAGS = [
    click.option(
        "--webhook",
        multiple=True,
        metavar="URL",
        help="Send each judgement to this address as a signed event. Give it again for more "
        "addresses. Use http:// only inside a plant network: others can read it there.",
    ),
    click.option(
        "--webhook-secret",
        multiple=True,
        type=_FILE,
        metavar="FILE",
        help="The secret of the signatures: whsec_ and 24 to 64 bytes in base64. Once for all "
        "webhooks, or once for each.",
    ),
    click.option(
        "--mqtt",
        metavar="URL",
        help="Send events and the state to this broker: mqtt://HOST:PORT/PREFIX, or mqtts:// for "
        "TLS. The prefix of the topics is urd/NAME, after the store, if none is given.",
    ),
    click.option(
        "--mqtt-login",
        type=_FILE,
        metavar="FILE",
        help="Two lines: user and password for the broker.",
    ),
    click.option(
        "--modbus",
        metavar="HOST:PORT",
        help="Write the state and a heartbeat into the holding registers of this PLC (Modbus TCP).",
    ),
    click.option("--modbus-unit", type=int, metavar="N", help="Its unit.  [default: 1]"),
    click.option(
        "--modbus-address",
        type=int,
        metavar="N",
        help="The first of 7 registers, counted from 0.  [default: 0]",
    ),
    click.option(
        "--state-seconds",
        type=click.FloatRange(min=0, min_open=True),
        metavar="N",
        help="The state becomes 0 (none) so long after the last judgement.  [default: it stays]",
    ),
]
