"""Taking items out of a gallery, as a new version: embeddings, side-information, other columns and index entries.

Owns: the settings, and which shards hold the items. `edit` makes the version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fct_ray.engine.actor_pool import PoolSettings
from fct_ray.errors import DataError, SettingsError
from fct_ray.key_types import UserIds, texts
from fct_ray.kinds import Provenance
from fct_ray.settings import CheckedSettings
from fct_ray.storage import documents, given_ids, keys
from fct_ray.storage import pairs as parquet_files
from fct_ray.storage.store import Store
from fct_ray.values import Manifest, ShardRecord
from fct_ray.workflows.bad_rows import BadRowSettings
from fct_ray.workflows.edit import Edit, EditOutcome, make_edit, rewriting, run_unless_published, shards_with
from fct_ray.workflows.keys import NOT_THERE, NUM_NAMED, ids_or_none


@dataclass(frozen=True, kw_only=True)
class DeleteSettings(CheckedSettings):
    """Take items out of a gallery, as a new version: embeddings, side-information, other columns and index entries.

    Older versions keep them until they are collected: `fct-ray store gc --purge-deleted`.
    """

    store: str
    """The store: a directory or s3:// prefix."""
    ids: str | None = None
    """Parquet file with a column `id`, of whole numbers or of the store's keys: the items to delete."""
    items: str | None = None
    """Ids or keys of a few items (instead of --ids), separated by commas."""
    missing_ok: bool = False
    """Ids that the store does not have are no error."""
    pool: PoolSettings = field(default_factory=PoolSettings)
    """The actors that do it."""


def delete(settings: DeleteSettings) -> EditOutcome:
    """Take the items in a file, or those that are named, out as a new version; run again after a kill, it resumes.

    Raises:
        SettingsError: neither a file nor items are given, or both.
        DataError, FormatError: as `delete_items` does.
    """
    store = Store(settings.store)
    if (settings.ids is None) == (settings.items is None):
        raise SettingsError("which items are to be deleted: give either --ids FILE or --items ID,ID")
    if settings.ids is not None:
        given, named = parquet_files.read_user_ids(settings.ids), settings.ids
    else:
        named = "--items"
        values = [text.strip() for text in (settings.items or "").split(",") if text.strip()]
        given = given_ids.from_texts(values, store.manifest().keys, named)
    return delete_items(store, given, missing_ok=settings.missing_ok, named=named)


def delete_items(store: Store, given: UserIds, *, missing_ok: bool = False, named: str = "delete") -> EditOutcome:
    """Take the items with these ids or keys [N] out as a new version; `named` begins what errors say about them.

    Raises:
        FormatError: they are of another type than the store's ids.
        DataError: ids that the gallery does not have (unless `missing_ok`), or all of its items.
    """

    def plan(parent: Manifest) -> Edit | None:
        wanted = keys.as_stored(given, parent.keys, named).unique()
        return _deleted(wanted.take(pc.sort_indices(wanted)), store, parent, missing_ok=missing_ok, named=named)

    return make_edit(store, plan, threads=1, bad_rows=BadRowSettings())


def _deleted(wanted: UserIds, store: Store, parent: Manifest, *, missing_ok: bool, named: str) -> Edit | None:
    run = run_unless_published("delete", store, parent, _content_of(wanted))
    if run is None:
        return None
    ids_N = ids_or_none(store, parent, wanted, named)
    there_N = ids_N != NOT_THERE if parent.keys is not None else np.ones(len(ids_N), dtype=bool)
    deleted_N = np.unique(ids_N[there_N])
    found = {record.shard: (record, hits_N) for record, hits_N in shards_with(store, parent, deleted_N) if len(hits_N)}
    num_found = sum(len(hits_N) for _, hits_N in found.values())
    if num_found < len(ids_N) and not missing_ok:
        hits_N = np.concatenate([ids_N[:0], *(hits_N for _, hits_N in found.values())])
        missing = wanted.filter(pa.array(~(there_N & np.isin(ids_N, hits_N))))
        raise DataError(
            f"{named}: {len(missing):,} of {len(ids_N):,} ids are not in version {parent.version} (for example "
            f"{', '.join(texts(missing.slice(0, NUM_NAMED)))}); want ids of the store: nothing was deleted. If they may be "
            "gone already, add --missing-ok"
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
        write=rewriting(rewritten, parent, deleted_N, model_uri=_model_of_mixed(store, parent, rewritten)),
        changed=num_found,
        dropped=emptied,
        num_rows=parent.num_rows - num_found,
    )


def _content_of(wanted: UserIds) -> str:
    """What decides which items a deletion means, for the name of its run."""
    if pa.types.is_integer(wanted.type):
        return documents.sha256_hex(wanted.to_numpy().tobytes())
    return documents.sha256_hex(documents.dump(texts(wanted)))


def _model_of_mixed(store: Store, parent: Manifest, records: Sequence[ShardRecord]) -> str | None:
    """The model directory of the version, where some of these shards need it to count what stays of them."""
    mixed = any(record.provenance is Provenance.MIXED for record in records)
    return store.find_transformation(parent) if mixed else None
