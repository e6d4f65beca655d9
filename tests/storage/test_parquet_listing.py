"""Which Parquet objects a directory or a pattern names, and which directories are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from fct_ray.errors import FormatError, NotFoundError
from fct_ray.storage import objects, parquet_listing


def _write(root: str, *paths: str) -> None:
    for path in paths:
        objects.write_bytes(objects.join(root, path), b"x")


def _uris(root: str, *names: str) -> list[str]:
    return sorted(objects.as_uri(f"{root}/{name}") for name in names)


def test_globs_find_parquet_objects_as_absolute_uris(root: str) -> None:
    for path in ("x/p-1.parquet", "x/p-2.parquet", "x/deep/q.parquet", "x/p.txt", "x/[1].parquet", "y.parquet"):
        objects.write_bytes(objects.join(root, path), b"x")

    def uris(*names: str) -> list[str]:
        return [f"{root}/{name}" if root.startswith("s3") else Path(root, name).as_uri() for name in names]

    assert parquet_listing.list_parquet(f"{root}/x") == uris(
        "x/[1].parquet", "x/deep/q.parquet", "x/p-1.parquet", "x/p-2.parquet"
    )
    assert parquet_listing.list_parquet(f"{root}/x/p-*.parquet") == uris("x/p-1.parquet", "x/p-2.parquet")
    assert parquet_listing.list_parquet(f"{root}/**/q.parquet") == uris("x/deep/q.parquet")
    assert parquet_listing.list_parquet(f"{root}/x/[[]1].parquet") == uris("x/[1].parquet")
    assert parquet_listing.list_parquet(f"{root}/y.parquet") == uris("y.parquet")
    assert objects.read_bytes(parquet_listing.list_parquet(f"{root}/x/deep")[0]) == b"x"
    for nothing in (f"{root}/z", f"{root}/x/z-*.parquet"):
        with pytest.raises(NotFoundError, match="no Parquet objects"):
            parquet_listing.list_parquet(nothing)


def test_relative_local_paths_of_globs_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    objects.write_bytes("odd name/%20.parquet", b"x")
    (found,) = parquet_listing.list_parquet("odd name")
    assert found == (tmp_path / "odd name" / "%20.parquet").as_uri()
    assert objects.read_bytes(found) == b"x"


def test_names_that_writers_hide_are_left_out_at_any_depth_below_the_directory_and_not_above_it(root: str) -> None:
    gallery = f"{root}/_work/.hidden/gallery"
    good = ["part-0.parquet", "deep/part_1.parquet", "_year=2024/part.parquet"]
    _write(gallery, *good, "_temporary/0/part.parquet", "_name.parquet", "deep/_x.parquet", ".x/a.parquet", "_SUCCESS")
    assert parquet_listing.list_parquet(gallery) == _uris(gallery, *good)
    assert parquet_listing.list_parquet(f"{gallery}/**/*.parquet") == _uris(gallery, *good)
    assert parquet_listing.list_parquet(f"{gallery}/_*.parquet") == _uris(gallery, "_name.parquet")
    assert parquet_listing.list_parquet(f"{gallery}/_temporary/0") == _uris(gallery, "_temporary/0/part.parquet")
    assert parquet_listing.list_parquet(f"{gallery}/_name.parquet") == _uris(gallery, "_name.parquet")
    with pytest.raises(NotFoundError, match=r"names that begin with '_' or '\.' do not count"):
        parquet_listing.list_parquet(f"{gallery}/deep/_*/*.parquet")


TABLES = {
    "_delta_log/00000000000000000000.json": ("Delta Lake", "import --origin delta:.*/table$"),
    "metadata/00001-ab.metadata.json": (
        "Apache Iceberg",
        r"import --origin iceberg:.*/metadata/00001-ab\.metadata\.json$",
    ),
    ".hoodie/hoodie.properties": ("Apache Hudi", "format\\('hudi'\\)"),
}


@pytest.mark.parametrize("marker", TABLES)
def test_the_directory_of_a_table_is_refused_with_the_way_to_read_what_is_current(root: str, marker: str) -> None:
    _write(root, f"table/{marker}", "table/part-0.parquet", "table/data/lang=de/part-1.parquet", "plain/a.parquet")
    name, snapshot = TABLES[marker]
    for place in ("table", "table/data", "table/data/lang=de", "table/part-*.parquet", "table/part-0.parquet", ""):
        with pytest.raises(FormatError, match=f"/table is a table of {name}, .*superseded") as caught:
            parquet_listing.list_parquet(f"{root}/{place}")
        assert caught.match(snapshot)
    assert parquet_listing.list_parquet(f"{root}/pla*/*.parquet") == _uris(root, "plain/a.parquet")


def test_a_directory_called_metadata_is_no_table(root: str) -> None:
    _write(root, "g/metadata/x.json", "g/metadata/a.parquet", "g/data/b.parquet")
    assert parquet_listing.list_parquet(f"{root}/g") == _uris(root, "g/metadata/a.parquet", "g/data/b.parquet")
