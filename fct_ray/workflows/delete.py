"""Taking items out of a gallery, as a new version: embeddings, side-information, other columns and index entries.

Owns: the settings, and which shards hold the items. `edit` makes the version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fct_ray.engine.actor_pool import PoolSettings
from fct_ray.errors import DataError
from fct_ray.kinds import Provenance
from fct_ray.settings import CheckedSettings
from fct_ray.storage import documents
from fct_ray.storage import pairs as parquet_files
from fct_ray.storage.store import Store
from fct_ray.values import Manifest, ShardRecord
from fct_ray.workflows.bad_rows import BadRowSettings
from fct_ray.workflows.edit import Edit, EditOutcome, make_edit, rewriting, run_unless_published, shards_with

IdArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class DeleteSettings(CheckedSettings):
    """Take items out of a gallery, as a new version: embeddings, side-information, other columns and index entries.

    Older versions keep them until they are collected: `fct-ray store gc --purge-deleted`.
    """

    store: str
    """The store: a directory or s3:// prefix."""
    ids: str
    """Parquet file with a column `id` (int64): the items to delete."""
    missing_ok: bool = False
    """Ids that the store does not have are no error."""
    pool: PoolSettings = field(default_factory=PoolSettings)
    """The actors that do it."""


def delete(settings: DeleteSettings) -> EditOutcome:
    """Take the items in a file out as a new version; run again after a kill, it resumes. Raises like `delete_items`."""
    ids_N = parquet_files.read_ids(settings.ids)
    return delete_items(Store(settings.store), ids_N, missing_ok=settings.missing_ok, named=settings.ids)


def delete_items(store: Store, ids_N: IdArray, *, missing_ok: bool = False, named: str = "delete") -> EditOutcome:
    """Take the items with these ids [N] out as a new version; `named` begins what errors say about them.

    Raises:
        DataError: ids that the gallery does not have (unless `missing_ok`), or all of its items.
    """
    wanted_N = np.unique(ids_N)

    def plan(parent: Manifest) -> Edit | None:
        return _deleted(wanted_N, store, parent, missing_ok=missing_ok, named=named)

    return make_edit(store, plan, threads=1, bad_rows=BadRowSettings())


def _deleted(ids_N: IdArray, store: Store, parent: Manifest, *, missing_ok: bool, named: str) -> Edit | None:
    run = run_unless_published("delete", store, parent, documents.sha256_hex(ids_N.tobytes()))
    if run is None:
        return None
    found = {record.shard: (record, hits_N) for record, hits_N in shards_with(store, parent, ids_N) if len(hits_N)}
    num_found = sum(len(hits_N) for _, hits_N in found.values())
    if num_found < len(ids_N) and not missing_ok:
        missing = np.setdiff1d(ids_N, np.concatenate([ids_N[:0], *(hits_N for _, hits_N in found.values())]))
        raise DataError(
            f"{named}: {len(missing):,} of {len(ids_N):,} ids are not in version {parent.version} (for example "
            f"{', '.join(str(number) for number in missing[:5])}); want ids of the store: nothing was deleted. If they "
            "may be gone already, add --missing-ok"
        )
    if num_found == 0:
        return None
    if num_found == parent.num_rows:
        raise DataError(f"{named}: these are all {num_found:,} items of the gallery; want one to be left at least")
    emptied = frozenset(shard for shard, (record, hits_N) in found.items() if len(hits_N) == record.rows)
    rewritten = [record for record, _ in found.values() if record.shard not in emptied]
    return Edit(
        run=run,
        shards=tuple(record.shard for record in sorted(rewritten, key=lambda record: record.shard)),
        write=rewriting(rewritten, parent, ids_N, model_uri=_model_of_mixed(store, parent, rewritten)),
        changed=num_found,
        dropped=emptied,
        num_rows=parent.num_rows - num_found,
    )


def _model_of_mixed(store: Store, parent: Manifest, records: Sequence[ShardRecord]) -> str | None:
    """The model directory of the version, where some of these shards need it to count what stays of them."""
    mixed = any(record.provenance is Provenance.MIXED for record in records)
    return store.find_transformation(parent) if mixed else None
