"""`urd predict --on ray`: the rows of the local verb, stored in parts."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest

pytest.importorskip("ray")

import psutil
import pyarrow.dataset
from conftest import picture, save
from exporting import small_file
from ray._common.usage.usage_lib import usage_stats_enabled

from urd.bulk.predict import Asked, predict_on_ray
from urd.bulk.rows import arrow_schema
from urd.data import find_named
from urd.detector import Detector
from urd.errors import UrdError
from urd.inspection.judge import Inspection
from urd.inspection.judgement import SCHEMA_FILE
from urd.results.prediction_files import predict_to

OF_THE_CALL = ("overlay", "camera")  # a picture's name; the watch begins anew with each part
PARTS = 8  # of the archive in batches of 8


def local_rows(run, folder, out, batch_size=8):
    """The rows of the local verb."""
    paths = find_named([str(folder)], out).images
    predict_to(out, Detector.load(run), paths, batch_size, overlays="none")
    return rows_of(out / "predictions.jsonl")


def rows_of(*files):
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def stored(out):
    """All rows, in the order of the names of the parts."""
    return rows_of(*sorted((out / "jsonl").iterdir()))


def parts(out):
    """When each file of a part was written, by its name."""
    files = [*(out / "jsonl").iterdir(), *(out / "parquet").iterdir()]
    return {path.name: path.stat().st_mtime_ns for path in files}


def comparable(rows):
    return [{key: row[key] for key in row if key not in OF_THE_CALL} for row in rows]


def by_path(rows):
    return {row["path"]: row for row in rows}


@pytest.fixture(scope="module")
def first(ray, small, archive, tmp_path_factory):
    """The results of a whole call, with two workers."""
    out = tmp_path_factory.mktemp("first") / "out"
    asked = Asked("ray", small, [str(archive)], str(out), Inspection(), overlays="rejects")
    predict_on_ray(asked)
    return out


@pytest.fixture
def out(first, tmp_path):
    """A copy of these results, to be changed."""
    return shutil.copytree(first, tmp_path / "out", copy_function=shutil.copy2)


@pytest.fixture
def predict(urd, ray, small, one_thread):
    """Call the verb on Ray."""

    def call(*arguments, model=small, overlays="rejects"):
        return urd("predict", model, *arguments, "--on", "ray", "--overlays", overlays)

    return call


def test_rows_are_those_of_the_local_verb_to_the_last_bit(first, small, archive, tmp_path):
    expected = local_rows(small, archive, tmp_path / "local")
    found = stored(first)
    assert comparable(found) == comparable(expected)
    assert {row["verdict"] for row in found} == {"OK", "REVIEW", "NG", "ERROR"}
    assert len(parts(first)) == 2 * PARTS


def test_rejected_images_have_pictures(first):
    rejected = {row["overlay"] for row in stored(first) if row["verdict"] in ("REVIEW", "NG")}
    pictures = [path for path in (first / "overlays").rglob("*") if path.is_file()]
    assert {str(path.relative_to(first)) for path in pictures} == rejected
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)


def test_parquet_holds_the_same_rows(first):
    table = pyarrow.dataset.dataset(first / "parquet").to_table()
    assert table.schema.equals(arrow_schema())
    assert by_path(table.to_pylist()) == by_path(stored(first))
    assert len(table) == len(stored(first)) == 60


def test_the_columns_are_those_of_the_schema():
    assert set(arrow_schema().names) == set(json.loads(SCHEMA_FILE.read_text())["required"])


@pytest.mark.parametrize(("threads", "batch_size"), [(1, 8), (2, 3)])
def test_a_model_file_gives_the_same_and_with_other_threads_nearly(
    predict, run, archive, tmp_path, monkeypatch, threads, batch_size
):
    expected = local_rows(run, archive / "line0", tmp_path / "local")
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    where = (archive / "line0", "--out", tmp_path / "out", "--batch-size", batch_size)
    predict(*where, model=run, overlays="none")
    found = stored(tmp_path / "out")
    if (threads, batch_size) == (1, 8):
        assert comparable(found) == comparable(expected)
    for row, wanted in zip(found, expected, strict=True):
        assert (row["path"], row["verdict"]) == (wanted["path"], wanted["verdict"])
        assert row["score"] == pytest.approx(wanted["score"], abs=1e-5)
        for a, b in zip(row["defects"], wanted["defects"], strict=True):
            assert a["box"] == b["box"] and a["contour"] == b["contour"]


def test_only_what_is_not_stored_is_judged(predict, out, archive):
    before, rows = parts(out), stored(out)
    lost = sorted((out / "parquet").iterdir())[1]
    lost.unlink()  # as if a kill had come between the two files of a part
    (out / "jsonl" / "of-another-list.jsonl").write_text("{}\n")
    (out / "overlays" / "of-another-list").mkdir()
    code, said, error = predict(archive, "--out", out)
    after = parts(out)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {lost.name, f"{lost.stem}.jsonl"} and after.keys() == before.keys()
    assert stored(out) == rows and not (out / "overlays" / "of-another-list").exists()
    assert code == 1 and "58 images judged, 2 not" in said
    assert "52 rows are stored" in error and "8 images are left" in error


def test_a_finished_call_ends_with_the_counts_of_all_rows(predict, out, archive):
    before = parts(out)
    code, said, error = predict(archive, "--out", out, "--fail-on-ng")
    assert code == 1 and "58 images judged, 2 not" in said and parts(out) == before
    assert "0 images are left" in error and error.count("ERROR ") == 2
    assert "zz_cut.png" in error and "Ray" not in error and "ray" not in said


def test_new_images_are_added(predict, out, archive, tmp_path):
    before = parts(out)
    one = save(picture(np.random.default_rng(9)), tmp_path / "more" / "new.png")
    predict(archive, tmp_path / "more", "--out", out)
    after = parts(out)
    assert {name: after[name] for name in before} == before and len(after) == len(before) + 2
    rows = stored(out)
    assert len(rows) == len(by_path(rows)) == 61 and str(one) in by_path(rows)


@pytest.mark.parametrize(
    ("options", "differs"),
    [
        (["--smallest-area", 5], "another smallest_area"),
        (["--false-reject", 0.2], "another false_reject"),
        (["--max-megapixels", 7], "another max_megapixels"),
        (["--overlay-size", 100], "another overlay_side"),
    ],
)
def test_rows_of_other_settings_are_not_mixed(predict, out, archive, options, differs):
    before = parts(out)
    code, _, error = predict(archive, "--out", out, *options)
    assert code == 2 and differs in error and error.count("\n") == 1 and parts(out) == before


def test_rows_of_another_model_are_replaced_only_if_wanted(predict, out, archive, tmp_path):
    other = small_file(tmp_path / "other.onnx", most=200.0)
    where = (archive / "line0" / "000.png", "--out", out)
    code, _, error = predict(*where, model=other)
    assert code == 2 and "another model_sha256" in error and len(stored(out)) == 60
    code, said, _ = predict(*where, "--overwrite", "--fail-on-ng", model=other)
    assert code == 3 and "1 NG" in said and len(stored(out)) == 1


def test_a_folder_of_something_else_is_not_written_to(predict, archive, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    code, _, error = predict(archive, "--out", tmp_path)
    assert code == 2 and "not empty; pass --overwrite" in error
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_image_that_ends_the_process_gets_an_error_and_the_others_a_verdict(
    predict, archive, tmp_path
):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, source in (("a.png", "001"), ("crash.png", "003"), ("z.png", "005")):
        shutil.copy(archive / "line1" / f"{source}.png", folder / name)
    code, said, error = predict(folder, "--out", tmp_path / "out")
    rows = stored(tmp_path / "out")
    assert [row["verdict"] for row in rows] == ["OK", "ERROR", "NG"]
    assert "ended each time" in rows[1]["error"] and rows[1]["path"] == str(folder / "crash.png")
    assert code == 1 and "2 images judged, 1 not" in said and "crash.png" in error


def test_a_missing_image_is_an_error(predict, archive, tmp_path):
    missing, there = tmp_path / "nowhere" / "a.png", archive / "line0" / "002.png"
    code, _, error = predict(missing, there, "--out", tmp_path / "out")
    assert code == 1 and f"ERROR {missing}: no such file" in error
    assert [row["verdict"] for row in stored(tmp_path / "out")] == ["ERROR", "OK"]


def test_a_folder_that_a_node_lacks_stops_the_call(predict, archive, tmp_path, monkeypatch):
    there = tmp_path / "there" / "a.png"
    there.parent.mkdir()
    shutil.copy(archive / "line0" / "000.png", there)

    def removed(found):
        shutil.rmtree(there.parent)
        return frozenset()

    monkeypatch.setattr("urd.bulk.predict._missing_folders", removed)
    code, _, error = predict(there, "--out", tmp_path / "out")
    assert code == 1 and f"has no folder {there.parent}" in error and error.count("\n") == 1
    assert not (tmp_path / "out" / "parquet").exists()


def test_a_cluster_without_the_resources_is_said_in_one_line(ray, small, archive, tmp_path):
    asked = Asked(
        "ray", small, [str(archive)], str(tmp_path / "out"), Inspection(), threads=64, patience=1.0
    )
    with pytest.raises(UrdError, match="no node of the cluster had 64 processors free for 1 sec"):
        predict_on_ray(asked)


def test_no_usage_statistics_and_no_dashboard(ray):
    assert not usage_stats_enabled() and os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    children = psutil.Process().children(recursive=True)
    commands = {child: _of(child.cmdline) for child in children}
    assert any("gcs_server" in word for command in commands.values() for word in command)
    for child, command in commands.items():
        if any("dashboard.py" in word for word in command):  # Ray always starts its core
            assert "--disable-frontend" in command
            heard = {found.laddr.port for found in _of(child.net_connections)}
            assert 8265 not in heard


def _of(question):
    """What psutil says of a process; nothing if it has ended."""
    try:
        return question()
    except psutil.Error:
        return []
