"""`urd serve` under load and with bad clients: places, slow and broken uploads, and its end."""

from __future__ import annotations

import io
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from lines import bad_bytes, good_bytes, tiny_run
from PIL import Image
from web import PREDICT, Talk, application, rows, serving, until

from urd import Detector
from urd.serving.http import batching, guard, server

FIELD = b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n'


@pytest.fixture(scope="module")
def run(tmp_path_factory, weights_file):
    return tiny_run(tmp_path_factory.mktemp("queue"), weights_file)


@pytest.fixture
def held(monkeypatch):
    """The network waits until the test lets it go on; the sizes of its batches are noted."""
    go, sizes = threading.Event(), []
    real = batching.judge

    def judge(model, items):
        sizes.append(len(items))
        assert go.wait(30)
        return real(model, items)

    monkeypatch.setattr(batching, "judge", judge)
    yield go, sizes
    go.set()


def gate(app):
    return app.state.parts.gate


def refused(app, reason: str) -> float:
    value = app.state.parts.metrics.registry.get_sample_value
    return value("urd_refused_total", {"reason": reason})


def test_a_full_queue_refuses_before_the_body_is_read(tmp_path, run, held):
    go, _ = held
    app = application(tmp_path, run, queue=2)
    image = good_bytes()
    with serving(app) as port, Talk(port) as one, Talk(port) as two, Talk(port) as third:
        for talk in (one, two):
            talk.head(len(image))
            talk.send(image)
        until(lambda: gate(app).taken == 2)
        third.head(10**7)  # nothing of the body is sent
        status, headers, content = third.answer()
        assert (status, headers["retry-after"], list(content)) == (503, "1", ["error"])
        assert gate(app).held_bytes == 2 * len(image)
        with Talk(port) as waits:  # such a client sends no body after a refusal
            waits.head(len(image), "Expect: 100-continue")
            assert waits.answer()[0] == 503
            assert waits.closed()
        assert refused(app, "full") == 2
        go.set()
        assert [one.answer()[0], two.answer()[0]] == [200, 200]
        until(lambda: gate(app).taken == 0)
        with Talk(port) as waits:
            waits.head(len(image), "Expect: 100-continue")
            assert waits.socket.recv(100).startswith(b"HTTP/1.1 100")
            waits.send(image)
            assert waits.answer()[0] == 200
    assert len(rows(app)) == 3 and gate(app).held_bytes == 0


def test_a_refused_client_that_sends_everything_first_still_hears_it(tmp_path, run, held):
    go, _ = held
    app = application(tmp_path, run, queue=1)
    with serving(app) as port, Talk(port) as one, Talk(port) as two:
        one.head(len(good_bytes()))
        one.send(good_bytes())
        until(lambda: gate(app).taken == 1)
        two.head(5_000_000, "Connection: close")
        two.send(bytes(5_000_000))
        assert two.answer()[0] == 503
        assert two.closed()
        go.set()
        assert one.answer()[0] == 200


def test_after_a_refusal_the_connection_is_good_for_more(tmp_path, run, held):
    go, _ = held
    app = application(tmp_path, run, queue=1)
    with serving(app) as port, Talk(port) as one, Talk(port) as two:
        one.head(len(good_bytes()))
        one.send(good_bytes())
        until(lambda: gate(app).taken == 1)
        for _ in "123":
            two.head(len(good_bytes()))
            two.send(good_bytes())
            assert two.answer()[0] == 503
        for _ in "123":  # the next request is there before the rest of this one is read
            two.head(len(good_bytes()))
            two.send(good_bytes())
        assert [two.answer()[0] for _ in "123"] == [503] * 3
        go.set()
        assert one.answer()[0] == 200
        until(lambda: gate(app).taken == 0)
        two.head(len(good_bytes()))
        two.send(good_bytes())
        assert two.answer()[0] == 200


def test_a_refused_upload_that_never_ends_is_closed(tmp_path, run, monkeypatch):
    monkeypatch.setattr(guard, "_REST_SECONDS", 0.1)
    app = application(tmp_path, run, max_bytes=1000)
    with serving(app) as port, Talk(port) as talk:
        talk.head(5000)
        assert talk.answer()[0] == 413
        assert talk.closed()


