"""`fct-ray doctor`: what it tells of galleries that somebody else wrote, without a cluster, and what it proposes to run."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fct_ray.cli.commands.doctor import Settings, run
from fct_ray.errors import FormatError, NotFoundError
from fct_ray.gallery_facts import Diagnosis, Level
from fct_ray.storage.gallery_columns import GivenColumns
from fct_ray.storage.object_schema import check_object
from fct_ray.values import AdoptedLayout
from fct_ray.workflows.doctor import DoctorSettings, examine
from tests.conftest import ROOT
from tests.gallery_files import clustered, lists, write_objects


def _look(place: Path | str, **settings: Any) -> Diagnosis:
    return examine(str(place), DoctorSettings(**settings))


def _levels(diagnosis: Diagnosis) -> dict[str, Level]:
    return {finding.name: finding.level for finding in diagnosis.findings}


def test_a_sound_gallery_has_no_warning_and_the_next_commands_are_complete(tmp_path: Path) -> None:
    vectors = clustered(2_000)
    gallery = write_objects(tmp_path / "g", 4, id=np.arange(2_000), embedding=lists(vectors), text=["a"] * 2_000)
    diagnosis = _look(gallery, encoder="api v1")
    assert diagnosis.worst in (None, Level.NOTE)
    facts = diagnosis.facts
    assert (facts.objects.num_objects, facts.objects.num_rows, facts.sample.whole) == (4, 2_000, True)
    assert facts.vectors is not None
    assert (facts.vectors.dimension, facts.vectors.normalized, facts.vectors.repeated) == (32, True, 0)
    adopt, upgrade = diagnosis.commands
    assert adopt == f"fct-ray adopt --store STORE --embeddings {gallery} --encoder 'api v1' --metric ip"
    assert '--index "Flat" --plan' in upgrade


def test_every_bad_row_is_counted_once_and_by_its_kind(tmp_path: Path) -> None:
    vectors = clustered(1_200)
    vectors[3, 2], vectors[7, 1], vectors[8] = np.nan, np.inf, 0
    vectors[10:13] = vectors[9]
    rows: list[Any] = [row.tolist() for row in vectors]
    rows[20], rows[21], rows[22] = None, [0.5, None, *rows[0][2:]], [1.0, 2.0]
    ids: list[Any] = [*range(1_200)]
    ids[5], ids[6] = None, 4
    gallery = write_objects(
        tmp_path / "g", 3, id=pa.array(ids, pa.int64()), embedding=pa.array(rows, pa.list_(pa.float32()))
    )
    diagnosis = _look(gallery)
    vectors_seen, ids_seen = diagnosis.facts.vectors, diagnosis.facts.ids
    assert vectors_seen is not None
    assert ids_seen is not None
    seen = vectors_seen
    assert (seen.nulls, seen.nan, seen.infinite, seen.zeros, seen.other_dimension, seen.repeated) == (2, 1, 1, 1, 1, 3)
    assert (ids_seen.nulls, ids_seen.repeated) == (1, 1)
    assert {name for name, level in _levels(diagnosis).items() if level is Level.ERROR} == {
        "repeated-ids", "null-ids", "unusable-embedding", "dimensions-differ-embedding"
    }  # fmt: skip
    assert diagnosis.commands == ()


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float32(), 32), pa.list_(pa.float16()),
        pa.fixed_shape_tensor(pa.float32(), [32]),
    ],
    ids=str,
)  # fmt: skip
def test_vectors_are_read_in_every_type_of_list(tmp_path: Path, kind: Any) -> None:
    vectors = clustered(400)
    column = lists(vectors, kind.storage_type if isinstance(kind, pa.FixedShapeTensorType) else kind)
    if isinstance(kind, pa.FixedShapeTensorType):
        column = pa.ExtensionArray.from_storage(kind, column)
    facts = _look(write_objects(tmp_path / "g", 1, id=np.arange(400), embedding=column)).facts
    assert facts.vectors is not None
    assert facts.vectors.normalized
    wanted = np.linalg.norm(vectors.mean(axis=0))
    assert facts.vectors.mean_length == pytest.approx(float(wanted), abs=2e-3)


def test_columns_of_other_names_come_with_the_settings_that_name_them(tmp_path: Path) -> None:
    ids = [f"item-{number}" for number in range(1_000)]
    gallery = write_objects(tmp_path / "g", 2, doc_id=ids, emb=lists(clustered(1_000)), category=np.arange(1_000) % 7)
    diagnosis = _look(gallery)
    flags = "--columns.id doc_id --columns.embedding emb --columns.label category"
    assert " ".join(diagnosis.facts.flags) == flags
    assert flags in diagnosis.commands[0]
    assert diagnosis.facts.label is not None
    assert diagnosis.facts.label.num_classes == 7
    assert _look(gallery, columns=GivenColumns(id="row")).facts.ids is None


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"a": [[1.0]], "b": [[1.0]], "id": [1]}, "2 hold vectors: 'a', 'b'; name yours with --columns.embedding NAME"),
        ({"id": [1], "embedding": [b"abcd"]}, "numpy.frombuffer"),
        ({"id": [1], "embedding": ["[1, 2]"]}, "json.loads"),
        ({"id": [1], "text": ["x"]}, "no column 'embedding', and none holds lists of numbers"),
        ({"embedding": [[1.0]], "user_id": [1], "doc_id": [1]}, "2 could be it: 'user_id', 'doc_id'"),
        ({"embedding": [[1.0]]}, "take the rows' positions with --columns.id row"),
        ({"embedding": [[1.0]], "id": [1.5]}, "column 'id' is double"),
    ],
)
def test_a_column_that_cannot_be_used_is_one_clear_sentence(tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    diagnosis = _look(write_objects(tmp_path / "g", 1, **columns))
    assert diagnosis.worst is Level.ERROR
    assert any(said in finding.seen for finding in diagnosis.findings if finding.name == "columns"), diagnosis.findings
    assert diagnosis.commands == ()


def test_a_part_by_another_model_is_told_with_the_objects_that_hold_it(tmp_path: Path) -> None:
    vectors = np.concatenate([clustered(3_600, seed=1), clustered(400, seed=2)])
    diagnosis = _look(write_objects(tmp_path / "g", 10, id=np.arange(4_000), embedding=lists(vectors)))
    (finding,) = [one for one in diagnosis.findings if one.name == "two-models"]
    assert finding.level is Level.WARNING
    assert re.search(r"About (9\.9|10\.\d)% of the rows", finding.seen)
    assert "Objects that hold nearly nothing else: 1." in finding.seen


def test_a_large_gallery_is_read_in_part_and_the_same_part_again(tmp_path: Path) -> None:
    gallery = write_objects(tmp_path / "g", 8, id=np.arange(4_000), embedding=lists(clustered(4_000)))
    once, again = (_look(gallery, sample_bytes=60_000) for _ in range(2))
    assert once == again
    sample = once.facts.sample
    assert not sample.whole
    assert sample.num_objects == 8
    assert 200 < sample.num_rows < 1_000
    assert once.facts.ids is not None
    assert once.facts.ids.whole
    assert _look(gallery, sample_bytes=60_000, full=True).facts.sample.num_rows == 4_000


def test_objects_that_differ_or_cannot_be_read_are_counted(tmp_path: Path) -> None:
    gallery = write_objects(tmp_path / "g", 2, id=np.arange(1_000), embedding=lists(clustered(1_000)))
    pq.write_table(pa.table({"id": [1], "other": [2]}), gallery / "z.parquet")
    (gallery / "broken.parquet").write_bytes(b"PAR1 no more PAR1")
    levels = _levels(_look(gallery))
    assert levels["types-differ"] is levels["unreadable"] is Level.ERROR


def test_the_command_that_rewrites_many_tiny_objects_runs(tmp_path: Path) -> None:
    from fct_ray.plan.next_commands import rewrite_command

    gallery = write_objects(tmp_path / "g", 30, id=np.arange(60), embedding=lists(clustered(60)))
    command = shlex.split(rewrite_command(str(gallery), str(tmp_path / "whole")))
    subprocess.run([sys.executable, *command[1:]], check=True)
    (whole,) = (tmp_path / "whole").glob("*.parquet")
    assert sorted(pq.read_table(whole).column("id").to_pylist()) == list(range(60))


def test_the_page_has_neither_paths_nor_ids_nor_anything_from_outside(tmp_path: Path) -> None:
    ids = [f"secret-{number}" for number in range(1_000)]
    gallery = write_objects(tmp_path / "hidden" / "vectors", 2, id=ids, embedding=lists(clustered(1_000)))
    (gallery / "broken.parquet").write_bytes(b"PAR1 no more PAR1")
    finished = run(Settings(place=f"{gallery}/*.parquet", html=str(tmp_path / "page.html")))
    page = (tmp_path / "page.html").read_text()
    assert "doctor: vectors" in page
    assert "1,000 rows in 3 objects" in page
    assert page.count("<svg") == 2
    for hidden in ("secret-", "hidden", "broken", "part-0", str(tmp_path), "<script", "http://", "https://"):
        assert hidden not in page.replace("http://www.w3.org", ""), hidden
    assert finished.refusal is None


def test_fail_on_ends_with_code_two_and_json_is_one_object_without_ray(tmp_path: Path) -> None:
    gallery = write_objects(tmp_path / "g", 1, id=[1, 1, 2], embedding=lists(clustered(3)))
    code = (
        "import sys; from fct_ray.cli.main import main; sys.argv[0] = 'fct-ray'\n"
        "try: main()\n"
        "finally: print({'ray', 'torch', 'faiss'} & set(sys.modules), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "doctor", str(gallery), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr.strip().splitlines()[-1]) == (0, "set()"), done.stderr
    document = json.loads(done.stdout)
    assert document["facts"]["ids"]["repeated"] == 1
    failed = subprocess.run([*command, "--fail-on", "error"], capture_output=True, text=True, cwd=ROOT, check=False)
    refused = json.loads(failed.stdout)
    assert (failed.returncode, refused["exit_code"]) == (2, 2)
    assert "Rows whose id an earlier row has: 1 (of 3)" in refused["error"]
    assert refused["report"] == document


def test_a_place_without_objects_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no Parquet objects"):
        _look(tmp_path / "nothing")


ROWS = [[0.5, -1.0, 2.0], [3.0, 0.0, -0.25]]
RAGGED = pa.array(
    [{"data": row, "shape": [3]} for row in ROWS],
    pa.struct([("data", pa.list_(pa.float32())), ("shape", pa.list_(pa.int64()))]),
)


@pytest.mark.parametrize(
    ("column", "is_taken"),
    [
        *((pa.array(ROWS, kind), True) for kind in (pa.list_view(pa.float32()), pa.large_list_view(pa.float64()))),
        (RAGGED, True),
        (pa.array([[1, 2], [3, 4]], pa.list_(pa.int64())), False),
        (pa.array([[1, 2], [3, 4]], pa.list_(pa.uint8())), False),
        (pa.array(["[1, 2]", "[3, 4]"], pa.string_view()), False),
        (pa.array([{"data": 1, "shape": 2}] * 2), False),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)  # fmt: skip
def test_doctor_takes_for_vectors_what_adopt_takes(tmp_path: Path, column: pa.Array, is_taken: bool) -> None:
    (tmp_path / "g").mkdir()
    place = tmp_path / "g/a.parquet"
    pq.write_table(pa.table({"id": [4, 9], "embedding": column}), place)
    facts = _look(tmp_path / "g").facts
    assert (facts.problems == ()) is is_taken
    if is_taken:
        assert facts.vectors is not None
        assert (facts.vectors.dimension, facts.vectors.usable) == (3, 2)
        check_object(place.as_uri(), AdoptedLayout())
    else:
        with pytest.raises(FormatError):
            check_object(place.as_uri(), AdoptedLayout())


def test_objects_whose_vectors_and_ids_are_of_one_kind_in_other_types_are_one_gallery(tmp_path: Path) -> None:
    gallery = write_objects(tmp_path / "g", 1, id=np.arange(1_000), embedding=lists(clustered(1_000)))
    other = {
        "id": pa.array(np.arange(1_000, 2_000), pa.int32()),
        "embedding": lists(clustered(1_000), pa.list_(pa.float64())),
    }
    pq.write_table(pa.table(other), gallery / "z.parquet")
    diagnosis = _look(gallery)
    assert "types-differ" not in _levels(diagnosis)
    assert diagnosis.facts.vectors is not None
    assert diagnosis.facts.vectors.usable == 2_000
