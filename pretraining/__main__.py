"""The command that makes the built-in backbone's file: `python -m pretraining --help`."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import urd.progress
from pretraining.images import rendered
from pretraining.objectives import OBJECTIVES
from pretraining.training import Recipe, train, write_weights
from urd.machine import pick_device


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pretraining",
        description="Render the images, train the encoder on them, write its weights. A training "
        "that was stopped goes on from its last checkpoint.",
    )
    recipe = Recipe()
    parser.add_argument("--work", type=Path, default=Path("build/pretraining"))
    parser.add_argument("--out", type=Path, help="weight file; default: WORK/OBJECTIVE.safetensors")
    parser.add_argument("--objective", choices=OBJECTIVES, default=recipe.objective)
    parser.add_argument("--images", type=int, default=recipe.images)
    parser.add_argument("--steps", type=int, default=recipe.steps)
    parser.add_argument("--batch-size", type=int, default=recipe.batch_size)
    parser.add_argument("--side", type=int, default=recipe.side, help="of a view, in pixels")
    parser.add_argument("--lr", type=float, default=recipe.lr)
    parser.add_argument("--seed", type=int, default=recipe.seed)
    parser.add_argument("--device", default="auto")
    options = vars(parser.parse_args())
    work, out, device = options.pop("work"), options.pop("out"), pick_device(options.pop("device"))
    recipe = Recipe(**options)
    urd.progress.show()
    images, parameters = rendered(work / "images", recipe.seed, recipe.images)
    encoder = train(recipe, images, parameters, work / recipe.objective, device)
    out = out or work / f"{recipe.objective}.safetensors"
    write_weights(out, encoder, recipe)
    print(f"{out}: SHA-256 {hashlib.sha256(out.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