def test_what_waits_is_judged_together(tmp_path, run, held):
    go, sizes = held
    app = application(tmp_path, run, batch_size=3)
    images = [(good_bytes if number % 2 else bad_bytes)(number) for number in range(8)]
    detector = Detector.load(run)
    alone = [detector.predict(Image.open(io.BytesIO(image))).score for image in images]
    talks = []
    with serving(app) as port:
        for number, image in enumerate(images):
            talks.append(Talk(port))
            talks[-1].head(len(image), f"X-Part-Id: {number}")
            talks[-1].send(image)
            until(lambda count=number + 1: gate(app).taken == count)
            until(lambda: sizes)  # the first one does not wait for others
        decoded = app.state.parts.line._work.ready.qsize
        until(lambda: decoded() == 6)  # as many as are decoded ahead
        go.set()
        answers = [talk.answer()[2] for talk in talks]
        assert sizes == [1, 3, 3, 1]
        for number, content in enumerate(answers):  # nobody gets the answer of another one
            assert content["part"] == str(number)
            assert content["score"] == pytest.approx(alone[number], rel=1e-3)
            differences = [abs(score - content["score"]) for score in alone]
            assert differences.index(min(differences)) == number
        for talk in talks:
            talk.socket.close()
    assert len(rows(app)) == 8


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_is_refused(tmp_path, run, chunked):
    app = application(tmp_path, run, max_bytes=50_000)
    with serving(app) as port, Talk(port) as talk:
        if chunked:
            talk.head()
            talk.send(b"%x\r\n" % 60_000, bytes(60_000), b"\r\n0\r\n\r\n")
        else:
            talk.head(10**12)
        status, _, content = talk.answer()
        assert (status, content["error"]) == (413, "the body is larger than 50000 bytes")
    assert refused(app, "large") == 1
    until(lambda: gate(app).taken == 0)
    assert rows(app) == [] and gate(app).held_bytes == 0


def test_bodies_have_a_limited_memory(tmp_path, run):
    app = application(tmp_path, run, max_bytes=1000)
    with serving(app) as port:
        talks = [Talk(port) for _ in range(17)]
        for number, talk in enumerate(talks):
            talk.head(1000)
            talk.send(bytes(999))
            if number < 16:
                until(lambda held=999 * (number + 1): gate(app).held_bytes == held)
        status, headers, content = talks[-1].answer()
        assert (status, headers["retry-after"]) == (503, "1") and "large images" in content["error"]
        for talk in talks:
            talk.socket.close()
        until(lambda: gate(app).taken == 0)
    assert gate(app).held_bytes == 0 and refused(app, "aborted") == 16


def test_a_slow_upload_ends_and_gives_its_place_back(tmp_path, run):
    app = application(tmp_path, run, queue=1, upload_seconds=0.3)
    with serving(app) as port, Talk(port) as slow, Talk(port) as other:
        slow.head(1000)
        slow.send(b"x")
        until(lambda: gate(app).taken == 1)
        status, _, content = slow.answer()
        assert (status, content["error"]) == (408, "the body did not arrive in 0.3 seconds")
        other.head(len(good_bytes()))
        other.send(good_bytes())
        assert other.answer()[0] == 200
    assert refused(app, "slow") == 1 and len(rows(app)) == 1


@pytest.mark.parametrize("form", [False, True])
def test_a_broken_upload_leaves_nothing(tmp_path, run, form):
    app = application(tmp_path, run, rule="all")
    before = set(tmp_path.rglob("*"))
    with serving(app) as port:
        with Talk(port) as talk:
            talk.head(10**6, *(["Content-Type: multipart/form-data; boundary=x"] if form else []))
            talk.send(FIELD if form else b"", good_bytes())
            until(lambda: gate(app).taken == 1)
        until(lambda: gate(app).taken == 0)
        until(lambda: refused(app, "aborted") == 1)
    assert rows(app) == [] and gate(app).held_bytes == 0
    assert set(tmp_path.rglob("*")) <= before


def test_a_client_that_leaves_after_its_upload_has_its_row(tmp_path, run, held):
    go, _ = held
    app = application(tmp_path, run)
    with serving(app) as port:
        with Talk(port) as talk:
            talk.head(len(good_bytes()), "X-Part-Id: left")
            talk.send(good_bytes())
            until(lambda: gate(app).taken == 1)
        go.set()
        until(lambda: gate(app).taken == 0)
    assert [row.body["part"] for row in rows(app)] == ["left"]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"rubbish\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),  # TLS
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 20_000, 431),
        (b"GET /" + b"y" * 20_000, 431),
        (b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n" % PREDICT.encode(),
         400),
        (b"POST %b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
         % PREDICT.encode(), 400),
    ],
)  # fmt: skip
def test_what_breaks_the_rules_of_http_gets_json(tmp_path, run, sent, status):
    app = application(tmp_path, run)
    with serving(app) as port, Talk(port) as talk:
        talk.send(sent)
        found, headers, content = talk.answer()
        assert (found, list(content)) == (status, ["error"])
        assert headers["content-type"] == "application/json"
        assert talk.closed()
        until(lambda: gate(app).taken == 0)


