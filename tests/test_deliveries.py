"""All receivers together: threads, restarts, two processes on one store, flags, status pages."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import click
import pytest
from peers import NOW, Listener, MqttBroker, PlcServer, Time, WebServer, free_port, judged, until

from urd.cli.receivers import Receivers, receiver_options
from urd.errors import UsageError
from urd.serving.deliveries import Deliveries, ReceiverSettings, Worker
from urd.serving.modbus import Plc
from urd.serving.mqtt import Broker
from urd.serving.outbox import Outbox, discard, outbox_counts, parked
from urd.serving.sender import Clock, NotDelivered
from urd.serving.store import Store, StoreError
from urd.serving.webhook import Webhook, webhooks_of

SECRET = bytes(range(32))
OK = (200, {}, b"")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "line.sqlite")


@pytest.fixture
def started(store):
    """Start deliveries of the store; they are stopped at the end."""
    with ExitStack() as stack:

        def start(idle_seconds=lambda: 0.0, **settings):
            deliveries = Deliveries(store, ReceiverSettings(**settings), idle_seconds)
            deliveries.start()
            stack.callback(deliveries.stop, 30)
            return deliveries

        yield start


def hook(server, name="webhook:mes"):
    return Webhook(server.url, SECRET, name)


def ids(server):
    return [headers["webhook-id"] for headers, _ in server.taken]


def row_of(deliveries, name):
    return next(row for row in deliveries.problems() if row["name"] == name)


def test_all_receivers_are_told_and_the_end_leaves_none(store, started):
    with ExitStack() as stack:
        mes, plc = stack.enter_context(WebServer(OK)), stack.enter_context(PlcServer())
        broker = stack.enter_context(MqttBroker())
        listener = stack.enter_context(Listener(broker.port))
        deliveries = started(
            webhooks=[hook(mes)],
            mqtt=Broker("127.0.0.1", broker.port, "urd/line"),
            modbus=Plc("127.0.0.1", plc.port),
        )
        assert deliveries.names == ["webhook:mes", f"mqtt:127.0.0.1:{broker.port}"]
        until(lambda: plc.writes and listener.texts("status") == ["online"])
        row = store.add(now_record("NG"), deliveries.names)[0]
        until(lambda: plc.now[0] == 3 and mes.taken and listener.texts("events"))
        until(lambda: json.loads(listener.texts("state")[-1])["state"] == "NG")
        assert plc.now[3] == row.sequence and json.loads(mes.taken[0][1])["data"]["time"]
        until(lambda: outbox_counts(store) == {})
        problems = deliveries.problems()
        assert [p["connected"] for p in problems] == [True] * 3
        assert [p["error"] for p in problems] == [None] * 3
        assert [p["waiting"] for p in problems] == [0, 0, None]
        deliveries.not_stored("the disk is full")
        until(lambda: plc.now[0] == 4)
        deliveries.stop(30)
        assert plc.now[0] == 0
        until(lambda: listener.texts("status")[-1] == "offline")
        assert json.loads(listener.texts("state")[-1])["state"] == "none"


def now_record(verdict):
    """A row that was judged just now, by the clock of this machine."""
    import time

    from lines import record

    return record(verdict, time=time.time())


def test_events_that_wait_are_sent_after_a_restart_with_their_ids(store, started):
    port = free_port()
    away = Webhook(f"http://127.0.0.1:{port}/", SECRET, "webhook:mes")
    deliveries = started(webhooks=[away])
    for _ in range(3):
        judged(store, receivers=deliveries.names)
    waiting = Outbox(store, "webhook:mes").due(1e12)
    until(lambda: row_of(deliveries, "webhook:mes")["error"])
    row = row_of(deliveries, "webhook:mes")
    assert row["connected"] is False and row["waiting"] == 3 and row["since"].endswith("Z")
    deliveries.stop(30)
    with store.database.writing() as connection:
        connection.execute("UPDATE outbox SET due = 0")  # the test does not wait
    with WebServer(OK, port=port) as server:
        deliveries = started(webhooks=[away])
        until(lambda: outbox_counts(store) == {})
        assert ids(server) == [event.id for event in waiting]
        assert until(lambda: row_of(deliveries, "webhook:mes"))["error"] is None


def test_a_receiver_that_fails_does_not_stop_the_others(store, started):
    with WebServer((500, {}, b"")) as broken, WebServer(OK) as good, PlcServer() as plc:
        deliveries = started(
            webhooks=[hook(broken, "webhook:a"), hook(good, "webhook:b")],
            mqtt=Broker("127.0.0.1", free_port(), "urd/line"),
            modbus=Plc("127.0.0.1", plc.port),
        )
        until(lambda: plc.writes)
        row = store.add(now_record("OK"), deliveries.names)[0]
        until(lambda: good.taken and plc.now[0] == 1)
        until(lambda: row_of(deliveries, "webhook:a")["error"] == "HTTP 500 Internal Server Error")
        counts = outbox_counts(store)
        assert "webhook:b" not in counts and counts["webhook:a"]["waiting"] == 1
        assert row.sequence == plc.now[3]


def test_two_deliveries_of_one_store_send_each_event_once(store, started):
    with WebServer(OK) as server, PlcServer() as plc:
        both = {"webhooks": [hook(server)], "modbus": Plc("127.0.0.1", plc.port)}
        first = started(**both)
        until(lambda: plc.writes)
        second = started(**both)
        until(lambda: all(row["standby"] for row in second.problems()))
        for _ in range(5):
            judged(store, receivers=["webhook:mes"])
        until(lambda: outbox_counts(store) == {})
        assert len(set(ids(server))) == len(ids(server)) == 5
        assert not any(row["standby"] for row in first.problems())
        store.add(now_record("OK"))
        until(lambda: plc.now[0] == 1)
        first.stop(30)
        count = len(plc.writes)
        assert plc.now[:4] == [0, 65535, 0, 6]
        until(lambda: len(plc.writes) > count)  # the other one has taken over
        assert {tuple(values[:4]) for _, values in plc.writes[count:]} == {(0, 65535, 0, 6)}
        judged(store, receivers=["webhook:mes"])
        until(lambda: len(ids(server)) == 6 and outbox_counts(store) == {})


_PROCESS = """
import sys, time
from pathlib import Path
from urd.serving.deliveries import Deliveries, ReceiverSettings
from urd.serving.modbus import Plc
from urd.serving.store import Store
store = Store(Path(sys.argv[1]))
settings = ReceiverSettings(modbus=Plc("127.0.0.1", int(sys.argv[2])))
Deliveries(store, settings, lambda: 0.0).start()
time.sleep(600)
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_another_process_takes_over_from_one_that_was_killed(store, started):
    with PlcServer() as plc:
        process = subprocess.Popen([sys.executable, "-c", _PROCESS, store.path, str(plc.port)])
        try:
            until(lambda: plc.writes, 60)
            deliveries = started(modbus=Plc("127.0.0.1", plc.port))
            until(lambda: row_of(deliveries, f"modbus:127.0.0.1:{plc.port}")["standby"])
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(30)
        until(lambda: row_of(deliveries, f"modbus:127.0.0.1:{plc.port}")["connected"])
        assert plc.now[0] == 0


