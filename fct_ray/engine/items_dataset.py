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
from fct_ray.sources.items import Source
from fct_ray.sources.listing import ListedSource, spans_from_bytes, spans_to_bytes
from fct_ray.sources.registry import open_reader

CHUNK_ROWS = 1024


def items_dataset(source: Source, seed: int) -> ray.data.Dataset:
    """Rows of (image uint8 [H, W, C], label int64: its index among the source's sorted labels), in seeded order.

    A source without labels gives label 0 throughout, which only a contrastive fit can use. Each chunk carries where its
    items lie and in which version, so workers list nothing.

    Raises:
        SourceError: the images are not all of one size, or were changed since they were listed.
    """
    order = np.random.default_rng(seed).permutation(source.num_items)
    chunks = [order[start : start + CHUNK_ROWS] for start in range(0, len(order), CHUNK_ROWS)]
    rows = [{"spans": spans_to_bytes(source.listing.take(chunk))} for chunk in chunks]
    read = partial(_read_chunk, source=source.listing.source, classes=class_labels(source))
    return ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(read, batch_size=1, num_cpus=0.5)


def class_labels(source: Source) -> np.ndarray:
    """The distinct labels of a source, ascending: class c of a fit is the c-th of them; empty without labels."""
    labels = source.labels_N
    return np.zeros(0, dtype=np.int64) if labels is None else np.unique(labels)


def _read_chunk(batch: Any, source: ListedSource, classes: np.ndarray) -> dict[str, np.ndarray]:
    items = open_reader(source.spec).read(spans_from_bytes(source, batch["spans"][0]))
    images = items.columns.get("image")
    if not isinstance(images, np.ndarray):
        raise SourceError(
            f"{source.spec}: images differ in size, which fitting does not take; resize them to one size first"
        )
    if "label" not in items.carried:
        return {"image": images, "label": np.zeros(len(images), dtype=np.int64)}
    return {"image": images, "label": np.searchsorted(classes, items.carried["label"])}
