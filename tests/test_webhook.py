"""Signed events to a web server: signatures, what is tried again, and what is parked."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import closing
from email.utils import formatdate
from pathlib import Path

import pytest
from peers import CERTIFICATE, NOW, Time, WebServer, free_port, judged

from urd.serving.outbox import Outbox, outbox_counts, parked, resend
from urd.serving.sender import NotDelivered
from urd.serving.store import Store
from urd.serving.webhook import WebhookSender, signature, webhooks_of

SECRET = bytes(range(32))
OK = (200, {}, b"thanks")


@pytest.fixture
def store(tmp_path):
    with closing(Store(tmp_path / "line.sqlite")) as store:
        yield store


@pytest.fixture
def time():
    return Time()


def sender_to(url, store, time, **settings):
    (hook,) = webhooks_of([url], [SECRET])
    return WebhookSender(hook, Outbox(store, hook.name), clock=time.clock, **settings)


def waiting(sender):
    """The events that wait, whenever they are due."""
    return sender.outbox.due(1e12)


def add(store, sender, count=1):
    for _ in range(count):
        judged(store, "NG", 0.75, receivers=[sender.name])
    return waiting(sender)[-count:]


def turn_to_the_end(sender):
    while sender.turn() == 0:
        pass


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """As RFC 2104 defines it, without Python's own module."""
    key = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in key) + message).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in key) + inner).digest()


def test_the_signature_is_that_of_the_published_example():
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body) == expected


def documented(kind: str, beginning: str) -> str:
    """A piece of code in the documents."""
    text = (Path(__file__).resolve().parents[1] / "docs" / "events.md").read_text()
    return beginning + text.partition(f"```{kind}\n{beginning}")[2].partition("```")[0]


def test_the_documented_check_in_python_knows_our_signature():
    code = {}
    exec(documented("python", "import base64"), code)
    secret = f"whsec_{base64.b64encode(SECRET).decode()}"
    headers = {"webhook-id": "msg_1", "webhook-timestamp": "17", "webhook-signature": ""}
    headers["webhook-signature"] = signature(SECRET, "msg_1", 17, b"{}")
    assert code["is_ours"](secret, headers, b"{}")
    assert not code["is_ours"](secret, headers, b"{ }")


@pytest.mark.skipif(
    not all(map(shutil.which, ("sh", "openssl", "od"))), reason="needs a shell and openssl"
)
def test_the_documented_check_in_a_shell_knows_our_signature(tmp_path):
    (tmp_path / "secret").write_text(f"whsec_{base64.b64encode(SECRET).decode()}\n")
    (tmp_path / "body").write_bytes(b'{"a": "\xc3\xa4"}')
    facts = {**os.environ, "ID": "msg_1", "TIMESTAMP": "17"}
    command = ["sh", "-c", documented("sh", "KEY=")]
    out = subprocess.run(command, cwd=tmp_path, env=facts, check=True, capture_output=True)
    right = signature(SECRET, "msg_1", 17, (tmp_path / "body").read_bytes())
    assert f"v1,{out.stdout.decode().strip()}" == right


def test_an_event_is_signed_and_leaves_the_outbox(store, time):
    with WebServer(OK) as server:
        sender = sender_to(server.url, store, time)
        (event,) = add(store, sender)
        turn_to_the_end(sender)
        ((headers, body),) = server.taken
    assert body == event.body.encode() and server.paths == ["/hook?line=1"]
    assert headers["webhook-id"] == event.id and headers["content-type"] == "application/json"
    assert headers["webhook-timestamp"] == str(int(NOW))
    signed = f"{event.id}.{int(NOW)}.".encode() + body
    assert headers["webhook-signature"] == (
        "v1," + base64.b64encode(hmac_sha256(SECRET, signed)).decode()
    )
    content = json.loads(body)
    assert content["type"] == "judgement" and content["data"]["verdict"] == "NG"
    assert waiting(sender) == [] and sender.connected


def test_events_go_in_order_over_one_connection(store, time):
    with WebServer(OK) as server:
        sender = sender_to(server.url, store, time)
        events = add(store, sender, 45)
        turn_to_the_end(sender)
        assert [headers["webhook-id"] for headers, _ in server.taken] == [e.id for e in events]
        assert server.connections == 1


