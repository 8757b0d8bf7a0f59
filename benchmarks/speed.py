"""Runs the other speed scripts here one after the other and puts all figures in one table.

    python benchmarks/speed.py RUN DATA --weights FILE --textures DIR    (an hour on two cores)
    python benchmarks/speed.py --collect                                 (existing files only)

RUN is a run of `urd fit`, DATA a category with a labelled test set. Each script writes its own file
to benchmarks/results/. The table is speed.md in the same folder. "Plain" is the reference
implementation, timed by the same script in the same run. "Limit" is the best that the machine can
do: a large matrix product in the same precision, the bare network, or `import torch` alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"


@dataclass(frozen=True)
class Figure:
    """One row. `faster`: speed relative to plain; `share`: share of the limit."""

    what: str
    value: str
    faster: float | None = None
    share: float | None = None

    def cells(self) -> list[str]:
        faster = "" if self.faster is None else f"{self.faster:.2f}x"
        share = "" if self.share is None else f"{100 * self.share:.0f} %"
        return [self.what, self.value, faster, share]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path, help="run folder or model file")
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--textures", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(TABLE), default=list(TABLE))
    parser.add_argument(
        "--collect", action="store_true", help="use existing files, measure nothing"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result files")
    options = parser.parse_args()
    if not options.collect:
        if None in (options.run, options.data, options.textures):
            parser.error("give RUN, DATA and --textures, or --collect")
        for script in options.only:
            _measure(script, options)
    text = table(options.results)
    print(text)
    from urd.system.files import write_text

    write_text(options.results / "speed.md", text)


def table(results: Path) -> str:
    """Markdown table of all figures with a result file, and the machine of each."""
    lines = ["| figure | value | against plain | of the limit | file |", "|---|---|---|---|---|"]
    machines: dict[str, list[str]] = {}
    for script, figures in TABLE.items():
        for path in sorted(results.glob(f"{script}*.json")):
            content = json.loads(path.read_text(encoding="utf-8"))
            cells = ([*figure.cells(), path.stem] for figure in figures(content))
            lines += ["| " + " | ".join(row) + " |" for row in cells]
            machines.setdefault(_machine(content["machine"]), []).append(path.name)
    lines += [""] + [f"Machine of {', '.join(files)}: {name}." for name, files in machines.items()]
    return "\n".join(lines) + "\n"


def _measure(script: str, options: argparse.Namespace) -> None:
    learning = ["--weights", options.weights, "--textures", str(options.textures)]
    words = {"job": [str(options.data), *learning], "training_step": [], "inference": []}
    words["metrics"] = []
    command = [sys.executable, str(HERE / f"{script}.py"), *words.get(script, [str(options.run)])]
    print("$", *command, flush=True)
    out = ["--json", str(options.results / f"{script}.json")]
    if subprocess.run([*command, *out], check=False).returncode:
        print(f"{script} failed; its older figures, if any, stay", file=sys.stderr)


def _training_step(found: dict[str, Any]) -> Iterator[Figure]:
    yield Figure(
        f"training step, {found['backbone']}, batch {found['batch_size']}, {found['precision']}",
        f"{found['urd_seconds']:.2f} s",
        found["ratio"],
        found["share_of_peak"],
    )


def _inference(found: dict[str, Any]) -> Iterator[Figure]:
    student = ", slim student" if found["student"] == "slim" else ""
    for row in found["rows"]:
        yield Figure(
            f"inference, {row['backbone']}{student}, {row['way']}, batch {row['batch']}, "
            f"{row['cores']} core" + "s" * (row["cores"] > 1),
            f"{row['ms_per_image']:.1f} ms/image",
            row["faster_than_plain"],
            row["share_of_peak"],
        )


def _job(found: dict[str, Any]) -> Iterator[Figure]:
    phases = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in found["seconds"].items())
    yield Figure(f"whole job, {found['iterations']} iterations", phases, found["ratio"])


def _predict(found: dict[str, Any]) -> Iterator[Figure]:
    for pictures in ("all", "none"):
        if row := found.get(f"overlays_{pictures}"):
            yield Figure(
                f"urd predict, {found['backbone']}, {found['images'][1]} images, "
                f"overlays {pictures}",
                f"{row['images_per_second']:.1f} images/s, {row['peak_mib'][1]} MiB",
                share=row["share_of_the_bare_network"],
            )


def _growth(found: dict[str, Any]) -> Iterator[Figure]:
    for row in found["rows"]:
        for verb in ("predict", "evaluate"):
            further = row[verb].get("ms_per_further_image")
            cost = "" if further is None else f", {further:.1f} ms per further image"
            yield Figure(
                f"urd {verb}, {row['images']} images",
                f"{row[verb]['seconds']:.1f} s{cost}, {row[verb]['peak_mib']} MiB",
            )


def _start_up(found: dict[str, Any]) -> Iterator[Figure]:
    seconds = found["seconds"]
    for name, spent in seconds.items():
        needs_torch = name.startswith("urd predict")
        share = seconds["import torch"] / spent if needs_torch else None
        yield Figure(name, f"{spent:.2f} s", share=share)


def _metrics(found: dict[str, Any]) -> Iterator[Figure]:
    for size in (key for key in found if key.endswith("px")):
        for reference, row in found[size].items():
            if reference not in ("ours", "data_mib"):
                yield Figure(
                    f"metrics of {found['images']} maps of {size}, against {reference}",
                    f"{found[size]['ours']['seconds']:.2f} s",
                    row["ours_is_faster"],
                )


TABLE = {
    "training_step": _training_step,
    "inference": _inference,
    "job": _job,
    "predict": _predict,
    "growth": _growth,
    "start_up": _start_up,
    "metrics": _metrics,
}


def _machine(found: dict[str, Any]) -> str:
    gpu = f", {found['gpu']}" if found["gpu"] else ""
    return f"{found['cpu']}, {found['threads']} threads{gpu}, torch {found['torch']}"


if __name__ == "__main__":
    main()
