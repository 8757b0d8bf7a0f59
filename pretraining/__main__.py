"""The command that makes the file of the built-in backbone: `python -m pretraining --help`."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

from pretraining.images import rendered
from pretraining.objectives import OBJECTIVES
from pretraining.training import Recipe, train, write_weights
from urd.errors import UrdError, first_line
from urd.system import progress
from urd.system.machine import pick_device

_COUNTS = {
    "images": "number of rendered images",
    "steps": "optimiser steps",
    "batch-size": "images per step",
    "side": "side of a view in pixels",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pretraining",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Render images, train the encoder on them, and write its weights. A stopped "
        "training continues from its last checkpoint.",
    )
    recipe = Recipe()
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("build/pretraining"),
        help="folder for images and checkpoints",
    )
    parser.add_argument("--out", type=Path, help="weight file; None: WORK/OBJECTIVE.safetensors")
    parser.add_argument(
        "--objective", choices=OBJECTIVES, default=recipe.objective, help="training objective"
    )
    for name, what in _COUNTS.items():
        default = getattr(recipe, name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=_positive, default=default, help=what)
    parser.add_argument("--lr", type=float, default=recipe.lr, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=recipe.seed, help="seed of images and training")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    progress.show()
    try:
        _pretrain(vars(parser.parse_args()))
    except UrdError as error:
        raise SystemExit(f"urd: {first_line(error)}") from error


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1; give 1 or more")
    return int(text)


def _pretrain(options: dict[str, Any]) -> None:
    work, out, device = options.pop("work"), options.pop("out"), pick_device(options.pop("device"))
    recipe = Recipe(**options)
    images, parameters = rendered(work / "images", recipe.seed, recipe.images)
    encoder = train(recipe, images, parameters, work / recipe.objective, device)
    out = out or work / f"{recipe.objective}.safetensors"
    write_weights(out, encoder, recipe)
    print(f"{out}: SHA-256 {hashlib.sha256(out.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