def test_a_failure_holds_up_all_later_events_and_is_tried_again(store, time):
    with WebServer((500, {}, b"<p>out of\norder</p>"), OK) as server:
        sender = sender_to(server.url, store, time)
        events = add(store, sender, 3)
        with pytest.raises(NotDelivered, match="HTTP 500 <p>out of order</p>") as failure:
            sender.turn()
        assert not sender.connected and 0.5 <= failure.value.wait <= 1.0
        sender.drop()
        assert sender.turn() == pytest.approx(failure.value.wait) and len(server.taken) == 1
        assert waiting(sender)[0].error == "HTTP 500 <p>out of order</p>"
        time += 1.0
        turn_to_the_end(sender)
    ids = [headers["webhook-id"] for headers, _ in server.taken]
    assert ids == [events[0].id, *(event.id for event in events)]
    assert server.taken[1][0]["webhook-timestamp"] == str(int(NOW) + 1)


def test_waits_grow_to_five_minutes(store, time):
    with WebServer((503, {}, b"")) as server:
        sender = sender_to(server.url, store, time)
        add(store, sender)
        waits = []
        for _ in range(14):
            with pytest.raises(NotDelivered) as failure:
                sender.turn()
            sender.drop()
            waits.append(failure.value.wait)
            time += failure.value.wait
    for count, wait in enumerate(waits):
        assert min(300, 2**count) / 2 <= wait <= min(300, 2**count)
    assert len(set(waits[-4:])) == 4  # spread, so that many lines do not come back together


@pytest.mark.parametrize("status", [400, 401, 404, 410, 422])
def test_what_is_refused_for_good_is_parked_and_the_next_one_goes_on(store, time, status):
    with WebServer((status, {}, b"no such line"), OK) as server:
        sender = sender_to(server.url, store, time)
        first, second = add(store, sender, 2)
        turn_to_the_end(sender)
        (event,) = parked(store)
        assert (event.id, event.attempts) == (first.id, 1)
        assert event.error == f"HTTP {status} no such line" and sender.connected
        assert outbox_counts(store)[sender.name] == {
            "waiting": 0,
            "parked": 1,
            "error": f"HTTP {status} no such line",
        }
        assert resend(store) == 1 and outbox_counts(store)[sender.name]["error"] is None
        turn_to_the_end(sender)
        ids = [headers["webhook-id"] for headers, _ in server.taken]
        assert ids == [first.id, second.id, first.id] and waiting(sender) == parked(store) == []


def test_each_parked_event_is_counted_and_said_now_and_then(store, time, capsys, shown):
    def said():
        return capsys.readouterr().err.splitlines()

    with WebServer((404, {}, b"no such line")) as server:
        sender = sender_to(server.url, store, time)
        add(store, sender, 3)
        turn_to_the_end(sender)
        words = f"{sender.name} refused event %s, which is parked: HTTP 404 no such line"
        assert said() == [words % 1]
        time += 61
        sender.turn()  # there is nothing to send, but something to say
        assert said() == [f"{words % 3} (2 more, 3 in all)"]
        add(store, sender, 2)
        turn_to_the_end(sender)
        assert said() == []
        sender.close()  # the end of urd says the rest
        assert said() == [f"{words % 5} (2 more, 5 in all)"] and len(parked(store)) == 5
        sender.close()
        assert said() == []


@pytest.mark.parametrize("status", [302, 307, 408, 409, 425, 429, 502, 503])
def test_what_may_be_taken_later_is_not_parked(store, time, status):
    with WebServer((status, {"Location": "/elsewhere"}, b"")) as server:
        sender = sender_to(server.url, store, time)
        add(store, sender)
        with pytest.raises(NotDelivered, match=f"HTTP {status}"):
            sender.turn()
        assert len(waiting(sender)) == 1 and server.paths == ["/hook?line=1"]


@pytest.mark.parametrize(
    ("status", "asked", "wait"),
    [
        (429, "90", 90.0),
        (503, formatdate(NOW + 120, usegmt=True), 120.0),
        (503, "99999999", 3600.0),
        (429, "-5", None),
        (429, "soon", None),
        (503, formatdate(NOW - 500, usegmt=True), None),
        (500, "90", None),
    ],
)
def test_a_server_may_ask_for_a_wait(store, time, status, asked, wait):
    with WebServer((status, {"Retry-After": asked}, b"")) as server:
        sender = sender_to(server.url, store, time)
        add(store, sender)
        with pytest.raises(NotDelivered) as failure:
            sender.turn()
        assert failure.value.wait == wait or (wait is None and failure.value.wait <= 1.0)


