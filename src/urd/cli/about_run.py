"""What `urd -v` says at the end of a call: versions in use, threads, time and memory."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterator

from urd.system.versions import VERSION

_LIBRARIES = {  # module and name
    "torch": "torch",
    "timm": "timm",
    "numpy": "numpy",
    "PIL": "pillow",
    "cv2": "opencv",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "watchfiles": "watchfiles",
    "pymodbus": "pymodbus",
    "paho.mqtt": "paho-mqtt",
    "ray": "ray",
}


def about_run(began: float) -> Iterator[str]:
    """Lines about this process; `began` is the `time.monotonic()` of its start.

    Only libraries that were imported are named, and none is imported for this.
    """
    versions = [f"urd {VERSION}", f"Python {platform.python_version()}"]
    for module, name in _LIBRARIES.items():
        if version := getattr(sys.modules.get(module), "__version__", None):
            versions.append(f"{name} {version}")
    yield ", ".join(versions)
    torch = sys.modules.get("torch")
    threads = f"threads of torch: {torch.get_num_threads()}, " if torch else ""
    yield (
        f"{threads}processors: {os.cpu_count()}; {time.monotonic() - began:.1f} s, "
        f"{time.process_time():.1f} s of processor time{_peak_memory()}"
    )


def _peak_memory() -> str:
    """The largest memory of this process, in words; empty if the system does not say it."""
    try:
        import resource
    except ImportError:  # Windows
        return ""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return f"; peak memory {peak / 1e6:.0f} MB"
