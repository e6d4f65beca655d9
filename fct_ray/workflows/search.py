"""Searching a version: the query guard, all shards, one merged answer.

Owns: who may search what. A version keeps its files for as long as it exists, so a searcher opened before a publish keeps
its consistent view; with a lease also while versions are collected.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fct_ray.errors import EncoderMismatchError, FormatError, NotFoundError, SettingsError, StoreError
from fct_ray.index import search
from fct_ray.key_types import UserIds, to_python
from fct_ray.kinds import OnBadRow
from fct_ray.metering.meters import measure_stage
from fct_ray.models.query_map import QueryMap
from fct_ray.settings import CheckedSettings, Count
from fct_ray.shards.encoder_names import EncoderSpec, resolve_encoder
from fct_ray.shards.query_maps import query_map_at
from fct_ray.storage import leases
from fct_ray.storage import pairs as pair_files
from fct_ray.storage.gallery_reader import Reading, read_record
from fct_ray.storage.key_columns import carried_columns
from fct_ray.storage.leases import Lease
from fct_ray.storage.store import Store
from fct_ray.values import EncoderRef, Manifest, Usage
from fct_ray.workflows import grouped_search
from fct_ray.workflows.found_keys import FoundKeys, FoundValues

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
OPEN_ATTEMPTS = 5


@dataclass(frozen=True, kw_only=True)
class SearchSettings(CheckedSettings):
    """Search CURRENT of a store with the embeddings of queries."""

    store: str
    """The store: a directory or s3:// prefix."""
    queries: str
    """Parquet file with columns `id` and `embedding`; for a version that is searched by several encoders, with one column
    of embeddings for each, named as `fct-ray store status` says (`old`, `side`, `new`)."""
    encoder: str
    """The encoder that made the queries' embeddings; must be the one that CURRENT is for, or one of them."""
    output: str
    """Parquet file to write: columns `query`, `rank` (from 0), `id` (or, in a store with keys, the key), `score`."""
    k: Count = 10
    """Neighbours per query."""
    group: str | None = None
    """A column that the gallery carries, such as document_id: the best item of each group is found, and `--k` counts groups;
    the output has the column `group` too."""
    nprobe: Count | None = None
    """Inverted lists visited per query (IVF indexes). None: a default that grows with their number."""


Queries = npt.ArrayLike | Mapping[str, npt.ArrayLike]
"""Embeddings of queries [Q, D]; or several, by role ("old", "side", "new") or by the name of their encoder."""


