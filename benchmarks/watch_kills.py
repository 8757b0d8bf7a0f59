"""Kills `urd watch` at random moments, and counts what is then missing or there twice.

    python benchmarks/watch_kills.py RUN IMAGES [--files 2000] [--kills 100]

Files arrive in a folder at the speed of a line: some are renamed into place, some written in two
halves, some under a name that was used before, some are no images. `urd watch --then move` judges
them and tells a webhook on this machine, which this script serves. It is killed by SIGKILL again
and again, also while it starts. In the end each file must have exactly one row and lie in exactly
one place, and the receiver must have seen each row's event, in order, and no other. RUN is as for
`urd watch`; an exported file starts in a second, so that more kills meet it at work.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64encode
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

PER_SECOND = 20
REST_MS = 1000
HALF_SECONDS = 0.15  # between the two halves of a file; far below the rest
LONGEST_WORK = 2.5  # seconds that a child works before it is killed
SHARES = {"rename": 0.35, "halves": 0.2, "garbage": 0.1, "old name": 0.25, "plain": 0.1}


class Dropper(threading.Thread):
    """Puts files into the folder, not more than `allowed` of them.

    Attributes:
        versions: of each complete file: name, SHA-256.
    """

    def __init__(self, folder: Path, images: list[Path], count: int, rng: random.Random) -> None:
        super().__init__(daemon=True)
        self.folder = folder
        self.count = count
        self.allowed = 0
        self.versions: list[tuple[str, str]] = []
        self.kinds: Counter[str] = Counter()
        self._rng = rng
        self._images = [_pixels(path) for path in images]
        self._halves: list[tuple[float, Path, bytes]] = []

    def run(self) -> None:
        while len(self.versions) < self.count or self._halves:
            self._finish_halves()
            if len(self.versions) < min(self.allowed, self.count):
                self._drop(len(self.versions))
            time.sleep(1 / PER_SECOND)

    def _drop(self, number: int) -> None:
        (kind,) = self._rng.choices(list(SHARES), list(SHARES.values()))
        name = f"part_{number:05}.png"
        if kind == "old name" and (old := self._free_old_name()):
            name = old
        elif kind == "old name":
            kind = "rename"
        content = self._garbage() if kind == "garbage" else self._image(number)
        path = self.folder / name
        if kind == "halves":
            path.write_bytes(content[: len(content) // 2])
            self._halves.append((time.monotonic() + HALF_SECONDS, path, content))
        elif kind in ("rename", "old name"):
            new = path.with_name(f"{name}.part")
            new.write_bytes(content)
            new.replace(path)
        else:
            path.write_bytes(content)
        self.versions.append((name, hashlib.sha256(content).hexdigest()))
        self.kinds[kind] += 1

    def _finish_halves(self) -> None:
        now = time.monotonic()
        for due, path, content in self._halves:
            if due <= now:
                with path.open("ab") as file:
                    file.write(content[len(content) // 2 :])
        self._halves = [half for half in self._halves if half[0] > now]

    def _free_old_name(self) -> str | None:
        """A name whose last file has been judged and moved: it may be used again."""
        used = [name for name, _ in self.versions]
        names = self._rng.sample(used, min(50, len(used)))
        return next((name for name in names if not (self.folder / name).exists()), None)

    def _image(self, number: int) -> bytes:
        """One of the images, with a number in its first pixels."""
        from PIL import Image

        pixels = self._rng.choice(self._images).copy()
        pixels[0, :4] = [[number >> (8 * byte) & 255] * 3 for byte in range(4)]
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "PNG", compress_level=1)
        return out.getvalue()

    def _garbage(self) -> bytes:
        return self._rng.randbytes(self._rng.randint(20, 5000))


class Receiver:
    """A webhook on this machine; `events` are identities and bodies in the order of arrival."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.events.append((self.headers["webhook-id"], json.loads(body)))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def close(self) -> None:
        self._server.shutdown()


class Child:
    """One start of `urd watch`."""

    def __init__(self, command: list[str]) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
        )
        self.works = threading.Event()
        self.said: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.said.append(line.rstrip())
            if line.startswith("watching "):
                self.works.set()

    def wait_until_it_works(self) -> None:
        while not self.works.wait(0.05):
            if self._process.poll() is not None:
                raise SystemExit(f"urd watch ended by itself: {' / '.join(self.said[-3:])}")

    def kill(self) -> bool:
        """Whether it was still there."""
        alive = self._process.poll() is None
        self._process.kill()
        self._process.wait()
        return alive

    def end(self) -> int:
        self._process.terminate()
        return self._process.wait(timeout=60)


