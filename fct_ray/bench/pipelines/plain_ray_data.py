"""Plain Ray Data, as its guides show batch inference: read_parquet, an actor in map_batches, write_parquet. No index."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import ray
import ray.data

from fct_ray.bench.pipelines import Done, PipelineJob
from fct_ray.bench.pipelines.loop import matrix, open_h
from fct_ray.bench.pipelines.running_cluster import start_cluster


class Transform:
    """The actor."""

    def __init__(self, transformation: str, threads: int, batch_rows: int) -> None:
        self.transform = open_h(transformation, threads=threads, batch_rows=batch_rows)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """A batch of stored rows in, the same with new embeddings out."""
        batch = batch.combine_chunks()
        new_NW = self.transform(matrix(batch, "embedding"), matrix(batch, "side_info"))
        column = pa.FixedSizeListArray.from_arrays(pa.array(new_NW.ravel()), new_NW.shape[1])
        return batch.set_column(batch.schema.get_field_index("embedding"), "embedding", column)


def prepare(job: PipelineJob) -> Callable[[], Done]:
    """Start a cluster."""
    cluster, _ = start_cluster(job)
    out = f"{job.output}/embeddings"

    def run() -> Done:
        with cluster:
            actors = max(1, job.threads - 1)  # reading and writing want a core, too
            ray.data.read_parquet(job.shards).map_batches(
                Transform,
                fn_constructor_args=(job.transformation, 1, job.batch_rows),
                batch_format="pyarrow",
                batch_size=job.batch_rows,
                compute=ray.data.ActorPoolStrategy(size=actors),
            ).write_parquet(out)
        return Done(rows=job.rows, embeddings=out)

    return run
