"""Runs the other speed scripts here one after the other and puts all figures into docs/speed.md.

    python benchmarks/speed.py RUN DATA --weights FILE --textures DIR    (an hour on two cores)
    python benchmarks/speed.py --collect                                 (existing files only)

RUN is a run of `urd fit`, DATA a category with a labelled test set. Each script writes its own file
to benchmarks/results/. The page keeps its text; its tables, one machine each, are made again from
the files. "Plain" is the reference implementation, timed by the same script in the same run.
"Limit" is the best that the machine can do: a large matrix product in the same precision, the bare
network, or `import torch` alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "speed.md"
MARK = "<!-- From here on: made by benchmarks/speed.py -->\n"


@dataclass(frozen=True)
class Figure:
    """One row. `faster`: speed relative to plain; `share`: share of the limit."""

    what: str
    value: str
    faster: float | None = None
    share: float | None = None

    def cells(self) -> list[str]:
        faster = "" if self.faster is None else f"{self.faster:.2f}"
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
    parser.add_argument("--page", type=Path, default=PAGE, help="page whose tables are made again")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result files")
    options = parser.parse_args()
    if not options.collect:
        if None in (options.run, options.data, options.textures):
            parser.error("give RUN, DATA and --textures, or --collect")
        for script in options.only:
            _measure(script, options)
    from urd.system.files import write_text

    text = tables(options.results)
    print(text)
    kept = options.page.read_text(encoding="utf-8").partition(MARK)[0]
    write_text(options.page, kept + MARK + text)


def tables(results: Path) -> str:
    """A section for each machine, with Markdown tables of its figures."""
    found: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for script in TABLE:
        for path in sorted(results.glob(f"{script}*.json")):
            content = json.loads(path.read_text(encoding="utf-8"))
            found.setdefault(_machine(content["machine"]), []).append((script, content))
    return "".join(_section(name, contents) for name, contents in sorted(found.items()))


def _section(machine: str, contents: list[tuple[str, dict[str, Any]]]) -> str:
    lines = ["", f"## {machine}", ""]
    rows = [f.cells() for script, content in contents for f in TABLE[script](content)]
    if rows:
        lines += _table(("what", "figure", "times as fast as plain", "of the limit"), rows)
    for cores in (2, 1):
        inference = [
            row
            for script, content in contents
            if script == "inference"
            for row in _inference_rows(content, cores)
        ]
        if inference:
            plural = "s" * (cores > 1)
            lines += [
                "",
                f"Inference on {cores} core{plural}, milliseconds per image of 256 px:",
                "",
            ]
            heads = ("network", "way", "one by one", "times as fast as plain", "in batches of 8")
            lines += _table((*heads, "times as fast as plain"), inference)
    return "\n".join(lines) + "\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *rows)]


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
    if "rows" in found:  # beside another program: the last row is today's code
        last = found["rows"][-1]
        yield Figure(
            "training step beside a busy program of one thread",
            f"{last['beside_seconds']:.2f} s, {last['beside_ratio']:.1f} times the "
            f"{last['alone_seconds']:.2f} s alone",
        )
        return
    yield Figure(
        f"training step, {found['backbone']}, batch {found['batch_size']}, {found['precision']}",
        f"{found['urd_seconds']:.2f} s",
        found["ratio"],
        found["share_of_peak"],
    )


def _inference_rows(found: dict[str, Any], cores: int) -> Iterator[list[str]]:
    """A row for each network and way: batches of 1 and of 8."""
    student = ", slim student" if found["student"] == "slim" else ""
    ways: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for row in found["rows"]:
        if row["cores"] == cores:
            ways.setdefault((row["backbone"], row["way"]), {})[row["batch"]] = row
    for (backbone, way), by_batch in ways.items():
        figures = []
        for batch in (1, 8):
            row = by_batch[batch]
            figures += [f"{row['ms_per_image']:.1f}", f"{row['faster_than_plain']:.2f}"]
        yield [backbone + student, way, *figures]


def _in_their_own_table(found: dict[str, Any]) -> Iterator[Figure]:
    """Inference has a table of its own: `_inference_rows`."""
    return iter(())


def _serve_load(found: dict[str, Any]) -> Iterator[Figure]:
    bare = found["bare"]
    name = f"{found['model']}, {bare['engine']}"
    yield Figure(
        f"urd serve, {name}, one client: above judging in Python",
        f"{found['overhead_ms']:.1f} ms above {bare['judge_ms']:.1f} ms",
    )
    for row in found["phases"]:
        if row["phase"] == "warm-up":
            continue
        share = found["of_predict"] if row["phase"] == "8 clients" else None
        yield Figure(
            f"urd serve, {name}, {row['phase'].replace('1 clients', '1 client')}",
            f"{row['per_second']:.1f} images/s, median {row['p50_ms']:.0f} ms, 99 % within "
            f"{row['p99_ms']:.0f} ms, {row['refused']} refused, {row['rss_mib'][1]} MiB",
            share=share,
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
    "inference": _in_their_own_table,
    "job": _job,
    "predict": _predict,
    "serve_load": _serve_load,
    "growth": _growth,
    "start_up": _start_up,
    "metrics": _metrics,
}


def _machine(found: dict[str, Any]) -> str:
    parts = [found["cpu"].replace("(R)", ""), found.get("instructions"), found["gpu"]]
    threads = f"{found['threads']} thread" + "s" * (found["threads"] > 1)
    return ", ".join([*filter(None, parts), threads, f"torch {found['torch']}"])


if __name__ == "__main__":
    main()
