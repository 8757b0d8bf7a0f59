"""The public interface: names, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import urd


def test_every_public_name_is_there_and_listed():
    for name in urd.__all__:
        assert getattr(urd, name) is not None
        assert name in dir(urd)
    with pytest.raises(AttributeError, match="no attribute 'detectr'"):
        _ = urd.detectr


@pytest.mark.parametrize(
    "code",
    [
        "import urd",
        "import urd.cli.predict, urd.results.prediction_files, urd.engines.registry",
        "import urd.data.check, urd.evaluation.map_files, urd.metrics",
        "from urd import Detector, Prediction, Inspection, Evaluation, FitConfig",
    ],
)
def test_what_needs_no_torch_imports_none(code):
    check = f"{code}\nimport sys; sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_judging_by_an_onnx_file_imports_no_torch(tmp_path):
    pytest.importorskip("onnxruntime")
    from test_version_0_1 import OLD, write

    write(tmp_path / "a.ppm", 3)
    code = (
        "import sys; from urd import Detector; "
        f"print(Detector.load({str(OLD / 'model.onnx')!r}).predict({str(tmp_path / 'a.ppm')!r})); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Prediction('a.ppm', ")
