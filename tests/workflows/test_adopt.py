"""Galleries as other tools write them: partitioned, with hidden files and empty parts, and with a zero vector."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fct_ray.errors import FormatError
from fct_ray.workflows.adopt import AdoptSettings, plan_adopt, run_adopt
from fct_ray.workflows.append import AppendSettings, append
from fct_ray.workflows.quality import gallery_vectors
from fct_ray.workflows.upgrade.plan import plan_upgrade
from fct_ray.workflows.upgrade.run import run_upgrade
from tests.fashion_vectors import Vectors
from tests.galleries import read_version, write_rows
from tests.workflows.living import START, Living

PARTS = {"lang=de/part-0.parquet": range(2000), "lang=fr/part-0.parquet": range(2000, START)}


def _partitioned(directory: Path, vectors: Vectors) -> Path:
    """Two partitions, one with an empty part, and files that Spark leaves or hides."""
    for name, rows in PARTS.items():
        write_rows(directory / name, vectors, np.asarray(rows))
    empty = np.arange(0)
    write_rows(directory / "lang=fr" / "part-1.parquet", vectors, empty)
    write_rows(directory / "_temporary" / "0" / "part-0.parquet", vectors, np.arange(10))
    write_rows(directory / "_name.parquet", vectors, np.arange(10))
    (directory / "_SUCCESS").touch()
    return directory


def test_a_partitioned_gallery_keeps_its_partition_values_through_appending_and_upgrading(
    adopted: Living, tmp_path: Path
) -> None:
    vectors, store = adopted.vectors, str(tmp_path / "store")
    gallery = str(_partitioned(tmp_path / "gallery", vectors))
    done = run_adopt(plan_adopt(AdoptSettings(store=store, embeddings=gallery, encoder="old-api")))
    assert [record.rows for record in done.published.shards] == [2000, 2000]
    assert [record.shard for record in done.published.shards] == [0, 1]
    (note,) = done.notes
    assert note.startswith("skipped 1 object without rows: file:///")
    assert note.endswith("/lang%3Dfr/part-1.parquet")

    new = write_rows(tmp_path / "new" / "lang=it" / "a.parquet", vectors, np.arange(START, START + 50))
    append(AppendSettings(store=store, encoder="old-api", embeddings=str(new)), adopted.size)
    settings = dataclasses.replace(adopted.settings(), store=store)
    outcome = run_upgrade(plan_upgrade(settings, None, None), adopted.size)
    assert outcome.published is not None
    table = read_version(outcome.plan.store, outcome.published)
    langs = dict(zip(table["id"].to_pylist(), table["lang"].to_pylist(), strict=True))
    wanted = {int(vectors.ids_N[row]): lang for lang, rows in (("de", range(2000)), ("fr", range(2000, START)))
              for row in rows}  # fmt: skip
    wanted |= {int(number): "it" for number in vectors.ids_N[START : START + 50]}
    assert langs == wanted


def test_a_gallery_of_empty_files_only_is_refused(adopted: Living, tmp_path: Path) -> None:
    write_rows(tmp_path / "gallery" / "part-0.parquet", adopted.vectors, np.arange(0))
    settings = AdoptSettings(store=str(tmp_path / "store"), embeddings=str(tmp_path / "gallery"), encoder="old-api")
    with pytest.raises(FormatError, match=r"part-0\.parquet: has no rows, nor has any of the 1 objects"):
        run_adopt(plan_adopt(settings))


def test_vectors_of_another_length_cannot_join_a_normalized_gallery(living: Living, tmp_path: Path) -> None:
    assert living.store.manifest().normalized
    doubled = dataclasses.replace(living.vectors, old_ND=living.vectors.old_ND * 2)
    path = write_rows(tmp_path / "new.parquet", doubled, np.arange(START, START + 5))
    with pytest.raises(
        FormatError, match=rf"new\.parquet: .* id {living.vectors.ids_N[START]}, .*divide each new vector"
    ):
        append(AppendSettings(store=living.store.uri, encoder="old-api", embeddings=str(path)), living.size)
    assert living.store.manifest().version == 1


def test_one_zero_vector_among_the_pairs_leaves_the_new_space_normalized(living: Living, tmp_path: Path) -> None:
    assert living.plan().space.normalized
    table = pq.read_table(living.pairs)
    vectors = np.array(table["embedding"].to_pylist(), dtype=np.float32)
    vectors[7] = 0
    living.pairs = str(tmp_path / "pairs.parquet")
    changed = dataclasses.replace(living.vectors, ids_N=table["id"].to_numpy(), old_ND=vectors)
    write_rows(Path(living.pairs), changed, np.arange(len(vectors)))
    assert plan_upgrade(living.settings(), None, None).space.normalized


def test_a_shard_that_was_replaced_is_refused_when_quality_is_measured(living: Living) -> None:
    living.append(START, START + 10)
    manifest = living.store.manifest()
    (own,) = (record for record in manifest.shards if "://" not in record.embeddings.path)
    assert len(gallery_vectors(living.store, manifest, 100, 0).ids_G) > 50
    path = Path(living.store.uri_of(own.embeddings.path))
    write_rows(path, dataclasses.replace(living.vectors, old_ND=-living.vectors.old_ND), np.arange(START, START + 10))
    with pytest.raises(FormatError, match=r"versions/000002/shards/.*sha256 is .* damaged or replaced"):
        gallery_vectors(living.store, manifest, 100, 0)
