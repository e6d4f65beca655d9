"""The columns of one object, looked at before any work starts: whether those needed are there, and which may be meant.

    has no column 'embedding', and one list of numbers     -> the flag that names it, ready to be typed
    has no column 'id', and several that could be it       -> their names

Owns: reading a footer (and of the first row group what may be ids), and the proposals. Reads nothing else.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fct_ray.errors import FormatError
from fct_ray.key_types import calls_items
from fct_ray.storage import pairs
from fct_ray.storage.adopted_tables import check_columns
from fct_ray.storage.foreign_vectors import could_be_vectors
from fct_ray.storage.id_columns import is_name_of_ids
from fct_ray.storage.parquet_tables import PARQUET_ERRORS
from fct_ray.storage.partitions import partition_values
from fct_ray.values import ROW_NUMBERS, AdoptedLayout

LOOKED_AT_ROWS = 10_000
FirstRows = Callable[[list[str]], pa.RecordBatch | None]
_DEFAULTS = AdoptedLayout()


def check_object(uri: str, layout: AdoptedLayout) -> None:
    """Refuse an object that lacks a column, or whose column cannot be used; its footer tells.

    Raises:
        NotFoundError: there is no such object.
        FormatError: what is missing or wrong, and the flags that may be meant.
    """
    with pairs.opened(uri) as source:
        try:
            file = pq.ParquetFile(source)
            schema = file.schema_arrow
            _ = schema.names  # decodes them: they may not be UTF-8
        except PARQUET_ERRORS as error:
            raise FormatError(f"{uri}: not a readable Parquet file ({error!s:.500}). Write or copy it again") from error
        check_schema(
            uri,
            schema,
            layout,
            lambda names: next(file.iter_batches(LOOKED_AT_ROWS, columns=names), None),
            partitions=tuple(partition_values(uri)),
        )


def check_schema(
    name: str, schema: pa.Schema, layout: AdoptedLayout, first_rows: FirstRows, partitions: Sequence[str] = ()
) -> None:
    """`check_object` by what is known of a table, wherever it is.

    `first_rows(names)` are rows with these columns, None where it has none; `partitions` are columns beside its own.
    """
    missing = _missing(schema, layout, partitions)
    if missing:
        raise FormatError(_sentence(name, schema, layout, missing, first_rows))
    check_columns(schema, layout, name)


def _missing(schema: pa.Schema, layout: AdoptedLayout, partitions: Sequence[str]) -> list[str]:
    """The columns of a layout that an object lacks, by the names that they have here."""
    there = {*schema.names, *partitions}
    needed = ["embedding"] if layout.id == ROW_NUMBERS else ["id", "embedding"]
    needed += [name for name in ("side_info", "label") if getattr(layout, name) != getattr(_DEFAULTS, name)]
    return [name for name in needed if getattr(layout, name) not in there]


def _sentence(uri: str, schema: pa.Schema, layout: AdoptedLayout, missing: list[str], first_rows: FirstRows) -> str:
    free = [
        field for field in schema if field.name not in {layout.id, layout.embedding, layout.side_info, layout.label}
    ]
    flags, choices = [], []
    for name in missing:
        flag = f"--columns.{name.replace('_', '-')}"
        found = _candidates(free, name, first_rows)
        if len(found) == 1:
            flags.append(f"{flag} {found[0]}")
        elif found:
            choices.append(f"{flag} with one of {', '.join(found)}")
        elif name == "embedding" and (joined := _joined(schema)):
            choices.append(joined)
        elif name == "id":
            choices.append("a column of ids, or --columns.id row to number the rows")
        else:
            choices.append(f"{flag} with the column that holds it")
    seen = ", ".join(f"{field.name}: {field.type}" for field in schema)
    lacks = " and ".join(repr(getattr(layout, name)) for name in missing)
    return f"{uri}: has no column {lacks}; its columns are {seen:.500}. Add {' '.join([' '.join(flags), *choices]).strip()}"


def _joined(schema: pa.Schema) -> str:
    """How to make one column of vectors out of a column for each number (emb_0, emb_1 ...); "" where there are none."""
    numbered = (re.fullmatch(r"(.*?)\d+", field.name) for field in schema if pa.types.is_floating(field.type))
    prefixes = Counter(match[1] for match in numbered if match)
    if not prefixes or prefixes.most_common(1)[0][1] < 2:
        return ""
    prefix, count = prefixes.most_common(1)[0]
    columns = f"[f'{prefix}{{place}}' for place in range({count})]"
    return (
        f"a column of vectors: write the {count} columns {prefix!r}... once as one, with pandas frame['embedding'] = "
        f"list(frame[{columns}].to_numpy('float32'))"
    )


def _candidates(fields: list[pa.Field], name: str, first_rows: FirstRows) -> list[str]:
    """The names of the columns that could be meant, by their types and, for ids, by what they hold."""
    if name in ("embedding", "side_info"):
        return [field.name for field in fields if could_be_vectors(field)]
    if name == "label":
        return [field.name for field in fields if pa.types.is_integer(field.type) or pa.types.is_string(field.type)]
    callable_by = [field.name for field in fields if calls_items(field.type)]
    named = [one for one in callable_by if is_name_of_ids(one)]
    return named or _unique(callable_by, first_rows)


def _unique(names: list[str], first_rows: FirstRows) -> list[str]:
    """Those of the columns in which no value is null or there twice, among the first rows."""
    try:
        batch = first_rows(names) if names else None
    except PARQUET_ERRORS:
        return []
    if batch is None:
        return names
    once = [name for name in names if batch.schema.names.count(name) == 1]
    return [name for name in once if batch[name].null_count == 0 and len(pc.unique(batch[name])) == len(batch)]
