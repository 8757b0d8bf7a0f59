"""Tell other machines: a thread for each receiver, and what the status pages say about them."""

from __future__ import annotations

import hashlib
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from urd.serving.line_state import LineState
from urd.serving.modbus import ModbusSender, Plc
from urd.serving.mqtt import Broker, MqttSender
from urd.serving.outbox import Outbox, outbox_counts
from urd.serving.record import iso
from urd.serving.sender import Clock, Sender, reason_of, wait_after
from urd.serving.store import Store, StoreError
from urd.serving.webhook import Webhook, WebhookSender
from urd.system.progress import warn

if TYPE_CHECKING:
    from filelock import BaseFileLock

_STAND_BY = 1.0  # seconds between two looks whether the other process has ended


@dataclass(frozen=True)
class ReceiverSettings:
    """Who is told.

    Attributes:
        state_seconds: an older state becomes none; `None`: it stays.
    """

    webhooks: Sequence[Webhook] = ()
    mqtt: Broker | None = None
    modbus: Plc | None = None
    state_seconds: float | None = None


class Deliveries:
    """Sends the events of a store, and the state of its line.

    It has its own connections to the store, so it never waits for the judging thread, nor that one
    for it. A receiver that fails stops neither judging nor the other receivers.

    Args:
        idle_seconds: how long ago the judging loop turned.

    Attributes:
        names: of the receivers of events, for `Station.receivers`.
        told: all receivers, also those of the state alone.
    """

    def __init__(
        self,
        store: Store,
        settings: ReceiverSettings,
        idle_seconds: Callable[[], float],
        clock: Clock | None = None,
    ) -> None:
        self.path = store.path
        self.settings = settings
        self.idle_seconds = idle_seconds
        self.clock = clock or Clock()
        broker = settings.mqtt
        self.names = [hook.name for hook in settings.webhooks] + ([broker.name] if broker else [])
        self.told = [*self.names, *([settings.modbus.name] if settings.modbus else [])]
        self._stopping = threading.Event()
        self._stores: list[Store] = []
        self._states: list[LineState] = []
        self._workers: list[Worker] = []

    def start(self) -> None:
        """Start the threads.

        Raises:
            StoreError: the store cannot be opened.
        """
        try:
            senders = self._senders()
        except BaseException:
            self._close()
            raise
        self._workers = [Worker(s, self.path, self.clock, self._stopping) for s in senders]
        for worker in self._workers:
            worker.thread.start()

    def drain(self, timeout: float = 10.0) -> int:
        """Wait until all events are sent, but not longer; returns how many still wait.

        Raises:
            StoreError: the store cannot be read.
        """
        end = time.monotonic() + timeout
        while waiting := self._waiting():
            if time.monotonic() > end:
                break
            time.sleep(0.05)
        return waiting

    def _waiting(self) -> int:
        if not self._stores or not self.names:
            return 0
        counts = outbox_counts(self._stores[0])
        return sum(counts[name]["waiting"] for name in self.names if name in counts)

    def stop(self, timeout: float = 5.0) -> None:
        """End the threads; the state becomes none. What was not sent waits in the store.

        A thread that does not end in `timeout` seconds is left alone; it ends with the process.
        """
        self._stopping.set()
        end = time.monotonic() + timeout
        for worker in self._workers:
            worker.thread.join(max(0.0, end - time.monotonic()))
        if not any(worker.thread.is_alive() for worker in self._workers):
            self._close()

    def not_stored(self, problem: str) -> None:
        """Say that a part was judged but not stored: the state is ERROR until one is stored."""
        for state in self._states:
            state.not_stored(problem)

    def problems(self) -> list[dict[str, Any]]:
        """What the status pages say about each receiver, as plain values; it never raises.

        Returns:
            A row per receiver: name; connected (`None`: not yet tried); standby (another process
            sends); waiting and parked, the numbers of events (`None`: it takes no events, or the
            store fails); error, the last one (`None`: all is well); since, when it began.
            Receivers of earlier starts that still have events follow.
        """
        try:
            counts = outbox_counts(self._stores[0]) if self._stores else {}
        except StoreError as error:
            return [{**worker.status(), "error": str(error)} for worker in self._workers]
        rows = []
        for worker in self._workers:
            row = worker.status()
            count = counts.pop(row["name"], {"waiting": 0, "parked": 0, "error": None})
            if row["name"] in self.names:
                row |= {"waiting": count["waiting"], "parked": count["parked"]}
                row["error"] = row["error"] or count["error"]
            rows.append(row)
        rows += [_of_earlier(name, count) for name, count in counts.items()]
        return rows

    def _senders(self) -> list[Sender]:
        settings, clock = self.settings, self.clock
        events, states = self._open(), self._open()

        def state() -> LineState:
            self._states.append(LineState(states, self.idle_seconds, settings.state_seconds, clock))
            return self._states[-1]

        senders: list[Sender] = [
            WebhookSender(hook, Outbox(events, hook.name), clock) for hook in settings.webhooks
        ]
        if settings.mqtt is not None:
            outbox = Outbox(events, settings.mqtt.name)
            senders.append(MqttSender(settings.mqtt, outbox, state(), clock))
        if settings.modbus is not None:
            senders.append(ModbusSender(settings.modbus, state(), clock))
        return senders

    def _open(self) -> Store:
        self._stores.append(Store(self.path, create=False))
        return self._stores[-1]

    def _close(self) -> None:
        for store in self._stores:
            store.close()
        self._stores.clear()


