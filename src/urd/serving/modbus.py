"""Write the state of the line into the holding registers of a PLC, over Modbus TCP."""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from urd.errors import UsageError
from urd.serving.line_state import LineState, State
from urd.serving.sender import Clock, NotDelivered, cut_off, reason_of
from urd.system.extras import optional

LAYOUT = 1
REGISTERS = 7
NO_SCORE = 65535  # read as a score it is the worst
_PORT = 502
_POLL = 0.02  # seconds
_BEAT = 1.0
_TIMEOUT = 1.0
_MOST = 0xFFFF
_REFUSALS = {
    1: "it knows no function 16, write multiple registers",
    2: "it has no such registers",
    3: "it does not take such values",
    6: "it is busy",
}


@dataclass(frozen=True)
class Plc:
    """A PLC, and where its registers lie.

    Attributes:
        unit: the Modbus unit, 0 to 255.
        address: of the first register, from 0: what some manuals call 40001 is 0 here.
    """

    host: str
    port: int = _PORT
    unit: int = 1
    address: int = 0

    @property
    def name(self) -> str:
        return f"modbus:{self.host}:{self.port}"


def plc_of(text: str, unit: int = 1, address: int = 0) -> Plc:
    """The PLC of HOST or HOST:PORT.

    Raises:
        UsageError: it is none, or the registers do not fit.
    """
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.netloc != text or "@" in text or port == 0:
        raise UsageError("--modbus needs HOST or HOST:PORT, such as 192.168.0.10:502")
    if not 0 <= unit <= 255:
        raise UsageError("--modbus-unit needs a number from 0 to 255")
    if not 0 <= address <= _MOST + 1 - REGISTERS:
        raise UsageError(f"--modbus-address needs a number from 0 to {_MOST + 1 - REGISTERS}")
    return Plc(host, port or _PORT, unit, address)


def registers(state: State, heartbeat: int) -> list[int]:
    """The registers in their order: code, score, sequence (two), age, heartbeat, layout."""
    calibrated = (state.row or {}).get("calibrated")
    score = NO_SCORE if calibrated is None else min(max(round(calibrated * 10_000), 0), 10_000)
    age = _MOST if state.age is None else min(int(state.age * 10), _MOST)
    high, low = divmod(state.sequence & 0xFFFFFFFF, 0x10000)
    return [state.code, score, high, low, age, heartbeat & _MOST, LAYOUT]


def _why_not(plc: Plc) -> str:
    """Why there is no connection to a PLC: the library only says that there is none."""
    try:
        socket.create_connection((plc.host, plc.port), _TIMEOUT).close()
    except OSError as error:
        return reason_of(error)
    return "it takes connections again"


class ModbusSender:
    """Keeps the registers of one PLC at the state, with a heartbeat about once per second.

    All registers go in one request, and the next one only after its answer. What a broken
    connection has not yet sent is thrown away.
    """

    longest_wait = 5.0

    def __init__(self, plc: Plc, state: LineState, clock: Clock | None = None) -> None:
        self.plc = plc
        self.name = plc.name
        self.state = state
        self.clock = clock or Clock()
        self.connected: bool | None = None
        self._client: Any = None
        self._heartbeat = 0
        self._beat_at = 0.0
        self._written: tuple[int, int] | None = None

    def turn(self) -> float:
        if self._client is None:
            self._connect()
        state, now = self.state.look(), self.clock.steady()
        beat = now >= self._beat_at
        if beat:
            self._beat_at = now + _BEAT
            self._heartbeat += not state.stalled
        if beat or self._written != (state.code, state.sequence):
            self._write(state)
        return _POLL

    def drop(self) -> None:
        if self._client is not None:
            cut_off(self._client.socket)
            self._client.close()
        self._client, self.connected = None, False

    def close(self) -> None:
        if self._client is not None:
            self._write(self.state.look().ended())
            self._client.close()
        self._client = None

    def _connect(self) -> None:
        self.connected = False
        library = optional("pymodbus.client", "modbus")
        logging.getLogger("pymodbus").addHandler(logging.NullHandler())  # we say it ourselves
        client = library.ModbusTcpClient(
            self.plc.host, port=self.plc.port, timeout=_TIMEOUT, retries=0
        )
        if not client.connect():
            place = f"{self.plc.host}:{self.plc.port}"
            raise NotDelivered(f"no connection to {place}: {_why_not(self.plc)}")
        self._client = client
        self._written, self._beat_at = None, self.clock.steady()
        self.state.begin()  # the PLC may have been off: what was judged meanwhile is over

    def _write(self, state: State) -> None:
        """Write all registers at once.

        Raises:
            NotDelivered: the PLC does not answer, or refuses them.
        """
        from pymodbus.exceptions import ModbusException

        address = self.plc.address
        try:
            answer = self._client.write_registers(
                address, registers(state, self._heartbeat), device_id=self.plc.unit
            )
        except ModbusException as error:
            raise NotDelivered(f"the PLC does not answer: {reason_of(error)}") from error
        if answer.isError():
            code = getattr(answer, "exception_code", 0)
            why = _REFUSALS.get(code, f"exception code {code}")
            raise NotDelivered(
                f"the PLC refuses the registers {address} to {address + REGISTERS - 1}: {why}"
            )
        self._written, self.connected = (state.code, state.sequence), True