def test_stop_does_not_wait_for_a_receiver_that_says_nothing(store, started):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        deliveries = started(webhooks=[Webhook(url, SECRET, "webhook:mes")])
        judged(store, receivers=deliveries.names)
        connection, _ = server.accept()
        assert connection.recv(1)
        deliveries.stop(0.1)
        assert deliveries._workers[0].thread.is_alive()  # a daemon: it ends with the process
        assert deliveries._workers[0].thread.daemon
        assert deliveries.problems()[0]["waiting"] == 1
        connection.close()


class Odd:
    """A sender that fails as it is told."""

    longest_wait = 60.0
    name = "odd"

    def __init__(self, *errors):
        self.errors, self.connected, self.dropped = list(errors), None, 0

    def turn(self):
        if self.errors:
            raise self.errors.pop(0)
        self.connected = True
        return 0.25

    def drop(self):
        self.connected, self.dropped = False, self.dropped + 1

    def close(self):
        pass


def worker(store, sender, clock):
    return Worker(sender, store.path, clock, threading.Event())


def test_a_worker_waits_longer_and_longer_and_says_why_once(store, capsys, shown):
    time = Time()
    sender = Odd(OSError(111, "refused"), OSError(111, "refused"), ZeroDivisionError("oh"))
    work = worker(store, sender, time.clock)
    waits = [work.turn()]
    time += 5
    waits += [work.turn(), work.turn()]
    assert all(2**n / 2 <= wait <= 2**n for n, wait in enumerate(waits))
    assert work.status()["error"] == "oh" and sender.dropped == 3
    assert work.status()["since"] == "2023-11-14T22:13:20.000Z" and NOW == 1_700_000_000
    assert work.turn() == 0.25
    assert work.status() | {"name": ""} == {
        "name": "",
        "connected": True,
        "standby": False,
        "waiting": None,
        "parked": None,
        "error": None,
        "since": None,
    }
    assert capsys.readouterr().err == "odd: refused\nodd: oh\nodd: works again\n"
    sender.errors = [NotDelivered("later", wait=120.0), OSError("x")]
    assert work.turn() == 120.0  # what the sender has stored in the outbox
    sender.errors = []
    work.turn()
    sender.errors = [OSError("again")]
    assert work.turn() <= 1.0  # after a success it begins anew
    work._lock.release()


def test_only_one_worker_holds_a_receiver_of_a_store(store, tmp_path):
    clock = Time().clock
    first, second = (worker(store, Odd(), clock) for _ in range(2))
    elsewhere = worker(Store(tmp_path / "line2.sqlite"), Odd(), clock)
    assert first.turn() == 0.25 and second.turn() == 1.0 and elsewhere.turn() == 0.25
    assert second.status()["standby"] and second.sender.connected is None
    first._lock.release()
    assert second.turn() == 0.25 and first.turn() == 1.0
    second._lock.release()
    elsewhere._lock.release()


