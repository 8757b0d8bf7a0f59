"""Loads `urd serve` over HTTP and compares it with the bare detector.

    python benchmarks/serve_load.py RUN [--short] [--seconds N] [--out FILE.json]

The server runs in a process of its own, with a new store. The images have 256 px (the demo's
products). This process is the load:

* closed loop: 1 and 8 clients that each send the next image when they have the answer;
* open loop: images that come at a fixed rate, at 0.5, 1, 2 and 10 times the measured capacity.

It reports answers per second, the median and the 99th percentile of their latency, refused
requests, and the memory of the server. The bare detector and `urd predict --overlays none` run in
the same call, before the server and alone. The load and the server share the cores of this machine,
so the load itself costs some of the server's speed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from predict import BATCH, predict, write_images

RATES = (0.5, 1.0, 2.0, 10.0)
CLIENTS = (1, 8)
_WAIT = 60.0  # for the last answers
_BARE = """
import json, sys, time
from pathlib import Path
from urd.serving.served_model import ServedModel
model = ServedModel.load("m", Path(sys.argv[1]))
images = [path.read_bytes() for path in sorted(Path(sys.argv[2]).iterdir())[:int(sys.argv[3])]]
judging = model.detector.judging(model.inspection)
prepared = [judging.prepare(image) for image in images]

