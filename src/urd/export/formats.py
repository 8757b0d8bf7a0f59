"""The formats of `urd export`, one line each.

A writer gets an ONNX model in float32, a path, a precision of `PRECISIONS`, and images for the INT8
ranges. The engine that opens the file is in `urd.engines.registry`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from urd.export import onnx_file, openvino_file
from urd.export.parity import Pixels

Writer = Callable[[Any, Path, str, Sequence[Pixels]], None]
FORMATS: dict[str, Writer] = {"onnx": onnx_file.write, "openvino": openvino_file.write}
