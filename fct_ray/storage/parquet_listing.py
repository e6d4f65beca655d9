"""The Parquet objects that a directory or a pattern names, as those who wrote them mean it.

    gallery/part-0.parquet            taken
    gallery/lang=de/part-0.parquet    taken; `lang` becomes a column (see `partitions`)
    gallery/_temporary/0.parquet      left out, like all names that begin with `_` or `.`: writers hide unfinished work so
    gallery/_delta_log/...            refused: only a table's own library knows which of its files are current
    gallery/_versions/1.manifest      no Parquet, but a Lance data set: the error is the command that imports it

Owns: which names count, the table formats that are refused, and what else is known by its names. Looks at names only, never
into files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from fsspec.utils import glob_translate

from fct_ray.errors import FormatError, NotFoundError
from fct_ray.storage import objects

_WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True, kw_only=True, slots=True)
class _TableFormat:
    """A way to keep a table as many files of which only some are current."""

    name: str
    marker: re.Pattern[str]
    """Matches the URI of an object that only such a table has; its first group is the table's directory."""
    instead: str
    """What to do; {table} is its directory, {marker} the object found."""


_TABLE_FORMATS = (
    _TableFormat(
        name="Delta Lake",
        marker=re.compile(r"(.*)/_delta_log/[^/]+"),
        instead="Import what is current: fct-ray import --origin delta:{table}",
    ),
    _TableFormat(
        name="Apache Iceberg",
        marker=re.compile(r"(.*)/metadata/[^/]+\.metadata\.json"),
        instead="Import what is current: fct-ray import --origin iceberg:{marker}",
    ),
    _TableFormat(
        name="Apache Hudi",
        marker=re.compile(r"(.*)/\.hoodie/[^/]+"),
        instead="Write what is current as plain Parquet with Spark, and name that directory instead: "
        "spark.read.format('hudi').load({table!r}).write.parquet('PLAIN_DIRECTORY')",
    ),
)
_IMPORTED = {
    "lance": re.compile(r"(.*)/_versions/[^/]+\.manifest"),
    "huggingface": re.compile(r"(.*)/(?:dataset_info|dataset_dict)\.json"),
    "npy": re.compile(r"(.*?)/[^/]+\.npy"),
    "faiss": re.compile(r"(.*\.(?:faiss|index))"),
}
"""Names that only galleries of other kinds have; the first group is the place that `fct-ray import` wants."""


def list_parquet(dir_or_glob: str) -> list[str]:
    """Sorted absolute URIs (`file:///...` or `s3://...`) of the Parquet objects that a path names.

    A directory means all `*.parquet` below it; `*`, `?`, `[...]` and `**` are wildcards; an object means itself. Names
    that begin with `_` or `.` are left out, below the directory or before the first wildcard; a pattern may ask for
    them by such a name (`DIR/_parts/*.parquet`), and `_key=value` is a partition like any other.

    Raises:
        NotFoundError: nothing matches.
        FormatError: the objects belong to a Delta Lake, Iceberg or Hudi table; says how to read what is current.
    """
    path = objects.absolute(dir_or_glob)
    if objects.exists(path):
        if _IMPORTED["faiss"].fullmatch(path):
            raise NotFoundError(f"{dir_or_glob}: is no Parquet object. {_imported_instead([path])}".strip())
        _refuse_tables([path], _markers_around(path.rpartition("/")[0]))
        return [objects.as_uri(path)]
    if _WILDCARD.search(path) and not _is_local_directory(path):
        directory = _WILDCARD.split(path, maxsplit=1)[0].rpartition("/")[0]
        pattern, asked_for = path, _hidden_parts(path.removeprefix(directory))
    else:
        directory, pattern, asked_for = path, f"{_literally(path)}/**/*.parquet", []
    listed = objects.list_all_uris(directory)
    matches = re.compile(glob_translate(pattern)).match
    found = [uri for uri in listed if matches(uri) and not _is_left_out(uri.removeprefix(directory), asked_for)]
    if not found:
        raise NotFoundError(
            f"{dir_or_glob}: no Parquet objects there. {_imported_instead(listed)}Wanted: a directory with *.parquet below "
            "it, a pattern like DIR/part-*.parquet (in quotes), or one file; names that begin with '_' or '.' do not count"
        )
    _refuse_tables(found, [*listed, *_markers_around(directory)])
    return [objects.as_uri(uri) for uri in found]


def _imported_instead(listed: Iterable[str]) -> str:
    """The command that reads what lies there, where names tell; "" where they do not."""
    places: dict[str, str] = {}
    for uri in listed:
        for system, marker in _IMPORTED.items():
            if match := marker.fullmatch(uri):
                places[system] = min(match[1], places.get(system, match[1]), key=len)
    if not places:
        return ""
    system = next(one for one in _IMPORTED if one in places)
    return f"Import what is there: fct-ray import --origin {system}:{places[system]} "


def _hidden_parts(path: str) -> list[str]:
    """The names in a path that writers hide: unfinished work, logs of tables; a partition `_key=value` is none."""
    return [part for part in path.split("/") if part.startswith(".") or (part.startswith("_") and "=" not in part)]


def _is_left_out(path: str, asked_for: Sequence[str]) -> bool:
    return not all(any(fnmatchcase(part, wanted) for wanted in asked_for) for part in _hidden_parts(path))


def _markers_around(directory: str) -> Iterator[str]:
    """URIs of what marks `directory` as a table, or the directories above it while it looks like a part of one."""
    candidate = directory
    while True:
        yield from (f"{candidate}/_delta_log/{name}" for name in objects.list_names(f"{candidate}/_delta_log"))
        yield from (f"{candidate}/metadata/{name}" for name in objects.list_names(f"{candidate}/metadata"))
        if objects.exists(properties := f"{candidate}/.hoodie/hoodie.properties"):
            yield properties
        candidate, _, name = candidate.rpartition("/")
        if not ("=" in name or name == "data"):  # a partition, or where Iceberg keeps a table's files
            return


def _refuse_tables(found: Sequence[str], seen: Iterable[str]) -> None:
    """Raise FormatError if one of the objects `found` lies in a table that an object in `seen` marks."""
    markers: dict[str, tuple[str, _TableFormat]] = {}
    for uri in seen:
        for table_format in _TABLE_FORMATS:
            if match := table_format.marker.fullmatch(uri):
                newest = max(uri, markers[match[1]][0]) if match[1] in markers else uri
                markers[match[1]] = (newest, table_format)
    for table, (marker, table_format) in markers.items():
        if any(uri.startswith(f"{table}/") for uri in found):
            raise FormatError(
                f"{table} is a table of {table_format.name}, whose directory also holds superseded files: rows that were "
                f"deleted or changed would come back. {table_format.instead.format(table=table, marker=marker)}"
            )


def _literally(path: str) -> str:
    return _WILDCARD.sub(r"[\g<0>]", path)


def _is_local_directory(uri: str) -> bool:
    return not objects.is_s3(uri) and Path(uri).is_dir()
