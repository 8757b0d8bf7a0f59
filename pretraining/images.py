"""The training images on disk: rendered once, in parallel, and read as one array."""

from __future__ import annotations

import json
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pretraining.render import PARAMETERS, SIZE, render_scene
from urd.system.progress import track

_IMAGES, _PARAMETERS, _ORDER = "images.npy", "parameters.npy", "order.json"


def rendered(folder: Path, seed: int, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (N, 256, 256, 3), mapped from disk, and parameters (N, len(PARAMETERS)).

    Images in the folder are used again if they were made with the same seed, count and settings.
    """
    order = {"seed": seed, "count": count, "size": SIZE, "parameters": list(PARAMETERS)}
    made = folder / _ORDER
    if not made.exists() or json.loads(made.read_text()) != order:
        made.unlink(missing_ok=True)
        _render(folder, seed, count)
        made.write_text(json.dumps(order))
    images = np.load(folder / _IMAGES, mmap_mode="r")
    return images, np.load(folder / _PARAMETERS)


def _render(folder: Path, seed: int, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shape = (count, SIZE, SIZE, 3)
    images = np.lib.format.open_memmap(folder / _IMAGES, "w+", np.uint8, shape)
    parameters = np.empty((count, len(PARAMETERS)), np.int64)
    with ProcessPoolExecutor(os.cpu_count(), initializer=partial(cv2.setNumThreads, 1)) as pool:
        scenes = pool.map(partial(render_scene, seed), range(count), chunksize=16)
        for index, scene in enumerate(track(scenes, "Rendering", count)):
            images[index] = scene.image
            parameters[index] = list(scene.parameters.values())
    images.flush()
    np.save(folder / _PARAMETERS, parameters)
