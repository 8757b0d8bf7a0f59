"""The process `urd`: closed streams, full disks, readers that go, Ctrl-C once and twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = [sys.executable, "-m", "urd"]
IN_PLACE_OF_A_VERB = """
import sys
import urd.cli
from urd.__main__ import main
def verb():
{verb}
urd.cli.main = verb
main()
"""
SAY_READY = "    print('ready', flush=True)\n"
VERBS = {
    "in a library": "    import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)",
    "in another thread": (
        "    import threading\n"
        "    from concurrent.futures import ThreadPoolExecutor\n"
        "    with ThreadPoolExecutor() as pool:\n"
        "        pool.submit(threading.Event().wait).result()"
    ),
    "swallowed": (
        "    import time\n"
        "    while True:\n"
        "        try:\n"
        "            time.sleep(60)\n"
        "        except BaseException:\n"
        "            pass"
    ),
}


def start(verb: str) -> subprocess.Popen[str]:
    script = IN_PLACE_OF_A_VERB.format(verb=SAY_READY + verb)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


def shell(words: str, **options) -> subprocess.CompletedProcess[str]:
    """`URD` is the program, and exit codes are those of the last command or of `pipefail`."""
    script = words.replace("URD", f"{sys.executable} -m urd")
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", script], capture_output=True, text=True, **options
    )


@pytest.mark.parametrize("where", VERBS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_what_the_first_does_not(where, number):
    process = start(VERBS[where])
    for _ in range(2):
        time.sleep(0.2)
        process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (130, "urd: stopped at once\n")


IMPORTS = {
    "as it is": "raise",
    "as ImportError": "raise ImportError('a library') from None",
    "as SystemError": "raise SystemError('a library') from None",
    "as the exit of a verb": "sys.exit(2)",
}


@pytest.mark.parametrize("how", IMPORTS)
def test_one_signal_during_an_import_is_130_whatever_the_library_makes_of_it(how):
    verb = "    import time\n    try:\n        time.sleep(60)\n    except BaseException:\n        "
    process = start(verb + IMPORTS[how])
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said in ("urd: interrupted\n", "")


def test_ctrl_c_during_the_first_imports(tmp_path):
    """While `urd.cli` or a verb is imported: one line, no traceback."""
    for delay in (0.1, 0.2, 0.4, 0.8):
        process = subprocess.Popen(
            [*PROGRAM, "predict", "x", "y", "--out", tmp_path / "o"], stderr=subprocess.PIPE
        )
        command = Path(f"/proc/{process.pid}/fd")
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        if process.returncode == -signal.SIGINT:
            continue  # before Python has reached the program
        assert process.returncode in (130, 2), command
        assert len(said.splitlines()) == 1


def test_closed_streams(tmp_path):
    missing = tmp_path / "missing"
    for close in ("2>&-", ">&- 2>&-", "<&- >&- 2>&-", ">&-"):
        assert shell(f"URD check {missing} {close}").returncode == 2, close
    assert shell("URD doctor 2>&-").returncode == 0
    assert shell("URD doctor >&-").returncode == 0


def test_what_is_opened_does_not_become_standard_error(tmp_path):
    verb = f"    file = open({str(tmp_path / 'f')!r}, 'w'); assert file.fileno() > 2, file.fileno()"
    script = IN_PLACE_OF_A_VERB.format(verb=verb)
    closed = subprocess.run(
        ["bash", "-c", '"$@" <&- >&- 2>&-', "bash", sys.executable, "-c", script], check=False
    )
    assert closed.returncode == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_standard_output(tmp_path):
    full = shell("URD doctor > /dev/full")
    assert (full.returncode, full.stderr) == (1, "urd: No space left on device: output\n")
    assert shell("URD doctor >/dev/full 2>/dev/full").returncode == 1


def test_a_reader_that_goes():
    gone = shell("URD doctor | true")
    assert (gone.returncode, gone.stderr) in [(1, ""), (0, "")]  # 0: it was done before
    late = IN_PLACE_OF_A_VERB.format(
        verb="    import time; time.sleep(0.5); from urd.cli import cli; print('x' * 9999)\n"
        "urd.cli.cli.main = lambda **_: verb()\nreal = urd.cli.main"
    ).replace("urd.cli.main = verb\n", "")
    piped = subprocess.run(
        ["bash", "-o", "pipefail", "-c", '"$@" | true', "bash", sys.executable, "-c", late],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (piped.returncode, piped.stderr) == (1, "")


def test_a_deleted_working_folder(tmp_path):
    done = shell(f"mkdir {tmp_path}/d; cd {tmp_path}/d; rmdir {tmp_path}/d; URD check x")
    assert done.returncode == 1
    assert done.stderr.startswith("urd: the working folder cannot be used")
    assert len(done.stderr.splitlines()) == 1


def test_a_background_job_ignores_ctrl_c():
    verb = SAY_READY + "    import time; time.sleep(0.5)\n    sys.exit(0)"
    script = IN_PLACE_OF_A_VERB.format(verb=verb)
    process = subprocess.Popen(
        ["bash", "-c", 'trap "" INT; exec "$@"', "bash", sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(timeout=20) == 0
