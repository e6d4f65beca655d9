"""Embeddings of a fixed list of items, kept on disk in shards, so that making a case again is cheap and a kill loses little.

    <directory>/part-00003.npy    float32 [SHARD_ITEMS, D]: items 3 x SHARD_ITEMS and on

Owns: which shards are missing, and writing each whole. The directory's name must say which items and which model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

SHARD_ITEMS = 1000
Item = TypeVar("Item")
FloatArray = npt.NDArray[np.float32]


def cached_embeddings(
    directory: Path,
    items: Sequence[Item],
    num_items: int,
    encoder: Callable[[], Callable[[Sequence[Item]], FloatArray]],
) -> FloatArray:
    """Vectors of the first `num_items` of `items`, [num_items, D]; whole shards that are missing are embedded first.

    `encoder` loads the model; it is called only where something is missing.
    """
    directory.mkdir(parents=True, exist_ok=True)
    num_shards = -(-num_items // SHARD_ITEMS)
    paths = [directory / f"part-{number:05d}.npy" for number in range(num_shards)]
    missing = [number for number, path in enumerate(paths) if not path.is_file()]
    encode = encoder() if missing else None
    for number in tqdm(missing, f"embed {directory.name}", unit="shard", disable=None):
        assert encode is not None  # noqa: S101 (something is missing)
        vectors = encode(items[number * SHARD_ITEMS : (number + 1) * SHARD_ITEMS])
        partial = paths[number].with_suffix(".partial")
        with partial.open("wb") as file:
            np.save(file, vectors)
        partial.replace(paths[number])
    return np.concatenate([np.load(path) for path in paths])[:num_items]
