"""Fingerprints: of what files hold, and not of where they lie."""

from __future__ import annotations

import shutil

import pytest
from suites import write_roots, write_suite

from urd.backbones.builtin import BUILTIN
from urd.backbones.registry import backbone_of
from urd.networks.variants import VARIANTS
from urd.suites.fingerprints import Fingerprints
from urd.suites.places import Places
from urd.suites.suite import read_suite


@pytest.fixture
def roots(data, tmp_path):
    return write_roots(tmp_path, data)


def test_other_images_are_other_inputs_and_moved_ones_are_not(roots, tmp_path):
    suite, moved = read_suite(write_suite(tmp_path)), tmp_path / "moved"
    shutil.copytree(roots, moved)
    here, there = Places({"folder": roots}), Places({"folder": moved})
    whole, partial = suite.jobs[0], suite.jobs[2]
    before = Fingerprints(here).of(whole)
    assert Fingerprints(there).of(whole) == before
    image = moved / "whole/train/good/000.png"
    image.write_bytes((moved / "whole/train/good/001.png").read_bytes())
    changed = Fingerprints(there)
    assert changed.of(whole)["images"] != before["images"]
    assert changed.of(partial) == Fingerprints(here).of(partial)


@pytest.mark.parametrize("option", ["roi", "ignore", "foreground"])
def test_what_lies_at_the_path_of_a_setting_counts(roots, tmp_path, option):
    path = tmp_path / "region.json"
    suite = read_suite(write_suite(tmp_path, vary={option: [str(path)]}))
    places, seen = Places({"folder": roots}), []
    for content in ("a", "b", "a"):
        path.write_text(content)
        seen.append(Fingerprints(places).of(suite.jobs[0])[option])
    assert seen[0] == seen[2] != seen[1]


def test_weights_and_textures_count_by_their_content(roots, tmp_path):
    suite = read_suite(write_suite(tmp_path))
    (tmp_path / "textures").mkdir()
    for name in ("w", "v", "textures/a.png"):
        (tmp_path / name).write_text("x")

    def of(weights, **options):
        places = Places({"folder": roots}, {"*": str(tmp_path / weights)}, options)
        return Fingerprints(places).of(suite.jobs[0])

    assert of("w") == of("v")
    (tmp_path / "v").write_text("y")
    assert of("w")["weights"] != of("v")["weights"]
    with_textures = of("w", textures=str(tmp_path / "textures"))
    (tmp_path / "textures" / "a.png").write_text("y")
    assert of("w", textures=str(tmp_path / "textures")) != with_textures != of("w")


SHIPPED = "6a64334638317c5945d9ec077209f36c12c4e4fdd32b0f85c820ab526902ab3c"


def test_the_text_that_identifies_the_built_in_backbone_stays(roots, tmp_path):
    """Another text makes every stored result with the built-in backbone an old one."""
    backbone = backbone_of(BUILTIN)
    texts = {v: backbone.identity(teacher_learns=VARIANTS[v].teacher_learns) for v in ("rd", "urd")}
    assert texts["rd"] == f"{SHIPPED} 0.01 1.0"
    assert texts["urd"] == f"{SHIPPED} 0.01 1.0 norms of the good images"
    job = read_suite(write_suite(tmp_path, vary={"backbone": ["builtin"]})).jobs[0]
    of_job = Fingerprints(Places({"folder": roots})).of(job)
    assert of_job["weights"] == texts[job.settings["variant"]]
