"""Bulk prediction: what needs neither Ray nor pyarrow."""

from __future__ import annotations

import importlib.util
import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import picture, save
from exporting import small_file
from lines import tiny_run

from urd.bulk.file_systems import is_uri, split_glob
from urd.bulk.images import ON_DISK, Image, find_images
from urd.bulk.judged_parts import JudgedPart, _refuse_silence
from urd.bulk.order import Order, model_files
from urd.bulk.parts import Part, images_per_part, parts_of
from urd.bulk.result_folders import LocalFolder
from urd.bulk.rows import Summary
from urd.data import Reading
from urd.data.finding import SETTINGS_NAME, search
from urd.errors import UrdError, UsageError
from urd.inspection.judge import Inspection
from urd.system.ray_session import _refuse_dead
from urd.system.threads import asked_threads

ORDER = Order((), "cpu", "float32", 1, 8, Inspection(), Reading())


def images(count: int, folder: str = "/data") -> list[Image]:
    paths = [f"{folder}/{index:05}.png" for index in range(count)]
    return [Image(path, ON_DISK, path) for path in paths]


def test_parts_hold_each_image_once_in_order():
    all_images = images(1000)
    parts = parts_of(all_images, set(), 8)
    assert [image for part in parts for image in part.images] == all_images
    assert len({part.name for part in parts}) == len(parts)
    assert [part.name for part in parts] == sorted(part.name for part in parts)


@pytest.mark.parametrize("batch_size", [1, 7, 8, 100, 4096])
def test_no_batch_is_cut_by_a_part(batch_size):
    sizes = [len(part.images) for part in parts_of(images(9000), set(), batch_size)]
    assert all(size % batch_size == 0 for size in sizes[:-1])


@pytest.mark.parametrize("stored", [[0], [1, 3], [9]])
def test_the_parts_that_are_left_are_the_same_whatever_is_stored(stored):
    all_images = images(290)
    parts = parts_of(all_images, set(), 8)
    assert [len(part.images) for part in parts] == [32] * 9 + [2]
    names = {image.shown for index in stored for image in parts[index].images}
    left = [part for index, part in enumerate(parts) if index not in stored]
    assert parts_of(all_images, names, 8) == left


@pytest.mark.parametrize(
    ("count", "size"),
    [(3, 8), (100, 16), (5000, 128), (200_000, 200), (1_500_000, 1024), (10**8, 1024)],
)
def test_the_length_of_a_part_follows_that_of_the_list(count, size):
    assert images_per_part(count, 8) == size


def test_pictures_of_equal_names_do_not_meet():
    same = [Image(f"/{folder}/x.png", ON_DISK, f"/{folder}/x.png") for folder in "abc"]
    part = Part.of(0, same)
    assert len(set(part.overlays)) == 3
    assert all(name.startswith(f"overlays/{part.name}/") for name in part.overlays)


def test_rows_are_in_the_order_of_the_images():
    part = Part.of(0, images(3))
    judged = JudgedPart(part)
    for index in (2, 0):
        judged.add(index, f"row {index}", b"png" if index else None)
    assert not judged.is_whole
    judged.add(1, "row 1")
    assert judged.is_whole and judged.ordered() == ["row 0", "row 1", "row 2"]
    assert judged.pictures == {part.overlays[2]: b"png"}


def test_uris_and_paths():
    assert is_uri("s3://bucket/a") and is_uri("file:///a")
    assert not is_uri("/a/b") and not is_uri("a:b") and not is_uri(r"C:\a")


@pytest.mark.parametrize(
    ("uri", "base", "pattern"),
    [
        ("s3://bucket/a", "s3://bucket/a", ()),
        ("s3://bucket/a/*.png", "s3://bucket/a", ("*.png",)),
        ("s3://bucket/a/**/x[12].png?region=b", "s3://bucket/a?region=b", ("**", "x[12].png")),
        ("hdfs://[::1]:9000/a/b", "hdfs://[::1]:9000/a/b", ()),
    ],
)
def test_the_folder_of_a_glob(uri, base, pattern):
    assert split_glob(uri) == (base, pattern)


def test_found_paths_are_absolute_and_there_once(tmp_path, monkeypatch, rng_picture):
    save(rng_picture, tmp_path / "in" / "a.png")
    (tmp_path / "in" / "notes.txt").write_text("no image")
    monkeypatch.chdir(tmp_path)
    found = find_images(["in", "in/a.png", str(tmp_path / "in" / "*.png")], "out")
    path = str(tmp_path / "in" / "a.png")
    assert found.images == [Image(path, ON_DISK, path)]
    assert any("notes.txt" in line for line in found.skipped)


@pytest.fixture
def rng_picture():
    import numpy as np

    return picture(np.random.default_rng(0))


def test_results_of_ray_are_not_searched_for_images(tmp_path, rng_picture):
    save(rng_picture, tmp_path / "out" / "overlays" / "part" / "a.png")
    (tmp_path / "out" / SETTINGS_NAME).write_text("{}")
    found = search(tmp_path)
    assert found.images == [] and found.results == [tmp_path / "out"]


