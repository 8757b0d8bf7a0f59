"""What runs on the nodes: judge the images of a part with a model that is loaded once."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any

from urd.bulk.file_systems import Remote
from urd.bulk.images import ON_DISK
from urd.bulk.order import Order
from urd.bulk.rows import line_of
from urd.data import UnreadableImage
from urd.data.images_in_memory import ImageLike
from urd.engines.judging import Prepared
from urd.errors import UsageError, first_line
from urd.inspection.camera import CAMERA_SIDE
from urd.inspection.pictures import png_of
from urd.inspection.prediction import Failure, Prediction
from urd.results.prediction_files import OVERLAYS, watched
from urd.system.extras import optional
from urd.system.threads import map_ahead
from urd.system.versions import VERSION

_ATTEMPTS, _ATTEMPTS_ALONE = 3, 2  # to judge a part, and one image: the process may end each time
Job = tuple[int, str, str, str]  # of one image: its URI, path, name in rows, and its picture


class Attempts:
    """Counts how often each part was begun; lives beside the driver, so that no kill resets it."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def begin(self, part: str) -> int:
        """The number of this attempt, from 1 on."""
        self._counts[part] = self._counts.get(part, 0) + 1
        return self._counts[part]


class Judge:
    """An actor of Ray Data. Each call gets a part as a table of one row, and gives a table.

    Columns of the first: `part`, and lists with a value for each image: `index` (in the part),
    `uri`, `path`, `shown`, `overlay`. Of the second, with a row for each image: `part`, `index`,
    `line` (the row as JSON), `picture` (PNG, or null). Two answers have one row for all images,
    without a line: `failure` says why all work must stop; if it is null, the images were given up,
    because the process that judged them has ended too often.

    Args:
        model: a reference to `ModelFiles` in Ray's object store, in a list, so that Ray passes it
            on as it is.
        attempts: the actor that runs `Attempts`.
    """

    def __init__(self, order: Order, model: list[Any], attempts: Any) -> None:
        self._ray = optional("ray", "ray")
        self._attempts, self._order = attempts, order
        self._detector = order.open(self._ray.get(model[0]))
        self._judging = self._detector.judging(order.inspection)
        self._drawn = OVERLAYS[order.overlays]
        self._side = (order.overlay_side or sys.maxsize) if self._drawn else CAMERA_SIDE

    def __call__(self, table: Any) -> Any:
        (item,) = table.to_pylist()
        part, indexes = item["part"], item["index"]
        most = _ATTEMPTS if len(indexes) > 1 else _ATTEMPTS_ALONE
        if self._ray.get(self._attempts.begin.remote(key_of(part, indexes))) > most:
            return answer(part, indexes[:1])
        try:
            lines, pictures = self._judge(jobs_of(item))
        except Exception as error:  # whatever it is, the driver must hear of it
            return answer(part, indexes[:1], failure=first_line(error))
        return answer(part, indexes, lines, pictures)

    def _judge(self, jobs: Sequence[Job]) -> tuple[list[str], list[bytes | None]]:
        prepared = map_ahead(self._prepare, jobs, depth=2 * self._order.batch_size)
        lines, pictures = [], []
        with closing(prepared):
            results = self._judging.in_batches(prepared, self._order.batch_size)
            judged = watched(results, self._detector)
            for (_, _, shown, overlay), (result, camera) in zip(jobs, judged, strict=True):
                row = {**result.to_dict(), "path": shown, "camera": list(camera)}
                picture = self._picture(result)
                if picture is not None:
                    row["overlay"] = overlay
                lines.append(line_of(row))
                pictures.append(picture)
        return lines, pictures

    def _prepare(self, job: Job) -> Prepared | Failure:
        uri, path, _, _ = job
        try:
            return self._judging.prepare(self._content(uri, path), self._side)
        except UnreadableImage as error:
            return Failure(Path(path), error.reason)

    def _content(self, uri: int, path: str) -> ImageLike:
        if uri == ON_DISK:
            self._refuse_unshared(str(Path(path).parent))
            return Path(path)
        return read_remote(_opened(self._order.uris[uri]), path, self._order.reading.max_bytes)

    def _refuse_unshared(self, folder: str) -> None:
        """An image that exists must not become an ERROR because this node cannot see it."""
        if folder not in self._order.missing and not _is_folder(folder):
            raise UsageError(
                f"the node {platform.node()} has no folder {folder}: all nodes need the images "
                "under the same path; or give a URI"
            )

    def _picture(self, result: Prediction | Failure) -> bytes | None:
        if isinstance(result, Failure) or result.verdict not in self._drawn:
            return None
        return png_of(result.overlay(max_side=self._order.overlay_side))


def read_remote(folder: Remote, path: str, most: int) -> bytes:
    """The content of an image file.

    Raises:
        UnreadableImage: there is none, it cannot be read, or has over `most` bytes.
    """
    try:
        content = folder.start_of(path, most + 1)
    except FileNotFoundError as error:
        raise UnreadableImage(Path(path), "no such file") from error
    except OSError as error:
        raise UnreadableImage(Path(path), f"cannot be read ({first_line(error)})") from error
    if len(content) > most:
        reason = f"over {most // 2**20} MiB; allow more with --max-megapixels"
        raise UnreadableImage(Path(path), reason)
    return content


def key_of(part: str, indexes: Sequence[int]) -> str:
    """The name under which the attempts of these images of a part are counted."""
    return f"{part}/{indexes[0]}+{len(indexes)}"


def answer(
    part: str,
    indexes: Sequence[int],
    lines: Sequence[str] | None = None,
    pictures: Sequence[bytes | None] | None = None,
    failure: str | None = None,
) -> Any:
    """The table that `Judge` gives."""
    pa = optional("pyarrow", "ray")
    nothing = [None] * len(indexes)
    return pa.table(
        {
            "part": pa.array([part] * len(indexes), pa.string()),
            "index": pa.array(indexes, pa.int64()),
            "line": pa.array(lines if lines else nothing, pa.string()),
            "picture": pa.array(pictures if pictures else nothing, pa.binary()),
            "failure": pa.array([failure] * len(indexes), pa.string()),
        }
    )


def probe(version: str, device: str, precision: str | None) -> tuple[str, str | None]:
    """Try a node where a worker could run.

    Returns:
        Why it cannot, or an empty text; and what the precision means on its processor or GPU.
    """
    if version != VERSION:
        return f"a node has urd {VERSION}, and this machine {version}: install one version", None
    if precision is None:
        return "", None  # an exported file, which needs no PyTorch
    import torch

    from urd.system.machine import precision_on

    if device != "cpu" and not torch.cuda.is_available():
        return f"PyTorch on the node {platform.node()} cannot use its GPU", None
    return "", precision_on(device, precision)


def jobs_of(item: Mapping[str, Any]) -> list[Job]:
    """The images of what a worker gets."""
    paths = map(os.fsdecode, item["path"])
    return list(zip(item["uri"], paths, item["shown"], item["overlay"], strict=True))


@lru_cache(maxsize=64)
def _opened(uri: str) -> Remote:
    return Remote.of(uri)


@lru_cache(maxsize=4096)
def _is_folder(folder: str) -> bool:
    return Path(folder).is_dir()
