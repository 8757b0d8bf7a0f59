"""Guards the accuracy: trains shortly on each data set and compares with stored figures.

    python benchmarks/accuracy.py ROOT --weights FILE --textures DIR [--variants urd memory]

ROOT holds categories in MVTec layout. Each variant is trained with one seed for 100 iterations of
ResNet-18 and measured once. The figures are compared with those that
`benchmarks/results/accuracy.json` has of the same processor, settings and images, and then replace
them. Run it before a change to what learns or scores is called done.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from urd import Detector
from urd.method_version import version_of
from urd.system.files import write_json
from urd.system.machine import machine

_FIGURES = ("image_auroc", "pixel_auroc", "pixel_ap", "aupro")
_FOREGROUND = {"screw": "otsu", "pill": "otsu"}  # objects on a plain ground; elsewhere none
_SETTINGS = {
    "backbone": "resnet18.tv_in1k",
    "iterations": 100,
    "batch_size": 8,
    "memory": 4096,
    "score": "auto",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--textures", default="procedural")
    parser.add_argument("--variants", nargs="+", default=["urd", "memory", "urd-memory"])
    parser.add_argument("--categories", nargs="+", default=["screw", "bsd_pitting", "pill"])
    parser.add_argument("--set", nargs="*", default=[], metavar="OPTION=VALUE")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/accuracy.json"))
    options = parser.parse_args()
    settings = {**_SETTINGS, **dict(text.split("=", 1) for text in options.set)}
    known: list[dict[str, Any]] = []
    if options.json.exists():
        known = json.loads(options.json.read_text())
    for category in options.categories:
        for variant in options.variants:
            row = _measured(options, category, {**settings, "variant": variant})
            before = next((old for old in known if _same(old, row)), None)
            print(_said(row, before), flush=True)
            known = [old for old in known if old is not before] + [row]
            write_json(options.json, known)


def _measured(
    options: argparse.Namespace, category: str, settings: dict[str, Any]
) -> dict[str, Any]:
    given = {**settings, "foreground": _FOREGROUND.get(category, "none")}
    began = time.monotonic()
    files = {"weights": options.weights, "textures": options.textures}
    detector = Detector.fit(options.root / category, **files, **given)
    fitted = time.monotonic() - began
    data = options.root / category
    figures = detector.evaluate(data, resamples=0)
    score = detector.header.score
    return {
        "category": category,
        "settings": given,
        "images": detector.header.data.fingerprint,
        **{name: round(figures[name], 4) for name in _FIGURES},
        "score": score.model_dump(),
        "fit_seconds": round(fitted, 1),
        "method_version": version_of(given["variant"]),
        "machine": machine(),
    }


def _same(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether two rows can be compared: same data and settings, same processor."""
    facts = ("category", "settings", "images")
    same_cpu = old["machine"]["cpu"] == new["machine"]["cpu"]
    return same_cpu and all(old[name] == new[name] for name in facts)


def _said(row: dict[str, Any], before: dict[str, Any] | None) -> str:
    figures = []
    for name in _FIGURES:
        change = "" if before is None else f" ({100 * (row[name] - before[name]):+.1f})"
        figures.append(f"{name} {100 * row[name]:.1f}{change}")
    return f"{row['category']}, {row['settings']['variant']}: {', '.join(figures)}"


if __name__ == "__main__":
    main()
