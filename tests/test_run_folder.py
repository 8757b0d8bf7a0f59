"""A run folder: what its files mean, and that no other module writes their names."""

from __future__ import annotations

import re
from pathlib import Path

import urd
from urd.model.run_folder import RunFolder, model_file_of

SOURCE = Path(urd.__file__).parent


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_begun_and_finished(tmp_path):
    run = RunFolder(tmp_path / "run")
    assert not run.has_begun and not run.is_finished
    touch(run.config)
    assert run.has_begun and not run.is_finished
    touch(run.model)
    assert run.is_finished
    touch(run.expert)  # an older model beside a training that goes on
    assert not run.is_finished
    touch(run.checkpoint / "of somebody else")
    run.remove_checkpoint()
    assert run.is_finished and run.checkpoint.is_dir()


def test_what_was_said_of_an_older_model_ends_with_it(tmp_path):
    run = RunFolder(tmp_path)
    for path in (run.evaluation, run.evaluation_details, run.report, run.calibration, run.curve):
        touch(path)
    run.forget_older_model()
    assert [path.name for path in tmp_path.iterdir()] == [run.curve.name]


def test_a_run_is_a_folder_or_its_model_file(tmp_path):
    assert model_file_of(tmp_path) == tmp_path / "model.safetensors"
    assert model_file_of(tmp_path / "x.safetensors") == tmp_path / "x.safetensors"


def test_names_stand_in_one_place():
    """In code; documentation may name them. `data` tells folders of results by two of them."""
    run = RunFolder(Path("run"))
    own = [run.config, run.curve, run.evaluation, run.evaluation_details, run.state, run.expert]
    pattern = re.compile("|".join(f'"{re.escape(path.name)}"' for path in own))
    places = [path for path in SOURCE.rglob("*.py") if pattern.search(path.read_text())]
    # The demo's own figures have that name too, in a folder that is no run.
    assert set(places) - {SOURCE / "cli" / "demo.py"} == {SOURCE / "model" / "run_folder.py"}
