"""No call home and no file in the home folder, seen by strace in a namespace without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from exporting import small_file

pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")
pytest.importorskip("nncf")

# Seconds until ONNX Runtime makes its first attempt, and some more.
PATIENCE = 12
# With these set the libraries send nothing, or say so; the test must not depend on them.
QUIETING = ("CI", "TF_BUILD", "JENKINS_URL", "GITHUB_ACTIONS", "NNCF_CI", "NNCF_DEV")
SWITCHES = ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "DISABLE_TELEMETRY")

BARE = f"""
import sys, time, onnxruntime, openvino, nncf
onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
openvino.Core().read_model(sys.argv[2])
time.sleep({PATIENCE})
"""
OURS = f"""
import sys, time, numpy as np
from urd import Detector
for path in sys.argv[1:3]:
    assert Detector.load(path).predict(np.zeros((32, 64, 3), np.uint8)).verdict == "OK"
time.sleep({PATIENCE})
"""
EXPORTS = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from exporting import grey, header, one_torch_export, tiny_detector
from conftest import save
from urd.export.files import Export, export
folder = Path(sys.argv[4])
images = [save(grey(value), folder / f"{{value}}.png") for value in (3, 200)]
detector = tiny_detector(header())
with one_torch_export():
    for form, suffix in (("onnx", ".onnx"), ("openvino", ".xml")):
        for precision in ("float32", "float16", "int8"):
            wanted = Export(form, precision, allow_changes=True)
            export(detector, folder / f"{{precision}}{{suffix}}", wanted, images, images)
time.sleep({PATIENCE})
"""


def without_network() -> list[str]:
    """The command that runs another one without a network; skips where there is none."""
    for options in (["-n"], ["-rn"]):
        command = ["unshare", *options]
        if (
            shutil.which("unshare")
            and subprocess.run([*command, "true"], check=False).returncode == 0
        ):
            return command
    pytest.skip("needs unshare, and leave to make a network namespace")


class Watched:
    """A Python program that runs without a network, under strace, in an empty home folder."""

    def __init__(self, code: str, folder: Path, *args: str | Path) -> None:
        if shutil.which("strace") is None:
            pytest.skip("needs strace")
        self.home, self.trace = folder / "home", folder / "trace"
        self.home.mkdir(parents=True)
        kept = {k: v for k, v in os.environ.items() if k not in (*QUIETING, *SWITCHES)}
        source = Path(__file__).resolve().parents[1] / "src"
        here = {"HOME": str(self.home), "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
        for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
            kept.pop(name, None)
        tracing = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=connect", "-o", self.trace]
        self.process = subprocess.Popen(
            [*without_network(), *tracing, sys.executable, "-c", code, *map(str, args)],
            env={**kept, **here},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def attempts(self) -> list[str]:
        """The lines in which it tried to reach another machine; it must have run to its end."""
        said, _ = self.process.communicate(timeout=600)
        assert self.process.returncode == 0, said[-2000:]
        lines = self.trace.read_text(errors="replace").splitlines()
        return [line for line in lines if "AF_INET" in line]

    def left(self) -> list[str]:
        return [str(path.relative_to(self.home)) for path in self.home.rglob("*") if path.is_file()]


@pytest.fixture
def files(tmp_path):
    return [small_file(tmp_path / name) for name in ("m.onnx", "m.xml")]


def test_the_runtimes_call_nobody_when_we_import_them(files, tmp_path):
    ours = Watched(OURS, tmp_path / "ours", *files)
    bare = Watched(BARE, tmp_path / "bare", *files)
    assert (ours.attempts(), ours.left()) == ([], [])
    # The control: with the switches as their makers have set them, the same test sees them call.
    assert bare.attempts() != []
    left = " ".join(bare.left())
    assert "onnxruntime" in left and "intel" in left


def test_an_export_of_any_precision_calls_nobody(files, tmp_path):
    watched = Watched(EXPORTS, tmp_path / "w", *files, Path(__file__).parent, tmp_path / "out")
    assert (watched.attempts(), watched.left()) == ([], [])
    assert len(list((tmp_path / "out").glob("*.parity.json"))) == 6


def run(code: str, **environment: str) -> str:
    kept = {k: v for k, v in os.environ.items() if k not in SWITCHES}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, env={**kept, **environment}, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_what_the_user_has_switched_on_stays_on(tmp_path):
    ask = "import urd, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert (run(ask), run(ask, ORT_DISABLE_TELEMETRY="0")) == ("1", "0")
    ask = "import urd, sys; print('openvino_telemetry' in sys.modules)"
    assert run(ask, HOME=str(tmp_path)) == "True"
    (tmp_path / "intel").mkdir()
    for answer, blocked in (("0", "True"), ("", "True"), ("1", "False"), ("1" * 99, "True")):
        (tmp_path / "intel" / "openvino_telemetry").write_text(answer)
        assert run(ask, HOME=str(tmp_path)) == blocked
