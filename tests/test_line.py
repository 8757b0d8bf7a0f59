"""A whole line: from a file in a folder, or a request, to the PLC and the webhook."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from lines import bad_bytes, good_bytes, tiny_run
from peers import PlcServer, WebServer, free_port, until

from urd.serving.store import Store

OK, NG, NONE = 1, 3, 0


@pytest.fixture(scope="module")
def run(tmp_path_factory, weights_file):
    return tiny_run(tmp_path_factory.mktemp("line"), weights_file)


@pytest.fixture
def secret(tmp_path) -> Path:
    path = tmp_path / "secret"
    path.write_text(f"whsec_{base64.b64encode(b'k' * 32).decode()}\n")
    return path


@pytest.fixture
def started(tmp_path):
    """Start the command in a process of its own; it is stopped at the end."""
    processes = []

    def start(*arguments):
        command = [sys.executable, "-m", "urd", *map(str, arguments)]
        with (tmp_path / f"log{len(processes)}").open("w") as log:
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_a_file_in_a_folder_reaches_the_plc_and_the_webhook(tmp_path, run, secret, started):
    folder = tmp_path / "camera"
    folder.mkdir()
    store = tmp_path / "line.sqlite"
    with PlcServer() as plc, WebServer() as hook:
        process = started(
            "watch", run, folder, "--store", store, "--ready", "rename",
            "--modbus", f"127.0.0.1:{plc.port}", "--webhook", hook.url,
            "--webhook-secret", secret,
        )  # fmt: skip
        until(lambda: plc.writes and plc.now[0] == NONE)
        for number, (image, state) in enumerate([(good_bytes(3), OK), (bad_bytes(3), NG)], 1):
            (folder / "new.part").write_bytes(image)
            (folder / "new.part").rename(folder / f"{number}.png")
            until(lambda number=number: plc.now[3] == number)
            assert plc.now[0] == state
        until(lambda: len(hook.taken) == 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert plc.now[0] == NONE
    rows = list(Store(store).rows())
    assert [row.body["part"] for row in rows] == ["1", "2"]
    told = [json.loads(body)["data"] for _, body in hook.taken]
    assert [data["sequence"] for data in told] == [1, 2]
    assert [data["verdict"] for data in told] == [row.body["verdict"] for row in rows]


def test_once_sends_its_events_before_it_ends(urd, tmp_path, run, secret):
    folder = tmp_path / "camera"
    folder.mkdir()
    (folder / "1.png").write_bytes(good_bytes(3))
    with WebServer() as hook:
        options = ["--once", "--ready", "rename", "--webhook", hook.url, "--webhook-secret", secret]
        code, _, _ = urd("watch", run, folder, "--store", tmp_path / "line.sqlite", *options)
    assert code == 0 and len(hook.taken) == 1


def test_a_request_reaches_the_plc(tmp_path, run, started):
    port = free_port()
    with PlcServer() as plc:
        started(
            "serve", f"nut={run}", "--store", tmp_path / "line.sqlite", "--port", port,
            "--modbus", f"127.0.0.1:{plc.port}",
        )  # fmt: skip
        until(lambda: plc.writes and plc.now[0] == NONE)
        until(lambda: "Listening" in (tmp_path / "log0").read_text())
        address = f"http://127.0.0.1:{port}/v1/models/nut/predict"
        request = urllib.request.Request(address, data=bad_bytes(3), method="POST")
        with urllib.request.urlopen(request) as answer:
            row = json.load(answer)
        assert row["verdict"] == "NG" and row["stored"]
        until(lambda: plc.now[0] == NG)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/status") as answer:
            (receiver,) = json.load(answer)["receivers"]
        assert receiver["name"].startswith("modbus") and receiver["connected"]


def test_a_model_that_judges_limit_samples_wrongly_is_not_served(urd, tmp_path, run):
    for kind in ("good", "bad"):
        (tmp_path / "limits" / kind).mkdir(parents=True)
        (tmp_path / "limits" / kind / "1.png").write_bytes(good_bytes(3))
    store = ["--store", tmp_path / "line.sqlite", "--port", 0]
    code, _, error = urd("serve", run, *store, "--verify", tmp_path / "limits")
    assert code == 1 and "bad/1.png: a bad part is OK" in error
    code, _, error = urd("serve", run, *store, "--verify", f"other={tmp_path / 'limits'}")
    assert code == 2 and "there is no model 'other'" in error
    two = [f"a={run}", f"b={run}"]
    code, _, error = urd("serve", *two, *store, "--verify", tmp_path / "limits")
    assert code == 2 and "say for which model" in error


def test_a_backlog_does_not_open_the_gate(tmp_path, run, started):
    """An image that waited while nobody watched belongs to a part that is long gone."""
    folder = tmp_path / "camera"
    folder.mkdir()
    (folder / "old.png").write_bytes(good_bytes(3))
    with PlcServer() as plc:
        store = Store(tmp_path / "line.sqlite")
        started(
            "watch", run, folder, "--store", store.path, "--ready", "rest:12000",
            "--modbus", f"127.0.0.1:{plc.port}",
        )  # fmt: skip
        until(lambda: store.newest(), 60)
        row = store.newest()
        assert row.body["verdict"] == "OK" and row.body["waited_seconds"] > 10
        until(lambda: plc.now[3] == row.sequence)
        assert plc.now[0] == NONE and plc.now[4] > 100
