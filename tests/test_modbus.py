"""The registers of a PLC: layout, heartbeat, and that nothing old ever comes back."""

from __future__ import annotations

import pytest
from peers import NOW, PlcServer, Time, free_port, judged

from urd.errors import UsageError
from urd.serving.line_state import LineState, State
from urd.serving.modbus import ModbusSender, Plc, plc_of, registers
from urd.serving.sender import NotDelivered
from urd.serving.store import Store, StoreError

CODE, SCORE, HIGH, LOW, AGE, BEAT, LAYOUT = range(7)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "line.sqlite")


class Line:
    """A store that one connection writes, and a state that another one reads."""

    def __init__(self, store, **settings):
        self.time = Time()
        self.idle = 0.0
        self.store = store
        self.state = LineState(
            Store(store.path), lambda: self.idle, clock=self.time.clock, **settings
        )


@pytest.fixture
def line(store):
    return Line(store)


def sender_to(plc: PlcServer, line: Line, **settings) -> ModbusSender:
    sender = ModbusSender(Plc("127.0.0.1", plc.port, **settings), line.state, clock=line.time.clock)
    sender.turn()
    return sender


def test_the_layout_of_the_registers():
    row = {"calibrated": 0.73456}
    assert registers(State("NG", 70_000, 1.26, row), 65_537) == [3, 7346, 1, 4464, 12, 1, 1]
    assert registers(State("none", 0, None), 3) == [0, 65535, 0, 0, 65535, 3, 1]
    assert registers(State("ERROR", 2**32 + 5, 1e9), 0) == [4, 65535, 0, 5, 65535, 0, 1]


def test_each_verdict_is_written_with_its_code_in_one_request(line):
    with PlcServer() as plc:
        sender = sender_to(plc, line, address=40)
        for verdict, code in (("OK", 1), ("REVIEW", 2), ("NG", 3), ("ERROR", 4), (None, 4)):
            row = judged(line.store, verdict, None if code == 4 else 0.5)
            sender.turn()
            expected = [code, 65535 if code == 4 else 5000, 0, row.sequence, 0, 1, 1]
            assert plc.writes[-1] == (40, expected)
            assert plc.read(40, 7) == expected and plc.read(39, 1) == plc.read(47, 1) == [9]
        assert [len(values) for _, values in plc.writes] == [7] * 6  # one for each, one at first
        sender.drop()


def test_the_heartbeat_rises_once_per_second_and_the_age_grows(line):
    with PlcServer() as plc:
        sender = sender_to(plc, line)
        judged(line.store)
        sender.turn()
        beats = [plc.now[BEAT]]
        for _ in range(8):
            line.time += 0.5
            sender.turn()
            beats.append(plc.now[BEAT])
        assert beats == [1, 1, 2, 2, 3, 3, 4, 4, 5]
        assert plc.now[:5] == [1, 2500, 0, 1, 40]
        line.time += 7000
        sender.turn()
        assert plc.now[AGE] == 65535 and plc.now[CODE] == 1
        sender.drop()


def test_a_loop_that_stands_still_stops_the_heartbeat_and_is_an_error(line):
    with PlcServer() as plc:
        sender = sender_to(plc, line)
        judged(line.store)
        sender.turn()
        before = plc.now[BEAT]
        line.idle = 10.5
        for _ in range(3):
            line.time += 1
            sender.turn()
        assert plc.now[CODE] == 4 and plc.now[BEAT] == before and plc.now[AGE] == 30
        line.idle = 0.0
        line.time += 1
        sender.turn()
        assert plc.now[CODE] == 0 and plc.now[BEAT] == before + 1  # the old OK does not come back
        judged(line.store, time=line.time.now)
        sender.turn()
        assert plc.now[CODE] == 1
        sender.drop()


def test_not_to_know_how_long_the_loop_stands_still_is_an_error(line):
    for idle in (lambda: float("nan"), lambda: 1 / 0):
        line.state.idle_seconds = idle
        assert line.state.look().stalled and line.state.look().code == 4


def test_a_new_start_begins_with_none_until_the_next_judgement(line):
    judged(line.store, "OK")
    with PlcServer() as plc:
        sender = sender_to(plc, line)
        assert plc.now[: AGE + 1] == [0, 65535, 0, 1, 0]
        judged(line.store, "NG")
        sender.turn()
        assert plc.now[:4] == [3, 2500, 0, 2]
        sender.close()
        assert plc.now[:4] == [0, 65535, 0, 2]  # it ends with none


def test_a_plc_that_was_away_gets_none_and_no_old_verdict(line):
    port = free_port()
    with PlcServer(port) as plc:
        sender = sender_to(plc, line)
        judged(line.store, "OK")
        sender.turn()
        assert plc.now[CODE] == 1
    with pytest.raises(NotDelivered):
        for _ in range(3):
            line.time += 1
            sender.turn()
    sender.drop()
    with pytest.raises(NotDelivered, match="no connection to 127"):
        sender.turn()
    judged(line.store, "OK")
    with PlcServer(port) as plc:
        sender.turn()
        assert plc.now[:4] == [0, 65535, 0, 2]
        judged(line.store, "REVIEW")
        sender.turn()
        assert [values[CODE] for _, values in plc.writes] == [0, 2]
        sender.drop()


