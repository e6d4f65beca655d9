"""What a manifest must say to be believed, beyond the types of its fields.

Owns: the agreement of a manifest with itself, so that whoever reads one may reckon with its numbers and open its paths
without further thought. Knows no storage; the URI only names the manifest in errors. Where paths may lead is `paths`'.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fct_ray.errors import FormatError
from fct_ray.storage import documents
from fct_ray.storage.paths import check_manifest_paths
from fct_ray.values import (
    FORMAT_VERSION,
    JOINED_FORMAT_VERSION,
    ROW_NUMBERS,
    WIDE_FORMAT_VERSION,
    Manifest,
    ObjectRef,
    ShardRecord,
)

MAX_DIMENSION = 1 << 20
"""The largest dimension that is believed: far above any encoder's, far below what would exhaust memory by itself."""
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SIDE_DTYPES = ("float32", "float16", "int8")


def load_manifest(data: bytes, uri: str, version: int | None) -> Manifest:
    """The manifest of this version that the JSON `data` holds.

    Raises:
        FormatError: it is damaged, contradicts itself, or is of another format or version; names `uri`.
    """
    head = documents.parse(data, uri)
    seen = head.get("format_version") if isinstance(head, dict) else None
    if seen not in (FORMAT_VERSION, JOINED_FORMAT_VERSION, WIDE_FORMAT_VERSION):
        raise FormatError(
            f"{uri}: format_version {seen!r}, wanted {FORMAT_VERSION}, {JOINED_FORMAT_VERSION} or "
            f"{WIDE_FORMAT_VERSION}: use a fct_ray that reads it"
        )
    manifest = documents.load(Manifest, data, uri)
    if manifest.version != version:
        raise FormatError(f"{uri}: is the manifest of version {manifest.version}, wanted {version}")
    return check_manifest(manifest, uri)


def check_manifest(manifest: Manifest, uri: str) -> Manifest:
    """`manifest`, if its numbers agree and its paths stay in the store or where it was adopted from.

    Raises:
        FormatError: the first thing that does not; with the value seen, the value wanted and the next action.
    """
    problem = next(_problems(manifest), None)
    if problem is not None:
        raise FormatError(
            f"{uri}: {problem}. The manifest was edited or damaged: restore it, or roll back with "
            "`fct-ray store rollback`"
        )
    check_manifest_paths(manifest, uri)
    return manifest


def _problems(manifest: Manifest) -> Iterator[str]:
    if manifest.version < 1 or not (manifest.parent is None or 1 <= manifest.parent < manifest.version):
        yield f"version {manifest.version} with parent {manifest.parent}; wanted 1 or more, and an earlier parent or null"
    if not _RUN.fullmatch(manifest.run):
        yield f"run is {manifest.run!r:.200}; wanted letters, digits, '-', '_' and '.'"
    if not 1 <= manifest.dimension <= MAX_DIMENSION:
        yield f"dimension is {manifest.dimension}; wanted 1 to {MAX_DIMENSION:,}"
    yield from _query_problems(manifest)
    yield from _layout_problems(manifest)
    side = manifest.side_info
    if side is not None and not (1 <= side.dimension <= MAX_DIMENSION and side.dtype in _SIDE_DTYPES):
        yield (
            f"side_info is {side.dtype!r:.50} of dimension {side.dimension}; wanted one of {', '.join(_SIDE_DTYPES)} of "
            f"dimension 1 to {MAX_DIMENSION:,}"
        )
    numbers = {record.shard for record in manifest.shards}
    if len(numbers) != len(manifest.shards) or min(numbers, default=0) < 0:
        yield f"{len(manifest.shards)} shards have {len(numbers)} different numbers; wanted one each, 0 or more"
    rows = sum(record.rows for record in manifest.shards)
    if rows != manifest.num_rows:
        yield f"num_rows is {manifest.num_rows:,}; wanted {rows:,}, the sum over its shards"
    for record in manifest.shards:
        yield from _shard_problems(record, has_index=manifest.index is not None)
    if manifest.index is not None and manifest.index.trained is not None:
        yield from _size_problems(manifest.index.trained)


def _query_problems(manifest: Manifest) -> Iterator[str]:
    wanted = manifest.needed_format_version()
    if manifest.format_version != wanted:
        yield (
            f"format_version {manifest.format_version} with {len(manifest.queries)} query embeddings, keys "
            f"{manifest.keys or 'none'} and {'a' if manifest.adopted else 'no'} layout of adopted objects; wanted {wanted}"
        )
    if manifest.queries and manifest.transformation is None:
        yield "queries need a map, and no transformation is named; wanted the model that has it"
    roles = [query.role for query in manifest.queries]
    if len(set(roles)) != len(roles):
        yield f"queries name the roles {roles}; wanted each once"
    for query in manifest.queries:
        if not 1 <= query.dimension <= MAX_DIMENSION:
            yield f"{query.role} queries have dimension {query.dimension}; wanted 1 to {MAX_DIMENSION:,}"


def _layout_problems(manifest: Manifest) -> Iterator[str]:
    layout = manifest.adopted
    if layout is not None and not manifest.adopted_from:
        yield "adopted says how objects outside of the store are read, and adopted_from is empty; wanted both or none"
    if layout is not None and layout.truncate not in (None, manifest.dimension):
        yield f"adopted.truncate is {layout.truncate}; wanted the dimension {manifest.dimension}, or none"
    if layout is not None and len({layout.id, layout.embedding, layout.side_info, layout.label}) != 4:
        yield f"adopted names one column twice: {layout}; wanted four different names"
    by_position = manifest.keys is not None or (layout is not None and layout.id == ROW_NUMBERS)
    for record in manifest.shards:
        if not manifest.is_adopted(record.embeddings):
            if (record.embeddings.rows, record.embeddings.byte_range) != (None, None):
                yield f"shard {record.shard} is a part of an object of the store; wanted a whole one"
        elif by_position and record.id_max - record.id_min + 1 != record.rows:
            yield (
                f"shard {record.shard} has {record.rows} rows, ids {record.id_min} to {record.id_max}; wanted one id for "
                "each row, in order, as adopted objects have no ids of their own here"
            )
        yield from _range_problems(record)


def _range_problems(record: ShardRecord) -> Iterator[str]:
    ref = record.embeddings
    if (ref.rows is None) != (ref.byte_range is None):
        yield f"shard {record.shard} has rows {ref.rows} and byte_range {ref.byte_range}; wanted both or none"
    if ref.rows is None or ref.byte_range is None:
        return
    for name, (start, stop), wanted in (("rows", ref.rows, record.rows), ("byte_range", ref.byte_range, ref.bytes)):
        if start < 0 or stop - start != wanted:
            yield f"shard {record.shard} has {name} {start} to {stop}; wanted {wanted} of them, from 0 on"


def _shard_problems(record: ShardRecord, *, has_index: bool) -> Iterator[str]:
    if record.rows < 0 or record.id_min > record.id_max:
        yield (
            f"shard {record.shard} has {record.rows} rows, ids {record.id_min} to {record.id_max}; wanted 0 or more rows, "
            "id_min not above id_max"
        )
    if (record.index is not None) != has_index:
        wanted = "one, as the version has an index" if has_index else "none, as the version has none"
        yield f"shard {record.shard} has {'no index' if has_index else 'an index'}; wanted {wanted}"
    yield from _size_problems(record.embeddings)
    if record.index is not None:
        yield from _size_problems(record.index)


def _size_problems(ref: ObjectRef) -> Iterator[str]:
    if ref.bytes < 0:
        yield f"{ref.path!r:.200} has {ref.bytes} bytes; wanted 0 or more"
