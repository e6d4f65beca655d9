"""What a sharded index costs against one FAISS index of the same type over the same rows: recall and latency.

Owns: building both, and three ways to search: one index, shards as files are loaded for searching (merged where they were
trained together), and shards searched one by one. Queries are rows with noise; the truth is brute force.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fct_ray.index import build, factory, search
from fct_ray.kinds import Metric
from fct_ray.report.quantities import count, duration, percent
from fct_ray.report.text_table import Table
from fct_ray.settings import CheckedSettings, Count, Seed

FloatArray = npt.NDArray[np.float32]
IdArray = npt.NDArray[np.int64]
LATENT, NOISE = 24, 0.1
WAYS = ("one index", "shards, merged when loaded", "shards, one by one")


@dataclass(frozen=True, kw_only=True)
class ShardingSettings(CheckedSettings):
    """What sharding an index costs."""

    rows: Count = 500_000
    """Rows of the gallery."""
    shards: Count = 25
    """Shards of it."""
    dimension: Count = 128
    """Dimensions."""
    factories: tuple[str, ...] = ("Flat", "IVF1024,Flat", "IVF1024,PQ16", "HNSW32")
    """FAISS factory strings; HNSW types are built on a tenth of the rows."""
    queries: Count = 200
    """Queries, asked one at a time for latency and all at once for throughput."""
    k: Count = 10
    """Neighbours."""
    threads: Count = 2
    """Threads of FAISS."""
    seed: Seed = 0
    """Seed of rows and training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Searched:
    """One way to search one type of index."""

    factory: str
    way: str
    rows: int
    recall: float
    latency_s: float
    """Median of single queries."""
    queries_per_s: float
    """All queries in one call."""
    build_s: float


def run_sharding(settings: ShardingSettings) -> list[Searched]:
    """Build and search every type in every way."""
    build.set_num_threads(settings.threads)
    results = []
    for name in settings.factories:
        rows = settings.rows // 10 if name.startswith("HNSW") else settings.rows
        results += _run(name, *_vectors(rows, settings), settings)
    return results


def sharding_table(results: list[Searched], settings: ShardingSettings) -> Table:
    """One line per type and way; latency against the one index."""
    alone = {result.factory: result for result in results if result.way == WAYS[0]}
    return Table(
        name="sharding",
        title=f"{settings.shards} shards against one index, {settings.threads} threads",
        sentence=(
            f"Recall@{settings.k} against brute force, default search effort; latency: median of single queries. Shards "
            "of IVF types are merged into one index in memory when they are loaded."
        ),
        header=("index", "rows", "recall", "latency", "against one", "queries/s"),
        rows=tuple(
            (
                f"{one.factory}: {one.way}",
                count(one.rows),
                percent(one.recall),
                duration(one.latency_s) if one.latency_s >= 1 else f"{one.latency_s * 1e3:.2f} ms",
                f"{one.latency_s / alone[one.factory].latency_s:.1f}x",
                f"{one.queries_per_s:,.0f}",
            )
            for one in results
        ),
    )


def _vectors(rows: int, settings: ShardingSettings) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(settings.seed)
    matrix = rng.normal(size=(LATENT, settings.dimension)).astype(np.float32)
    gallery = np.tanh(rng.normal(size=(rows, LATENT)).astype(np.float32) @ matrix)
    picked = gallery[rng.choice(rows, settings.queries, replace=False)]
    queries = picked + rng.normal(scale=NOISE, size=picked.shape).astype(np.float32)
    return _unit(gallery), _unit(queries)


def _unit(vectors: npt.NDArray[np.floating]) -> FloatArray:
    return np.ascontiguousarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def _run(name: str, gallery_ND: FloatArray, queries_QD: FloatArray, settings: ShardingSettings) -> list[Searched]:
    rows, metric = len(gallery_ND), Metric.IP
    ids_N = np.arange(rows, dtype=np.int64)
    template = None
    if factory.needs_training(name):
        wanted = min(rows, factory.training_rows_wanted(name))
        sample = gallery_ND[np.random.default_rng(settings.seed).choice(rows, wanted, replace=False)]
        template = build.train_index(name, settings.dimension, metric, sample, settings.seed)
    _, truth_QK = search.exact_search([(ids_N, gallery_ND)], queries_QD, settings.k, metric)
    parts = np.array_split(ids_N, settings.shards)

    def built(ids: IdArray) -> bytes:
        builder = build.ShardIndexBuilder(template, name, settings.dimension, metric)
        builder.add(ids, gallery_ND[ids])
        return builder.finish()

    start_s = time.perf_counter()
    whole = search.ShardedIndex([built(ids_N)])
    whole_s = time.perf_counter() - start_s
    start_s = time.perf_counter()
    files = [built(part) for part in parts]
    files_s = time.perf_counter() - start_s
    merged, apart = search.ShardedIndex(files), search.ShardedIndex(files, merge=False)
    ways: dict[str, tuple[Callable[[FloatArray], IdArray], float]] = {
        WAYS[0]: (lambda queries: whole.search(queries, settings.k)[1], whole_s),
        WAYS[1]: (lambda queries: merged.search(queries, settings.k)[1], files_s),
        WAYS[2]: (lambda queries: apart.search(queries, settings.k)[1], files_s),
    }
    results = []
    for way, (ask, build_s) in ways.items():
        start_s = time.perf_counter()
        found_QK = ask(queries_QD)
        all_s = time.perf_counter() - start_s
        latency_s = statistics.median(_timed(ask, queries_QD[place : place + 1]) for place in range(settings.queries))
        results.append(
            Searched(
                factory=name,
                way=way,
                rows=rows,
                recall=search.recall(found_QK, truth_QK),
                latency_s=latency_s,
                queries_per_s=settings.queries / all_s,
                build_s=build_s,
            )
        )
    return results


def _timed(ask: Callable[[FloatArray], IdArray], queries_QD: FloatArray) -> float:
    start_s = time.perf_counter()
    ask(queries_QD)
    return time.perf_counter() - start_s
