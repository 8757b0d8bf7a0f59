"""Kills the driver and a node of a suite on a Ray cluster of three nodes, once each.

Twelve small trainings run on this machine alone, and on the cluster with the kills. Then the tables
of both must be equal, each job must have one result, and no process of a job may be left.

    python benchmarks/suite_kills.py --json kills.json
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CATEGORIES, VARIANTS, SEEDS = ("flange_nut", "denim"), ("rd", "urd"), (0, 1, 2)
_OF_A_RUN = ("fit_seconds", "evaluate_seconds", "machine")  # differ from run to run
_PATIENCE = 1800.0  # seconds for one step


def _suite(options: argparse.Namespace, folder: Path) -> Path:
    """The file of the suite, and its rendered data beside it."""
    import yaml

    from urd.demo.dataset import render_dataset

    for category in CATEGORIES:
        render_dataset(folder / "data", category, train=16, test_good=4, per_defect=1, seed=0)
    content = {
        "title": "Twelve small jobs",
        "data": {"folder": list(CATEGORIES)},
        "settings": {
            "backbone": "test_resnet.r160_in1k",  # timm's network for tests, 0.3 M parameters
            "weights": "none",
            "iterations": options.iterations,
            "batch_size": 4,
            "image_size": 64,
            "holdout": 0.0,
            "precision": "float32",
        },
        "vary": {"variant": list(VARIANTS)},
        "seeds": list(SEEDS),
    }
    path = folder / "twelve.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def _command(suite: Path, out: Path, on: str) -> list[str]:
    return [
        *(sys.executable, "-m", "urd", "benchmark", str(suite), "--out", str(out), "--on", on),
        *("--root", f"folder={suite.parent / 'data'}", "--resamples", "50", "--device", "cpu"),
        *("--checkpoint-seconds", "0.5"),
    ]


def _start(command: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def _finish(process: subprocess.Popen[str]) -> list[str]:
    """Wait for the end of a call; the lines that it said on standard error."""
    _, said = process.communicate(timeout=_PATIENCE)
    if process.returncode:
        raise SystemExit(f"urd benchmark ended with {process.returncode}:\n{said}")
    return said.splitlines()


def _results(out: Path) -> list[dict[str, Any]]:
    path = out / "results.json"
    return json.loads(path.read_text()) if path.exists() else []


def _jobs(out: Path) -> list[Any]:
    """The processes of jobs of this suite."""
    import psutil

    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or [""]
        if "urd.suites" in line and line[-1].startswith(str(out)):
            found.append(process)
    return found


def _wait(what: str, condition: Any) -> float:
    """Wait until the condition is true; the seconds that it took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > _PATIENCE:
            raise SystemExit(f"it never came true: {what}")
        time.sleep(0.1)
    return time.monotonic() - began


def _under_way(out: Path) -> list[Any]:
    """The jobs that have a checkpoint."""
    return [
        job
        for job in _jobs(out)
        if (Path(job.info["cmdline"][-1]) / "run" / "checkpoint" / "state.safetensors").exists()
    ]


def _kill_driver(command: list[str], out: Path) -> dict[str, Any]:
    """Kill the driver with SIGKILL when two results are there and a job has a checkpoint."""
    driver = _start(command)
    _wait("two results", lambda: len(_results(out)) >= 2)
    _wait("a job with a checkpoint", lambda: _under_way(out))
    running = _jobs(out)
    driver.kill()
    driver.communicate()
    seconds = _wait("no job outlives the driver", lambda: not _jobs(out))
    return {
        "results_at_the_kill": len(_results(out)),
        "jobs_running_at_the_kill": len(running),
        "seconds_until_no_job_was_left": round(seconds, 1),
    }


def _kill_node(command: list[str], out: Path, cluster: Any) -> tuple[dict[str, Any], list[str]]:
    """Kill a node that is not the head while it does a job with a checkpoint."""
    before = len(_results(out))
    driver = _start(command)
    _wait("two more results", lambda: len(_results(out)) >= before + 2)
    node: list[Any] = []

    def found() -> bool:
        node[:] = [n for n in cluster.worker_nodes if _jobs_of(n, _under_way(out))]
        return bool(node)

    _wait("a node with a job", found)
    lost = _jobs_of(node[0], _jobs(out))
    cluster.remove_node(node[0], allow_graceful=False)
    _wait("the jobs of the node end", lambda: not any(job.is_running() for job in lost))
    done = len(_results(out))
    said = _finish(driver)
    return {
        "results_at_the_kill": done,
        "jobs_of_the_node": len(lost),
        "started_again": sum("it is started again" in line for line in said),
    }, said


def _jobs_of(node: Any, jobs: list[Any]) -> list[Any]:
    """Those of the jobs that run on the node."""
    raylet = node.all_processes["raylet"][0].process.pid
    return [job for job in jobs if raylet in {above.pid for above in job.parents()}]


def _tables(out: Path) -> dict[str, Any]:
    """Tables and results, without the times and the machine."""
    with (out / "twelve.csv").open(newline="") as file:
        rows = [{k: v for k, v in x.items() if k not in _OF_A_RUN} for x in csv.DictReader(file)]
    results = [{k: v for k, v in x.items() if k not in _OF_A_RUN} for x in _results(out)]
    return {
        "markdown": (out / "twelve.md").read_text(),
        "latex": (out / "twelve.tex").read_text(),
        "csv": sorted(rows, key=lambda row: str(sorted(row.items()))),
        "results": sorted(results, key=lambda result: result["digest"]),
    }


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from ray.cluster_utils import Cluster

    suite = _suite(options, folder)
    alone, out = folder / "alone", folder / "on ray"
    began = time.monotonic()
    _finish(_start(_command(suite, alone, "local")))
    local_seconds = time.monotonic() - began
    print(f"on this machine alone: {local_seconds:.0f} s", file=sys.stderr)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    began = time.monotonic()
    try:
        command = _command(suite, out, f"ray:{cluster.address}")
        driver = _kill_driver(command, out)
        print(f"driver killed: {driver}", file=sys.stderr)
        node, said = _kill_node(command, out, cluster)
        print(f"node killed: {node}", file=sys.stderr)
    finally:
        cluster.shutdown()
    digests = [result["digest"] for result in _results(out)]
    first, second = _tables(alone), _tables(out)
    return {
        "jobs": len(_results(alone)),
        "driver": driver,
        "node": node,
        "continued_from_checkpoints": sum(r["fit_seconds"] is None for r in _results(out)),
        "results_twice": len(digests) - len(set(digests)),
        "results_missing": len(_results(alone)) - len(set(digests)),
        "processes_left": len(_jobs(out)),
        "different": [name for name in first if first[name] != second[name]],
        "seconds_local": round(local_seconds, 1),
        "seconds_on_ray": round(time.monotonic() - began, 1),
        "said": [line for line in said if "started again" in line],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--iterations", type=int, default=40, help="of each training")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # also for the nodes: the same threads everywhere
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's own spelling; else all other work on this machine goes first.
    os.environ.setdefault("RAY_worker_niceness", "0")
    from urd.system.files import write_json

    with tempfile.TemporaryDirectory() as name:
        result = run(options, Path(name))
    counts = ("results_twice", "results_missing", "processes_left")
    result["faults"] = sum(result[name] for name in counts) + len(result["different"])
    print(json.dumps(result, indent=2))
    if options.json is not None:
        write_json(options.json, result)
    if result["faults"] or result["jobs"] != 12 or not result["node"]["jobs_of_the_node"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
