"""Raw items of a source as a Ray Data dataset for fitting: shuffled once on the driver, read in parallel.

Owns: the order of items. A seeded permutation of positions is cut into chunks, one Ray Data block each, so that even a
source sorted by class is read in random order without moving a byte through a shuffle.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import ray.data

from fct_ray.errors import SourceError
from fct_ray.sources.registry import open_source

CHUNK_ROWS = 1024


def items_dataset(source_spec: str, seed: int) -> ray.data.Dataset:
    """Rows of (image uint8 [H, W, C], label int64: its index among the source's sorted labels), in seeded order.

    A source without labels gives label 0 throughout, which only a contrastive fit can use.

    Raises:
        SourceError: the images are not all of one size.
    """
    source = open_source(source_spec)
    classes = class_labels(source_spec)
    order = np.random.default_rng(seed).permutation(source.num_items)
    chunks = [order[start : start + CHUNK_ROWS] for start in range(0, len(order), CHUNK_ROWS)]
    rows = [{"positions": chunk.astype(np.int64).tobytes()} for chunk in chunks]
    return ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        partial(_read_chunk, source_spec=source_spec, classes=classes), batch_size=1, num_cpus=0.5
    )


def class_labels(source_spec: str) -> np.ndarray:
    """The distinct labels of a source, ascending: class c of a fit is the c-th of them; empty without labels."""
    labels = open_source(source_spec).labels_N
    return np.zeros(0, dtype=np.int64) if labels is None else np.unique(labels)


def _read_chunk(batch: Any, source_spec: str, classes: np.ndarray) -> dict[str, np.ndarray]:
    positions = np.frombuffer(batch["positions"][0], dtype=np.int64)
    source = open_source(source_spec)
    images = source.read(positions).columns.get("image")
    if not isinstance(images, np.ndarray):
        raise SourceError(
            f"{source_spec}: images differ in size, which fitting does not take; resize them to one size first"
        )
    if source.labels_N is None:
        return {"image": images, "label": np.zeros(len(positions), dtype=np.int64)}
    return {"image": images, "label": np.searchsorted(classes, source.labels_N[positions])}
