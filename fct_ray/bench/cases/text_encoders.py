"""The text encoders of the cases as users name them, `fct_ray.bench.cases.text_encoders:l3_256`: they see so many characters.

Owns: the names, and cutting texts. The models are `text_models`. A process loads each model once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fct_ray.bench.cases.text_models import ENCODERS, Encode
from fct_ray.kinds import Metric

DIMENSIONS = {"paraphrase-MiniLM-L3-v2": 384, "all-MiniLM-L6-v2": 384, "WordLlama-256": 256}


class CutTextEncoder:
    """A `BatchEncoder` that sees the first characters of each text."""

    flops_per_item = 0.0
    metric = Metric.IP
    normalized = True

    def __init__(self, model: str, num_characters: int) -> None:
        self.name, self.dimension = f"{model}-{num_characters}", DIMENSIONS[model]
        self.fingerprint = hashlib.sha256(self.name.encode()).hexdigest()
        self._model, self._num_characters = model, num_characters

    def encode(self, columns: Mapping[str, Any]) -> npt.NDArray[np.float32]:
        """Unit vectors [N, D] of columns["text"]."""
        return _loaded(self._model)([text[: self._num_characters] for text in columns["text"]])


@cache
def _loaded(model: str) -> Encode:
    return ENCODERS[model]()


def l3_256() -> CutTextEncoder:
    """paraphrase-MiniLM-L3-v2 on 256 characters."""
    return CutTextEncoder("paraphrase-MiniLM-L3-v2", 256)


def l6_256() -> CutTextEncoder:
    """all-MiniLM-L6-v2 on 256 characters."""
    return CutTextEncoder("all-MiniLM-L6-v2", 256)


def wordllama_256() -> CutTextEncoder:
    """WordLlama on 256 characters."""
    return CutTextEncoder("WordLlama-256", 256)


def l3_400() -> CutTextEncoder:
    """paraphrase-MiniLM-L3-v2 on 400 characters."""
    return CutTextEncoder("paraphrase-MiniLM-L3-v2", 400)


def l6_400() -> CutTextEncoder:
    """all-MiniLM-L6-v2 on 400 characters."""
    return CutTextEncoder("all-MiniLM-L6-v2", 400)


def wordllama_400() -> CutTextEncoder:
    """WordLlama on 400 characters."""
    return CutTextEncoder("WordLlama-256", 400)


def encoder_name(model: str, num_characters: int) -> str:
    """The import path of such an encoder."""
    short = {"paraphrase-MiniLM-L3-v2": "l3", "all-MiniLM-L6-v2": "l6", "WordLlama-256": "wordllama"}[model]
    return f"{__name__}:{short}_{num_characters}"