def median_ms(function):
    times = []
    for item in range(2 * len(images)):
        began = time.perf_counter()
        function(item % len(images))
        times.append(1000 * (time.perf_counter() - began))
    return sorted(times[3:])[len(times[3:]) // 2]

print(json.dumps({
    "engine": model.engine,
    "size": model.size,
    "engine_ms": median_ms(lambda i: judging.engine(prepared[i].pixels[None], None)),
    "judge_ms": median_ms(lambda i: model.detector.predict(images[i], model.inspection)),
}))
"""


@dataclass
class Load:
    """What one phase has measured."""

    name: str
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    without_retry: int = 0
    rss: tuple[int, int] = (0, 0)

    def add(self, status: int, headers: dict[bytes, bytes], seconds: float) -> None:
        self.statuses[status] += 1
        if status == 503:
            self.without_retry += b"retry-after" not in headers
        else:
            self.latencies.append(seconds)

    def row(self) -> dict[str, Any]:
        ordered = sorted(self.latencies) or [float("nan")]
        return {
            "phase": self.name,
            "per_second": round(len(self.latencies) / self.seconds, 2),
            "p50_ms": round(1000 * ordered[len(ordered) // 2], 1),
            "p99_ms": round(1000 * ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 1),
            "answered": len(self.latencies),
            "refused": self.statuses[503],
            "refused_without_retry_after": self.without_retry,
            "broken": self.statuses[0],
            "other": {str(k): n for k, n in self.statuses.items() if k not in (0, 200, 503)},
            "rss_mib": [value >> 20 for value in self.rss],
        }


class Client:
    """One connection to the server; it stays open."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, image: bytes) -> tuple[int, dict[bytes, bytes]]:
        """Status (0: the connection broke) and headers of the answer."""
        for fresh in (self._streams is None, True):  # an idle connection may have been closed
            try:
                return await self._sent(image)
            except (OSError, EOFError):
                self._close()
                if fresh:
                    break
        return 0, {}

    async def _sent(self, image: bytes) -> tuple[int, dict[bytes, bytes]]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self._streams
        writer.write(
            b"POST /v1/models/m/predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Content-Type: image/png\r\nContent-Length: %d\r\n\r\n" % len(image)
        )
        writer.write(image)
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].split(b"\r\n")
        pairs = (line.partition(b":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        await reader.readexactly(int(headers[b"content-length"]))
        return int(first.split()[1]), headers

    def _close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


async def closed_loop(load: Load, port: int, images: Sequence[bytes], clients: int) -> None:
    """Each client sends an image, waits for the answer, and sends the next one."""
    began = time.perf_counter()
    end = began + load.seconds

    async def work(number: int) -> None:
        client, count = Client(port), number
        while time.perf_counter() < end:
            sent = time.perf_counter()
            status, headers = await client.send(images[count % len(images)])
            load.add(status, headers, time.perf_counter() - sent)
            count += clients

    await asyncio.gather(*(work(number) for number in range(clients)))
    load.seconds = time.perf_counter() - began


async def open_loop(load: Load, port: int, images: Sequence[bytes], rate: float) -> None:
    """Images come at a fixed rate, whether the server keeps up or not."""
    free: list[Client] = []
    began = time.perf_counter()

    async def one(number: int) -> None:
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        client = free.pop() if free else Client(port)
        status, headers = await client.send(images[number % len(images)])
        load.add(status, headers, time.perf_counter() - due)
        free.append(client)

    await asyncio.gather(*(one(number) for number in range(round(rate * load.seconds))))
    load.seconds = max(load.seconds, time.perf_counter() - began)


def start(run: Path, folder: Path, options: Sequence[str]) -> tuple[subprocess.Popen[str], int]:
    """The server and its port."""
    command = [sys.executable, "-m", "urd", "serve", f"m={run}", "--port", "0"]
    command += ["--store", str(folder / "line.sqlite"), *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sys.stderr, text=True)
    assert server.stdout is not None
    line = server.stdout.readline()
    if "http://" not in line:
        raise SystemExit(f"the server did not start: {line}")
    return server, int(line.partition("http://127.0.0.1:")[2].partition(",")[0])


def predict_rate(run: Path, images: Path, out: Path, count: int) -> float:
    """Images per second of `urd predict --overlays none`, without its start."""
    few = max(BATCH, count // 5)
    short, _ = predict(run, images, few, out / "few", "none")
    long, _ = predict(run, images, count, out / "all", "none")
    return (count - few) / (long - short)


def measure(run: Path, seconds: float, count: int, options: Sequence[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "images").mkdir()
        write_images(folder / "images", count)
        images = [path.read_bytes() for path in sorted((folder / "images").iterdir())]
        command = [sys.executable, "-c", _BARE, str(run), str(folder / "images"), "20"]
        bare = json.loads(subprocess.check_output(command, text=True))
        bare["predict_per_second"] = round(predict_rate(run, folder / "images", folder, count), 2)
        server, port = start(run, folder, options)
        try:
            rows = asyncio.run(_phases(server.pid, port, images, seconds))
        finally:
            server.terminate()
            code = server.wait(_WAIT)
        return {"bare": bare, "phases": rows, "exit_code": code}


async def _phases(
    pid: int, port: int, images: Sequence[bytes], seconds: float
) -> list[dict[str, Any]]:
    process, rows = psutil.Process(pid), []

    async def run(name: str, work: Any, amount: float) -> dict[str, Any]:
        load, before = Load(name, seconds), process.memory_info().rss
        await work(load, port, images, amount)
        load.rss = (before, process.memory_info().rss)
        rows.append(load.row())
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
        return rows[-1]

    await run("warm-up", closed_loop, 2)
    capacity = 1.0
    for clients in CLIENTS:
        row = await run(f"{clients} clients", closed_loop, clients)
        capacity = max(capacity, row["per_second"])
    for share in RATES:
        await run(f"{share:g} x capacity", open_loop, share * capacity)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each phase")
    parser.add_argument("--short", action="store_true", help="4 seconds per phase, 120 images")
    parser.add_argument("--keep", default="rejects+sample", help="as urd serve --keep")
    parser.add_argument("--name", help="what the model is called in the table of figures")
    parser.add_argument("--out", type=Path, help="write the result as JSON")
    arguments = parser.parse_args()
    seconds, count = (4.0, 120) if arguments.short else (arguments.seconds, 600)
    result = measure(arguments.run, seconds, count, ["--keep", arguments.keep])
    bare, rows = result["bare"], {row["phase"]: row for row in result["phases"]}
    one, eight = rows["1 clients"], rows["8 clients"]
    result["overhead_ms"] = round(one["p50_ms"] - bare["judge_ms"], 2)
    result["of_predict"] = round(eight["per_second"] / bare["predict_per_second"], 3)
    print(json.dumps(bare))
    print(f"overhead at batch 1: {result['overhead_ms']} ms over judging in Python")
    print(f"8 clients: {100 * result['of_predict']:.0f} % of urd predict --overlays none")
    if arguments.out:
        from urd.system.files import write_json
        from urd.system.machine import machine

        name = arguments.name or arguments.run.name
        facts = {"machine": machine(), "model": name, "keep": arguments.keep}
        write_json(arguments.out, {**facts, **result})


if __name__ == "__main__":
    main()
