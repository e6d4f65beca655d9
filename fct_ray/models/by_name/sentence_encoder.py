"""`sentence-transformers:NAME_OR_DIR[?revision=COMMIT]`: a text model of the sentence-transformers library.

Owns: finding its files, which are fetched once, and their hash, which needs no torch: the model itself is loaded when it
must embed. Shapes: N texts, D dimensions of embeddings.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fct_ray.errors import DataError, ModelError, SettingsError
from fct_ray.kinds import Metric
from fct_ray.models.batch_encoder import BatchEncoder
from fct_ray.models.by_name.registry import count_option, missing_extra
from fct_ray.models.by_name.weights import check_reachable, files_fingerprint

OPTIONS = ("revision", "batch")
BATCH = 32
NEEDED = (".json", ".txt", ".model", ".safetensors", ".bin")
"""Suffixes of the files that decide what a model computes."""
_OTHER_RUNTIMES = ("onnx", "openvino", "coreml")
_NOT_NEEDED = [
    *(f"{name}/*" for name in _OTHER_RUNTIMES),
    "*.h5",
    "*.ot",
    "*.msgpack",
    "*.onnx",
    "*.md",
    ".gitattributes",
]
_WEIGHTS_TWICE = ["pytorch_model*.bin", "*/pytorch_model*.bin"]
MODULES = "modules.json"


def open_named(spec: str, location: str, options: Mapping[str, str]) -> BatchEncoder:
    """The model in a directory, or of the Hugging Face hub by its name.

    Raises:
        SettingsError: the library is not installed, or the directory has no such model.
        ModelError: the files cannot be had.
    """
    directory = Path(location)
    if not directory.is_dir():
        if directory.is_absolute() or location.startswith((".", "~")):
            raise SettingsError(
                f"encoder {spec!r}: there is no directory {location}; want one of a sentence-transformers model"
            )
        directory = _from_hub(spec, location, options.get("revision"))
    if not (directory / MODULES).is_file() and not (directory / "config.json").is_file():
        raise SettingsError(f"encoder {spec!r}: {directory} has no {MODULES}; want a sentence-transformers model")
    return SentenceEncoder(spec, directory, count_option(spec, options, "batch", BATCH))


class SentenceEncoder:
    """A `BatchEncoder` of texts, compared as its model was made for: by cosine (unit vectors), dot product or L2."""

    flops_per_item = 0.0
    """Not known: it grows with the text."""

    def __init__(self, name: str, directory: Path, batch_size: int) -> None:
        """Hash the files; nothing is loaded yet."""
        self.name, self.directory, self.batch_size = name, directory, batch_size
        self.fingerprint = files_fingerprint(directory, needed_files(directory))

    @cached_property
    def model(self) -> Any:
        """The model, loaded. Raises SettingsError, ModelError."""
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise missing_extra(self.name, "sentence-transformers", error) from error
        import torch

        logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            return SentenceTransformer(str(self.directory), device=device, local_files_only=True)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            said = (str(error).splitlines() or [type(error).__name__])[0]
            raise ModelError(f"encoder {self.name!r}: {self.directory} cannot be loaded: {said:.300}") from error

    @property
    def device(self) -> Any:
        """Where it computes."""
        return self.model.device

    @cached_property
    def dimension(self) -> int:
        """How many numbers an embedding has."""
        return len(self._embed(["dimension"])[0])

    @property
    def metric(self) -> Metric:
        """L2 for a model that was made for Euclidean or Manhattan distance; else inner product."""
        return Metric.L2 if str(self.model.similarity_fn_name) in ("euclidean", "manhattan") else Metric.IP

    @property
    def normalized(self) -> bool:
        """Whether vectors are scaled to unit length: for a model that was made for cosine similarity."""
        return str(self.model.similarity_fn_name) == "cosine"

    def encode(self, columns: Mapping[str, Any]) -> NDArray[np.float32]:
        """embeddings_ND of columns["text"]. Raises DataError if there is no such column."""
        if "text" not in columns:
            raise DataError(f"items have the columns {sorted(columns)}; encoder {self.name!r} wants 'text'")
        texts = list(columns["text"])
        return self._embed(texts) if texts else np.empty((0, self.dimension), dtype=np.float32)

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        embeddings_ND = self.model.encode(
            texts, batch_size=self.batch_size, normalize_embeddings=self.normalized, show_progress_bar=False
        )
        return np.asarray(embeddings_ND, dtype=np.float32)


def needed_files(directory: Path) -> list[Path]:
    """The files of a model's directory that decide what it computes; weights for other runtimes are not read."""
    found = [path for path in directory.rglob("*") if path.suffix in NEEDED and path.is_file()]
    own = [path for path in found if not set(path.relative_to(directory).parts) & set(_OTHER_RUNTIMES)]
    is_safe = any(path.suffix == ".safetensors" for path in own)
    return [path for path in own if not (is_safe and path.name.startswith("pytorch_model"))]


def _from_hub(spec: str, name: str, revision: str | None) -> Path:
    """The directory where the hub's own library keeps a model's files, fetched if they are not there."""
    try:
        from huggingface_hub import HfApi, snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError as error:
        raise missing_extra(spec, "sentence-transformers", error) from error
    repository = name if "/" in name else f"sentence-transformers/{name}"  # as that library has it
    try:
        return Path(snapshot_download(repository, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        check_reachable(spec)
    except HFValidationError as error:
        raise SettingsError(f"encoder {spec!r}: {error}") from error
    try:
        has_safe = any(file.endswith(".safetensors") for file in HfApi().list_repo_files(repository, revision=revision))
        ignored = [*_NOT_NEEDED, *(_WEIGHTS_TWICE if has_safe else [])]
        return Path(snapshot_download(repository, revision=revision, ignore_patterns=ignored))
    except (HfHubHTTPError, OSError) as error:
        said = str(error).splitlines()[0]
        raise ModelError(f"encoder {spec!r}: {repository} cannot be fetched from the hub: {said:.300}") from error
