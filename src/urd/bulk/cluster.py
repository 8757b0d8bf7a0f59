"""What a Ray cluster can do for us: where a worker fits, and whether one starts in time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from urd.bulk.worker import probe
from urd.errors import UrdError, UsageError, one_line
from urd.system.versions import VERSION

PATIENCE = 120.0  # seconds to wait for a node; clusters that grow by themselves need a minute
_SLICE = 0.5
_MOST_IMPORT = 600.0  # seconds to import PyTorch on a busy node with a slow disk


@dataclass(frozen=True)
class Cluster:
    """A cluster to which this process is connected.

    Attributes:
        ray: the module.
        patience: seconds to wait until a worker can run somewhere.
    """

    ray: Any
    patience: float = PATIENCE

    def device(self, asked: str) -> str:
        """What `--device` means: `auto` is a GPU if a node has one.

        Raises:
            UsageError: it names one GPU, or there is none.
        """
        gpus = self._total("GPU")
        if asked not in ("auto", "cpu", "cuda"):
            raise UsageError(f"--device {asked} cannot be used with --on; choose auto, cpu or cuda")
        if asked == "cuda" and not gpus:
            raise UsageError("no node of the cluster has a GPU: use --device cpu")
        return "cuda" if gpus and asked != "cpu" else "cpu"

    def workers_that_fit(self, needs: Mapping[str, float]) -> int:
        """How many workers with these needs the nodes can hold, if nothing else runs there."""
        fit = [
            min(int(node.get(name, 0) // n) for name, n in needs.items()) for node in self._nodes()
        ]
        return sum(fit)

    def try_a_node(
        self, needs: Mapping[str, float], device: str, precision: str | None
    ) -> str | None:
        """Start a task where a worker could run.

        Returns:
            What the precision means there.

        Raises:
            UrdError: none starts within the patience, or urd cannot run on the node.
        """
        options = {"num_cpus": needs.get("CPU", 0), "num_gpus": needs.get("GPU", 0)}
        remote = self.ray.remote
        self._wait(remote(lambda: None).options(**options).remote(), self.patience, needs)
        task = remote(probe).options(**options).remote(VERSION, device, precision)
        self._wait(task, max(self.patience, _MOST_IMPORT), needs)
        try:
            problem, means = self.ray.get(task)
        except Exception as error:  # Ray's own types, and those of the node
            raise UrdError(f"urd cannot run on a node: {reason_of(error)}") from error
        if problem:
            raise UrdError(problem)
        return means

    def _wait(self, task: Any, seconds: float, needs: Mapping[str, float]) -> None:
        end = time.monotonic() + seconds
        while not self.ray.wait([task], timeout=_SLICE)[0]:
            if time.monotonic() > end:
                self.ray.cancel(task, force=True)
                raise UrdError(
                    f"no node of the cluster had {_said(needs)} free for {seconds:.0f} seconds; "
                    f"all nodes together have {self._total('CPU'):g} processors and "
                    f"{self._total('GPU'):g} GPUs"
                )

    def _nodes(self) -> list[dict[str, float]]:
        return [node.get("Resources", {}) for node in self.ray.nodes() if node.get("Alive")]

    def _total(self, name: str) -> float:
        return sum(node.get(name, 0) for node in self._nodes())


def reason_of(error: BaseException) -> str:
    """What went wrong, in one line; Ray's errors end with the line that says it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return one_line(lines[-1]) if lines else type(error).__name__


def _said(needs: Mapping[str, float]) -> str:
    names = {"CPU": "processor", "GPU": "GPU"}
    return " and ".join(f"{n:g} {names[name]}{'s' * (n != 1)}" for name, n in needs.items())
