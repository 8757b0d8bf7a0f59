"""Packs a data set at the network's size, weights and wheels into one small folder."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

MOST_BYTES = 60 * 2**20
DATA, WEIGHTS, WHEELS, CONTENTS = "data", "resnet18.safetensors", "wheels", "pack.json"

# What urd and its tests import, by module, and the distributions that provide it. timm is taken
# alone: its other needs are torch and a client of its hub, which it can do without.
NEEDED = {
    "PIL": ("pillow",),
    "click": ("click",),
    "filelock": ("filelock",),
    "jinja2": ("jinja2", "markupsafe"),
    "psutil": ("psutil",),
    "pydantic": (
        "pydantic",
        "pydantic-core",
        "annotated-types",
        "typing-inspection",
        "typing-extensions",
    ),
    "pytest": ("pytest", "pluggy", "iniconfig", "packaging", "pygments"),
    "rich": ("rich", "markdown-it-py", "mdurl", "pygments"),
    "safetensors": ("safetensors",),
    "timm": ("timm",),
    "yaml": ("pyyaml",),
}
NOT_PACKED = ("torch", "torchvision", "numpy", "cv2")
_PLATFORMS = ("2_34", "2_31", "2_28", "2_27", "2_24", "2_17", "2_12", "2_5")


def make(folder: Path, data: Path, weights: Path, size: int, python: str | None) -> None:
    """Pack into a new folder, and refuse a pack of more than 60 MiB.

    Args:
        data: a category in MVTec layout.
        python: version of Python to pack wheels for; `None`: no wheels.
    """
    if folder.exists() and any(folder.iterdir()):
        sys.exit(f"{folder} is not empty: give a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    images = _pack_images(data, folder / DATA, size)
    shutil.copyfile(weights, folder / WEIGHTS)
    if python is not None:
        _download_wheels(folder / WHEELS, python)
    contents = {"data": data.name, "image_size": size, "images": images, "python": python}
    (folder / CONTENTS).write_text(json.dumps(contents, indent=2))
    sizes = {path.name: _bytes_of(path) for path in sorted(folder.iterdir())}
    for name, count in sizes.items():
        print(f"{count / 2**20:7.1f} MiB  {name}")
    total = sum(sizes.values())
    print(f"{total / 2**20:7.1f} MiB  in all; at most {MOST_BYTES >> 20}")
    if total > MOST_BYTES:
        sys.exit("too large: pack without wheels (--no-wheels), or fewer images")


def _bytes_of(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _pack_images(data: Path, out: Path, size: int) -> int:
    """Write images and masks as `urd` decodes and resizes them; a later read changes no pixel."""
    from PIL import Image

    from urd.data import decode_all, read_layout, read_masks, resize_mask

    layout = read_layout(data)
    samples = [*layout.train, *layout.test]
    decoded = decode_all([sample.path for sample in samples], (size, size))
    if decoded.unreadable:
        sys.exit(str(decoded.unreadable[0]))
    for index, (sample, image) in enumerate(zip(samples, decoded.images, strict=True)):
        of = "train" if index < len(layout.train) else "test"
        grey = (image == image[..., :1]).all()
        pixels = image[..., 0] if grey else image
        _save(Image.fromarray(pixels), out / of / sample.defect / f"{index:04}.png")
        if sample.masks:
            mask = resize_mask(read_masks(sample.masks), (size, size))
            below = out / "ground_truth" / sample.defect
            _save(Image.fromarray(mask), below / f"{index:04}_mask.png")
    return len(samples)


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, optimize=True)


def _download_wheels(folder: Path, python: str) -> None:
    """Wheels of `NEEDED` for x86-64 Linux, with their needs."""
    platforms = [f"--platform=manylinux_{v}_x86_64" for v in _PLATFORMS]
    common = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:"]
    common += ["--implementation=cp", f"--python-version={python}", *platforms]
    common += ["--platform=manylinux2014_x86_64", f"--dest={folder}"]
    others = [names[0] for names in NEEDED.values() if names[0] != "timm"]
    subprocess.run([*common, *others], check=True)
    subprocess.run([*common, "--no-deps", "timm"], check=True)


def missing() -> list[str]:
    """Modules that this Python cannot import."""
    return [name for name in (*NOT_PACKED, *NEEDED) if importlib.util.find_spec(name) is None]


def unpack_missing(pack: Path, site: Path) -> list[str]:
    """Unpack the wheels of missing modules into `site`; returns what is missing still."""
    wheels = list((pack / WHEELS).glob("*.whl")) if (pack / WHEELS).is_dir() else []
    lacking = []
    for module in missing():
        names = NEEDED.get(module, ())
        found = {name: _wheel_of(name, wheels) for name in names}
        if not names or None in found.values():
            lacking.append(module)
            continue
        for wheel in found.values():
            assert wheel is not None
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site)
    return lacking


def _wheel_of(name: str, wheels: Iterable[Path]) -> Path | None:
    """The wheel of a distribution that fits this Python."""
    version = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    for wheel in wheels:
        distribution, _, python, abi, _ = wheel.stem.rsplit("-", 4)
        fits = "none" in abi.split(".") or "abi3" in abi.split(".") or version in python.split(".")
        if fits and re.sub(r"[-_.]+", "-", distribution).lower() == name:
            return wheel
    return None
