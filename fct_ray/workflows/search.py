"""Searching a version: the query guard, all shards, one merged answer.

Owns: who may search what. A version keeps its files for as long as it exists, so a searcher opened before a publish keeps
its consistent view; with a lease also while versions are collected.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fct_ray.errors import EncoderMismatchError, FormatError, NotFoundError, SettingsError, StoreError
from fct_ray.index import search
from fct_ray.metering.meters import measure_stage
from fct_ray.settings import CheckedSettings, Count
from fct_ray.shards.encoder_names import EncoderSpec, resolve_encoder
from fct_ray.storage import leases, shards
from fct_ray.storage import pairs as pair_files
from fct_ray.storage.leases import Lease
from fct_ray.storage.store import Store
from fct_ray.values import EncoderRef, Manifest, Usage

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
OPEN_ATTEMPTS = 5


@dataclass(frozen=True, kw_only=True)
class SearchSettings(CheckedSettings):
    """Search CURRENT of a store with the embeddings of queries."""

    store: str
    """The store: a directory or s3:// prefix."""
    queries: str
    """Parquet file with columns `id` and `embedding`."""
    encoder: str
    """The encoder that made the queries' embeddings; must be the one that CURRENT is for."""
    output: str
    """Parquet file to write: columns `query`, `rank` (from 0), `id`, `score`."""
    k: Count = 10
    """Neighbours per query."""
    nprobe: Count | None = None
    """Inverted lists visited per query (IVF indexes). None: a default that grows with their number."""


class Searcher:
    """One version of a store, opened for queries of the encoder that it was made for."""

    def __init__(self, manifest: Manifest, store: Store, lease: Lease | None = None) -> None:
        """Load the shards' indexes; a version without index (adopted) is searched exactly from its shards."""
        self.manifest, self.store, self._lease = manifest, store, lease
        files = (store.read(record.index) for record in manifest.shards if record.index is not None)
        self.index = None if manifest.index is None else search.ShardedIndex(files)
        if self.index is not None:
            _check_index(self.index, manifest)

    def search(self, queries: npt.ArrayLike, k: int = 10, nprobe: int | None = None) -> tuple[FloatArray, IntArray]:
        """Scores and ids [Q, K] of queries [Q, D], best first; ids are -1 where the gallery has fewer than `k` items.

        Raises:
            SettingsError: queries have another dimension than the version, or `k` is not positive.
        """
        queries_QD = np.ascontiguousarray(queries, dtype=np.float32)
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
        for record in self.manifest.shards:
            data, uri = self.store.read(record.embeddings), self.store.uri_of(record.embeddings.path)
            columns = shards.parse_shard(data, uri, dimension=self.manifest.dimension, side_dimension=None)
            yield columns.ids_N, columns.embeddings_ND


def _check_index(index: search.ShardedIndex, manifest: Manifest) -> None:
    seen = (index.dimension, index.metric, index.ntotal)
    wanted = (manifest.dimension, manifest.metric, manifest.num_rows)
    if seen != wanted:
        raise FormatError(
            f"the index files of version {manifest.version} have (dimension, metric, rows) {seen}; its manifest wants "
            f"{wanted}: roll back with `fct-ray store rollback`, and run the upgrade again"
        )


def open_searcher(store_uri: str, encoder: EncoderSpec, *, hold: bool = False) -> Searcher:
    """CURRENT of a store, for queries of this encoder.

    With `hold` the version is not collected (`fct-ray store gc`) until the searcher is closed or this process ends. Only a
    version without an index needs that after loading: its shards are read in every search.

    Raises:
        EncoderMismatchError: the version was made for queries of another encoder.
    """
    store = Store(store_uri)
    ref = resolve_encoder(encoder, store).ref
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


def check_query_encoder(manifest: Manifest, encoder: EncoderRef) -> None:
    """Refuse queries of any encoder but the version's own."""
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
        queries = pair_files.read_queries(settings.queries)
        scores_QK, ids_QK = searcher.search(queries.embeddings_QD, settings.k, settings.nprobe)
        found = np.flatnonzero(ids_QK.ravel() >= 0)
        pair_files.write_search_results(
            settings.output,
            query=np.repeat(queries.ids_Q, settings.k)[found],
            rank=np.tile(np.arange(settings.k), len(queries.ids_Q))[found],
            id=ids_QK.ravel()[found],
            score=scores_QK.ravel()[found],
        )
        meter.add(Usage(rows=len(queries.ids_Q)))
    return searcher.manifest, meter.measured
