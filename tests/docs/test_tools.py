"""docs/reference/tools.md, line by line: every gallery is written by its tool, and taken or refused as the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fct_ray.errors import FctRayError
from fct_ray.kinds import KeyType, OnBadRow
from fct_ray.shards.foreign_tables import open_table
from fct_ray.storage.adopted_tables import keys_in
from fct_ray.storage.gallery_reader import Reading, fetched, parse_object, table_in
from fct_ray.workflows.adopt import AdoptSettings, plan_adopt
from fct_ray.workflows.import_gallery import ImportSettings, plan_import
from tests.conftest import ROOT
from tests.tool_files import ARROW, DUCKDB, FILES, PANDAS, POLARS, VECTORS_ND, Written
from tests.tool_tables import TABLES

PAGE = ROOT / "docs" / "reference" / "tools.md"
LINES = [*PANDAS, *POLARS, *DUCKDB, *ARROW, *FILES, *TABLES]
_PLACE = re.compile(r"(delta|faiss|huggingface|iceberg|lance|lancedb|npy):")


def taken(place: str, written: Written, directory: Path) -> tuple[dict[Any, list[float]], KeyType | None]:
    """Vectors by what their rows are called, and the type of keys: by the same functions that the commands use."""
    if _PLACE.match(place):
        plan = plan_import(
            ImportSettings(
                store=str(directory / "store"), origin=place, columns=written.columns, encoder="m", rows_per_shard=4
            )
        )
        table = open_table(place)
        tables = [(table.read(part), f"part {part.number}") for part in plan.parts]
        return _rows(tables, plan.reading), plan.reading.keys
    adopted = plan_adopt(
        AdoptSettings(store=str(directory / "store"), embeddings=place, columns=written.columns, encoder="m")
    )
    objects = [(table_in(fetched(uri, None, None)[0], uri, None, None), uri) for uri in adopted.uris]
    keys = keys_in(objects[0][0].schema, adopted.layout, objects[0][1])
    return _rows(objects, Reading(layout=adopted.layout, keys=keys)), keys


def _rows(tables: list[tuple[Any, str]], reading: Reading) -> dict[Any, list[float]]:
    found: dict[Any, list[float]] = {}
    for table, name in tables:
        columns, bad = parse_object(
            table, name, reading.layout, reading.keys, len(found), OnBadRow.REFUSE, dimension=4, side_dimension=None
        )
        assert not bad
        called = columns.ids_N.tolist() if reading.keys is None else columns.table["key"].to_pylist()
        assert not found.keys() & set(called), "a row came twice"
        found |= dict(zip(called, columns.embeddings_ND.tolist(), strict=True))
    return found


@pytest.mark.parametrize("written", LINES, ids=lambda one: f"{one.tool}, {one.what}")
def test_what_a_tool_writes_is_taken_or_refused_as_the_page_says(written: Written, tmp_path: Path) -> None:
    directory = tmp_path / "gallery"
    directory.mkdir()
    place = written.make(directory)
    if written.refused is not None:
        with pytest.raises(FctRayError, match=re.escape(written.refused)):
            taken(place, written, tmp_path)
        return
    assert bool(_PLACE.match(place)) is written.is_imported
    found, keys = taken(place, written, tmp_path)
    assert keys is written.key_type
    assert set(found) == set(written.ids)
    np.testing.assert_array_equal([found[one] for one in written.ids], VECTORS_ND)


def page() -> str:
    """The table as it stands in the page."""
    rows = [f"| {one.tool} | {one.what} | {one.outcome} |" for one in LINES]
    return "\n".join(["| written by | what | becomes |", "|---|---|---|", *rows])


def test_the_page_has_every_line_as_it_was_tried() -> None:
    text = PAGE.read_text(encoding="utf-8")
    if page() not in text:
        pytest.fail(f"{PAGE.name} is not what the test tries; its table must be:\n{page()}")