def test_a_local_folder_of_results(tmp_path):
    folder = LocalFolder(tmp_path / "out")
    assert folder.names() == [] and folder.names("parquet") == []
    folder.write("parquet/b", b"1")
    folder.write("parquet/a", b"2")
    folder.write("parquet/a", b"3")
    assert folder.names("parquet") == ["a", "b"] and folder.read("parquet/a") == b"3"
    (tmp_path / "out" / "parquet" / ".0123.urd-part").mkdir()
    assert folder.names("parquet") == ["a", "b"]
    folder.clean("parquet")
    assert sorted(path.name for path in (tmp_path / "out" / "parquet").iterdir()) == ["a", "b"]
    folder.remove("parquet/a")
    folder.remove("parquet")
    folder.remove("parquet")
    assert folder.names() == []
    with pytest.raises(UrdError, match="cannot read"):
        folder.read("parquet/a")


def test_a_summary_counts_and_keeps_few():
    summary = Summary()
    row = {"path": "a", "verdict": "ERROR", "error": "broken", "camera": []}
    summary.add({**row, "path": f"{n}"} for n in range(9))
    summary.add([{**row, "verdict": "OK", "error": None, "camera": ["dark"]}])
    assert summary.verdicts == {"ERROR": 9, "OK": 1} and len(summary.paths) == 10
    assert summary.n_failed == 9 and len(summary.failed) == 5
    assert summary.odd == ("a", "dark") and summary.n_odd == 1


def test_every_setting_that_changes_a_row_is_among_the_settings():
    model = {"model.safetensors": b"weights"}
    settings = ORDER.settings(model)
    changed = [
        replace(ORDER, precision="bfloat16"),
        replace(ORDER, inspection=Inspection(smallest_area=3.0)),
        replace(ORDER, inspection=Inspection(false_reject=0.1)),
        replace(ORDER, reading=Reading(page=2)),
        replace(ORDER, roi="/rois"),
        replace(ORDER, overlays="all"),
    ]
    assert all(order.settings(model) != settings for order in changed)
    assert ORDER.settings({"model.safetensors": b"other"}) != settings
    assert replace(ORDER, threads=4, batch_size=2).settings(model) == settings
    assert json.loads(json.dumps(settings)) == settings


def test_the_files_of_a_model(tmp_path, weights_file):
    run = tiny_run(tmp_path, weights_file)
    content = (run / "model.safetensors").read_bytes()
    assert model_files(run) == {"model.safetensors": content}
    assert model_files(run / "model.safetensors") == {"model.safetensors": content}
    with pytest.raises(UsageError, match="cannot be read"):
        model_files(tmp_path / "none.safetensors")


def test_a_model_opens_from_its_bytes(tmp_path, weights_file, rng_picture, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    from urd import Detector

    run = tiny_run(tmp_path, weights_file)
    image = save(rng_picture, tmp_path / "a.png")
    detector = ORDER.open(model_files(run))
    assert detector.predict(image).to_dict() == Detector.load(run).predict(image).to_dict()


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_an_exported_file_opens_from_its_bytes_with_the_threads_asked_for(
    tmp_path, suffix, monkeypatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    path = small_file(tmp_path / f"small{suffix}")
    files = model_files(path)
    path.unlink()
    detector = replace(ORDER, precision=None, threads=1).open(files)
    engine = detector.engine
    if suffix == ".onnx":
        threads = engine._session.get_session_options().intra_op_num_threads
    else:
        threads = engine._compiled.get_property("INFERENCE_NUM_THREADS")
    assert threads == 1


@pytest.mark.parametrize(
    ("text", "threads"), [(None, 0), ("", 0), ("3", 3), ("4,2", 4), ("many", 0), ("-1", 0)]
)
def test_the_threads_that_a_user_asks_for(text, threads, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if text is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert asked_threads() == threads


def test_a_cluster_without_nodes_or_answers_is_not_waited_for_for_ever():
    _refuse_silence(119.0, 3599.0, 120.0)
    with pytest.raises(UrdError, match="no node of the cluster could run a worker for 120 seconds"):
        _refuse_silence(121.0, 121.0, 120.0)
    with pytest.raises(UrdError, match="no worker has answered for an hour"):
        _refuse_silence(0.0, 3601.0, 120.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--on", "slurm", "--out", "out"], "choose local, ray or ray:ADDRESS"),
        (["--on", "ray", "--maps", "--out", "out"], "--maps cannot be used with --on"),
        (["--out", "s3://bucket/out"], "s3://bucket/out is a URI, which needs --on ray"),
        (["--out", "out", "file:///data"], "file:///data is a URI, which needs --on ray"),
        (["--jobs", "2", "--out", "out"], "--jobs needs --on ray"),
    ],
)
def test_options_that_do_not_fit(urd, tmp_path, monkeypatch, options, said):
    monkeypatch.chdir(tmp_path)
    code, _, error = urd("predict", "run", "in", *options)
    assert code == 2 and said in error and error.count("\n") == 1
    assert list(Path().iterdir()) == []


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_the_extra_is_named(urd, tmp_path, weights_file):
    run = tiny_run(tmp_path, weights_file)
    code, _, error = urd("predict", run, tmp_path / "good", "--on", "ray", "--out", tmp_path / "o")
    assert code == 2 and "pip install 'urd-inspect[ray]'" in error
    assert not (tmp_path / "o").exists()


def test_an_address_where_nobody_listens_is_refused_at_once():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(OSError):
            _refuse_dead(f"127.0.0.1:{port}")
        unused.listen()
        _refuse_dead(f"127.0.0.1:{port}")
        _refuse_dead(f"[::ffff:127.0.0.1]:{port}")
    for unknown in ("auto", "", "ray://head:10001"):
        _refuse_dead(unknown)
