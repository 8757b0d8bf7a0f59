"""The training curve of a run as events of TensorBoard; `metrics.jsonl` stays the source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from urd.errors import UrdError, UsageError, first_line
from urd.model.run_folder import RunFolder
from urd.system.documents import MIB, parse_json, read_text
from urd.system.extras import optional
from urd.system.files import temporary_folder, writing
from urd.system.schema import check
from urd.training.schema import CurveLine

EVENTS = "events.out.tfevents.*"
_MOST_BYTES = 64 * MIB


def write_events(run: Path, folder: Path) -> int:
    """Write the curve of a run, finished or not, to `folder`; older events there are replaced.

    Returns:
        The number of written values.

    Raises:
        UsageError: the run has no curve, or TensorBoard is not installed.
        UrdError: the curve is damaged, or the folder cannot be written.
    """
    library = optional("torch.utils.tensorboard", "tensorboard")
    values = list(_values(RunFolder(run).curve))
    with writing(folder, below=False), temporary_folder(folder) as place:
        with library.SummaryWriter(str(place)) as writer:
            for name, value, iteration in values:
                writer.add_scalar(name, value, iteration)
        older = list(folder.glob(EVENTS))
        for new in place.glob(EVENTS):
            new.replace(folder / new.name)
        for path in older:
            path.unlink()
    return len(values)


def _values(curve: Path) -> Iterator[tuple[str, float, int]]:
    """Name, value and iteration; a kill may have cut the last line, so it is left out then."""
    if not curve.is_file():
        raise UsageError(f"there is no training curve {curve}: give a run folder of urd fit")
    try:
        *whole, _ = read_text(curve, _MOST_BYTES).split("\n")
        for number, text in enumerate(whole, start=1):
            line = _checked(text, number)
            groups = {key: line.get(key) or {} for key in ("loss", "validation")}
            groups["speed"] = {"images_per_second": line.get("images_per_second")}
            for group, named in groups.items():
                for name, value in named.items():
                    if value is not None:
                        yield f"{group}/{name}", value, line["iteration"]
    except ValueError as error:
        raise UrdError(f"the training curve {curve} is damaged: {first_line(error)}") from error


def _checked(text: str, number: int) -> Any:
    try:
        content = parse_json(text)
        check(CurveLine, content)
    except ValueError as error:
        raise ValueError(f"line {number}: {first_line(error)}") from error
    return content
