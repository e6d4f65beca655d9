"""Files of true vectors: read in parts, and refused where they are damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fct_ray.errors import FormatError, NotFoundError
from fct_ray.storage.true_vector_files import ROW_GROUP_ROWS, TrueVectorFile, encode_true_vectors

ROWS = 3 * ROW_GROUP_ROWS + 17


def _arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    ids = np.sort(rng.choice(10**9, ROWS, replace=False)).astype(np.int64)
    return ids, rng.integers(0, 2**32, ROWS), rng.normal(size=(ROWS, 5)).astype(np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "true_vectors.parquet"
    path.write_bytes(encode_true_vectors(*_arrays()))
    return path


def test_any_reader_sees_ids_checks_and_vectors(path: Path) -> None:
    ids, old_crc32, new = _arrays()
    table = pq.read_table(path)
    assert table.column_names == ["id", "old_crc32", "embedding"]
    np.testing.assert_array_equal(table["id"], ids)
    np.testing.assert_array_equal(table["old_crc32"], old_crc32)
    np.testing.assert_array_equal(np.stack(table["embedding"].to_numpy(zero_copy_only=False)), new)


@pytest.mark.parametrize(
    "positions",
    [
        [0],
        [ROWS - 1],
        [5, ROW_GROUP_ROWS - 1, ROW_GROUP_ROWS],
        [0, 2 * ROW_GROUP_ROWS + 3, ROWS - 1],
        list(range(ROWS)),
    ],
)
def test_a_part_is_what_the_whole_file_has_there(path: Path, positions: list[int]) -> None:
    ids, old_crc32, new = _arrays()
    file = TrueVectorFile(str(path))
    np.testing.assert_array_equal(file.ids_T, ids)
    np.testing.assert_array_equal(file.old_crc32_T, old_crc32)
    np.testing.assert_array_equal(file.vectors(np.array(positions)), new[positions])


def test_equal_arrays_give_equal_bytes(path: Path) -> None:
    assert encode_true_vectors(*_arrays()) == path.read_bytes()


def test_none_is_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "none.parquet"
    path.write_bytes(encode_true_vectors(*(array[:0] for array in _arrays())))
    assert len(TrueVectorFile(str(path)).ids_T) == 0


def test_damage_in_a_vector_is_seen_where_the_vector_is_read(path: Path) -> None:
    data = bytearray(path.read_bytes())
    new = _arrays()[2]
    at = bytes(data).index(new[ROW_GROUP_ROWS + 5].tobytes())
    data[at] ^= 1
    path.write_bytes(data)
    file = TrueVectorFile(str(path))
    np.testing.assert_array_equal(file.vectors(np.array([3])), new[[3]])
    with pytest.raises(FormatError, match=r"true_vectors\.parquet: not a readable file.*restore"):
        file.vectors(np.array([ROW_GROUP_ROWS + 6]))


def test_what_is_gone_or_no_such_file_is_refused_by_name(path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"gone\.parquet"):
        TrueVectorFile(str(path.with_name("gone.parquet")))
    path.write_bytes(b"PAR1 and nothing")
    with pytest.raises(FormatError, match=r"true_vectors\.parquet"):
        TrueVectorFile(str(path))
    ids, old_crc32, new = _arrays()
    path.write_bytes(encode_true_vectors(ids[::-1].copy(), old_crc32, new))
    with pytest.raises(FormatError, match="do not ascend"):
        TrueVectorFile(str(path))