class Searcher:
    """One version of a store, opened for queries of the encoders that it was made for."""

    def __init__(self, manifest: Manifest, store: Store, lease: Lease | None = None) -> None:
        """Load the shards' indexes; a version without index (adopted) is searched exactly from its shards."""
        self.manifest, self.store, self._lease = manifest, store, lease
        files = (store.read(record.index) for record in manifest.shards if record.index is not None)
        self.index = None if manifest.index is None else search.ShardedIndex(files)
        if self.index is not None:
            _check_index(self.index, manifest)
        self._query_map = _query_map(store, manifest) if manifest.queries else None
        self._keys = None if manifest.keys is None else FoundKeys(store, manifest)
        self._carried: dict[str, FoundValues] = {}

    def query_vectors(self, queries: Queries) -> FloatArray:
        """The vectors [Q, D] that search this version: the embeddings as they are, or joined blocks of several.

        Raises:
            SettingsError: an embedding is missing, superfluous, or of another dimension.
        """
        if self._query_map is None:
            if isinstance(queries, Mapping):
                queries = only_queries(queries, self.manifest.encoder.name, self.manifest.version)
            return np.ascontiguousarray(queries, dtype=np.float32)
        return self._query_map(by_role(queries, self.manifest))

    def search(self, queries: Queries, k: int = 10, nprobe: int | None = None) -> tuple[FloatArray, npt.NDArray[Any]]:
        """Scores and ids [Q, K] of queries, best first; ids are -1 where the gallery has fewer than `k` items.

        `queries` are embeddings [Q, D], or where a version needs those of several encoders, arrays by role or name. In a
        store with keys these come in the place of ids, as objects: str, uuid.UUID or bytes; None where there are fewer items.

        Raises:
            SettingsError: queries have another dimension than the version, an encoder's are missing, or `k` is not positive.
        """
        scores_QK, ids_QK = self.search_ids(queries, k, nprobe)
        if self._keys is None:
            return scores_QK, ids_QK
        return scores_QK, to_python(self._keys.of(ids_QK)).reshape(ids_QK.shape)

    def user_ids(self, ids: IntArray) -> UserIds:
        """What users call the items with these ids, as an Arrow array [N]: int64, or keys; null for what was not found."""
        return pa.array(ids.ravel(), pa.int64()) if self._keys is None else self._keys.of(ids)

    def carried(self, column: str) -> FoundValues:
        """The values of a carried column, by id; they are read when they are first asked for, and kept."""
        if column not in self._carried:
            places = carried_columns(self.store, self.manifest, column)
            self._carried[column] = FoundValues(places, self.manifest.version)
        return self._carried[column]

    def search_groups(
        self, queries: Queries, column: str, k: int = 10, nprobe: int | None = None
    ) -> grouped_search.FoundGroups:
        """The best item of each of the k groups that are nearest to each query; a group is a value of a carried column.

        An approximate index may miss groups, as it may miss items. Items whose group is null are groups of their own.

        Raises:
            SettingsError: as `search` does.
            FormatError: the shards have no such column.
        """
        return grouped_search.search_groups(self, queries, column, k, nprobe)

    def search_ids(self, queries: Queries, k: int = 10, nprobe: int | None = None) -> tuple[FloatArray, IntArray]:
        """`search`, with the int64 ids that the index has, also in a store with keys. Raises like it."""
        queries_QD = self.query_vectors(queries)
        if k < 1:
            raise SettingsError(f"k is {k}; want at least 1")
        if queries_QD.ndim != 2 or queries_QD.shape[1] != self.manifest.dimension:
            raise SettingsError(
                f"queries have shape {queries_QD.shape}; version {self.manifest.version} wants [*, {self.manifest.dimension}]"
            )
        if self.index is None:
            return search.exact_search(self._vectors(), queries_QD, k, self.manifest.metric)
        return self.index.search(queries_QD, k, nprobe)

    def is_current(self) -> bool:
        """Whether this version is still the published one; if not, open a new searcher and swap it in."""
        current = self.store.current()
        return current is not None and current.version == self.manifest.version

    def close(self) -> None:
        """Give the version's lease back, if it was opened with one."""
        if self._lease is not None:
            self._lease.delete()
            self._lease = None

    def _vectors(self) -> Iterator[tuple[IntArray, FloatArray]]:
        reading = Reading.of(self.manifest)
        for record in self.manifest.shards:
            columns = read_record(
                self.store, record, reading, OnBadRow.REFUSE, dimension=self.manifest.dimension, side_dimension=None
            ).columns
            yield columns.ids_N, columns.embeddings_ND


def _check_index(index: search.ShardedIndex, manifest: Manifest) -> None:
    seen = (index.dimension, index.metric, index.ntotal)
    wanted = (manifest.dimension, manifest.metric, manifest.num_rows)
    if seen != wanted:
        raise FormatError(
            f"the index files of version {manifest.version} have (dimension, metric, rows) {seen}; its manifest wants "
            f"{wanted}: roll back with `fct-ray store rollback`, and run the upgrade again"
        )


def open_searcher(store_uri: str, encoder: EncoderSpec | None = None, *, hold: bool = False) -> Searcher:
    """CURRENT of a store, for queries of this encoder; None where a version is searched by several, named with the queries.

    With `hold` the version is not collected (`fct-ray store gc`) until the searcher is closed or this process ends. Only a
    version without an index needs that after loading: its shards are read in every search.

    Raises:
        EncoderMismatchError: the version was made for queries of another encoder.
    """
    store = Store(store_uri)
    ref = None if encoder is None else resolve_encoder(encoder, store).ref
    for _ in range(OPEN_ATTEMPTS):
        current = store.current()
        lease = _reading(store, current.version) if hold and current is not None else None
        try:
            manifest = store.manifest(None if current is None else current.version)
            check_query_encoder(manifest, ref)
            return Searcher(manifest, store, lease)
        except BaseException as error:
            if lease is not None:
                lease.delete()
            if not isinstance(error, NotFoundError) or store.current() == current:
                raise
            # CURRENT moved on while we opened what it had pointed at, and that was collected: once more
    raise StoreError(f"{store_uri}: CURRENT moved {OPEN_ATTEMPTS} times while it was opened; try again")


def _reading(store: Store, version: int) -> Lease:
    name = f"reader-{uuid.uuid4().hex[:12]}"
    return leases.take(store, name, f"a reader of version {version}", versions=(version,))


