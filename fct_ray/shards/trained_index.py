"""Training a version's shared quantizer on a sample of the vectors that its shards will hold.

Owns: reading the sample, applying h, training. Which rows are sampled is decided in `workflows/trained_index`.
"""

from __future__ import annotations

import numpy as np

from fct_ray.index import build
from fct_ray.metering.meters import ProcessMeter
from fct_ray.models.transformation_runner import TransformRunner
from fct_ray.shards.model_directory import load_model
from fct_ray.shards.stored_rows import ShardSelection, select_rows
from fct_ray.storage import objects, usage_records
from fct_ray.storage.store import Store
from fct_ray.values import Metric, Precision, Usage


def train_index(
    selections: list[ShardSelection],
    transformation_uri: str,
    precision: Precision,
    index_factory: str,
    metric: Metric,
    seed: int,
    batch_rows: int,
    uri: str,
    recorded_in: tuple[Store, str],
) -> tuple[int, str]:
    """Train on h of the selected rows and write the empty index to `uri`; returns (bytes, sha256). Runs in a Ray task."""
    meter, usage = ProcessMeter(), Usage()
    runner = TransformRunner(load_model(transformation_uri), batch_rows=batch_rows, precision=precision)
    parts = []
    for selection in selections:
        table, read = select_rows(selection)
        old, side = (
            table[name].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
            if name in table.column_names
            else None
            for name in ("old", "side")
        )
        assert old is not None  # noqa: S101 (select_rows always gives it)
        vectors, used = runner.run(old, side)
        parts.append(vectors)
        usage = usage + used + read.replace(busy_cpu_s=0.0, rows=0)  # rows of the stage are rows written
    sample = np.concatenate(parts)
    trained = build.train_index(index_factory, sample.shape[1], metric, sample, seed)
    usage_records.write_part(
        *recorded_in, "stream", "training", usage + meter.read() + Usage(bytes_written=len(trained))
    )
    return objects.write_bytes(uri, trained)
