"""The five variants on real photographs: trained, evaluated on labelled test images, in one table.

    python benchmarks/variants.py --data DIR --weights FILE --textures DIR --seeds 0

DIR holds one folder per data set in MVTec layout. Each finished run is kept in the results file at
once, and a second call does only what is missing. Every good image is trained on (no hold-out), the
last iteration is measured, and test labels are read after training only.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch

import urd.progress
from urd import Detector
from urd.files import write_json, write_text
from urd.metrics import METRICS
from urd.networks import VARIANTS

COLUMNS = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "aupro", "aupro_per_image")


def main() -> None:
    options = _options()
    urd.progress.show()
    results = json.loads(options.results.read_text()) if options.results.exists() else []
    done = {(r["data"], r["variant"], r["seed"]) for r in results}
    for seed in options.seeds:
        for name in options.sets:
            for variant in options.variants:
                if (name, variant, seed) in done:
                    continue
                print(f"{name} {variant} seed {seed}", flush=True)
                results.append(_run(options, name, variant, seed))
                write_json(options.results, results)
                write_text(options.results.with_suffix(".md"), table(results))
    print(table(results))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--textures", default="procedural")
    parser.add_argument("--sets", nargs="+", default=["screw", "bsd_pitting"])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--backbone", default="resnet18.tv_in1k")
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--schedule", default="constant")
    parser.add_argument(
        "--results", type=Path, default=Path("benchmarks/results/variants_cpu.json")
    )
    return parser.parse_args()


def _run(options: argparse.Namespace, name: str, variant: str, seed: int) -> dict[str, Any]:
    began = time.monotonic()
    detector = Detector.fit(
        options.data / name,
        variant=variant,
        seed=seed,
        backbone=options.backbone,
        weights=options.weights,
        textures=options.textures,
        iterations=options.iterations,
        batch_size=options.batch_size,
        device=options.device,
        precision=options.precision,
        schedule=options.schedule,
        holdout=0.0,
    )
    fitted = time.monotonic()
    result = detector.evaluate(options.data / name)
    settings = detector.config.to_dict()
    del settings["weights"], settings["textures"]  # paths of one machine
    return {
        **result,
        "data": name,
        "fit_seconds": round(fitted - began, 1),
        "evaluate_seconds": round(time.monotonic() - fitted, 1),
        "settings": settings,
        "training": detector.header.data,
        "machine": machine(detector.device),
    }


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures were measured on."""
    model = platform.processor()
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        lines = cpu_info.read_text().splitlines()
        model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), model)
    return {
        "cpu": model,
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "torch": torch.__version__,
    }


def table(results: list[dict[str, Any]]) -> str:
    """Markdown: a row per data set and variant, mean (and spread over seeds, where several)."""
    if not results:
        return ""
    first = results[0]
    settings = first["settings"]
    lines = [
        f"{settings['backbone']}, {settings['iterations']} iterations, batch "
        f"{settings['batch_size']}, on {first['machine']['gpu'] or first['machine']['cpu']} "
        f"({first['machine']['threads']} threads). Protocol: {first['protocol']}. "
        "Values in percent: mean ± standard deviation over seeds.",
        "",
        "| data | variant | seeds | " + " | ".join(METRICS[c] for c in COLUMNS) + " | fit, s |",
        "|---|---|---|" + "---|" * (len(COLUMNS) + 1),
    ]
    for name in dict.fromkeys(r["data"] for r in results):
        for variant in VARIANTS:
            rows = [r for r in results if (r["data"], r["variant"]) == (name, variant)]
            if rows:
                cells = [_cell([row[column] * 100 for row in rows]) for column in COLUMNS]
                seconds = f"{statistics.mean(row['fit_seconds'] for row in rows):.0f}"
                lines.append(
                    f"| {name} | `{variant}` | {len(rows)} | {' | '.join(cells)} | {seconds} |"
                )
    return "\n".join(lines) + "\n"


def _cell(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


if __name__ == "__main__":
    main()
