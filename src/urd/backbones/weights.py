"""Weight files of encoders: read them, compare them with the encoder, identify them.

Never unpickles objects: `.pth` files are read with PyTorch's `weights_only`.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from urd.backbones.encoder import Encoder
from urd.errors import UsageError, first_line, quoted, some
from urd.system.files import refuse_special

_NESTED_KEYS = ("state_dict", "model", "model_state_dict")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a `.safetensors` or a `.pth`/`.pt` file, by name.

    Raises:
        UsageError: the file is missing or not a weight file.
    """
    refuse_special(path)
    if not path.is_file():
        raise UsageError(f"no weight file at {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        _refuse_packed(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise UsageError(
            f"{path} is not a readable safetensors file: {first_line(error)}"
        ) from error
    except Exception as error:  # torch.load raises many types on unknown bytes
        raise UsageError(
            f"{path} cannot be read as weights; pass a safetensors file, or a .pth file that "
            f"holds only tensors ({type(error).__name__})"
        ) from error
    for key in _NESTED_KEYS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping):
        raise UsageError(f"{path} holds a {type(loaded).__name__}, not named tensors")
    tensors = {
        name.removeprefix("module."): value
        for name, value in loaded.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }
    if not tensors:
        raise UsageError(f"{path} holds no named tensors")
    odd = [quoted(name) for name, value in tensors.items() if not _is_plain(value)]
    if odd:
        raise UsageError(f"{path} holds tensors that are sparse, quantised or empty: {some(odd)}")
    return tensors


def _refuse_packed(path: Path) -> None:
    """Refuse a file that unpacks to more than its own size.

    PyTorch never compresses its files, so such a file was made to fill the memory.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(part.file_size for part in archive.infolist()) > path.stat().st_size:
                raise ValueError("it is compressed")


def _is_plain(value: Tensor) -> bool:
    """Whether its values are in normal memory, not sparse, quantised or without data."""
    return value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized


def fingerprint(encoder: Encoder) -> str:
    """SHA-256 over the names and values that a weight file holds; identifies an encoder."""
    digest = hashlib.sha256()
    for name, value in sorted(encoder.weights().items()):
        digest.update(f"body.{name}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_state(
    encoder: Encoder, state: Mapping[str, Tensor], source: str, whole: Mapping[str, torch.Size]
) -> None:
    """Copy the encoder's tensors from `state`; refuse any mismatch.

    The encoder has no stage 4 and no classifier: `state` may have their tensors or not.

    Args:
        source: of the weights, for messages.
        whole: names and shapes of the whole model.

    Raises:
        UsageError: a tensor is missing, unknown, of another shape or kind, or holds NaN or Inf.
    """
    wanted = encoder.weights()
    # timm flattens the first level of some families: stem.0 of the whole model is stem_0 here.
    flat = {name: name.replace(".", "_", 1) for name in state}
    state = {flat[n] if n not in wanted and flat[n] in wanted else n: t for n, t in state.items()}
    missing = [n for n in wanted if n not in state and not n.endswith("num_batches_tracked")]
    unknown = [quoted(n) for n in state if n not in wanted and n not in whole]
    wrong = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in state and state[name].shape != value.shape
    ]
    kinds = [
        f"{name} {state[name].dtype}"
        for name, value in wanted.items()
        if name in state and value.is_floating_point() and not state[name].is_floating_point()
    ]
    problems = [
        f"{what}: {some(names)}"
        for what, names in (
            ("missing", missing),
            ("wrong shape", wrong),
            ("wrong type", kinds),
            ("unknown", unknown),
        )
        if names
    ]
    if problems:
        raise UsageError(f"{source} do not fit backbone '{encoder.tag}': {'; '.join(problems)}")
    not_finite = [n for n in wanted if n in state and not torch.isfinite(state[n].float()).all()]
    if not_finite:
        raise UsageError(f"{source} hold NaN or Inf in {some(not_finite)}")
    encoder.load_weights({n: state.get(n, value) for n, value in wanted.items()})