class Worker:
    """One thread for one sender: waits until no other process sends to it, then lets it turn."""

    def __init__(
        self, sender: Sender, store: Path, clock: Clock, stopping: threading.Event
    ) -> None:
        self.sender = sender
        self.clock = clock
        self.thread = threading.Thread(target=self._run, name=sender.name, daemon=True)
        self._stopping = stopping
        self._lock = _lock(store, sender)
        self._failures = 0
        self._error: str | None = None
        self._since: float | None = None
        self._standby = False

    def turn(self) -> float:
        """Let the sender turn once; returns the seconds until the next turn. It never raises."""
        try:
            if not self._holds():
                return _STAND_BY
            wait = self.sender.turn()
        except Exception as error:  # whatever a receiver does, the others go on
            self.sender.drop()
            self._failures += 1
            self._failed(reason_of(error))
            asked = getattr(error, "wait", None)
            usual = wait_after(self._failures, self.sender.longest_wait, self.clock.random)
            return usual if asked is None else float(asked)
        if self.sender.connected:
            self._failures = 0
            self._recovered()
        return wait

    def status(self) -> dict[str, Any]:
        """What the status pages say, without the numbers of events."""
        return {
            "name": self.sender.name,
            "connected": None if self._standby else self.sender.connected,
            "standby": self._standby,
            "waiting": None,
            "parked": None,
            "error": self._error,
            "since": None if self._since is None else iso(self._since),
        }

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._stopping.wait(self.turn())
        try:
            if self._lock.is_locked:
                self.sender.close()
        except Exception as error:
            warn(f"{self.sender.name}: {reason_of(error)}")
        finally:
            self.sender.drop()
            self._lock.release()

    def _holds(self) -> bool:
        """Whether this is the only process that sends.

        Raises:
            OSError: the file beside the store cannot be locked.
        """
        from filelock import Timeout

        if not self._lock.is_locked:
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                self._standby = True
                return False
        self._standby = False
        return True

    def _failed(self, reason: str) -> None:
        if reason != self._error:
            warn(f"{self.sender.name}: {reason}")
        if self._error is None:
            self._since = self.clock.wall()
        self._error = reason

    def _recovered(self) -> None:
        if self._error is not None:
            warn(f"{self.sender.name}: works again")
        self._error = self._since = None


def _lock(store: Path, sender: Sender) -> BaseFileLock:
    """The lock of one receiver of one store; the operating system frees it if the process dies.

    A PLC has one lock for all stores of this machine: two lines in the same registers would
    overwrite each other's state.
    """
    from filelock import FileLock

    digest = hashlib.sha256(sender.name.encode()).hexdigest()[:12]
    place = store.with_name(f"{store.name}.{digest}.sends")
    if isinstance(sender, ModbusSender):
        place = Path(tempfile.gettempdir(), f"urd-{digest}.sends")
    return FileLock(place, thread_local=False, mode=0o666)


def _of_earlier(name: str, count: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "connected": False,
        "standby": False,
        "waiting": count["waiting"],
        "parked": count["parked"],
        "error": count["error"] or "this process does not send to it",
        "since": None,
    }
