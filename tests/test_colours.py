"""The colours of verdicts: apart for everybody, readable as text, and the same everywhere."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

import urd.results
from urd.evaluation.tally import VERDICTS
from urd.inspection.colours import ON_DARK, ON_LIGHT

# How colours look with one kind of cones missing (Machado, Oliveira and Fernandes, 2009).
SIGHT = {
    "all": np.eye(3),
    "no red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no blue": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_XYZ = np.array(
    [[0.41246, 0.35758, 0.18044], [0.21267, 0.71515, 0.07218], [0.01933, 0.11919, 0.95030]]
)
CSS = (Path(urd.results.__file__).parent / "look.css").read_text()


def linear(colour: str) -> np.ndarray:
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    xyz = TO_XYZ @ np.clip(rgb, 0, 1) / (0.95047, 1, 1.08883)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(a: str, b: str) -> float:
    low, high = sorted(float(TO_XYZ[1] @ linear(colour)) for colour in (a, b))
    return (high + 0.05) / (low + 0.05)


def grounds() -> list[str]:
    """The grounds of the pages: light, then dark."""
    return re.findall(r"--page: (#[0-9a-f]{6})", CSS)


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("colours", [ON_LIGHT, ON_DARK], ids=["light", "dark"])
def test_two_verdicts_never_look_alike(colours, sight):
    seen = {name: lab(np.array(SIGHT[sight]) @ linear(c)) for name, c in colours.items()}
    apart = {(a, b): np.linalg.norm(seen[a] - seen[b]) for a, b in itertools.combinations(seen, 2)}
    assert min(apart.values()) > 20, apart  # 2.3 can just be told apart


@pytest.mark.parametrize("dark", [False, True])
def test_verdicts_are_readable(dark):
    ground, colours = grounds()[dark], (ON_DARK if dark else ON_LIGHT)
    assert set(colours) == set(VERDICTS)
    assert all(contrast(colour, ground) >= 4.5 for colour in colours.values())  # WCAG 2 AA


def test_no_page_has_another_colour_for_a_verdict():
    templates = Path(urd.results.__file__).parent
    used = {*ON_LIGHT.values(), *ON_DARK.values()}
    for path in (templates / n for n in ("look.css", "page.html", "index.html", "shots.html")):
        assert not used & set(re.findall(r"#[0-9a-f]{6}", path.read_text()))
