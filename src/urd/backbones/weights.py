"""Pretrained weights for the encoder: a file, timm's cache or download, or none.

Nothing is ever unpickled: `.pth` files are read with PyTorch's `weights_only`.
"""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from urd.backbones.builtin import BUILTIN, architecture, builtin_weights
from urd.backbones.encoder import Encoder, build_encoder, pyramid_indices
from urd.errors import UrdError, UsageError, first_line, quoted
from urd.system.files import refuse_special

AUTO = "auto"
NONE = "none"
_HUB_SECONDS = 5.0
_NESTED_KEYS = ("state_dict", "model", "model_state_dict")


def load_encoder(tag: str, weights: str, generator: torch.Generator) -> Encoder:
    """The encoder of a timm tag with its weights.

    Args:
        weights: a file; `auto` for timm's cache or, failing that, its download, and for the
            built-in backbone the shipped file; `none` for an untrained encoder drawn from
            `generator`.

    Raises:
        UsageError: unknown backbone or unusable file.
        UrdError: `auto`, and the weights are neither in the cache nor can be had.
    """
    # timm initialises with the global generator: seed a copy of it and put the old one back.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        encoder = build_encoder(tag)
    if weights == NONE:
        return _open_branches(encoder)
    state = _pretrained_state(encoder) if weights == AUTO else read_weights(Path(weights))
    source = f"the weights of {tag}" if weights == AUTO else weights
    _load_state(encoder, state, source)
    return encoder


def _open_branches(encoder: Encoder) -> Encoder:
    """Let every residual branch of an untrained encoder contribute.

    timm starts the last norm of each branch at zero, so that the whole stage begins as the identity
    and its random filters are never seen; that helps long training and makes poor fixed features.
    """
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d) and not module.weight.any():
            nn.init.ones_(module.weight)
    return encoder


def choose_backbone(wanted: str, weights: str = AUTO) -> str:
    """The first of the backbones in `wanted` (with commas between) whose weights can be had.

    That is the first one where `weights` names a file or none. Whether the last one's can be had is
    not asked: loading it tells, and says what to do.
    """
    tags = [tag.strip() for tag in wanted.split(",") if tag.strip()]
    if not tags:
        raise UsageError("backbone is empty; give a timm tag or 'builtin'")
    if weights != AUTO:
        return tags[0]
    for tag in tags[:-1]:
        if cached_weights_available(tag) or hub_reachable():
            return tag
    return tags[-1]


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a `.safetensors` or a `.pth`/`.pt` file, by name.

    Raises:
        UsageError: no such file, or not a file of weights.
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
    except Exception as error:  # torch.load raises many types on foreign bytes
        raise UsageError(
            f"{path} cannot be read as weights; a safetensors file, or a .pth file that holds "
            f"nothing but tensors, is needed ({type(error).__name__})"
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
        raise UsageError(f"{path} holds tensors that are sparse, quantised or empty: {_some(odd)}")
    return tensors


def _refuse_packed(path: Path) -> None:
    """PyTorch never compresses: a file that unpacks to more than itself is made to fill memory."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(part.file_size for part in archive.infolist()) > path.stat().st_size:
                raise ValueError("it is compressed")


def _is_plain(value: Tensor) -> bool:
    """Its values lie in memory as they are, one after the other or in strides."""
    return value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized


def fingerprint(encoder: Encoder) -> str:
    """SHA-256 over names and values of what a weight file holds: tells two encoders apart."""
    digest = hashlib.sha256()
    for name, value in sorted(encoder.weights().items()):
        digest.update(f"body.{name}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def cached_weights_available(tag: str) -> bool:
    """True when the weights of this tag lie on this machine; asks no network."""
    if tag == BUILTIN:
        return True
    try:
        from huggingface_hub import try_to_load_from_cache

        repository = _repository(tag)
        if not repository:
            return False
        names = ("model.safetensors", "pytorch_model.bin")
        return any(isinstance(try_to_load_from_cache(repository, name), str) for name in names)
    except (ImportError, ValueError, OSError):
        return False


def _repository(tag: str) -> str | None:
    """Where timm's weights of a tag lie on the hub; `None`: nowhere."""
    config = timm.get_pretrained_cfg(tag, allow_unregistered=True)
    repository = config.hf_hub_id if config is not None else None
    if not repository:
        return None
    return f"{repository}{tag}" if repository.endswith("/") else str(repository)


def _pretrained_state(encoder: Encoder) -> dict[str, Tensor]:
    """The shipped weights, or those by timm: its cache, else its download."""
    tag = encoder.tag
    if tag == BUILTIN:
        return builtin_weights()
    if not cached_weights_available(tag) and not hub_reachable():
        raise UrdError(f"the hub cannot be reached, and there are {how_to_get(tag)}")
    indices = pyramid_indices(tag)
    try:
        body = timm.create_model(tag, pretrained=True, features_only=True, out_indices=indices)
    except Exception as error:  # the hub's client raises types of its own, of many libraries
        raise UrdError(
            f"download failed ({type(error).__name__}), and there are {how_to_get(tag)}"
        ) from error
    return body.state_dict()


def hub_reachable() -> bool:
    """One short attempt: the hub's own client would retry for a minute and a half.

    A server that answers but refuses, a proxy's for one, will not give the weights either.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    request = urllib.request.Request(_hub(), method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_HUB_SECONDS):
            return True
    except urllib.error.HTTPError as error:
        return error.code in (404, 405)  # it answers, though not to this request
    except (OSError, ValueError):
        return False


def _hub() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def how_to_get(tag: str) -> str:
    """What to tell a user whose machine lacks the weights of a tag."""
    return (
        f"no pretrained weights of '{tag}' in timm's cache. On a machine with a network fetch "
        f"{_hub()}/{_repository(tag) or f'timm/{tag}'}/resolve/main/model.safetensors and pass it "
        f"with --weights FILE; --backbone {BUILTIN} needs no file, at lower accuracy."
    )


def _load_state(encoder: Encoder, state: Mapping[str, Tensor], source: str) -> None:
    """Copy the tensors that the encoder has; refuse any mismatch but an absent or extra tail.

    Stage 4 and the classifier are not part of the encoder: their tensors may be there or not.
    """
    wanted = encoder.weights()
    # timm flattens the first level of some families: stem.0 of the whole model is stem_0 here.
    flat = {name: name.replace(".", "_", 1) for name in state}
    state = {flat[n] if n not in wanted and flat[n] in wanted else n: t for n, t in state.items()}
    missing = [n for n in wanted if n not in state and not n.endswith("num_batches_tracked")]
    with torch.device("meta"):
        full = timm.create_model(architecture(encoder.tag), pretrained=False)
    shapes = {name: value.shape for name, value in full.state_dict().items()}
    unknown = [quoted(n) for n in state if n not in wanted and n not in shapes]
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
        f"{what}: {_some(names)}"
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
        raise UsageError(f"{source} hold NaN or Inf in {_some(not_finite)}")
    encoder.load_weights({n: state.get(n, value) for n, value in wanted.items()})


def _some(names: list[str], limit: int = 4) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
