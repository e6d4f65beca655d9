"""The index of a FAISS file that a version is exported to: its type, whether it fits into memory, and its training.

Owns: these decisions, and drawing the sample that it is trained on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fct_ray.engine.tasks import map_tasks
from fct_ray.errors import SettingsError
from fct_ray.index.build import train_index
from fct_ray.index.factory import minimum_training_rows, needs_training, training_rows_wanted
from fct_ray.index.merging import MergeKind, merge_kind, row_bytes
from fct_ray.shards.stored_rows import ShardSelection, select_rows
from fct_ray.storage import objects
from fct_ray.storage.gallery_reader import Reading
from fct_ray.storage.store import Store
from fct_ray.values import Manifest
from fct_ray.workflows.commit import RunInProgress

_SEED = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class FaissChoice:
    """The type of the merged index, and where its rows are."""

    factory: str
    on_disk: bool


def faiss_choice(manifest: Manifest, factory: str | None, memory_bytes: int) -> FaissChoice:
    """The index that is asked for, or the version's own.

    Raises:
        SettingsError: it would not fit into memory, and its type cannot stay on the disk; or there are too few rows.
    """
    own = "Flat" if manifest.index is None else manifest.index.factory
    chosen = factory or own
    kind = merge_kind(chosen, manifest.dimension, manifest.metric)
    needed = manifest.num_rows * row_bytes(chosen, manifest.dimension, manifest.metric)
    if manifest.num_rows < minimum_training_rows(chosen):
        raise SettingsError(
            f"--index {chosen}: needs {minimum_training_rows(chosen):,} rows to train, and version {manifest.version} has "
            f"{manifest.num_rows:,}; take fewer lists, or Flat"
        )
    if needed > memory_bytes and kind is not MergeKind.LISTS:
        lists = 2 ** round(math.log2(max(1.0, math.sqrt(manifest.num_rows))))
        raise SettingsError(
            f"--index {chosen}: takes about {needed / 2**30:.1f} GiB, more than --memory-bytes {memory_bytes}, and cannot "
            f"stay on the disk; take an IVF type, e.g. --index IVF{lists},Flat, or allow more memory"
        )
    return FaissChoice(factory=chosen, on_disk=needed > memory_bytes)


def trained_template(store: Store, manifest: Manifest, factory: str, run: RunInProgress) -> bytes | None:
    """The trained, empty index of a type: the version's own, or one that is trained now and kept in the run."""
    if not needs_training(factory):
        return None
    own = manifest.index
    if own is not None and own.factory == factory and own.trained is not None:
        return store.read(own.trained)
    uri = store.run_uri(run.run, "trained.faiss")
    if objects.exists(uri):
        return objects.read_bytes(uri)
    with run.log.stage("fit") as meter:
        wanted = training_rows_wanted(factory)
        selections = [
            ShardSelection(
                store_uri=store.uri,
                embeddings=record.embeddings,
                reading=Reading.of(manifest),
                first_id=record.id_min,
                dimension=manifest.dimension,
                side_dimension=None,
                wanted_ids=None,
                count=math.ceil(wanted * record.rows / manifest.num_rows),
                seed=_SEED,
            )
            for record in manifest.shards
        ]
        sampled = {}
        for position, (rows, usage) in map_tasks(select_rows, selections, describe="sample rows to train the index"):
            meter.add(usage)
            sampled[position] = rows["old"].combine_chunks().flatten().to_numpy().reshape(-1, manifest.dimension)
        sample_ND = np.concatenate([sampled[position] for position in sorted(sampled)])
        template = train_index(factory, manifest.dimension, manifest.metric, sample_ND, _SEED)
        objects.write_bytes(uri, template)
    return template
