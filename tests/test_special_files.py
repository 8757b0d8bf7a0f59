"""Pipes, sockets and devices where a file is wanted: refused, and never opened, for that waits."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from urd.config import read_config_file
from urd.errors import UsageError
from urd.files import refuse_special, special
from urd.map_files import read_map

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")


@pytest.fixture
def pipe(tmp_path):
    """Nobody writes to it: to open it would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_what_is_special(pipe, tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        assert special(tmp_path / "s") == "a socket"
    (tmp_path / "link.png").symlink_to(pipe)
    assert special(tmp_path / "link.png") == special(pipe) == "a pipe"
    assert special(Path("/dev/zero")) == "a device"
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for path in ("file", "", "absent", "loop", "x" * 300, "no\0name"):
        assert special(tmp_path / path) is None
        refuse_special(tmp_path / path)


@pytest.mark.parametrize("read", [refuse_special, read_config_file, read_map])
def test_a_pipe_is_refused_before_it_is_opened(read, pipe):
    with pytest.raises(UsageError, match="pipe is not a regular file but a pipe"):
        read(pipe)
