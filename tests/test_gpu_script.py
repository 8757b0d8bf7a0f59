"""`benchmarks/gpu.py`: it packs what it needs; its parts run, here on the CPU with tiny numbers."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from urd.data import decode_all, read_layout, read_masks

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SCRIPT = BENCHMARKS / "gpu.py"


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("gpu_parts.parts")


@pytest.fixture
def pack(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("gpu_parts.pack")


@pytest.fixture
def packed(pack, data, weights_file, tmp_path):
    grey = data / "train" / "good" / "000.png"
    Image.open(grey).convert("L").save(grey)
    pack.make(tmp_path / "pack", data, weights_file, 64, None)
    return tmp_path / "pack"


def gpu(*words):
    done = subprocess.run(
        [sys.executable, SCRIPT, *map(str, words)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_a_pack_holds_what_urd_would_read(data, packed, weights_file):
    ours, theirs = (read_layout(folder) for folder in (packed / "data", data))
    assert [s.defect for s in ours.test] == [s.defect for s in theirs.test]
    for mine, wanted in ((ours.train, theirs.train), (ours.test, theirs.test)):
        images = [
            decode_all([s.path for s in samples], (64, 64)).images for samples in (mine, wanted)
        ]
        assert np.array_equal(*images) and len(images[0])
    masks = [read_masks(s.masks) for s in ours.test if s.masks]
    assert len(masks) == 4 and all(0 < mask.mean() < 1 for mask in masks)
    assert (packed / "resnet18.safetensors").read_bytes() == weights_file.read_bytes()


def test_a_pack_that_is_too_large_or_has_no_room_of_its_own_is_refused(
    pack, data, packed, weights_file, tmp_path, monkeypatch
):
    with pytest.raises(SystemExit, match="is not empty"):
        pack.make(packed, data, weights_file, 64, None)
    monkeypatch.setattr(pack, "MOST_BYTES", 1000)
    with pytest.raises(SystemExit, match="too large"):
        pack.make(tmp_path / "other", data, weights_file, 64, None)


def test_a_dry_run_measures_every_part_and_writes_one_file(packed, tmp_path):
    out = tmp_path / "results" / "gpu.json"
    measured = ["card", "step", "tests", "inference", "fit_resnet18"]
    words = ["--dry-run", "--seconds", 3000, "--parts", *measured]
    code, _, err = gpu("--use", packed, "--json", out, *words)
    found = json.loads(out.read_text())["parts"]
    assert {name: part["status"] for name, part in found.items()} == dict.fromkeys(
        measured, "done"
    ), found
    assert code == 0, err
    step = found["step"]
    for way in ("plain_float32", "plain_tf32"):
        assert step[f"{way}_seconds"] > 0 and step[f"faster_than_{way}"] > 0
    assert step["gflop_per_second"] == pytest.approx(step["gflop"] / step["urd_seconds"])
    assert step["share_of_peak"] > 0 and not step["recorded"]
    assert found["tests"]["counts"]["skipped"] > 20 and not found["tests"]["counts"]["passed"]
    assert {row["precision"] for row in found["inference"]["rows"]} == {"bfloat16", "float32"}
    fit = found["fit_resnet18"]
    assert fit["finished"] and fit["iterations_done"] == 6
    assert set(fit["phases"]) == {"load_training_data", "train", "judged"}
    assert sum(fit["phases"].values()) <= fit["seconds"] + 0.5
    assert 0 <= fit["evaluation"]["image_auroc"] <= 1


def test_a_part_that_fails_or_hangs_stops_no_other(parts, tmp_path, monkeypatch):
    module = tmp_path / "gpu_parts_of_test.py"
    module.write_text(
        "import time\n"
        "def fails(report, setting):\n    report(first=1)\n    raise ValueError('no luck')\n"
        "def hangs(report, setting):\n    report(first=float('nan'))\n    time.sleep(600)\n"
        "def dies(report, setting):\n    import os\n    os.kill(os.getpid(), 11)\n"
        "def works(report, setting):\n    report(first=1, left=setting.seconds_left)\n"
    )
    names = ("fails", "hangs", "dies", "works")
    made = {name: parts.Part("x", name, 6.0, name) for name in names}
    script = tmp_path / "gpu.py"
    script.write_text(
        f"import sys\nsys.path[:0] = [{str(BENCHMARKS)!r}, {str(tmp_path)!r}]\n"
        "import gpu_parts_of_test\nfrom gpu_parts import parts\n"
        "sys.modules['gpu_parts.x'] = gpu_parts_of_test\n"
        f"parts.PARTS = {{name: parts.Part('x', name, 6.0, name) for name in {names!r}}}\n"
        "name, report = sys.argv[2], sys.argv[6]\n"
        "parts.run_one(name, parts.Path('.'), parts.Path(report), 6.0, True)\n"
    )
    monkeypatch.setattr(parts, "PARTS", made)
    monkeypatch.setattr(parts, "SCRIPT", script)
    monkeypatch.setattr(parts, "LEAST_SECONDS", 1.0)
    out = tmp_path / "out.json"
    assert parts.run_all(names, tmp_path, out, 600.0, False) == 1
    found = json.loads(out.read_text())["parts"]
    status = {name: part["status"] for name, part in found.items()}
    assert status == {
        "fails": "failed",
        "hangs": "took too long",
        "dies": "failed",
        "works": "done",
    }
    assert found["fails"]["first"] == 1 and "no luck" in found["fails"]["error"]
    assert found["hangs"]["first"] is None
    assert found["dies"]["exit_code"] == -11
    assert 0 < found["works"]["left"] <= 6
    assert parts.run_all(["works"], tmp_path, out, 0.5, False) == 1
    assert json.loads(out.read_text())["parts"]["works"]["status"] == "skipped"


def wheel(folder, name, tag="py3-none-any", **files):
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / f"{name}-1.0-{tag}.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(f"{path}.py", text)


def test_only_what_is_missing_is_unpacked(pack, tmp_path, monkeypatch):
    wheels, site = tmp_path / "pack" / "wheels", tmp_path / "site"
    wheel(wheels, "present", click="raise ImportError")
    wheel(wheels, "Made_Up", made_up="from its_need import value")
    wheel(wheels, "its_need", tag="cp26-cp26-manylinux_2_28_x86_64", its_need="value = 1")
    version = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    needed = {"click": ("present",), "made_up": ("made-up", "its-need"), "other": ("other",)}
    monkeypatch.setattr(pack, "NEEDED", needed)
    monkeypatch.setattr(pack, "NOT_PACKED", ("numpy", "not_there_either"))
    assert pack.unpack_missing(tmp_path / "pack", site) == [
        "not_there_either",
        "made_up",
        "other",
    ]
    wheel(
        wheels, "its_need", tag=f"{version}-{version}-manylinux_2_28_x86_64", its_need="value = 7"
    )
    pack.unpack_missing(tmp_path / "pack", site)
    assert sorted(path.name for path in site.iterdir()) == ["its_need.py", "made_up.py"]
    code = "import made_up; print(made_up.value)"
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    assert subprocess.check_output(command, env=environment, text=True) == "7\n"


def test_every_base_dependency_is_packed_or_named_as_not_packed(pack):
    text = (BENCHMARKS.parent / "pyproject.toml").read_text()
    listed = text.split("\ndependencies = [")[1].split("]")[0]
    names = {
        line.split('"')[1].split(">")[0].split("=")[0] for line in listed.split(",") if '"' in line
    }
    packed = {name for names in pack.NEEDED.values() for name in names}
    left = {"torch", "torchvision", "numpy", "opencv-python-headless"}
    assert names - packed == left
    assert {"cv2" if name.startswith("opencv") else name for name in left} == set(pack.NOT_PACKED)


def test_wrong_calls_say_what_to_give(tmp_path):
    assert "--pack needs" in gpu("--pack", tmp_path / "new")[2]
    assert "give --pack FOLDER or --use FOLDER" in gpu()[2]


def test_grey_images_stay_grey_and_colours_stay_colours(packed):
    modes = [Image.open(path).mode for path in packed.rglob("*.png")]
    assert (modes.count("L"), modes.count("RGB"), modes.count("1")) == (1, 19, 4)