def test_status_pages_name_receivers_of_earlier_starts(store, started):
    judged(store, receivers=["webhook:gone"])
    with WebServer((410, {}, b"gone")) as server:
        deliveries = started(webhooks=[hook(server)])
        judged(store, receivers=deliveries.names)
        until(lambda: parked(store))
        mine, other = deliveries.problems()
        assert (mine["waiting"], mine["parked"], mine["error"]) == (0, 1, "HTTP 410 gone")
        assert other["name"] == "webhook:gone" and other["waiting"] == 1
        assert other["error"] == "this process does not send to it"
        assert discard(store, "webhook:gone") == 1 and len(deliveries.problems()) == 1


def test_status_pages_survive_a_store_that_fails(store, started, monkeypatch):
    with PlcServer() as plc:
        deliveries = started(modbus=Plc("127.0.0.1", plc.port))
        until(lambda: plc.writes)

        def fail(_):
            raise StoreError("the store failed")

        monkeypatch.setattr("urd.serving.deliveries.outbox_counts", fail)
        (row,) = deliveries.problems()
        assert row["error"] == "the store failed" and row["waiting"] is None


def test_a_portion_is_read_and_not_the_whole_outbox(store):
    outbox = Outbox(store, "a")
    for _ in range(60):
        judged(store, receivers=["a"])
    assert [event.sequence for event in outbox.due(0)] == list(range(1, 51))
    outbox.sent(*outbox.due(0))
    assert [event.sequence for event in outbox.due(0, 5)] == [51, 52, 53, 54, 55]
    outbox.again(outbox.due(0)[1], 100.0, "wait")
    assert [event.sequence for event in outbox.due(0)] == [51] and outbox.wait(0) == 0
    outbox.sent(*outbox.due(0))
    assert outbox.due(0) == [] and outbox.wait(40.0) == 60.0 and outbox.wait(100.0) == 0
    assert Outbox(store, "b").wait(0) is None


def test_a_clock_has_a_fresh_random_generator():
    assert Clock().random is not Clock().random


def secret_file(folder: Path) -> Path:
    path = folder / "secret"
    path.write_text(f"whsec_{base64.b64encode(SECRET).decode()}\n")
    return path


def test_the_flags_make_deliveries(store, tmp_path):
    (tmp_path / "login").write_text("me\nword\n")
    taken = []

    @click.command()
    @receiver_options
    @click.option("--other", type=int)
    def verb(receivers, other):
        taken.append((receivers, other))

    arguments = ["--webhook", "https://a/x", "--webhook", "http://b:1/", "--webhook-secret"]
    arguments += [secret_file(tmp_path), "--mqtt", "mqtts://mq", "--mqtt-login", tmp_path / "login"]
    arguments += ["--modbus", "plc:503", "--modbus-unit", 0, "--modbus-address", 200]
    arguments += ["--state-seconds", 2.5, "--other", 3]
    verb.main([str(argument) for argument in arguments], standalone_mode=False)
    ((receivers, other),) = taken
    deliveries = receivers.deliveries(store, lambda: 0.0)
    assert other == 3 and deliveries.names == ["webhook:a", "webhook:b:1", "mqtt:mq:8883"]
    assert deliveries.settings == ReceiverSettings(
        webhooks_of(["https://a/x", "http://b:1/"], [SECRET]),
        Broker("mq", 8883, "urd/line", True, ("me", "word")),
        Plc("plc", 503, 0, 200),
        2.5,
    )
    verb.main([], standalone_mode=False)
    assert taken[1] == (Receivers(), None)
    nobody = taken[1][0].deliveries(store, lambda: 0.0)
    nobody.start()
    assert nobody.names == [] and nobody.problems() == []
    nobody.stop()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"webhook": ("https://a/",)}, "needs --webhook-secret FILE"),
        ({"webhook_secret": (Path("s"),)}, "--webhook-secret does nothing without --webhook"),
        ({"mqtt_login": Path("s")}, "--mqtt-login does nothing without --mqtt"),
        ({"modbus_unit": 0}, "--modbus-unit does nothing without --modbus"),
        ({"modbus_address": 0}, "--modbus-address does nothing without --modbus"),
        ({"state_seconds": 1.0}, "--state-seconds does nothing without --mqtt or --modbus"),
        ({"mqtt": "mq:1883"}, "--mqtt needs mqtt://HOST:PORT/PREFIX"),
        ({"mqtt": "mqtt://mq", "mqtt_login": Path("absent")}, "cannot be read"),
        ({"modbus": "http://plc"}, "--modbus needs HOST"),
    ],
)
def test_wrong_flags_are_refused_before_anything_starts(flags, said):
    with pytest.raises(UsageError, match=said) as error:
        Receivers(**flags).check()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("flags", "module", "extra"),
    [({"mqtt": "mqtt://mq"}, "paho", "mqtt"), ({"modbus": "plc"}, "pymodbus", "modbus")],
)
def test_a_missing_extra_is_named(monkeypatch, flags, module, extra):
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=rf"urd-inspect\[{extra}\]"):
        Receivers(**flags).check()


def test_the_flags_alone_import_nothing_heavy():
    code = "import sys, urd.cli.receivers; sys.exit('urd.serving' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    code = "import sys, urd.serving.deliveries; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
