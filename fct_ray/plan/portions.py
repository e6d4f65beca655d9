"""How the objects of a gallery become shards: large ones are cut at row groups, many small ones are put together.

Owns: that arithmetic, and the sizes from which on an object is large or small. Reads nothing: sizes and row groups are
arguments. Sizes are in bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fct_ray.values import RowGroups

Span = tuple[int, int]
SHARD_BYTES = 128 * 2**20
"""What a shard loads at most, where nothing else is asked for."""
SMALL_SHARE, MOST_SMALL, MOST_TOGETHER = 32, 256, 4096
"""An object below 1/32 of a shard is small; from 257 such objects on up to 4,096 neighbours become one shard."""
LARGE_SHARE = 4
"""Objects above a quarter of a shard are looked into: what compression makes of them may be too large."""
SLACK = 2
"""A row group may be so many times as large as a shard should be, before it is cut into slices."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """An object, or some row groups of one: their rows and bytes in it."""

    uri: str
    rows: Span | None = None
    byte_range: Span | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Portion:
    """What one task reads; it becomes one shard, or several of `rows_per_shard` rows."""

    pieces: tuple[Piece, ...]
    rows_per_shard: int | None = None
    """Where a piece is one row group that is too large: rows of each of its slices."""

    @property
    def in_place(self) -> bool:
        """Whether a manifest can point at it; else it must be copied."""
        return len(self.pieces) == 1 and self.rows_per_shard is None


def is_large(num_bytes: int, shard_bytes: int) -> bool:
    """Whether an object is looked into, to cut it at its row groups."""
    return num_bytes * LARGE_SHARE > shard_bytes


def portions(sizes: Mapping[str, int], groups: Mapping[str, Sequence[RowGroups]], shard_bytes: int) -> list[Portion]:
    """The portions of a gallery, in the order of its objects.

    `sizes` are the bytes of each object, `groups` the row groups of the large ones, `shard_bytes` what a shard should load
    at most.

    Examples:
        >>> portions({"a": 10, "b": 20}, {}, 1000)
        [Portion(pieces=(Piece(uri='a', rows=None, byte_range=None),), rows_per_shard=None), ...]
    """
    small = {uri for uri, size in sizes.items() if size * SMALL_SHARE < shard_bytes and uri not in groups}
    if len(small) <= MOST_SMALL:
        small = set()
    found: list[Portion] = []
    together: list[str] = []
    loaded = 0
    for uri, size in sizes.items():
        full = len(together) == MOST_TOGETHER or (loaded + size) * LARGE_SHARE > shard_bytes
        if together and (uri not in small or full):
            found.append(_whole(together))
            together, loaded = [], 0
        if uri in small:
            together.append(uri)
            loaded += size
        else:
            found += _parts_of(uri, groups[uri], shard_bytes) if uri in groups else [_whole([uri])]
    return [*found, _whole(together)] if together else found


def _whole(uris: Sequence[str]) -> Portion:
    return Portion(pieces=tuple(Piece(uri=uri) for uri in uris))


def _parts_of(uri: str, groups: Sequence[RowGroups], shard_bytes: int) -> Iterator[Portion]:
    parts = _put_together(groups, shard_bytes)
    if len(parts) <= 1 and all(part.loaded_bytes <= SLACK * shard_bytes for part in parts):
        yield _whole([uri])
        return
    for part in parts:
        piece = Piece(uri=uri, rows=part.rows, byte_range=part.byte_range)
        num_slices = -(-part.loaded_bytes // shard_bytes) if part.loaded_bytes > SLACK * shard_bytes else 1
        rows = part.rows[1] - part.rows[0]
        yield Portion(pieces=(piece,), rows_per_shard=None if num_slices == 1 else max(1, -(-rows // num_slices)))


def _put_together(groups: Sequence[RowGroups], most_bytes: int) -> list[RowGroups]:
    """Neighbours put together as long as they load at most `most_bytes`; a larger group stays by itself."""
    parts: list[RowGroups] = []
    for group in groups:
        if parts and parts[-1].loaded_bytes + group.loaded_bytes <= most_bytes:
            last = parts.pop()
            group = RowGroups(  # noqa: PLW2901
                rows=(last.rows[0], group.rows[1]),
                byte_range=(last.byte_range[0], group.byte_range[1]),
                loaded_bytes=last.loaded_bytes + group.loaded_bytes,
            )
        parts.append(group)
    return parts
