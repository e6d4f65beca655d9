"""Tables as other tools wrote them, with the columns that every shard of a store has.

    doc_id: uuid | emb: list<double> | y: int32 | id: string       with AdoptedLayout(id="doc_id", embedding="emb", label="y")
        -> id: int64 | key: binary(16) | embedding | label | id_: string

Owns: what becomes of names and types, the ids of rows that have none, and how vectors are cut and scaled. Carried columns
stay as they are, but for names that belong to the format: these get an underscore. Legend: N rows, D numbers of a vector.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from fct_ray.errors import FormatError
from fct_ray.key_types import KEY
from fct_ray.kinds import KeyType
from fct_ray.storage import shards
from fct_ray.storage.foreign_vectors import EXTENSION_NAME, NUMBERS, check_vectors, vector_lists
from fct_ray.storage.id_columns import check_same_kind, integer_ids, keys_as, kind_of_ids
from fct_ray.storage.shards import EMBEDDING, ID, SIDE_INFO, ShardColumns
from fct_ray.storage.vector_columns import FloatArray, vectors_of
from fct_ray.values import ROW_NUMBERS, AdoptedLayout

LABEL = "label"
_WRITERS_NOTES = (b"pandas", b"huggingface")
"""Metadata by which a tool finds its columns again; of columns that have other names now it says what is not so."""


def keys_in(schema: pa.Schema, layout: AdoptedLayout, uri: str) -> KeyType | None:
    """What the items of an object are called by: keys of some type, or (None) whole numbers.

    Raises:
        FormatError: there is no such column, or one of a type that calls nothing.
    """
    if layout.id == ROW_NUMBERS:
        return None
    return kind_of_ids(_only(schema, layout.id, uri).type, layout.id, uri)


def check_columns(schema: pa.Schema, layout: AdoptedLayout, uri: str) -> None:
    """Refuse an object whose columns cannot be used, by its schema alone. Raises FormatError."""
    keys_in(schema, layout, uri)
    check_vectors(_only(schema, layout.embedding, uri), uri)
    if layout.side_info in schema.names:
        check_vectors(_only(schema, layout.side_info, uri), uri)


def is_plain(schema: pa.Schema) -> bool:
    """Whether an object of this schema needs no layout: all releases read it."""
    if ID not in schema.names or EMBEDDING not in schema.names:
        return False
    ids, vectors = schema.field(ID), [schema.field(name) for name in (EMBEDDING, SIDE_INFO) if name in schema.names]
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return (
        ids.type == pa.int64()
        and all(any(is_kind(field.type) for is_kind in lists) for field in vectors)
        and not any(EXTENSION_NAME in (field.metadata or {}) for field in vectors)
        and vectors[0].type.value_type != pa.int8()
    )


def canonical_table(table: pa.Table, layout: AdoptedLayout, keys: KeyType | None, first_id: int, uri: str) -> pa.Table:
    """`table` with the columns `id`, `embedding`, perhaps `side_info`, `key` and `label`, and what else it carries.

    `keys` is the type of the items' keys (None: they are called by whole numbers, or by their position), `first_id` the
    id of the first row where rows have none of their own. Vectors that are null or of other lengths stay: see `quarantine`.

    Raises:
        FormatError: a column is missing, is there twice, or is of a type that cannot be used.
    """
    check_columns(table.schema, layout, uri)
    check_same_kind(keys_in(table.schema, layout, uri), keys, layout.id, uri)
    by_position = keys is not None or layout.id == ROW_NUMBERS
    names = {layout.embedding: EMBEDDING, layout.side_info: SIDE_INFO, layout.label: LABEL}
    if layout.id != ROW_NUMBERS:
        names[layout.id] = ID if keys is None else KEY
    fields, columns = [], []
    taken = {*names.values(), ID}
    if by_position:
        fields.append(pa.field(ID, pa.int64()))
        columns.append(pa.chunked_array([np.arange(first_id, first_id + table.num_rows, dtype=np.int64)]))
    for field, column in zip(table.schema, table.columns, strict=True):
        if field.name not in names:
            free = _free(field.name, taken, table.column_names)
            fields.append(field.with_name(free))
            columns.append(column)
            continue
        name = names[field.name]
        if name in (EMBEDDING, SIDE_INFO):
            column = vector_lists(column, field, uri)  # noqa: PLW2901
            metadata = _scale(field, column.type, any_scale=layout.normalize and name == EMBEDDING)
            fields.append(pa.field(name, column.type, metadata=metadata))
        elif name == LABEL:
            fields.append(field.with_name(name))
        else:
            column = (  # noqa: PLW2901
                integer_ids(column, field.name, uri) if keys is None else keys_as(column, keys)
            )
            fields.append(pa.field(name, column.type))
        columns.append(column)
    metadata = {key: value for key, value in (table.schema.metadata or {}).items() if key not in _WRITERS_NOTES}
    return pa.Table.from_arrays(columns, schema=pa.schema(fields, metadata=metadata or None))


def parse_adopted(
    table: pa.Table, layout: AdoptedLayout, uri: str, *, dimension: int | None, side_dimension: int | None
) -> ShardColumns:
    """The columns of a canonical table, checked and decoded to float32, vectors cut and scaled as the layout says.

    `dimension` is the wanted D after cutting. Raises like `shards.parse_table`.
    """
    ids_N = shards.ids_of(table, uri)
    raw_dimension = dimension if layout.truncate is None else None
    embeddings_ND = finished(vectors_of(table, EMBEDDING, uri, raw_dimension, NUMBERS), layout, uri)
    side_info_NS = None
    if SIDE_INFO in table.column_names or side_dimension is not None:
        side_info_NS = vectors_of(table, SIDE_INFO, uri, side_dimension, NUMBERS)
    return ShardColumns(ids_N=ids_N, embeddings_ND=embeddings_ND, side_info_NS=side_info_NS, table=table)


def finished(vectors_ND: FloatArray, layout: AdoptedLayout, uri: str) -> FloatArray:
    """Vectors cut to `layout.truncate` numbers and scaled to length 1 where the layout says so; zero vectors stay.

    Raises:
        FormatError: they have fewer numbers than are wanted.
    """
    if layout.truncate is not None:
        if vectors_ND.shape[1] < layout.truncate and len(vectors_ND):
            raise FormatError(
                f"{uri}: column {layout.embedding!r} has vectors of dimension {vectors_ND.shape[1]}; wanted at least "
                f"{layout.truncate} of --truncate {layout.truncate}: leave it out, or give a smaller one"
            )
        vectors_ND = np.ascontiguousarray(vectors_ND[:, : layout.truncate])
    if layout.normalize and len(vectors_ND):
        lengths_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
        vectors_ND = np.divide(vectors_ND, np.where(lengths_N1 > 0, lengths_N1, np.float32(1)), dtype=np.float32)
    return vectors_ND


def _only(schema: pa.Schema, name: str, uri: str) -> pa.Field:
    count = schema.names.count(name)
    if count != 1:
        raise FormatError(
            f"{uri}: {count} columns named {name!r} among {schema.names}; wanted exactly one. Name the column that is meant "
            "(--columns.id, --columns.embedding, --columns.side-info, --columns.label), or write it with the data"
        )
    return schema.field(name)


def _free(name: str, taken: set[str], others: list[str]) -> str:
    """The name of a carried column: with as many underscores as it takes not to be one of the format's."""
    free = name
    while free in taken or (free != name and free in others):
        free += "_"
    return free


def _scale(field: pa.Field, kind: pa.DataType, *, any_scale: bool) -> dict[bytes, bytes] | None:
    """The metadata that int8 needs; where vectors are scaled to length 1 any number will do."""
    if kind.value_type != pa.int8():
        return None
    scale = (field.metadata or {}).get(b"scale", b"1" if any_scale else None)
    return None if scale is None else {b"scale": scale}
