"""Real receivers on the loopback address, rows to tell them, and a clock that a test moves."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

from lines import record

from urd.serving.record import Stored
from urd.serving.sender import Clock
from urd.serving.store import Store

NOW = 1_700_000_000.0
CERTIFICATE = Path(__file__).parent / "fixtures" / "loopback.pem"  # of 127.0.0.1, with its key


class Time:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = NOW
        self.clock = Clock(lambda: self.now, lambda: self.now, Random(0))

    def __iadd__(self, seconds: float) -> Time:
        self.now += seconds
        return self


def judged(
    store: Store, verdict: str | None = "OK", calibrated: float | None = 0.25, **facts: Any
) -> Stored:
    """Store a judgement, as another connection does it; `receivers` get an event."""
    receivers = facts.pop("receivers", ())
    row = record(verdict, **{"time": NOW, **facts})
    row.judgement["calibrated"] = calibrated
    return store.add(row, receivers)[0]


def until(what: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Wait for a value that is true; fail loudly if it does not come."""
    end = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)
    return value


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class WebServer:
    """Takes webhooks. `answers` are (status, headers, body), the last one for all that follow.

    With `tls` it has a certificate that no authority has signed.
    """

    def __init__(
        self, *answers: tuple[int, dict[str, str], bytes], port: int = 0, tls: bool = False
    ) -> None:
        self.answers = list(answers) or [(204, {}, b"")]
        self.taken: list[tuple[dict[str, str], bytes]] = []
        self.paths: list[str] = []
        self.connections = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                server.connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                server.taken.append((headers, body))
                server.paths.append(self.path)
                status, more, text = server.answers[0]
                if len(server.answers) > 1:
                    server.answers.pop(0)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(text)), **more}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.http.daemon_threads = True
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATE)
            self.http.socket = context.wrap_socket(
                self.http.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self.http.server_port
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}/hook?line=1"
        threading.Thread(target=self.http.serve_forever, args=[0.01], daemon=True).start()

    def __enter__(self) -> WebServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()


class Loop:
    """An event loop in a thread, for servers that need one."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def close(self) -> None:
        self.run(_cancel_others())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(30)
        self.loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class MqttBroker:
    """An amqtt broker, with a listener that keeps what it hears."""

    def __init__(self, port: int = 0, password_file: Path | None = None) -> None:
        self.port = port or free_port()
        self._runner = Loop()
        plugin = "amqtt.plugins.authentication."
        plugins: dict[str, Any] = {f"{plugin}AnonymousAuthPlugin": {"allow_anonymous": True}}
        if password_file is not None:
            plugins = {f"{plugin}FileAuthPlugin": {"password_file": str(password_file)}}
        self._broker = self._runner.run(self._start(plugins))

    async def _start(self, plugins: dict[str, Any]) -> Any:
        from amqtt.broker import Broker

        listeners = {"default": {"type": "tcp", "bind": f"127.0.0.1:{self.port}"}}
        broker = Broker({"listeners": listeners, "plugins": plugins})
        await broker.start()
        return broker

    def __enter__(self) -> MqttBroker:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._broker.shutdown())
        self._runner.close()


class Listener:
    """Hears all topics of a broker: `heard` holds (last part of the topic, text, retained)."""

    def __init__(self, port: int) -> None:
        import paho.mqtt.client as mqtt

        self.heard: list[tuple[str, str, bool]] = []
        ready = threading.Event()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self.client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.on_message = lambda _client, _data, message: self.heard.append(
            (message.topic.rpartition("/")[2], message.payload.decode(), message.retain)
        )
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert ready.wait(30)

    def texts(self, topic: str) -> list[str]:
        return [text for name, text, _ in self.heard if name == topic]

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()


class PlcServer:
    """A Modbus server with 100 holding registers; `writes` are (address, values) as they came."""

    def __init__(self, port: int = 0, unit: int = 1) -> None:
        self.port = port or free_port()
        self.unit = unit
        self.writes: list[tuple[int, list[int]]] = []
        self.mute = False
        self._runner = Loop()
        self._server = self._runner.run(self._start())

    async def _start(self) -> Any:
        from pymodbus.server import ModbusTcpServer
        from pymodbus.simulator import DataType, SimData, SimDevice

        async def action(
            function: int, _start: int, address: int, _count: int, _now: list[int], new: Any
        ) -> None:
            if self.mute:
                await asyncio.sleep(3600)
            if function == 16:
                self.writes.append((address, list(new)))

        device = SimDevice(
            self.unit, [SimData(0, count=100, values=9, datatype=DataType.REGISTERS)], action=action
        )
        server = ModbusTcpServer(device, address=("127.0.0.1", self.port))
        await server.serve_forever(background=True)
        return server

    @property
    def now(self) -> list[int]:
        """The registers, as they were written last."""
        return self.writes[-1][1]

    def read(self, address: int, count: int) -> list[int]:
        from pymodbus.client import ModbusTcpClient

        client = ModbusTcpClient("127.0.0.1", port=self.port)
        try:
            return list(client.read_holding_registers(address, count=count).registers)
        finally:
            client.close()

    def __enter__(self) -> PlcServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._server.shutdown())
        self._runner.close()
