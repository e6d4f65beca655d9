"""true_vectors.parquet: embeddings of some items by the new model, ascending by id, read in parts.

    id           int64, ascending                  read whole: 16 bytes for an item
    old_crc32    int64, of the item's old vector
    embedding    fixed_size_list<float32>          in row groups of 1,024 rows, of which only those with wanted rows are read

Owns: the bytes of such a file, and reading a part of one, whose pages are checked by their own checksums. The hash of the
whole file is in the model.json beside it; whoever reads all of it checks that. Legend: T items, K of them, W dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fct_ray.errors import FormatError, NotFoundError
from fct_ray.storage import objects
from fct_ray.storage.vector_columns import FloatArray, vector_array

NAME = "true_vectors.parquet"
ROW_GROUP_ROWS = 1024
ID, OLD_CRC32, EMBEDDING = "id", "old_crc32", "embedding"
IntArray = npt.NDArray[np.int64]
_ERRORS = (pa.ArrowException, OSError, ValueError, LookupError)
"""What pyarrow raises on damaged files."""


def encode_true_vectors(ids_T: IntArray, old_crc32_T: IntArray, new_TW: FloatArray) -> bytes:
    """The bytes of such a file: equal arrays give equal bytes (of one pyarrow version)."""
    columns = {ID: pa.array(ids_T), OLD_CRC32: pa.array(old_crc32_T), EMBEDDING: vector_array(new_TW, "float32")}
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.table(columns),
        sink,
        row_group_size=ROW_GROUP_ROWS,
        compression="none",
        use_dictionary=False,
        write_page_checksum=True,
    )
    return bytes(sink.getvalue())


class TrueVectorFile:
    """Such a file, of which ids and checksums are in memory and vectors are not."""

    ids_T: IntArray
    old_crc32_T: IntArray

    def __init__(self, uri: str) -> None:
        """Raises NotFoundError: there is no such file. FormatError: it is damaged."""
        self.uri = uri
        with self._opened() as file:
            table = file.read(columns=[ID, OLD_CRC32])
            self.ids_T, self.old_crc32_T = (table[name].to_numpy() for name in (ID, OLD_CRC32))
            rows = [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]
        self._starts_G = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)
        if not bool((self.ids_T[1:] > self.ids_T[:-1]).all()):
            raise FormatError(f"{uri}: its ids do not ascend; want each once, in order: restore the file")

    def vectors(self, positions_K: IntArray) -> FloatArray:
        """The vectors at these ascending positions, float32 [K, W]; one row group at a time is in memory beside them.

        Raises:
            FormatError: the file is damaged.
        """
        group_K = np.searchsorted(self._starts_G, positions_K, side="right") - 1
        parts = []
        with self._opened() as file:
            for group in np.unique(group_K).tolist():
                column = file.read_row_group(group, columns=[EMBEDDING])[EMBEDDING].combine_chunks()
                read_RW = column.flatten().to_numpy().reshape(len(column), -1)
                parts.append(read_RW[positions_K[group_K == group] - self._starts_G[group]])
        vectors_KW: FloatArray = np.concatenate(parts)
        return vectors_KW

    @contextmanager
    def _opened(self) -> Iterator[pq.ParquetFile]:
        filesystem, path = objects.arrow_filesystem(self.uri)
        try:
            with filesystem.open_input_file(path) as source:
                yield pq.ParquetFile(source, page_checksum_verification=True)
        except FileNotFoundError as error:
            raise NotFoundError(f"{self.uri}: cannot read: there is no such object") from error
        except _ERRORS as error:
            raise FormatError(
                f"{self.uri}: not a readable file of true vectors ({error!s:.500}): it was damaged after it was written; "
                "restore it, or roll back (fct-ray store rollback)"
            ) from error
