"""Every shell and Python block of the documents runs here, or says why it does not.

A page runs from top to bottom in a folder with small images and a tiny detector. The presets have
tiny settings, so that a training takes a second; the words of the commands stay as they are. A
comment in the line above a block may say:

    <!-- no-run: REASON -->          it is only parsed
    <!-- runs-in: tests/FILE.py -->  another test runs it
    <!-- file: NAME -->              it is the content of a file
    <!-- exits: 0 1 -->              these exit codes are right
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import click
import numpy as np
import pytest
import yaml
from conftest import TINY, picture, save
from documents import KNOWN, LOGS, ROOT, SHELL, Block, blocks, blocks_of, commands_in, once, pages

from urd import Detector, cli
from urd.backbones import registry
from urd.presets import PRESETS
from urd.training import step

TO_RUN = [page for page in pages() if page.parent != LOGS and blocks_of(page)]
MARKED = [block for block in blocks() if block.mark == "no-run"]


SETTINGS = {
    "variant": "memory",
    "backbone": TINY,
    "weights": "none",
    "memory": 64,
    "iterations": 2,
    "batch_size": 4,
    "image_size": [64, 64],
    "holdout": 0.5,
    "precision": "float32",
}


def make_world(folder: Path) -> None:
    """The names that the documents use, as small as can be."""
    rng = np.random.default_rng(0)
    good, bad = (lambda: picture(rng)), (lambda: _with_square(rng))
    for index in range(24):
        save(good(), folder / "parts/train/good" / f"{index:03}.png")
    for index in range(4):
        save(good(), folder / "parts/test/good" / f"{index:03}.png")
        save(bad(), folder / "parts/test/scratch" / f"{index:03}.png")
        mask = np.zeros((48, 48), np.uint8)
        mask[10:30, 12:34] = 255
        save(mask, folder / "parts/ground_truth/scratch" / f"{index:03}_mask.png")
    for name in ("more_good", "good", "camera1"):
        for index in range(20 if name.endswith("good") else 2):
            save(good(), folder / name / f"{index:04}.png")
    shutil.copytree(folder / "parts/train/good", folder / "limits/good")
    for name in ("new_images/0001.png", "limits/bad/0001.png", "part.png"):
        save(bad(), folder / name)
    detector = Detector.fit(folder / "parts", folder / "runs/parts", **SETTINGS)
    for name in ("old", "new", "nut"):
        shutil.copytree(folder / "runs/parts", folder / "runs" / name)
    for name in ("a", "b"):
        for path in sorted((folder / "parts/test").rglob("*.png")):
            out = folder / "maps" / name / path.parent.name / f"{path.stem}.npy"
            out.parent.mkdir(parents=True, exist_ok=True)
            np.save(out, detector.predict(path).map_at((48, 48)))


def _with_square(rng: np.random.Generator) -> np.ndarray:
    image = picture(rng)
    image[10:30, 12:34] = rng.integers(0, 255, (20, 22, 3))
    return image


@pytest.fixture
def world(tmp_path, tmp_path_factory, monkeypatch) -> Path:
    made = once(tmp_path_factory.getbasetemp(), "world", make_world)
    folder = tmp_path / "world"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    for name in PRESETS:
        monkeypatch.setitem(PRESETS, name, SETTINGS)
    monkeypatch.setattr(registry, "FAMILIES", registry.FAMILIES)  # an example adds to it
    monkeypatch.setattr(step, "student_loss", step.student_loss)  # another one replaces it
    return folder


def parsed(words: list[str]) -> None:
    """Check verb, flags and values of a command without running it."""
    command: click.Command = cli.cli
    context = None
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command, parent=context), words[0])
        assert found is not None, f"there is no verb {words[0]}"
        command, words = found, words[1:]
    command.make_context(command.name, list(words))


def run_shell(block: Block, urd) -> None:
    expected = set(map(int, block.about.split())) if block.mark == "exits" else {0}
    for command in commands_in(block.code):
        name, *words = shlex.split(command)
        assert name == "urd", f"{block.place}: '{command}' is no command of urd: mark the block"
        parsed(words)
        if words[0] == "fit" and "--resume" not in words and "--overwrite" not in words:
            assert "--preset" in words, f"{block.place}: only presets are tiny here"
            shutil.rmtree(words[words.index("--out") + 1], ignore_errors=True)
        code, out, error = urd(*words)
        assert code in expected, f"{block.place}: {command}\nexit code {code}\n{out}\n{error}"


@pytest.mark.parametrize("page", TO_RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run_from_top_to_bottom(page, world, urd):
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks_of(page):
        if block.mark == "file":
            Path(block.about).write_text(block.code)
        if block.mark in ("no-run", "runs-in"):
            continue
        if block.language in SHELL:
            run_shell(block, urd)
        elif block.language == "python":
            for out in re.findall(r'^[^#\n]*Detector\.fit\([^#\n]*out="([^"]+)"', block.code, re.M):
                shutil.rmtree(out, ignore_errors=True)
            exec(compile("\n" * block.line + block.code, str(page), "exec"), names)


@pytest.mark.parametrize("block", blocks(), ids=lambda block: block.place)
def test_a_block_is_what_it_says(block):
    assert block.language in KNOWN, f"{block.place}: name the language behind the fence"
    if block.language == "python":
        compile(block.code, block.place, "exec")
    elif block.language == "yaml":
        assert yaml.safe_load(block.code)
    elif block.language == "json":
        json.loads(block.code)


@pytest.mark.parametrize("block", MARKED, ids=lambda block: f"{block.place}: {block.about}")
def test_a_block_that_does_not_run_says_why_and_names_real_flags(block):
    assert len(block.about.split()) >= 2
    for word in block.about.split():
        if word.strip(",;.").startswith("tests/"):
            assert (ROOT / word.strip(",;.")).exists()
    if block.language in SHELL - {"powershell"}:
        for command in commands_in(block.code):
            name, *words = shlex.split(command)
            if name == "urd":
                parsed(words)


def test_a_block_that_runs_elsewhere_is_read_there():
    for block in blocks():
        if block.mark == "runs-in":
            assert block.document.name in (ROOT / block.about).read_text(), block.place


def test_logs_hold_no_block_that_could_run():
    for block in blocks():
        if block.document.parent == LOGS and block.language in SHELL | {"python"}:
            assert block.mark == "no-run", block.place


@pytest.mark.parametrize("words", [["fit", "parts", "--no-such-flag"], ["no-such-verb"]])
def test_a_command_that_the_program_does_not_know_is_found(words):
    with pytest.raises((AssertionError, click.ClickException)):
        parsed(words)
