"""Daft on its native runner: read_parquet, a stateful batch UDF, write_parquet. No index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import daft
import numpy as np

from fct_ray.bench.pipelines import Done, PipelineJob
from fct_ray.bench.pipelines.loop import open_h
from fct_ray.shards.model_directory import load_model


def prepare(job: PipelineJob) -> Callable[[], Done]:
    """Define the UDF."""
    daft.set_runner_native()
    dimension = load_model(job.transformation).document.dimension
    vector = daft.DataType.fixed_size_list(daft.DataType.float32(), dimension)

    @daft.cls(max_concurrency=1, use_process=False)
    class Transform:
        def __init__(self, transformation: str, threads: int, batch_rows: int) -> None:
            self.transform = open_h(transformation, threads=threads, batch_rows=batch_rows)

        @daft.method.batch(return_dtype=vector, batch_size=job.batch_rows)
        def new(self, embedding: Any, side_info: Any) -> Any:
            new_NW = self.transform(_matrix(embedding), _matrix(side_info))
            return daft.Series.from_numpy(new_NW).cast(vector)

    out = f"{job.output}/embeddings"

    def run() -> Done:
        transform = Transform(job.transformation, job.threads, job.batch_rows)
        frame = daft.read_parquet(f"{job.shards}/*.parquet")
        frame = frame.with_column("embedding", transform.new(frame["embedding"], frame["side_info"]))
        frame.write_parquet(out, compression="none")
        return Done(rows=job.rows, embeddings=out)

    return run


def _matrix(series: Any) -> Any:
    column = series.to_arrow()
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False)).reshape(len(column), -1)
