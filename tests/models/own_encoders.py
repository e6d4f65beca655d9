"""Encoders as a user would bring them, for the tests of the factory door."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fct_ray.kinds import Metric

NOT_CALLABLE = 3


class LengthEncoder:
    """Texts to (length, 1)."""

    name = "length"
    fingerprint = "length-1"
    dimension = 2
    metric: Metric = Metric.L2
    normalized = False
    flops_per_item = 0.0

    def encode(self, columns: Mapping[str, Any]) -> NDArray[np.float32]:
        return np.array([[len(text), 1] for text in columns["text"]], dtype=np.float32)


def length_encoder() -> LengthEncoder:
    return LengthEncoder()


class MeanColour:
    """Images to their mean red, green and blue."""

    name = "mean-colour"
    fingerprint = "mean-colour-1"
    dimension = 3
    metric: Metric = Metric.L2
    normalized = False
    flops_per_item = 0.0

    def encode(self, columns: Mapping[str, Any]) -> NDArray[np.float32]:
        return np.array([np.mean(image, axis=(0, 1)) for image in columns["image"]], dtype=np.float32)


def mean_colour() -> MeanColour:
    return MeanColour()


def without_fingerprint() -> object:
    class Incomplete:
        name = "incomplete"

    return Incomplete()


def with_metric_as_text() -> LengthEncoder:
    encoder = LengthEncoder()
    encoder.metric = "l2"  # type: ignore[assignment]
    return encoder


class EndingEncoder(LengthEncoder):
    """As a text "exit CODE while FILE" says, ends its process as long as that file exists."""

    name = "ending"
    fingerprint = "ending-1"

    def encode(self, columns: Mapping[str, Any]) -> NDArray[np.float32]:
        for text in columns["text"]:
            if text.startswith("exit ") and Path(text.split(" while ")[1]).exists():
                os._exit(int(text.split()[1]))
        return super().encode(columns)


def ending_encoder() -> EndingEncoder:
    return EndingEncoder()


class OnGpu(LengthEncoder):
    """Says, as an encoder on a GPU does, where it computes."""

    name = "on-gpu"
    fingerprint = "on-gpu-1"
    device = "cuda:0"


def on_gpu() -> OnGpu:
    return OnGpu()
