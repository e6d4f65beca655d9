"""What decides a pretrained encoder's output as one hash; and whether its weights can be fetched at all.

Owns: hashing weights, as files or as tensors, with the settings of preprocessing; the question whether a server answers,
asked before a library would wait for minutes. Knows no model.
"""

from __future__ import annotations

import hashlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fct_ray.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

NETWORK_S = 5.0
"""A server that does not answer for so long counts as out of reach."""
HUB = "https://huggingface.co"
_BLOCK_BYTES = 8 << 20


def tensors_fingerprint(tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> str:
    """SHA-256 over names, types, shapes and values of tensors, and over settings that JSON can hold."""
    import torch

    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())  # also of types that NumPy lacks
    return digest.hexdigest()


def tensors_of_file(spec: str, file: str) -> dict[str, Tensor]:
    """Weights in a file of safetensors or of torch, of which nothing is executed; inside of "state_dict" where there is one.

    Raises:
        ModelError: it holds no weights.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from torch._weights_only_unpickler import UnpicklingError  # type: ignore[attr-defined]

    try:
        if file.endswith(".safetensors"):
            return dict(load_file(file))
        content = torch.load(file, weights_only=True, map_location="cpu")
        return dict(content.get("state_dict", content))
    except (
        RuntimeError,
        OSError,
        ValueError,
        TypeError,
        AttributeError,
        EOFError,
        UnpicklingError,
        SafetensorError,
    ) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"encoder {spec!r}: {file} cannot be read as weights: {said:.300}") from error


def files_fingerprint(directory: Path, files: Iterable[Path]) -> str:
    """SHA-256 over the paths in a directory and the contents of these files."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(directory).as_posix()} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def check_reachable(spec: str, url: str | None = None) -> None:
    """Refuse, within seconds, to fetch weights from a server that cannot be reached. `url` None is the Hugging Face hub.

    Raises:
        ModelError: it does not answer.
    """
    address = url or os.environ.get("HF_ENDPOINT") or HUB
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    reason = "HF_HUB_OFFLINE is set" if offline and url is None else _unreachable(address)
    if reason:
        raise ModelError(
            f"encoder {spec!r}: its weights are not on this machine, and {address} cannot be reached ({reason}); fetch them "
            "where there is a network, or name a directory or file that has them"
        )


def _unreachable(url: str) -> str:
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 (https, or what the user set)
    try:
        with urllib.request.urlopen(request, timeout=NETWORK_S):  # noqa: S310
            return ""
    except urllib.error.HTTPError:
        return ""  # it answers
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))
