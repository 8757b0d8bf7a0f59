"""Which formats `urd export` writes: one line for each.

A writer takes the network as an ONNX model in float32 and writes it at a path, in a precision of
`PRECISIONS`; for INT8 with images to take the ranges from. The engine that opens the file stands in
`urd.engines.registry`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from urd.export import onnx_file, openvino_file
from urd.export.parity import Pixels

Writer = Callable[[Any, Path, str, Sequence[Pixels]], None]
FORMATS: dict[str, Writer] = {"onnx": onnx_file.write, "openvino": openvino_file.write}
