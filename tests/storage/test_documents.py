"""Documents have canonical bytes, and what does not fit is refused by field."""

from __future__ import annotations

import numpy as np
import pytest

from fct_ray.errors import FormatError
from fct_ray.kinds import Provenance
from fct_ray.storage import documents
from fct_ray.values import Current, ObjectRef, Receipt, ShardRecord, Usage


def _receipt() -> Receipt:
    embeddings = ObjectRef(path="versions/000001/shards/00000.parquet", bytes=10, sha256="ab")
    record = ShardRecord(
        shard=0, embeddings=embeddings, index=None, rows=3, id_min=-1, id_max=2**62, provenance=Provenance.MIXED
    )
    return Receipt(run="r", record=record, usage=Usage(wall_s=0.1, rows=3), peak_memory_bytes=1, worker="127.0.0.1:7")


def test_a_document_is_sorted_indented_by_one_and_ends_with_a_newline() -> None:
    current = Current(version=2, manifest="versions/000002/manifest.json", sha256="ü")
    wanted = '{\n "manifest": "versions/000002/manifest.json",\n "sha256": "ü",\n "version": 2\n}\n'
    assert documents.dump(current) == wanted.encode()


def test_nested_values_come_back_equal() -> None:
    assert documents.load(Receipt, documents.dump(_receipt()), "uri") == _receipt()


def test_numpy_scalars_are_written_as_plain_numbers() -> None:
    usage = Usage(wall_s=np.float32(0.5), rows=np.int64(3))  # type: ignore[arg-type]
    assert documents.load(Usage, documents.dump(usage), "uri") == Usage(wall_s=0.5, rows=3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_json_cannot_hold_are_refused(bad: float) -> None:
    with pytest.raises(FormatError, match="Usage cannot be written"):
        documents.dump(Usage(wall_s=bad))


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        (b'"rows": 3,\n  "shard"', b'"rows": "3",\n  "shard"', "record.rows"),
        (b'"bytes": 10', b'"bytes": 10, "extra": 1', "record.embeddings.extra"),
        (b'"run": "r",', b"", "run"),
        (b'"mixed"', b'"guessed"', "record.provenance"),
        (b"{", b"[", "the whole document"),
    ],
)
def test_a_wrong_field_is_named_with_its_uri(old: bytes, new: bytes, field: str) -> None:
    data = documents.dump(_receipt())
    assert old in data
    with pytest.raises(FormatError, match=rf"s3://b/00000\.json: not a Receipt: field '{field}'"):
        documents.load(Receipt, data.replace(old, new, 1), "s3://b/00000.json")
