"""Keys of shards: each wanted one is found at most once, whatever lies where; repeated ones are named with both places."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fct_ray.errors import FormatError, NotFoundError
from fct_ray.key_types import to_python
from fct_ray.kinds import KeyType
from fct_ray.shards.key_lookup import KeySlice, find_ids, find_keys, first_repeated_key
from fct_ray.storage.key_columns import KeyColumn, key_columns, read_keys
from fct_ray.storage.pairs import write_table
from fct_ray.storage.parquet_parts import row_groups
from tests.keyed_stores import as_column, keyed_store, uuids

KINDS: dict[KeyType, Any] = {
    KeyType.STRING: st.text(max_size=6),
    KeyType.UUID: st.uuids(),
    KeyType.BINARY: st.binary(max_size=5),
}


@st.composite
def galleries(draw: st.DrawFn) -> tuple[KeyType, list[list[Any]], list[Any]]:
    """A type of keys, the keys of one to three shards, and wanted keys of which some are in none of them."""
    key_type = draw(st.sampled_from(list(KeyType)))
    every = draw(st.lists(KINDS[key_type], min_size=4, max_size=14, unique=True))
    cuts = sorted(draw(st.sets(st.integers(1, len(every) - 2), max_size=2)))
    shards = [every[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(every) - 1], strict=True)]
    return key_type, shards, draw(st.lists(st.sampled_from(every), unique=True))


@settings(deadline=None, max_examples=30)
@given(galleries())
def test_a_key_is_found_at_most_once_with_the_id_of_its_row_and_back(
    case: tuple[KeyType, list[list[Any]], list[Any]],
) -> None:
    key_type, shards, wanted = case
    id_of = {key: number for number, key in enumerate(key for shard in shards for key in shard)}
    with tempfile.TemporaryDirectory() as directory:
        store, manifest = keyed_store(directory, shards, key_type)
        columns = key_columns(store, manifest)
        found: dict[Any, int] = {}
        for column in columns:
            positions_K, ids_K = find_keys(column, as_column(wanted, key_type))
            for position, number in zip(positions_K.tolist(), ids_K.tolist(), strict=True):
                assert wanted[position] not in found
                found[wanted[position]] = number
        assert found == {key: id_of[key] for key in wanted if key in id_of}
        ids_N = np.array(sorted(id_of.values()))
        back = {
            number: key
            for column in columns
            for ids_K, keys in [find_ids((column, ids_N))]
            for number, key in zip(ids_K.tolist(), to_python(keys).tolist(), strict=True)
        }
        assert back == {number: key for key, number in id_of.items()}
        assert first_repeated_key(KeySlice(shards=tuple(columns), part=0, parts=1)) is None


@pytest.mark.parametrize("key_type", list(KeyType))
def test_a_key_in_two_shards_is_named_with_both_objects_and_rows_in_whatever_slice(
    key_type: KeyType, tmp_path: Path
) -> None:
    every: dict[KeyType, list[Any]] = {
        KeyType.UUID: uuids(60),
        KeyType.STRING: [f"item {number}" for number in range(60)],
        KeyType.BINARY: [bytes([number, 0]) for number in range(60)],
    }
    keys = every[key_type]
    keys[47] = keys[3]
    store, manifest = keyed_store(tmp_path, [keys[:20], keys[20:40], keys[40:]], key_type)
    columns = tuple(key_columns(store, manifest))
    found = [first_repeated_key(KeySlice(shards=columns, part=part, parts=4)) for part in range(4)]
    (repeated,) = [one for one in found if one is not None]
    assert repeated.places == ((columns[0].uri, 3), (columns[2].uri, 7))
    assert repeated.count == 1
    shown = {KeyType.UUID: str(keys[3]), KeyType.STRING: "item 3", KeyType.BINARY: "0300"}
    assert repeated.text == shown[key_type]


def test_a_key_twice_in_one_shard_is_found_too(tmp_path: Path) -> None:
    store, manifest = keyed_store(tmp_path, [["a", "b", "a"]], KeyType.STRING)
    repeated = first_repeated_key(KeySlice(shards=tuple(key_columns(store, manifest)), part=0, parts=1))
    assert repeated is not None
    assert [row for _, row in repeated.places] == [0, 2]


def test_the_keys_of_a_range_of_rows_of_an_adopted_object_count_from_its_first_id(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    path, keys = str(tmp_path / "all.parquet"), uuids(50)
    extension: Any = pa.ExtensionArray.from_storage(pa.uuid(), as_column(keys, KeyType.UUID))
    pq.write_table(pa.table({"doc": extension, "emb": [[0.5]] * 50}), path, row_group_size=10)
    groups = row_groups(path)[2:4]
    column = KeyColumn(
        shard=1, uri=path, column="doc", key_type=KeyType.UUID, first_id=120, id_min=120, id_max=139, num_rows=20,
        rows=(20, 40), byte_range=(groups[0].byte_range[0], groups[1].byte_range[1]),
    )  # fmt: skip
    ids_N, found = read_keys(column)
    assert ids_N.tolist() == list(range(120, 140))
    assert to_python(found).tolist() == keys[20:40]


def test_a_shard_that_is_gone_replaced_or_of_other_keys_is_named(tmp_path: Path) -> None:
    store, manifest = keyed_store(tmp_path, [["a", "b"]], KeyType.STRING)
    (column,) = key_columns(store, manifest)
    write_table(column.uri, pa.table({"id": [0, 1], "key": ["a", "other"]}))
    with pytest.raises(FormatError, match=r"00000\.parquet: has .* bytes, the manifest says"):
        read_keys(column)
    Path(column.uri).unlink()
    with pytest.raises(NotFoundError, match=r"00000\.parquet: cannot read"):
        read_keys(column)