def test_a_server_that_is_away_gets_all_events_when_it_is_back(store, time):
    port = free_port()
    sender = sender_to(f"http://127.0.0.1:{port}/", store, time)
    events = add(store, sender, 2)
    with pytest.raises(NotDelivered, match="refused"):
        sender.turn()
    sender.drop()
    assert sender.connected is False
    time += 10
    with WebServer(OK, port=port) as server:
        turn_to_the_end(sender)
        assert [headers["webhook-id"] for headers, _ in server.taken] == [e.id for e in events]


def test_a_connection_that_the_server_has_closed_is_opened_again(store, time):
    with WebServer(OK, (200, {"Connection": "close"}, b""), OK) as server:
        sender = sender_to(server.url, store, time)
        add(store, sender, 4)
        sender.turn()
        sender._connection.sock.shutdown(socket.SHUT_RDWR)
        turn_to_the_end(sender)
        assert len(server.taken) == 4 and server.connections == 3 and waiting(sender) == []


def test_a_long_answer_is_not_read_to_its_end(store, time):
    with WebServer((500, {}, b"x" * 10_000_000), OK) as server:
        sender = sender_to(server.url, store, time)
        add(store, sender)
        with pytest.raises(NotDelivered) as failure:
            sender.turn()
        assert len(str(failure.value)) <= 200 and sender._connection is None


@pytest.mark.parametrize(
    ("name", "said"), [("_READ_SECONDS", "timed out"), ("_ALL_SECONDS", "no whole answer in 0 s")]
)
def test_a_slow_answer_is_given_up(store, time, monkeypatch, name, said):
    """The first server says nothing; the second one says a little, again and again."""
    monkeypatch.setattr(f"urd.serving.webhook.{name}", 0.2)
    drips = name == "_ALL_SECONDS"
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                while not done.wait(0.02):
                    if drips:
                        try:
                            connection.send(b"HTTP/1.1 200 OK\r\nX: "[:1])
                        except OSError:
                            return

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        sender = sender_to(f"http://127.0.0.1:{server.getsockname()[1]}/", store, time)
        add(store, sender)
        with pytest.raises(NotDelivered, match=said):
            sender.turn()
        done.set()
        thread.join(30)
    assert len(waiting(sender)) == 1


def test_nonsense_instead_of_an_answer_is_tried_again(store, time):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.send(b"\x00\x01 what?\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        sender = sender_to(f"http://127.0.0.1:{server.getsockname()[1]}/", store, time)
        add(store, sender)
        with pytest.raises(NotDelivered):
            sender.turn()
    assert len(waiting(sender)) == 1


def test_certificates_are_verified(store, time):
    with WebServer(OK, tls=True) as server:
        sender = sender_to(server.url, store, time)
        (event,) = add(store, sender)
        with pytest.raises(NotDelivered, match="certificate verify failed"):
            sender.turn()
        assert server.taken == [] and waiting(sender)[0].id == event.id
        trusting = ssl.create_default_context(cafile=str(CERTIFICATE))
        sender = sender_to(server.url, store, time, context=trusting)
        time += 10
        turn_to_the_end(sender)
        assert len(server.taken) == 1


def test_an_event_that_the_store_cannot_forget_is_sent_again_with_its_id(store, time, monkeypatch):
    with WebServer(OK) as server:
        sender = sender_to(server.url, store, time)
        add(store, sender)
        with monkeypatch.context() as broken, pytest.raises(ZeroDivisionError):
            broken.setattr(sender.outbox, "sent", lambda _: 1 / 0)
            sender.turn()
        sender.drop()
        turn_to_the_end(sender)
        first, second = [headers["webhook-id"] for headers, _ in server.taken]
        assert first == second


def test_a_clock_that_was_set_back_stops_nothing(store, time):
    with WebServer((503, {}, b""), OK) as server:
        sender = sender_to(server.url, store, time)
        add(store, sender)
        with pytest.raises(NotDelivered):
            sender.turn()
        sender.drop()
        time += -86_400
        turn_to_the_end(sender)
        assert waiting(sender) == []
