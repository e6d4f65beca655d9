"""The loop: what an expert writes for one machine, with nothing around it. No Ray, no receipts, no resume.

    reader thread -> transform with all cores -> writer threads (Parquet, FAISS Flat)

The plain one neither hashes nor waits until its files are on the disk. The durable one does both, as every version of a
store must: it hashes what it reads and writes, and writes each file under another name, flushes and renames it.

Owns also how every pipeline but ours prepares h and reads a column of vectors.
"""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

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
    """Load h; neither hashes nor flushes."""
    return _prepare(job, durable=False)


def prepare_durable(job: PipelineJob) -> Callable[[], Done]:
    """Load h; hashes and flushes."""
    return _prepare(job, durable=True)


def _prepare(job: PipelineJob, *, durable: bool) -> Callable[[], Done]:
    transform = open_h(job.transformation, threads=job.threads, batch_rows=job.batch_rows)
    out = Path(job.output)
    for name in ("embeddings", "index"):
        (out / name).mkdir()

    def run() -> Done:
        start_s, first_row_s, rows = time.perf_counter(), None, 0
        waiting: list[Future[None]] = []
        with ThreadPoolExecutor(2) as writers:
            for name, table in _read_ahead(sorted(Path(job.shards).glob("*.parquet")), durable=durable):
                first_row_s = time.perf_counter() - start_s if first_row_s is None else first_row_s
                new_NW = transform(matrix(table, "embedding"), matrix(table, "side_info"))
                ids_N = table["id"].to_numpy()
                embeddings, index = out / "embeddings" / name, out / "index" / f"{name}.faiss"
                waiting.append(writers.submit(_write_parquet, table, new_NW, embeddings, durable=durable))
                waiting.append(writers.submit(_write_index, ids_N, new_NW, index, durable=durable))
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


def _read_ahead(paths: list[Path], *, durable: bool) -> Iterator[tuple[str, pa.Table]]:
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(_read, paths[0], durable=durable)
        for path, after in zip(paths, [*paths[1:], None], strict=True):
            table = following.result()
            if after is not None:
                following = reader.submit(_read, after, durable=durable)
            yield path.name, table.combine_chunks()


def _read(path: Path, *, durable: bool) -> pa.Table:
    if not durable:
        return pq.read_table(path, memory_map=True)
    data = path.read_bytes()
    hashlib.sha256(data).hexdigest()
    return pq.read_table(pa.BufferReader(data))


def _write_parquet(table: pa.Table, new_NW: FloatArray, path: Path, *, durable: bool) -> None:
    column = pa.FixedSizeListArray.from_arrays(pa.array(new_NW.ravel()), new_NW.shape[1])
    position = table.schema.get_field_index("embedding")
    sink: Any = pa.BufferOutputStream() if durable else path
    pq.write_table(
        table.set_column(position, "embedding", column), sink, compression="none", use_dictionary=False,
        write_statistics=False,
    )  # fmt: skip
    if durable:
        _flush(memoryview(sink.getvalue()), path)


def _write_index(ids_N: npt.NDArray[np.int64], new_NW: FloatArray, path: Path, *, durable: bool) -> None:
    index = faiss.IndexIDMap2(faiss.IndexFlatIP(new_NW.shape[1]))
    index.add_with_ids(new_NW, ids_N)
    if durable:
        _flush(faiss.serialize_index(index).data, path)
    else:
        faiss.write_index(index, str(path))


def _flush(data: memoryview, path: Path) -> None:
    """Hash, write under another name, flush to the disk, rename."""
    hashlib.sha256(data).hexdigest()
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
