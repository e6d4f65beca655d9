"""The loop: what an expert writes for one machine, with nothing around it. No Ray, no hashes, no receipts, no resume.

    reader thread -> transform with all cores -> writer threads (Parquet, FAISS Flat)

Owns also how every pipeline but ours prepares h and reads a column of vectors.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from fct_ray.bench.pipelines import Done, PipelineJob
from fct_ray.models.transformation import export
from fct_ray.shards.model_directory import load_model

FloatArray = npt.NDArray[np.float32]


def prepare(job: PipelineJob) -> Callable[[], Done]:
    """Load h."""
    transform = open_h(job.transformation, threads=job.threads, batch_rows=job.batch_rows)
    out = Path(job.output)
    for name in ("embeddings", "index"):
        (out / name).mkdir()

    def run() -> Done:
        start_s, first_row_s, rows = time.perf_counter(), None, 0
        waiting: list[Future[None]] = []
        with ThreadPoolExecutor(2) as writers:
            for name, table in _read_ahead(sorted(Path(job.shards).glob("*.parquet"))):
                first_row_s = time.perf_counter() - start_s if first_row_s is None else first_row_s
                new_NW = transform(matrix(table, "embedding"), matrix(table, "side_info"))
                ids_N = table["id"].to_numpy()
                waiting.append(writers.submit(_write_parquet, table, new_NW, out / "embeddings" / name))
                waiting.append(writers.submit(_write_index, ids_N, new_NW, out / "index" / f"{name}.faiss"))
                rows += len(ids_N)
                while len(waiting) > 4:
                    waiting.pop(0).result()
            for future in waiting:
                future.result()
        return Done(rows=rows, embeddings=str(out / "embeddings"), first_row_s=first_row_s)

    return run


def open_h(uri: str, *, threads: int, batch_rows: int) -> Callable[[FloatArray, FloatArray], FloatArray]:
    """H as a user of torch would prepare it: from float32 [N, old] and [N, side] to float32 [N, new], on the CPU.

    BatchNorm is folded, no gradients are kept, `batch_rows` rows are computed at a time on `threads` threads.
    """
    torch.set_num_threads(threads)
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # it is only read
    module = export(load_model(uri).transformation())
    num_inputs = 2 if module.architecture.side_dimension else 1

    def transform(old_NO: FloatArray, side_NS: FloatArray) -> FloatArray:
        parts = []
        with torch.inference_mode():
            for start in range(0, len(old_NO), batch_rows):
                rows = slice(start, start + batch_rows)
                inputs = [torch.from_numpy(array[rows]) for array in (old_NO, side_NS)[:num_inputs]]
                parts.append(module(*inputs).numpy())
        return np.concatenate(parts)

    return transform


def matrix(table: pa.Table, name: str) -> FloatArray:
    """A column of equal lists as [N, D], without a copy; the table must be one chunk."""
    column = table[name].chunk(0)
    return np.asarray(column.flatten().to_numpy().reshape(len(column), -1))


def _read_ahead(paths: list[Path]) -> Iterator[tuple[str, pa.Table]]:
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(pq.read_table, paths[0], memory_map=True)
        for path, after in zip(paths, [*paths[1:], None], strict=True):
            table = following.result()
            if after is not None:
                following = reader.submit(pq.read_table, after, memory_map=True)
            yield path.name, table.combine_chunks()


def _write_parquet(table: pa.Table, new_NW: FloatArray, path: Path) -> None:
    column = pa.FixedSizeListArray.from_arrays(pa.array(new_NW.ravel()), new_NW.shape[1])
    position = table.schema.get_field_index("embedding")
    pq.write_table(
        table.set_column(position, "embedding", column), path, compression="none", use_dictionary=False,
        write_statistics=False,
    )  # fmt: skip


def _write_index(ids_N: npt.NDArray[np.int64], new_NW: FloatArray, path: Path) -> None:
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(new_NW.shape[1]))
    index.add_with_ids(new_NW, ids_N)
    faiss.write_index(index, str(path))