def _query_map(store: Store, manifest: Manifest) -> QueryMap:
    uri = store.find_transformation(manifest)
    if uri is None:
        raise StoreError(
            f"{store.models_uri()}: the model that joins the queries of version {manifest.version} is not there: restore it, "
            "or roll back with `fct-ray store rollback`"
        )
    return query_map_at(uri)


def by_role(queries: Queries, manifest: Manifest) -> dict[str, FloatArray]:
    """The queries' embeddings by role, as this version names them. Raises SettingsError: one is missing or superfluous."""
    wanted = ", ".join(f"{query.role} ({query.encoder.name}, {query.dimension})" for query in manifest.queries)
    if not isinstance(queries, Mapping):
        if len(manifest.queries) > 1:
            raise SettingsError(
                f"version {manifest.version} is searched by {len(manifest.queries)} embeddings of each query: {wanted}; got "
                "one array: pass a dictionary of arrays by these names"
            )
        queries = {manifest.queries[0].role: queries}
    roles = {query.encoder.name: str(query.role) for query in manifest.queries}
    roles |= {str(query.role): str(query.role) for query in manifest.queries}
    unknown = [name for name in queries if name not in roles]
    found = {
        roles[name]: np.ascontiguousarray(array, dtype=np.float32) for name, array in queries.items() if name in roles
    }
    if unknown or not len(found) == len(queries) == len(manifest.queries):
        raise SettingsError(f"queries have {sorted(queries)}; version {manifest.version} wants {wanted}")
    return found


def only_queries(queries: Mapping[str, npt.ArrayLike], encoder: str, version: int) -> npt.ArrayLike:
    """The one array of embeddings that a version with one encoder wants. Raises SettingsError: there are others."""
    named = [name for name in queries if name in ("new", encoder)]
    if len(named) != 1 or len(queries) != 1:
        raise SettingsError(f"queries have {sorted(queries)}; version {version} wants those of {encoder} alone")
    return queries[named[0]]


def check_query_encoder(manifest: Manifest, encoder: EncoderRef | None) -> None:
    """Refuse queries of any encoder but the version's own."""
    if encoder is None:
        if not manifest.queries:
            raise EncoderMismatchError(
                f"version {manifest.version} is searched by queries of {manifest.encoder.name!r}: name the encoder of yours"
            )
        return
    if manifest.queries:
        if encoder.fingerprint not in {query.encoder.fingerprint for query in manifest.queries}:
            names = ", ".join(query.encoder.name for query in manifest.queries)
            raise EncoderMismatchError(
                f"queries of encoder {encoder.name!r} cannot search version {manifest.version}, which wants those of "
                f"{names}: embed the queries with them"
            )
        return
    if encoder.fingerprint != manifest.encoder.fingerprint:
        raise EncoderMismatchError(
            f"queries of encoder {encoder.name!r} (fingerprint {encoder.fingerprint[:12]}) cannot search version "
            f"{manifest.version}, which wants {manifest.encoder.name!r} ({manifest.encoder.fingerprint[:12]}): embed the "
            "queries with that encoder, or upgrade the store to yours first"
        )


def search_file(settings: SearchSettings) -> tuple[Manifest, Usage]:
    """Search with every query of a file and write what was found; returns the version searched and the work.

    Raises:
        SettingsError: the queries' dimension is wrong.
        EncoderMismatchError: the version is for another encoder.
    """
    with measure_stage() as meter:
        searcher = open_searcher(settings.store, settings.encoder)
        queries = pair_files.read_queries(settings.queries, [query.role for query in searcher.manifest.queries])
        groups = None
        if settings.group is None:
            scores_QK, ids_QK = searcher.search_ids(queries.embeddings, settings.k, settings.nprobe)
        else:
            best = searcher.search_groups(queries.embeddings, settings.group, settings.k, settings.nprobe)
            scores_QK, ids_QK, groups = best.scores_QK, best.ids_QK, best.groups
        found = np.flatnonzero(ids_QK.ravel() >= 0)
        pair_files.write_search_results(
            settings.output,
            query=queries.ids.take(pa.array(found // settings.k)),
            rank=found % settings.k,
            id=searcher.user_ids(ids_QK.ravel()[found]),
            score=scores_QK.ravel()[found],
            group=None if groups is None else groups.take(pa.array(found)),
        )
        meter.add(Usage(rows=len(queries.ids)))
    return searcher.manifest, meter.measured