def run(options: argparse.Namespace, root: Path) -> dict[str, Any]:
    rng = random.Random(options.seed)
    inbox, store = root / "in", root / "line.sqlite"
    inbox.mkdir()
    receiver = None if options.no_receiver else Receiver()
    command = _command(options.run, root, receiver)
    images = sorted(path for path in options.images.rglob("*.png"))[:50]
    dropper = Dropper(inbox, images, options.files, rng)
    dropper.start()
    began, killed, at_start = time.monotonic(), 0, 0
    for number in range(options.kills):
        dropper.allowed = options.files * (number + 2) // (options.kills + 1)
        child = Child(command)
        if rng.random() < 0.15:
            time.sleep(rng.uniform(0, 1.0))
        else:
            child.wait_until_it_works()
            time.sleep(rng.uniform(0, LONGEST_WORK))
        at_start += not child.works.is_set()
        killed += child.kill()
        print(f"kill {number + 1}: {len(dropper.versions)} files dropped", file=sys.stderr)
    dropper.allowed = options.files
    child = Child(command)
    child.wait_until_it_works()
    finished = _wait(dropper, store, inbox, receiver, options.patience)
    code = child.end()
    if receiver is not None:
        receiver.close()
    seconds = time.monotonic() - began
    return {
        "files": len(dropper.versions),
        "kinds": dict(sorted(dropper.kinds.items())),
        "kills": killed,
        "kills_while_it_started": at_start,
        "seconds": round(seconds, 1),
        "last_exit_code": code,
        "finished": finished,
        **_check(dropper.versions, store, root),
        **({} if receiver is None else _check_events(receiver.events, store)),
    }


def _command(run: Path, root: Path, receiver: Receiver | None) -> list[str]:
    command = [sys.executable, "-m", "urd", "watch", str(run), str(root / "in")]
    command += ["--store", str(root / "line.sqlite"), "--ready", f"rest:{REST_MS}"]
    command += ["--then", f"move:{root / 'out'}", "--keep", "none", "--quiet"]
    if receiver is not None:
        secret = root / "secret"
        secret.write_text(f"whsec_{b64encode(secrets.token_bytes(32)).decode()}\n")
        secret.chmod(0o600)
        command += ["--webhook", receiver.url, "--webhook-secret", str(secret)]
    return command


def _wait(
    dropper: Dropper, store: Path, inbox: Path, receiver: Receiver | None, patience: float
) -> bool:
    """Wait until nothing is left to do; whether that came."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        left = dropper.is_alive() or any(not p.name.startswith(".") for p in inbox.iterdir())
        if not left and (receiver is None or _waiting_events(store) == 0):
            time.sleep(1.0)
            return True
        time.sleep(0.2)
    return False


def _waiting_events(path: Path) -> int:
    from urd.serving.store import Store

    store = Store(path, create=False)
    try:
        with store.database.reading() as connection:
            return int(connection.execute("SELECT count(*) FROM outbox").fetchone()[0])
    finally:
        store.close()


def _rows(path: Path) -> list[dict[str, Any]]:
    from urd.serving.store import Store

    store = Store(path, create=False)
    rows = [row.to_dict() for row in store.rows()]
    store.close()
    return rows


def _check(versions: list[tuple[str, str]], store: Path, root: Path) -> dict[str, Any]:
    """What is wrong with rows and files; all numbers but those of rows should be 0."""
    expected = Counter(versions)
    rows = _rows(store)
    found = Counter((Path(row["path"]).name, row["content_sha256"]) for row in rows)
    there = Counter(
        hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in (root / "out", root / "line.sqlite.aside")
        for path in folder.rglob("*")
        if path.is_file()
    )
    wanted = Counter(content for _, content in versions)
    return {
        "rows": len(rows),
        "verdicts": dict(Counter(row["verdict"] for row in rows)),
        "versions_without_a_row": (expected - found).total(),
        "rows_too_many": (found - expected).total(),
        "files_lost": (wanted - there).total(),
        "files_too_many": (there - wanted).total(),
        "files_left": len(list((root / "in").iterdir())),
    }


def _check_events(events: list[tuple[str, dict[str, Any]]], store: Path) -> dict[str, Any]:
    rows = {row["sequence"]: row for row in _rows(store)}
    numbers = [body["data"]["sequence"] for _, body in events]
    first = list(dict.fromkeys(numbers))
    identities = {(identity, number) for (identity, _), number in zip(events, numbers, strict=True)}
    return {
        "events": len(events),
        "events_repeated": len(events) - len(first),
        "rows_without_an_event": len(rows.keys() - set(first)),
        "events_without_a_row": sum(
            number not in rows or body["data"]["verdict"] != rows[number]["verdict"]
            for number, (_, body) in zip(numbers, events, strict=True)
        ),
        "events_with_two_identities": len(identities) - len(first),
        "events_out_of_order": sum(b < a for a, b in pairwise(first)),
    }


_FAULTS = (
    *("versions_without_a_row", "rows_too_many", "files_lost", "files_too_many", "files_left"),
    *("rows_without_an_event", "events_without_a_row", "events_with_two_identities"),
    *("events_out_of_order", "last_exit_code"),
)


def _pixels(path: Path) -> Any:
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder, model file or exported file")
    parser.add_argument("images", type=Path, help="folder of PNG images to drop")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--short", action="store_true", help="60 files and 4 kills")
    parser.add_argument("--no-receiver", action="store_true", help="without a webhook")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patience", type=float, default=600.0, help="seconds for the last start")
    parser.add_argument("--json", type=Path, help="write the counts here")
    options = parser.parse_args()
    if options.short:
        options.files, options.kills = 60, 4
    from urd.system.files import write_json

    with tempfile.TemporaryDirectory() as name:
        result = run(options, Path(name))
    result["faults"] = sum(result.get(fault, 0) for fault in _FAULTS) + (not result["finished"])
    print(json.dumps(result, indent=2))
    if options.json is not None:
        write_json(options.json, result)
    if result["faults"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