def test_a_damaged_chunk_under_an_answer_closes_the_connection(tmp_path, run, caplog):
    app = application(tmp_path, run, max_bytes=1000)
    with serving(app) as port, Talk(port) as talk:
        talk.head()
        talk.send(b"%x\r\n" % 2000, bytes(2000), b"\r\n")
        assert talk.answer()[0] == 413
        talk.send(b"no chunk\r\n")
        assert talk.closed()
    assert [found for found in caplog.records if found.levelname == "ERROR"] == []


def test_a_slow_head_is_closed(tmp_path, run, monkeypatch):
    monkeypatch.setattr(server, "_HEAD_SECONDS", 0.3)
    app = application(tmp_path, run)
    with serving(app) as port, Talk(port) as talk, Talk(port) as silent:
        talk.send(b"GET /healthz HT")
        status, _, content = talk.answer()
        assert (status, list(content)) == (408, ["error"])
        assert silent.closed() and silent.rest == b""
        with Talk(port) as good:
            good.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert good.answer()[0] == 200
            good.send(b"GET /heal")
            assert good.answer()[0] == 408


def test_too_many_connections_are_refused(tmp_path, run, monkeypatch):
    monkeypatch.setattr(server, "_CONNECTIONS", 2)
    app = application(tmp_path, run)
    with serving(app) as port, Talk(port), Talk(port) as two:
        two.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert two.answer()[0] == 200
        with Talk(port) as third:
            status, headers, _ = third.answer()
            assert (status, headers["retry-after"]) == (503, "1")
    assert refused(app, "connections") == 1


CODE = """
import sys
from urd.cli import cli
try:
    cli.main(sys.argv[1:], standalone_mode=False)
finally:
    print("torch" in sys.modules, flush=True)
"""


@pytest.fixture
def exported(tmp_path):
    """A file for ONNX Runtime, which is loaded in a moment."""
    pytest.importorskip("onnxruntime")
    from exporting import small_file

    return small_file(tmp_path / "part.onnx")


def started(exported: Path, *command: str) -> tuple[subprocess.Popen, int]:
    """A process of `urd serve`, and its port."""
    process = subprocess.Popen(
        [sys.executable, *command, "serve", str(exported), "--port", "0", "--store",
         str(exported.with_name("line.sqlite"))],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    line = process.stdout.readline()
    assert line.startswith("Listening at http://127.0.0.1:"), line + process.stderr.read()
    assert "part (onnx cpu float32)" in line and "line.sqlite" in line
    return process, int(line.split(":")[2].split(",")[0])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_sigterm_answers_what_is_in_and_an_exported_file_needs_no_torch(exported):
    process, port = started(exported, "-c", CODE)
    path = "/v1/models/part/predict"
    try:
        with Talk(port) as talk:
            talk.head(len(good_bytes()), path=path)
            talk.send(good_bytes()[:100])
            with Talk(port) as other:
                other.head(len(good_bytes()), path=path)
                other.send(good_bytes())
                assert other.answer()[2]["sequence"] == 1
                process.send_signal(signal.SIGTERM)
                until(lambda: not listens(port))
                talk.send(good_bytes()[100:])
                status, _, content = talk.answer()
                assert (status, content["sequence"], content["stored"]) == (200, 2, True)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, "False\n", "")
    finally:
        process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_ctrl_c_ends_with_130_and_a_second_signal_at_once(exported):
    process, _ = started(exported, "-m", "urd")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "urd: interrupted\n")
    process, port = started(exported, "-m", "urd")
    with Talk(port) as talk:  # an upload that would go on for ten seconds
        talk.head(1000, path="/v1/models/part/predict")
        until(lambda: b"places_taken 1.0" in figures(port))
        process.send_signal(signal.SIGTERM)
        until(lambda: not listens(port))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 130


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def figures(port: int) -> bytes:
    with Talk(port) as talk:
        talk.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        text = b""
        while piece := talk.socket.recv(65536):
            text += piece
        return text
