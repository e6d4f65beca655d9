"""Galleries of real photos' embeddings and an h between their encoders, quick to make: nothing is fitted by Ray.

The h is the linear map, in closed form, given to upgrades by `--transformation`: so tests of what happens around h need
no Ray Train.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fct_ray.models.model_files import pack_model
from fct_ray.models.transformation import fit_linear
from fct_ray.shards.encoder_names import resolve_encoder
from fct_ray.shards.model_directory import save_model
from fct_ray.storage.store import Store
from fct_ray.values import Manifest
from tests.fashion_vectors import Vectors, fixed_size_list

IdArray = npt.NDArray[np.int64]


def write_rows(path: Path, vectors: Vectors, rows: npt.NDArray[np.int_]) -> Path:
    """Some rows as a Parquet file of (id, embedding, side_info, label) by the old encoder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {
            "id": vectors.ids_N[rows],
            "embedding": fixed_size_list(vectors.old_ND[rows]),
            "side_info": fixed_size_list(vectors.side_NS[rows]),
            "label": vectors.labels_N[rows],
        }
    )
    pq.write_table(table, path)
    return path


def write_pairs(path: Path, vectors: Vectors, rows: npt.NDArray[np.int_]) -> Path:
    """Some rows as a pairs file: (id, embedding) by the new encoder."""
    pq.write_table(pa.table({"id": vectors.ids_N[rows], "embedding": fixed_size_list(vectors.new_NW[rows])}), path)
    return path


def write_ids(path: Path, ids_N: IdArray) -> str:
    """A Parquet file with a column `id`."""
    pq.write_table(pa.table({"id": np.asarray(ids_N, dtype=np.int64)}), path)
    return str(path)


def linear_h(store: Store, vectors: Vectors, new_name: str, models: Path) -> str:
    """A model directory with the linear map from the store's encoder to `new_name`."""
    manifest = store.manifest()
    side = manifest.side_info
    module = fit_linear(vectors.old_ND, None if side is None else vectors.side_NS, vectors.new_NW)
    packed = pack_model(
        module,
        kind="transformation",
        name="h-linear",
        provenance={"from": manifest.encoder.name, "to": new_name},
        from_encoder=manifest.encoder.fingerprint,
        to_encoder=resolve_encoder(new_name, store).ref.fingerprint,
        side_fingerprint=None if side is None else side.fingerprint,
    )
    return save_model(str(models), packed)


def read_version(store: Store, manifest: Manifest) -> pa.Table:
    """All rows of a version by pyarrow alone, ascending by id; hashes are checked."""
    tables = [pq.read_table(pa.BufferReader(store.read(record.embeddings))) for record in manifest.shards]
    return pa.concat_tables(tables).sort_by("id").combine_chunks()
