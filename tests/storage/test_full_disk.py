"""A disk that is really full: a clear error, the old object or none, no litter; and all goes on when space is back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fct_ray.errors import StoreError
from fct_ray.storage import objects
from tests.small_disk import SmallDisk, small_disk

MIB = 1024 * 1024
TOO_MUCH = b"x" * (2 * MIB)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """One mebibyte."""
    with small_disk(tmp_path, MIB) as disk:
        yield disk


def _replace(uri: str) -> None:
    objects.compare_and_swap(uri, expected=b"old", new=TOO_MUCH)


def _write_through_arrow(uri: str) -> None:
    filesystem, path = objects.arrow_filesystem(uri)
    with filesystem.open_output_stream(path) as stream:
        stream.write(TOO_MUCH)


def _write(uri: str) -> None:
    objects.write_bytes(uri, TOO_MUCH)


def _create(uri: str) -> None:
    assert objects.create(uri, TOO_MUCH)


@pytest.mark.parametrize(
    ("act", "before"),
    [(_write, None), (_write, b"old"), (_write_through_arrow, b"old"), (_create, None), (_replace, b"old")],
)
def test_a_write_to_a_full_disk_fails_whole_and_succeeds_when_space_is_back(
    disk: SmallDisk, act: Callable[[str], None], before: bytes | None
) -> None:
    uri = str(disk.path / "deep/er/object")
    if before is not None:
        objects.write_bytes(uri, before)
    with pytest.raises(StoreError, match=rf"{re.escape(uri)}: cannot \w+: No space left on device\..*free space"):
        act(uri)
    assert objects.exists(uri) == (before is not None)
    assert before is None or objects.read_bytes(uri) == before
    assert _temporary_files(disk.path) == []
    disk.resize(4 * MIB)
    act(uri)
    assert objects.read_bytes(uri) == TOO_MUCH
    assert _temporary_files(disk.path) == []


@pytest.mark.parametrize("act", [_write, _create, _replace])
def test_without_room_for_even_a_directory_the_error_names_the_object(
    disk: SmallDisk, act: Callable[[str], None]
) -> None:
    disk.mount("remount,nr_inodes=2")
    uri = str(disk.path / "deep/er/object")
    with pytest.raises(StoreError, match=rf"{re.escape(uri)}: cannot \w+: No space left on device"):
        act(uri)
    assert objects.list_uris(str(disk.path)) == []


def _temporary_files(directory: Path) -> list[Path]:
    return list(directory.rglob(".*.tmp"))
