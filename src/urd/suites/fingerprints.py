"""Fingerprints of all files that the jobs of a suite read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

from urd.backbones.registry import backbone_of
from urd.config import options
from urd.data import read_layout, search
from urd.networks.variants import VARIANTS
from urd.suites.places import Places
from urd.suites.suite import Job
from urd.system.files import special


class Fingerprints:
    """Fingerprints of images, masks, weights, textures and regions. Each file is read once.

    Args:
        test: the jobs read test images, too.
    """

    def __init__(self, places: Places, *, test: bool = True) -> None:
        self._places = places
        self._of_data = cache(_of_data if test else _of_training_data)
        self._of_path = cache(_of_path)
        self._of_backbone = cache(_of_backbone)

    def of(self, job: Job) -> dict[str, str]:
        """A fingerprint for each kind of input of a job, by name.

        Raises:
            UsageError: the data of the job do not exist.
        """
        return {
            "images": self._of_data(self._places.data_of(job)),
            "weights": self._of_weights(job),
            "textures": self._of_path(self._places.textures),
            **self._of_paths_in(job),
        }

    def _of_weights(self, job: Job) -> str:
        learns = VARIANTS[job.settings["variant"]].teacher_learns
        return self._of_backbone(job.backbone, self._places.weights_of(job), learns)

    def _of_paths_in(self, job: Job) -> dict[str, str]:
        """Fingerprints of files that settings name, such as a region of interest."""
        named = {key: job.settings.get(key) for key in options(path=True) if key != "weights"}
        return {
            key: self._of_path(value)
            for key, value in named.items()
            if value and Path(value).exists()
        }


def _of_backbone(tag: str, weights: str, teacher_learns: bool) -> str:
    return backbone_of(tag, weights).identity(teacher_learns=teacher_learns)


def _of_data(data: str) -> str:
    data_set = read_layout(data)
    samples = [*data_set.train, *data_set.test]
    files = [path for sample in samples for path in (sample.path, *sample.masks)]
    return _of_files(files, data_set.root.parent)


def _of_training_data(data: str) -> str:
    data_set = read_layout(data)
    return _of_files([sample.path for sample in data_set.train], data_set.root.parent)


def _of_path(name: str) -> str:
    """Fingerprint of a file or a folder; a word such as `auto` is its own fingerprint."""
    path = Path(name)
    if path.is_dir():
        linked = search(path).images  # rglob does not follow links to folders
        return _of_files([*(p for p in path.rglob("*") if p.is_file()), *linked], path)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else name


def _of_files(files: Iterable[Path], root: Path) -> str:
    """Fingerprint of names below `root` and contents; an unreadable file counts by its name."""
    digest = hashlib.sha256()
    for path in sorted(set(files)):
        digest.update(str(path.relative_to(root)).encode(errors="surrogateescape") + b"\0")
        if special(path):
            continue
        with suppress(OSError):
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
