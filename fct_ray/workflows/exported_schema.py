"""Which columns a version has when it is written elsewhere: ids or keys, vectors, and what any of its shards carries.

Owns: reading the schemas of all objects (their footers alone) and joining them.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from fct_ray.connectors.protocols import TargetSchema
from fct_ray.errors import SettingsError
from fct_ray.key_types import KEY_TYPES
from fct_ray.settings import CheckedSettings
from fct_ray.shards.exported_shard import carried_fields
from fct_ray.storage.pairs import opened
from fct_ray.storage.partitions import partition_values
from fct_ray.storage.store import Store
from fct_ray.values import AdoptedLayout, Manifest

_THREADS = 16
ROW_ID = "row_id"


@dataclass(frozen=True, kw_only=True)
class ExportColumns(CheckedSettings):
    """What columns are called elsewhere."""

    id: str = "id"
    """The column of ids, or of keys where the store has some."""
    embedding: str = "embedding"
    """The column of embeddings."""


def schema_of(
    store: Store, manifest: Manifest, names: ExportColumns, leave_out: str | None, *, with_row_ids: bool
) -> TargetSchema:
    """The columns of a version as they are written elsewhere.

    `with_row_ids`: where the store has keys, its whole numbers come along as a column of their own, called ROW_ID.

    Raises:
        SettingsError: two columns would have one name, or a column to leave out does not exist.
    """
    skipped = [name.strip() for name in (leave_out or "").split(",") if name.strip()]
    layout = manifest.adopted or AdoptedLayout()
    read_as = [layout.id, layout.embedding, layout.side_info, layout.label]
    uris = {record.embeddings.path: manifest.is_adopted(record.embeddings) for record in manifest.shards}

    def fields_of(path: str) -> list[pa.Field]:
        uri = store.uri_of(path)
        with opened(uri, None) as file:
            schema = pq.ParquetFile(file).schema_arrow
        for name in partition_values(uri):
            if name not in schema.names:
                schema = schema.append(pa.field(name, pa.string()))
        if uris[path]:
            schema = pa.schema(
                [field.with_name("label") if field.name == layout.label else field for field in schema
                 if field.name not in read_as[:3]]
            )  # fmt: skip
        return carried_fields(schema)

    with ThreadPoolExecutor(_THREADS) as threads:
        carried: dict[str, pa.Field] = {}
        for fields in threads.map(fields_of, uris):
            for field in fields:
                carried[field.name] = _joined(carried.get(field.name), field)
    unknown = [name for name in skipped if name not in carried]
    if unknown:
        raise SettingsError(
            f"--leave-out {','.join(unknown)}: there is no such column; the carried columns are {sorted(carried) or 'none'}"
        )
    id_type = pa.int64() if manifest.keys is None else KEY_TYPES[manifest.keys]
    row_id = ROW_ID if with_row_ids and manifest.keys is not None else None
    columns = [
        pa.field(names.id, id_type, nullable=False),
        pa.field(names.embedding, pa.list_(pa.float32(), manifest.dimension)),
        *([] if row_id is None else [pa.field(row_id, pa.int64(), nullable=False)]),
        *(field for name, field in carried.items() if name not in skipped),
    ]
    _refuse_one_name_twice([field.name for field in columns])
    return TargetSchema(
        columns=pa.schema(columns),
        id_column=names.id,
        embedding_column=names.embedding,
        key_type=manifest.keys,
        row_id_column=row_id,
        dimension=manifest.dimension,
        metric=manifest.metric,
        normalized=manifest.normalized,
        num_rows=manifest.num_rows,
    )


def _joined(one: pa.Field | None, other: pa.Field) -> pa.Field:
    """The column that holds the values of both; text where they have nothing else in common."""
    if one is None or one.type == other.type:
        return other
    try:
        return pa.unify_schemas([pa.schema([one]), pa.schema([other])], promote_options="permissive").field(0)
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return pa.field(other.name, pa.string())


def _refuse_one_name_twice(names: list[str]) -> None:
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise SettingsError(
            f"two columns would be called {sorted(twice)}; give others with --columns.id and --columns.embedding, or leave "
            "the carried one out with --leave-out"
        )
