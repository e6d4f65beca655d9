"""A shard whose version keeps true vectors: written, checked, its index trained and its rows deleted, all in one process."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from fct_ray.errors import FormatError, NotFoundError
from fct_ray.kinds import Metric, OnBadRow, Precision, Provenance
from fct_ray.models.model_files import with_true_vectors
from fct_ray.models.transformation import AnyTransformation
from fct_ray.models.true_vectors import TrueVectors
from fct_ray.shards.edited_shard import EditJob, write_edited
from fct_ray.shards.model_directory import load_model, packed_model, save_model
from fct_ray.shards.shard_check import ShardCheck, ShardInput, check_shard
from fct_ray.shards.shard_output import OutputJob
from fct_ray.shards.transformed_shard import TransformJob, TransformWorker
from fct_ray.shards.true_rows import check_true_vectors, num_true_rows
from fct_ray.shards.version_vectors import VersionVectors
from fct_ray.storage import documents, objects, shards
from fct_ray.storage.store import Store
from fct_ray.storage.true_vector_files import encode_true_vectors
from fct_ray.values import IndexRef, ObjectRef, Receipt, ShardRecord
from tests.models.joined_blocks import NEW, OLD, SIDE, joined, pack, run, seen_h, stored_vectors

IDS = np.random.default_rng(4).permutation(np.arange(500, 550)).astype(np.int64)
TRUE = np.array([2, 11, 30, 49])


@dataclass(frozen=True, kw_only=True)
class Made:
    """One shard of a version that keeps true vectors."""

    store: Store
    before: ShardRecord
    receipt: Receipt
    model_uri: str
    module: AnyTransformation
    new_TW: np.ndarray

    def check(self, **changes: object) -> tuple[str, ...]:
        made_from = ShardInput(record=self.before, dimension=OLD, transformation_uri=self.model_uri)
        check = ShardCheck(
            store_uri=self.store.uri, record=self.receipt.record, dimension=self.dimension, side_dimension=SIDE,
            metric=Metric.IP, index=IndexRef(factory="Flat"), made_from=made_from, recompute=True,
        )  # fmt: skip
        return check_shard(dataclasses.replace(check, **changes)).problems  # type: ignore[arg-type]

    @property
    def dimension(self) -> int:
        return self.module.architecture.new_dimension

    def vectors(self) -> np.ndarray:
        data, uri = self.store.read(self.receipt.record.embeddings), "s"
        return shards.parse_shard(data, uri, dimension=self.dimension, side_dimension=SIDE).embeddings_ND

    def output(self, version: int) -> OutputJob:
        return OutputJob(
            store_uri=self.store.uri, version=version, run="r", metric=Metric.IP, dimension=self.dimension,
            index=IndexRef(factory="Flat"), threads=1, on_bad_row=OnBadRow.REFUSE,
        )  # fmt: skip


def _stored(store: Store, old: np.ndarray, side: np.ndarray) -> ShardRecord:
    data = shards.encode_table(shards.build_table(IDS, old, side, {"title": [f"item {number}" for number in IDS]}))
    path = store.shard_path(1, 0)
    size, sha256 = objects.write_bytes(store.uri_of(path), data)
    return ShardRecord(
        shard=0, embeddings=ObjectRef(path=path, bytes=size, sha256=sha256), index=None, rows=50, id_min=500,
        id_max=549, provenance=Provenance.EMBEDDED,
    )  # fmt: skip


def _made(directory: Path, module: AnyTransformation, rows: np.ndarray = TRUE) -> Made:
    store, (old, side) = Store(str(directory / "store")), stored_vectors()
    new = np.random.default_rng(2).normal(size=(len(rows), NEW)).astype(np.float32)
    true = TrueVectors.of(
        np.append(IDS[rows], 9),
        np.concatenate([old[rows], old[:1]]),
        np.concatenate([new, np.ones((1, NEW), np.float32)]),
    )
    file = encode_true_vectors(true.ids_T, true.old_crc32_T, true.new_TW)
    uri = save_model(str(directory / "models"), with_true_vectors(pack(module), file))
    before = _stored(store, old, side)
    made = Made(store=store, before=before, receipt=None, model_uri=uri, module=module, new_TW=new)  # type: ignore[arg-type]
    worker = TransformWorker(TransformJob(
        output=made.output(2), transformation_uri=uri, precision=Precision.FLOAT32, old_dimension=OLD,
        side_dimension=SIDE, batch_rows=16,
    ))  # fmt: skip
    worker({"descriptor": documents.dump(before).decode()})
    (receipt,) = store.receipts(2)
    return dataclasses.replace(made, receipt=receipt)


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return _made(tmp_path_factory.mktemp("blocks"), joined())


def _unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def test_a_shard_of_h_holds_the_true_vectors_and_counts_them(tmp_path: Path) -> None:
    made, (old, side) = _made(tmp_path, seen_h()), stored_vectors()
    assert made.receipt.record.provenance is Provenance.MIXED
    assert made.receipt.record.counts == {"transformed": 46, "embedded": 4}
    expected = run(seen_h(), old, side)
    expected[TRUE] = _unit(made.new_TW)
    np.testing.assert_allclose(made.vectors(), expected, atol=2e-6)
    assert made.check() == ()


def test_a_shard_of_joined_blocks_keeps_the_others_blocks(blocks: Made) -> None:
    old, side = stored_vectors()
    seen, without = blocks.vectors(), run(joined(), old, side)
    np.testing.assert_allclose(seen[:, :-NEW], without[:, :-NEW], atol=2e-6)
    np.testing.assert_allclose(_unit(seen[TRUE, -NEW:]), _unit(blocks.new_TW), atol=2e-6)
    assert blocks.receipt.record.counts == {"transformed": 46, "embedded": 4}
    assert blocks.check() == ()


def test_making_its_vectors_again_finds_a_true_vector_that_is_missing(blocks: Made, tmp_path: Path) -> None:
    plain = save_model(str(tmp_path), with_true_vectors(packed_model(blocks.model_uri), None))
    made_from = ShardInput(record=blocks.before, dimension=OLD, transformation_uri=plain)
    (problem,) = blocks.check(made_from=made_from)
    assert "vectors made again from" in problem


@pytest.mark.parametrize(("rows", "wanted"), [(np.arange(50), Provenance.EMBEDDED), (TRUE[:0], Provenance.TRANSFORMED)])
def test_a_shard_of_one_kind_is_not_called_mixed(tmp_path: Path, rows: np.ndarray, wanted: Provenance) -> None:
    record = _made(tmp_path, seen_h(), rows).receipt.record
    assert (record.provenance, record.counts) == (wanted, {wanted.value: 50})


@pytest.mark.parametrize(("deleted", "counts"), [
    (IDS[[2, 11, 0]], {"transformed": 45, "embedded": 2}),
    (IDS[TRUE], {"transformed": 46}),
    (np.setdiff1d(IDS, IDS[TRUE]), {"embedded": 4}),
])  # fmt: skip
def test_a_deletion_counts_what_stays(blocks: Made, deleted: np.ndarray, counts: dict[str, int]) -> None:
    version = 10 + len(deleted)
    job = EditJob(
        output=blocks.output(version), side_dimension=SIDE, deleted_N=deleted, model_uri=blocks.model_uri
    )  # fmt: skip
    write_edited(blocks.receipt.record, job)
    (receipt,) = blocks.store.receipts(version)
    assert receipt.record.counts == counts
    assert receipt.record.rows == 50 - len(deleted)


def test_a_deletion_where_the_model_is_gone_counts_nothing_rather_than_wrong(blocks: Made) -> None:
    job = EditJob(output=blocks.output(9), side_dimension=SIDE, deleted_N=IDS[:1])
    write_edited(blocks.receipt.record, job)
    (receipt,) = blocks.store.receipts(9)
    assert (receipt.record.provenance, receipt.record.counts) == (Provenance.MIXED, {})


def test_a_sample_of_rows_gets_the_vectors_that_the_shard_has(blocks: Made) -> None:
    """So that an index is trained on what it will hold."""
    old, side = stored_vectors()
    rows = np.array([49, 0, 2, 7])
    made = VersionVectors(blocks.model_uri, batch_rows=3, precision=Precision.FLOAT32).of_rows(
        IDS[rows], old[rows], side[rows]
    )
    np.testing.assert_allclose(made.vectors_NV, blocks.vectors()[rows], atol=2e-6)
    assert made.true_N.tolist() == [True, False, True, False]
    assert num_true_rows(blocks.model_uri, IDS, blocks.vectors()) == 4
    assert num_true_rows(blocks.model_uri, IDS, blocks.vectors() * 2) == 0


def test_a_file_of_true_vectors_that_was_replaced_is_found(tmp_path: Path) -> None:
    made = _made(tmp_path, seen_h())
    check_true_vectors(made.model_uri)
    path = Path(made.model_uri) / "true_vectors.parquet"
    other = np.array([1], np.int64), np.array([1], np.int64), np.ones((1, NEW), np.float32)
    path.write_bytes(encode_true_vectors(*other))
    with pytest.raises(FormatError, match=r"true_vectors\.parquet: sha256 is .*restore it"):
        check_true_vectors(made.model_uri)


def test_where_they_were_purged_the_rest_of_the_shard_is_checked_and_nothing_is_written(tmp_path: Path) -> None:
    made = _made(tmp_path, seen_h())
    (Path(made.model_uri) / "true_vectors.parquet").unlink()
    check_true_vectors(made.model_uri)
    assert made.check() == ()
    assert num_true_rows(made.model_uri, IDS, made.vectors()) is None
    fewer = dataclasses.replace(made.receipt.record, counts={"transformed": 47, "embedded": 3})
    (problem,) = made.check(record=fewer)
    assert "vectors made again from" in problem
    with pytest.raises(NotFoundError, match="true_vectors"):
        VersionVectors(made.model_uri, batch_rows=3, precision=Precision.FLOAT32)


def test_a_copy_of_the_model_directory_brings_them_along(blocks: Made, tmp_path: Path) -> None:
    copied = save_model(str(tmp_path), packed_model(blocks.model_uri))
    assert sorted(path.name for path in Path(copied).iterdir()) == [
        "model.json", "true_vectors.parquet", "weights.safetensors",
    ]  # fmt: skip
    assert load_model(copied).document == load_model(blocks.model_uri).document
    for name in ("model.json", "true_vectors.parquet", "weights.safetensors"):
        assert (Path(copied) / name).read_bytes() == (Path(blocks.model_uri) / name).read_bytes()
