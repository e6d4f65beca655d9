"""Partition columns: values that a writer put into the names of directories instead of into the files.

    gallery/lang=de/year=2024/part-0.parquet    every row has lang "de" and year "2024"

Owns: how they are read from an object's URI (Hive's convention, as Spark, DuckDB, pandas and pyarrow write it). Values
are text: a whole number in one directory does not say what the others hold, and all shards need one type.
"""

from __future__ import annotations

from urllib.parse import unquote

from fct_ray.storage import objects

_NULL = "__HIVE_DEFAULT_PARTITION__"


def partition_values(uri: str) -> dict[str, str | None]:
    """{column: value} of the `key=value` directories directly around an object, outermost first; None: null.

    They count without a gap from the object upwards, so the objects of a store, in `versions/NNNNNN/shards/`, have none
    wherever the store lies.
    """
    values: dict[str, str | None] = {}
    for name in reversed(objects.absolute(uri).split("/")[:-1]):
        key, separator, value = name.partition("=")
        if not (key and separator):
            break
        values.setdefault(unquote(key), None if value == _NULL else unquote(value))
    return dict(reversed(values.items()))
