"""Images and results behind URIs."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("ray")

from pyarrow import fs

from urd.bulk.file_systems import Remote
from urd.bulk.images import FoundImages, _add_remote, find_images
from urd.bulk.result_folders import RemoteFolder
from urd.bulk.stored import StoredRows
from urd.bulk.worker import read_remote
from urd.data import find_named
from urd.data.finding import SETTINGS_NAME
from urd.data.picture import UnreadableImage
from urd.detector import Detector
from urd.errors import UrdError, UsageError
from urd.inspection.judgement import judgement


@pytest.fixture
def bucket(tmp_path):
    """A file system of pyarrow that sees one folder only, as a bucket."""
    root = tmp_path / "bucket"
    root.mkdir()
    return Remote(fs.SubTreeFileSystem(str(root), fs.LocalFileSystem()), "data", "s3://bucket/data")


def fill(tmp_path, *names):
    for name in names:
        path = tmp_path / "bucket" / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x89PNG\r\n\x1a\n" if "png" in name else b"text")


def found_in(bucket, *pattern):
    found = FoundImages(uris=["s3://bucket/data"])
    _add_remote(found, bucket, pattern, "s3://bucket/data")
    return found


def shown(found):
    return [image.shown.removeprefix("s3://bucket/data/") for image in found.images]


def test_images_are_found_by_the_rules_for_folders(bucket, tmp_path):
    fill(tmp_path, "b/2.png", "a/1.jpg", "a/notes.txt", "a/raw_png", ".hidden/3.png", "a/.4.png")
    fill(tmp_path, "ground_truth/x/5.png", f"old/{SETTINGS_NAME}", "old/overlays/6.png")
    found = found_in(bucket)
    assert shown(found) == ["a/1.jpg", "a/raw_png", "b/2.png"]
    assert found.images[0].path == "data/a/1.jpg"
    said = " ".join(found.skipped)
    assert "1 files that are not images" in said and "notes.txt" in said
    assert "folders of earlier results" in said and "s3://bucket/data/old" in said
    assert "1 files in folders of masks" in said


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        (("*.png",), ["0.png"]),
        (("a", "*.png"), ["a/1.png"]),
        (("**", "[01].png"), ["0.png", "a/1.png"]),
        (("a*",), ["a/1.png", "ab/2.png"]),
    ],
)
def test_globs(bucket, tmp_path, pattern, names):
    fill(tmp_path, "0.png", "a/1.png", "ab/2.png")
    assert shown(found_in(bucket, *pattern)) == names


def test_a_file_means_itself_and_a_missing_one_gets_a_row(bucket, tmp_path):
    fill(tmp_path, "0.png")
    one = Remote(bucket.files, "data/0.png", "s3://bucket/data/0.png")
    missing = Remote(bucket.files, "data/9.png", "s3://bucket/data/9.png")
    found = FoundImages(uris=["a"])
    _add_remote(found, one, (), "a")
    _add_remote(found, missing, (), "a")
    assert shown(found) == ["0.png", "9.png"]


def test_no_images_is_an_error_that_says_what_is_there(bucket, tmp_path):
    fill(tmp_path, "notes.txt")
    with pytest.raises(UsageError, match="no images in s3://bucket/data; skipped 1 files"):
        found_in(bucket)


def test_reading_says_why_it_fails(bucket, tmp_path):
    fill(tmp_path, "0.png")
    assert read_remote(bucket, "data/0.png", 100) == b"\x89PNG\r\n\x1a\n"
    with pytest.raises(UnreadableImage, match="no such file"):
        read_remote(bucket, "data/1.png", 100)
    with pytest.raises(UnreadableImage, match="over 0 MiB; allow more with --max-megapixels"):
        read_remote(bucket, "data/0.png", 7)
    with pytest.raises(UnreadableImage, match="cannot be read"):
        read_remote(bucket, "data", 7)


@pytest.mark.parametrize("uri", ["nonsense://a/b", "s3://", "file://relative"])
def test_odd_uris_are_refused_in_one_line(uri):
    with pytest.raises(UrdError) as error:
        find_images([uri], "out")
    assert uri in str(error.value) and "\n" not in str(error.value)


def test_a_folder_of_results_behind_a_uri(bucket, tmp_path):
    folder = RemoteFolder(bucket)
    assert folder.names() == [] and folder.names("parquet") == []
    folder.write("parquet/a", b"1")
    folder.write("parquet/a", b"2")
    assert folder.names() == ["parquet"] and folder.read("parquet/a") == b"2"
    left = tmp_path / "bucket" / "data" / "parquet" / ".unfinished-0-a"
    left.write_bytes(b"half")
    assert folder.names("parquet") == ["a"]
    folder.clean("parquet")
    assert not left.exists()
    folder.remove("parquet/a")
    folder.remove("parquet")
    folder.remove("parquet")
    assert folder.names() == []
    with pytest.raises(UrdError, match="s3://bucket/data cannot be read"):
        folder.read("parquet/a")


def test_stored_rows_are_read_back(bucket):
    settings = {"urd": "1", "model_sha256": "a"}
    line = json.dumps({**judgement(None, "OK", score=0.5), "path": "s3://x"})
    StoredRows(RemoteFolder(bucket), settings).add("0-a", [line], {"overlays/0-a/x.png": b"png"})
    again = StoredRows(RemoteFolder(bucket), {**settings, "urd": "2"})
    assert again.summary.paths == {"s3://x"} and again.summary.verdicts == {"OK": 1}
    assert RemoteFolder(bucket).read("overlays/0-a/x.png") == b"png"
    with pytest.raises(UsageError, match="another model_sha256"):
        StoredRows(RemoteFolder(bucket), {**settings, "model_sha256": "b"})
    fresh = StoredRows(RemoteFolder(bucket), {**settings, "model_sha256": "b"}, overwrite=True)
    assert fresh.summary.paths == set() and RemoteFolder(bucket).names() == [SETTINGS_NAME]


@pytest.mark.parametrize("content", [b"", b"PAR1 not parquet PAR1", b"\0" * 100])
def test_a_damaged_part_is_named(bucket, content):
    folder = RemoteFolder(bucket)
    StoredRows(folder, {})
    folder.write("parquet/0-a.parquet", content)
    with pytest.raises(UrdError, match=r"parquet/0-a.parquet is damaged .*: delete it and run"):
        StoredRows(folder, {})


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": NaN}', b"\xff"])
def test_damaged_settings_are_refused(bucket, content):
    folder = RemoteFolder(bucket)
    folder.write(SETTINGS_NAME, content)
    with pytest.raises(UrdError, match=f"{SETTINGS_NAME} cannot be used"):
        StoredRows(folder, {})


def test_images_and_results_behind_uris(urd, ray, small, archive, tmp_path, one_thread):
    images, out = (archive / "line0").as_uri(), (tmp_path / "out").as_uri()
    command = ("predict", small, images, "--on", "ray", "--out", out, "--overlays", "rejects")
    code, said, error = urd(*command)
    assert code == 1 and "29 images judged, 1 not" in said and f"ERROR {images}/zz_cut.png" in error
    files = sorted((tmp_path / "out" / "jsonl").iterdir())
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    paths = find_named([str(archive / "line0")], tmp_path / "none").images
    local = Detector.load(small).predict_many(paths)
    for row, path, result in zip(rows, paths, local, strict=True):
        expected = json.loads(json.dumps({**result.to_dict(), "path": path.as_uri()}))
        assert {**row, "camera": [], "overlay": None} == expected
        assert (row["overlay"] is None) == (row["verdict"] in ("OK", "ERROR"))
        assert row["overlay"] is None or (tmp_path / "out" / row["overlay"]).is_file()
    again = urd(*command)
    assert again[:2] == (code, said) and "0 images are left" in again[2]


def test_regions_by_name_need_paths(urd, ray, tmp_path, archive, small, monkeypatch):
    monkeypatch.setattr("urd.detector.Detector.inspect_in", lambda *_: None)
    command = ("predict", small, (archive / "line0").as_uri(), "--on", "ray", "--roi", tmp_path)
    code, _, error = urd(*command, "--out", tmp_path / "out")
    assert code == 2 and "mount their folder on all nodes" in error