def test_only_the_newest_of_many_judgements_is_written(line):
    with PlcServer() as plc:
        sender = sender_to(plc, line)
        for verdict in ("OK", "NG", "OK", "REVIEW"):
            judged(line.store, verdict)
        sender.turn()
        sender.turn()
        assert [values[CODE] for _, values in plc.writes] == [0, 2]
        sender.drop()


def test_a_mute_plc_is_an_error_of_the_delivery(line, monkeypatch):
    monkeypatch.setattr("urd.serving.modbus._TIMEOUT", 0.1)
    with PlcServer() as plc:
        sender = sender_to(plc, line)
        assert sender.connected
        plc.mute = True
        line.time += 1
        with pytest.raises(NotDelivered, match="does not answer"):
            sender.turn()
        sender.drop()
        assert not sender.connected


def test_no_connection_says_why(line):
    port = free_port()
    sender = ModbusSender(Plc("127.0.0.1", port), line.state, clock=line.time.clock)
    with pytest.raises(NotDelivered, match=f"no connection to 127.0.0.1:{port}: .*refused"):
        sender.turn()


def test_a_plc_without_these_registers_says_so(line):
    with PlcServer() as plc, pytest.raises(NotDelivered, match="95 to 101: it has no such"):
        sender_to(plc, line, address=95)


def test_the_unit_is_the_one_that_was_asked_for(line):
    with PlcServer(unit=7) as plc:
        sender = sender_to(plc, line, unit=7)
        assert sender.connected and len(plc.writes) == 1
        sender.drop()
    with PlcServer(unit=7) as plc, pytest.raises(NotDelivered):
        sender_to(plc, line, unit=8)


def test_the_sequence_never_falls_when_rows_are_deleted(line):
    judged(line.store, "NG")
    line.state.look()
    judged(line.store, "OK")
    assert line.state.look().code == 1
    with line.store.database.writing() as connection:
        connection.execute("DELETE FROM judgements WHERE sequence = 2")
    state = line.state.look()
    assert (state.code, state.sequence) == (1, 2)


def test_a_part_that_could_not_be_stored_is_an_error_until_the_next_one(line):
    line.state.look()
    judged(line.store, "OK")
    assert line.state.look().code == 1
    judged(line.store, "OK")  # not yet seen when the next one fails
    line.state.not_stored("the disk is full")
    assert [line.state.look().code for _ in range(2)] == [4, 4]
    assert line.state.look().problem == "the disk is full"
    judged(line.store, "REVIEW")
    assert line.state.look().code == 2


def test_a_store_that_cannot_be_read_is_an_error_and_then_none(line, monkeypatch):
    line.state.look()
    judged(line.store, "OK")
    assert line.state.look().code == 1
    with monkeypatch.context() as broken:

        def fail():
            raise StoreError("the store failed")

        broken.setattr(line.state, "_data_version", fail)
        broken.setattr(line.state.store, "newest", fail)
        line.state.not_stored("the disk is full")
        state = line.state.look()
        assert (state.code, state.sequence, state.stalled) == (4, 1, False)
    assert line.state.look().code == 4  # what was not stored is still the newest part
    judged(line.store, "OK")
    assert line.state.look().code == 1


def test_an_old_state_becomes_none_if_asked(store):
    line = Line(store, state_seconds=5.0)
    line.state.look()
    judged(store, "OK")
    assert line.state.look().code == 1
    line.time += 4.9
    assert line.state.look().code == 1
    line.time += 0.2
    assert line.state.look().code == 0
    judged(store, "NG", time=line.time.now)
    assert line.state.look().code == 3


def test_what_is_seen_long_after_it_was_judged_is_not_for_the_part_at_the_gate(line):
    line.state.look()
    judged(line.store, "OK", time=NOW - 60)  # this process stood still in the meantime
    state = line.state.look()
    assert (state.code, state.sequence, state.age) == (0, 1, 60.0)


def test_nothing_is_read_again_when_nobody_has_written(line, monkeypatch):
    judged(line.store)
    line.state.look()
    monkeypatch.setattr(line.state.store, "newest", lambda: 1 / 0)
    line.state.look()


def test_plc_addresses():
    assert plc_of("10.0.0.5") == Plc("10.0.0.5", 502, 1, 0)
    assert plc_of("PLC.local:1502", 0, 65529) == Plc("plc.local", 1502, 0, 65529)
    assert plc_of("[::1]:502").host == "::1"
    for text in ("", ":502", "a:b", "a:0", "a:70000", "http://a", "a/b", "me@a"):
        with pytest.raises(UsageError, match="--modbus needs HOST"):
            plc_of(text)
    with pytest.raises(UsageError, match="unit"):
        plc_of("a", 256)
    for address in (-1, 65530):
        with pytest.raises(UsageError, match="0 to 65529"):
            plc_of("a", 1, address)
