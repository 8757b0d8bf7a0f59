"""Events and the state on an MQTT broker: at least once the ones, only the newest the other."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from contextlib import closing, suppress
from pathlib import Path

import pytest
from peers import CERTIFICATE, Listener, MqttBroker, Time, free_port, judged, until

from urd.errors import UsageError
from urd.serving.line_state import LineState
from urd.serving.mqtt import Broker, MqttSender, broker_of, read_login, usual_prefix
from urd.serving.outbox import Outbox
from urd.serving.sender import NotDelivered
from urd.serving.store import Store

CONNACK = b"\x20\x02\x00\x00"
CONNECT, PUBLISH = 0x10, 0x30


class Line:
    """A store that one connection writes, and a sender with its own connections."""

    def __init__(self, path):
        self.time = Time()
        self.idle = 0.0
        self.store = Store(path)
        self._read = Store(path)

    def sender(self, port, **settings):
        broker = Broker("127.0.0.1", port, "plant/line1", **settings)
        state = LineState(self._read, lambda: self.idle, clock=self.time.clock)
        return MqttSender(broker, Outbox(self.store, "mqtt"), state, clock=self.time.clock)

    def add(self, count=1):
        for _ in range(count):
            judged(self.store, "NG", 0.75, receivers=["mqtt"], part="p1", time=self.time.now)
        return self.waiting()[-count:]

    def waiting(self):
        return Outbox(self.store, "mqtt").due(1e12)

    def close(self):
        self.store.close()
        self._read.close()


@pytest.fixture
def line(tmp_path):
    with closing(Line(tmp_path / "line.sqlite")) as line:
        yield line


def turns(sender, until_true):
    def turn():
        sender.turn()
        return until_true()

    return until(turn)


def states(listener):
    return [json.loads(text) for text in listener.texts("state")]


def retained_status(broker):
    with Listener(broker.port) as late:
        return until(lambda: late.texts("status"))[0]


def test_events_arrive_in_order_with_their_ids_and_leave_the_outbox(line):
    events = line.add(45)
    with MqttBroker() as broker, Listener(broker.port) as listener:
        sender = line.sender(broker.port)
        turns(sender, lambda: not line.waiting())
        texts = until(lambda: len(t := listener.texts("events")) == 45 and t)
        sender.drop()
    heard = [json.loads(text) for text in texts]
    assert [event["id"] for event in heard] == [event.id for event in events]
    assert heard[0]["data"]["part"] == "p1" and heard[0]["type"] == "judgement"


def test_the_state_is_retained_and_begins_with_none(line):
    line.add()  # before the start
    with MqttBroker() as broker:
        sender = line.sender(broker.port)
        turns(sender, lambda: sender.connected and not line.waiting())
        row = judged(line.store, "REVIEW", 0.625, part="p2")
        sender.turn()
        with Listener(broker.port) as late:  # gets only what is retained
            turns(sender, lambda: late.texts("state") and late.texts("status"))
            assert late.texts("status") == ["online"] and late.texts("events") == []
            (state,) = states(late)
            assert all(kept for name, _, kept in late.heard if name in ("state", "status"))
        assert state == {
            "state": "REVIEW",
            "code": 2,
            "sequence": row.sequence,
            "verdict": "REVIEW",
            "score": 0.5,
            "calibrated": 0.625,
            "part": "p2",
            "model": "line",
            "time": "2023-11-14T22:13:20.000Z",
            "problem": None,
        }
        sender.close()


def test_the_status_never_comes_before_the_state_it_belongs_to(line):
    with MqttBroker() as broker, Listener(broker.port) as listener:
        sender = line.sender(broker.port)
        sender.turn()
        judged(line.store, "OK")
        sender.turn()
        line.idle = 11.0
        sender.turn()
        line.idle = 0.0
        sender.turn()
        sender.close()
        until(lambda: "offline" in listener.texts("status"))
        heard = [
            json.loads(text)["state"] if name == "state" else text
            for name, text, _ in listener.heard
            if name in ("state", "status")
        ]
        assert heard[:3] == ["none", "online", "OK"]
        assert heard[3:] == ["ERROR", "stalled", "none", "online", "none", "offline"]
        assert states(listener)[2]["problem"] == "the judging loop does not turn"


def test_the_heartbeat_rises_each_second_and_stops_with_the_loop(line):
    with MqttBroker() as broker, Listener(broker.port) as listener:
        sender = line.sender(broker.port)
        for _ in range(6):
            sender.turn()
            line.time += 0.5
        line.idle = 11.0
        for _ in range(4):
            sender.turn()
            line.time += 0.5
        until(lambda: len(listener.texts("heartbeat")) == 3)
        sender.close()
        until(lambda: "offline" in listener.texts("status"))
        assert listener.texts("heartbeat") == ["1", "2", "3"]


def test_a_process_that_dies_leaves_its_last_will(line):
    with MqttBroker() as broker, Listener(broker.port) as listener:
        sender = line.sender(broker.port)
        turns(sender, lambda: listener.texts("status") == ["online"])
        sender._client.socket().close()  # as when the process is killed
        until(lambda: listener.texts("status") == ["online", "offline"])
        until(lambda: retained_status(broker) == "offline")  # amqtt keeps it after it has told it
        sender.drop()


def test_a_broker_that_was_away_gets_all_events_but_no_old_state(line):
    port = free_port()
    sender = line.sender(port)
    with pytest.raises(NotDelivered, match="no connection to 127"):
        sender.turn()
    sender.drop()
    events = line.add(3)
    with MqttBroker(port), Listener(port) as listener:
        turns(sender, lambda: not line.waiting())
        until(lambda: len(listener.texts("events")) == 3)
        assert [state["state"] for state in states(listener)] == ["none"]
    with pytest.raises(NotDelivered, match="lost"):
        turns(sender, lambda: False)
    sender.drop()
    assert not sender.connected
    events += line.add(2)
    with MqttBroker(port), Listener(port) as listener:
        turns(sender, lambda: not line.waiting())
        ids = until(lambda: len(t := listener.texts("events")) == 2 and t)
        assert [json.loads(text)["id"] for text in ids] == [event.id for event in events[3:]]
        assert [state["state"] for state in states(listener)] == ["none"]
        judged(line.store, "OK")
        turns(sender, lambda: states(listener)[-1]["state"] == "OK")
        sender.drop()


class OddBroker:
    """Greets with `answer`, and never acknowledges; closes after so many events."""

    def __init__(self, answer=CONNACK, close_after=None, tls=False):
        self.published = []
        self.greeting = b""
        self._answer, self._close_after = answer, close_after
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATE)
            self._server = context.wrap_socket(self._server, server_side=True)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while self._server.fileno() >= 0:
            with suppress(OSError):  # a client that does not trust us is one
                connection, _ = self._server.accept()
                with connection, connection.makefile("rb") as stream:
                    self._talk(connection, stream)

    def _talk(self, connection, stream):
        events = 0
        while head := stream.read(1):
            length, shift = 0, 0
            while (byte := stream.read(1)[0]) & 0x80:
                length, shift = length | (byte & 0x7F) << shift, shift + 7
            body = stream.read(length | byte << shift)
            if head[0] == CONNECT:
                self.greeting = body
                connection.sendall(self._answer)
            if head[0] & 0xF0 == PUBLISH and b"/events" in body:
                self.published.append(body)
                events += 1
                if events == self._close_after:
                    return

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.close()


def test_an_event_is_not_sent_until_it_is_acknowledged(line):
    (event,) = line.add()
    with OddBroker() as broker:
        sender = line.sender(broker.port)
        turns(sender, lambda: broker.published)
        assert [waiting.id for waiting in line.waiting()] == [event.id]
        line.time += 31
        with pytest.raises(NotDelivered, match="not acknowledged an event in 30 s"):
            sender.turn()
        sender.drop()
        (waiting,) = line.waiting()
        assert waiting.id == event.id and waiting.attempts == 1
        assert sender.outbox.due(line.time.now) == []
        sender.turn()  # a new connection, for the state
        assert sender.connected and len(broker.published) == 1
        line.time += 2
        turns(sender, lambda: len(broker.published) == 2)
        sender.drop()
        assert event.id.encode() in broker.published[1]


def test_an_event_that_closes_the_connection_waits_longer_and_longer(line):
    line.add()
    with OddBroker(close_after=1) as broker:
        sender = line.sender(broker.port)
        with pytest.raises(NotDelivered, match="lost"):
            turns(sender, lambda: False)
        sender.drop()
        assert line.waiting()[0].attempts == 1 and "lost" in line.waiting()[0].error
        for _ in range(5):  # the state goes on
            sender.turn()
        assert sender.connected and len(broker.published) == 1
        sender.drop()


@pytest.mark.parametrize(
    ("code", "said"), [(4, "user ?name or password"), (5, "[Nn]ot authorized")]
)
def test_a_broker_that_refuses_us_is_an_error_with_its_reason(line, code, said):
    with OddBroker(b"\x20\x02\x00" + bytes([code])) as broker:
        sender = line.sender(broker.port, login=("line1", "word"))
        with pytest.raises(NotDelivered, match=f"refuses us: .*{said}"):
            sender.turn()
        sender.drop()


def test_user_and_password_come_from_the_file(line, tmp_path):
    (tmp_path / "login").write_text("line1\npass wörd\n", encoding="utf-8")
    login = read_login(tmp_path / "login")
    assert "pass" not in repr(Broker("h", 1, "p", login=login))
    with OddBroker() as broker:
        sender = line.sender(broker.port, login=login)
        sender.turn()
        sender.drop()
    wanted = b"".join(len(t.encode()).to_bytes(2) + t.encode() for t in ("line1", "pass wörd"))
    assert broker.greeting.endswith(wanted)


def test_certificates_are_verified(line):
    with OddBroker(tls=True) as broker:
        sender = line.sender(broker.port, tls=True)
        with pytest.raises(NotDelivered, match="certificate verify failed"):
            sender.turn()
        sender.drop()
        sender._context = ssl.create_default_context(cafile=str(CERTIFICATE))
        sender.turn()
        assert sender.connected
        sender.drop()


def test_addresses_of_brokers():
    assert broker_of("mqtt://mq", None, "urd/line1") == Broker("mq", 1883, "urd/line1")
    assert broker_of("mqtts://mq/", None, "urd/x") == Broker("mq", 8883, "urd/x", tls=True)
    assert broker_of("mqtt://mq:1/a/b%20c/", None, "x") == Broker("mq", 1, "a/b c")
    assert broker_of("mqtt://MQ:1883", None, "x").name == "mqtt:mq:1883"
    for url in (
        "",
        "mq:1883",
        "http://mq",
        "mqtt://",
        "mqtt://mq?a=b",
        "mqtt://mq:0",
        "mqtt://mq:x",
    ):
        with pytest.raises(UsageError, match="--mqtt"):
            broker_of(url, None, "x")
    for url in ("mqtt://mq/a+b", "mqtt://mq/a%23", "mqtt://mq/$SYS", "mqtt://mq/a%00b"):
        with pytest.raises(UsageError, match="prefix"):
            broker_of(url, None, "x")
    with pytest.raises(UsageError, match="password") as error:
        broker_of("mqtt://me:word@mq", None, "x")
    assert ":word" not in str(error.value)


def test_the_usual_prefix_is_a_valid_topic():
    assert usual_prefix(Path("/data/line1.sqlite")) == "urd/line1"
    assert usual_prefix(Path("a+b#c.sqlite")) == "urd/a_b_c"


def test_a_login_file_holds_two_lines(tmp_path):
    path = tmp_path / "login"
    for text in ("", "user\n", "user\n\n", "\nword\n", "user\nword\nmore\n"):
        path.write_text(text)
        with pytest.raises(UsageError, match="two lines"):
            read_login(path)
    with pytest.raises(UsageError, match="cannot be read"):
        read_login(tmp_path / "absent")
