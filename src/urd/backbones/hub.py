"""The hub that timm downloads weights from, and its cache on this machine."""

from __future__ import annotations

import os
import urllib.error
import urllib.request

import timm

_SECONDS = 5.0


def cached_weights_available(tag: str) -> bool:
    """Whether the weights of this tag are on this machine; does not use the network."""
    try:
        from huggingface_hub import try_to_load_from_cache

        repository = repository_of(tag)
        if not repository:
            return False
        names = ("model.safetensors", "pytorch_model.bin")
        return any(isinstance(try_to_load_from_cache(repository, name), str) for name in names)
    except (ImportError, ValueError, OSError):
        return False


def repository_of(tag: str) -> str | None:
    """The hub repository with timm's weights of a tag; `None` if there is none."""
    config = timm.get_pretrained_cfg(tag, allow_unregistered=True)
    repository = config.hf_hub_id if config is not None else None
    if not repository:
        return None
    return f"{repository}{tag}" if repository.endswith("/") else str(repository)


def hub_reachable() -> bool:
    """Whether one short request succeeds; the hub's own client would retry for 90 seconds.

    A server that answers with a refusal, for example a proxy, will not give the weights either.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    request = urllib.request.Request(hub_address(), method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS):
            return True
    except urllib.error.HTTPError as error:
        return error.code in (404, 405)  # the hub answers, only not to HEAD
    except (OSError, ValueError):
        return False


def hub_address() -> str:
    """The address of the hub, or of the mirror in the environment variable HF_ENDPOINT."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
