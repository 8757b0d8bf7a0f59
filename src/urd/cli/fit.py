"""`urd fit`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from urd.cli.options import DATA, GroupedCommand, base_options, config_options, given

if TYPE_CHECKING:
    from urd.model.header import ModelHeader
    from urd.model.run_folder import RunFolder
    from urd.model.schema import DataFacts
    from urd.training.schema import GoodImageDistance

_FEW_TO_TRAIN_ON, _FEW_TO_VALIDATE_ON = 20, 8
_UNLIKE = 3  # training images to name
_SIGNED = (
    "This backbone has features of both signs. On dark grounds the paper's score can fail with it: "
    "compare with --score auto."
)


@click.command(cls=GroupedCommand)
@click.argument("data", type=DATA)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Run folder to write.")
@base_options
@click.option("--resume", is_flag=True, help="Continue the run in --out.")
@click.option("--overwrite", is_flag=True, help="Replace the run in --out.")
@config_options
def fit(
    data: str,
    out: Path,
    preset: str | None,
    config_file: Path | None,
    resume: bool,
    overwrite: bool,
    **options: Any,
) -> None:
    """Train on the good images of DATA and write the run to --out.

    DATA is one category in MVTec layout (train/good), or a plain folder of good images. Training
    never reads test images. Flags override --config, which overrides --preset. With --resume, the
    settings of the run apply; flags that you give must agree with them.
    """
    from urd.config import given_settings, resolve_config
    from urd.model.run_folder import RunFolder
    from urd.system import progress
    from urd.training.fit import fit as train
    from urd.training.resume import settings_to_resume

    progress.show()
    finished = resume and RunFolder(out).is_finished
    if resume:
        config = settings_to_resume(out, given_settings(preset, config_file, given(options)))
    else:
        config = resolve_config(preset=preset, config_file=config_file, options=given(options))
    fitted = train(data, out, config, resume=resume, overwrite=overwrite)
    if finished:
        print("This run is already finished: nothing was trained.")
    for error in fitted.skipped:
        print(f"skipped {error}", file=sys.stderr)
    _summary(fitted.header, RunFolder(out))
    for line in _unlike(fitted.unlike):
        print(line)
    print(_what_next(data, out))


def _summary(header: ModelHeader, run: RunFolder) -> None:
    data, config = header.data, header.config
    done = f"Trained {config.variant} ({config.tag}) for {config.iterations} iterations on"
    if not config.trains:
        done = f"Remembered ({config.tag}) features of"
    print(
        f"{done} {data.train_images} good images; {data.holdout_images} held out, "
        f"{data.skipped} skipped; foreground: {data.foreground}."
    )
    if not header.encoder.pretrained:
        print("The encoder is untrained (--weights none): expect much lower accuracy.")
    parts = ["student"] * any(header.score.levels) + ["memory"] * bool(header.score.memory)
    print(f"Score: {header.score.name} ({' and '.join(parts)}).")
    if header.encoder.signed and config.score == "paper" and config.trains:
        print(_SIGNED)
    if header.calibration is not None:
        from urd.cli.calibrate import print_thresholds

        print_thresholds(header.calibration.thresholds())  # also says if there are too few images
    else:
        print("Not calibrated, because no good images were held out: see urd calibrate.")
    for name, value in header.validation.items():
        print(f"On held-out images with synthetic anomalies: {name} {value:.4f}")
    for sentence in _too_few(data):
        print(sentence)
    print(f"Model: {run.model}")


def _unlike(images: Sequence[GoodImageDistance]) -> Iterator[str]:
    """The training images least like the others: perhaps they are not good."""
    if not images:
        return
    usual = images[len(images) // 2].distance
    yield "Least like the other training images (look whether these parts are good):"
    for image in images[:_UNLIKE]:
        yield f"  {image.path} (distance {image.distance:.3g}, usual is {usual:.3g})"


def _too_few(data: DataFacts) -> Iterator[str]:
    """Warnings about too few images: a figure of 1.0000 on three images says very little."""
    if (data.train_images or 0) < _FEW_TO_TRAIN_ON:
        yield (
            f"{data.train_images} images are very few to train on: expect rejected good parts. "
            f"Use {_FEW_TO_TRAIN_ON} or more."
        )
    if 0 < (data.holdout_images or 0) < _FEW_TO_VALIDATE_ON:
        yield (
            f"{data.holdout_images} held-out images are too few: do not rely on the figures above."
        )


def _what_next(data: str, out: Path) -> str:
    """Commands that the user can copy."""
    run, of_data = shlex.quote(str(out)), shlex.quote(data)
    commands = [f"urd calibrate {run} GOOD", f"urd predict {run} IMAGES --out {run}-predictions"]
    if _has_test_images(data):
        commands.append(f"urd evaluate {run} {of_data}")
        commands.append(f"urd report {run}")
    return "\n  ".join(
        ["Next (GOOD is a folder of good images that training did not see):", *commands]
    )


def _has_test_images(data: str) -> bool:
    from urd.data import read_layout

    return bool(read_layout(data).test)
