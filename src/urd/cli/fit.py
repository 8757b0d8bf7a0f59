"""`urd fit`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from urd.cli.options import config_options, given
from urd.config import PRESETS


@click.command()
@click.argument("data")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Run folder to make.")
@click.option("--preset", type=click.Choice(list(PRESETS)), help="Named settings to start from.")
@click.option(
    "--config", "config_file", type=click.Path(path_type=Path), help="YAML file of options."
)
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option("--overwrite", is_flag=True, help="Train anew where --out holds a run.")
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
    """Train on the good images of DATA and keep the run in --out.

    DATA is one category in MVTec layout (train/good) or a plain folder of good images. Test images
    are never read. Flags go before --config, and --config before --preset.
    """
    import urd.progress
    from urd.config import FitConfig, read_config_file, resolve_config
    from urd.detector import Detector
    from urd.errors import UsageError
    from urd.fitting import is_finished

    urd.progress.show()
    settings = given(options)
    if resume:
        if preset is not None:
            raise UsageError("--resume takes the settings of the run; leave --preset out")
        if config_file is not None:
            settings = {**read_config_file(config_file), **settings}
        finished = is_finished(out)
        detector = Detector.fit(data, out, resume=True, overwrite=overwrite, **settings)
        if finished:
            print("This run was finished already: nothing was trained.")
    else:
        config: FitConfig = resolve_config(preset=preset, config_file=config_file, options=settings)
        detector = Detector.fit(data, out, config=config, overwrite=overwrite)
    for failure in detector.failures:
        print(f"skipped {failure.path}: {failure.reason}", file=sys.stderr)
    _summary(detector.header, out)


def _summary(header: Any, out: Path) -> None:
    data, config = header.data, header.config
    print(
        f"Trained {config.variant} ({config.backbone}) for {config.iterations} iterations on "
        f"{data['train_images']} good images; {data['holdout_images']} held out, "
        f"{data['skipped']} skipped; foreground: {data['foreground']}."
    )
    if not header.encoder["pretrained"]:
        print("The encoder is untrained (--weights none): expect much lower accuracy.")
    if header.calibration is not None:
        from urd.cli.calibrate import print_thresholds

        print_thresholds(header.calibration.thresholds())
    else:
        print("Not calibrated, for no good images were held out: see urd calibrate.")
    for name, value in header.validation.items():
        print(f"On held-out images with synthetic anomalies: {name} {value:.4f}")
    print(f"Model: {out / 'model.safetensors'}")
