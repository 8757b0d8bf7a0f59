"""`urd demo`."""

from __future__ import annotations

from pathlib import Path

import click

from urd.cli.options import only_writer

_TRAIN, _TEST_GOOD, _PER_DEFECT = 80, 15, 6
_BATCH = 4
_HOLDOUT = 0.25  # of 80 images: 20 for thresholds, 60 for training


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Folder to write to.",
)
@click.option("--weights", default="auto", show_default=True, help="As for urd fit.")
@click.option("--backbone", default="builtin", show_default=True, help="As for urd fit.")
@click.option("--iterations", type=click.IntRange(1), default=70, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--overwrite", is_flag=True, help="Write into --out even if it is not empty.")
def demo(
    out: Path,
    weights: str,
    backbone: str,
    iterations: int,
    seed: int,
    device: str,
    overwrite: bool,
) -> None:
    """Render a flange nut and a denim cloth, train on the good images, and evaluate.

    OUT/flange_nut.png and OUT/denim.png show image, mask and heat map. OUT/data holds the rendered
    data sets, OUT/runs the trained detectors with their reports. The built-in backbone needs no
    network.
    """
    from urd.config import FitConfig
    from urd.demo.dataset import PRODUCTS
    from urd.demo.run import run_product
    from urd.model.run_folder import RunFolder
    from urd.system import progress
    from urd.system.files import refuse_existing, write_json

    progress.show()
    only_writer(out)
    refuse_existing(out, allowed=overwrite, hint="--overwrite to replace it, or another --out")
    config = FitConfig(
        backbone=(backbone,),
        weights=weights,
        student="slim",  # 70 steps with it take less time than 40 with the full student
        iterations=iterations,
        batch_size=_BATCH,
        holdout=_HOLDOUT,
        seed=seed,
        device=device,
    )
    results = {}
    for product in PRODUCTS:
        results[product] = run_product(
            product, out, config, train=_TRAIN, test_good=_TEST_GOOD, per_defect=_PER_DEFECT
        )
        result = results[product]
        print(
            f"{product}: image AUROC {result['image_auroc']:.3f}, pixel AUROC "
            f"{result['pixel_auroc']:.3f}, AUPRO {result['aupro']:.3f}; see "
            f"{out / product}.png and {RunFolder(out / 'runs' / product).report}"
        )
    write_json(out / "evaluation.json", results)
