"""The synthetic upgrade cases and the files of a case, small."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest

from fct_ray.bench.cases.case_files import CaseData, read_case, write_case
from fct_ray.bench.cases.debian_texts import PackageText, distinct_texts
from fct_ray.bench.cases.embedding_cache import SHARD_ITEMS, cached_embeddings
from fct_ray.bench.cases.geometry import GeometrySettings, Relation, related
from fct_ray.bench.cases.latent import LatentSettings, make_latent
from fct_ray.bench.cases.reference import unit
from fct_ray.bench.cases.registry import CASES, make_case
from fct_ray.errors import NotFoundError, SettingsError
from fct_ray.storage.pairs import read_pairs

SMALL = LatentSettings(num_rows=3000, num_pairs=300, num_queries=200, num_classes=20, dimension=64)


@pytest.fixture(scope="module")
def latent() -> CaseData:
    return make_latent("small", SMALL)


def test_the_new_model_is_better_on_both_tasks(latent: CaseData) -> None:
    measured = latent.known["measured"]
    for measure in ("r1", "precision"):
        assert measured["full backfill"][measure] > measured["keep"][measure] + 0.1


def test_a_map_of_old_alone_harms_where_side_information_helps(latent: CaseData) -> None:
    measured = latent.known["measured"]
    assert measured["ridge"]["r1"] < measured["keep"]["r1"] < measured["fused old + side"]["r1"]


def test_no_query_is_about_a_pair(latent: CaseData) -> None:
    assert latent.queries is not None
    asked = {row for rows in latent.queries.relevant for row in rows}
    assert len(asked) == 200
    assert not asked & set(latent.pair_ids_P.tolist())


def test_a_case_comes_back_as_it_was_written(latent: CaseData, tmp_path: Path) -> None:
    write_case(tmp_path / "a", latent)
    write_case(tmp_path / "b", make_latent("small", SMALL))
    back = read_case(tmp_path / "a")
    assert back.queries is not None
    assert latent.queries is not None
    for name in ("old_NO", "new_NW", "side_NS", "labels_N", "pair_ids_P"):
        np.testing.assert_array_equal(getattr(back, name), getattr(latent, name))
    np.testing.assert_array_equal(back.queries.new_QW, latent.queries.new_QW)
    assert back.queries.relevant == latent.queries.relevant
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)


def test_the_product_reads_the_pairs_of_a_case(latent: CaseData, tmp_path: Path) -> None:
    write_case(tmp_path, latent)
    pairs = read_pairs(str(tmp_path / "pairs.parquet"))
    np.testing.assert_array_equal(pairs.embeddings_NW, latent.new_NW[pairs.ids.to_numpy()])


def test_without_side_information_no_file_holds_any(tmp_path: Path) -> None:
    write_case(tmp_path, make_latent("bare", replace(SMALL, with_side=False)))
    assert pq.read_schema(tmp_path / "gallery/part-00000.parquet").names == ["id", "embedding", "label"]
    assert "side" not in pq.read_schema(tmp_path / "queries.parquet").names


def test_a_case_without_its_last_file_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="make it first"):
        read_case(tmp_path)


def test_more_pairs_and_queries_than_rows_are_refused() -> None:
    with pytest.raises(SettingsError, match="400 pairs and 200 queries of 500 rows"):
        make_latent("small", replace(SMALL, num_rows=500, num_pairs=400))


def test_an_unknown_case_names_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"want one of text-4000, .*worse"):
        make_case("nothing", tmp_path)
    assert all(case.about for case in CASES.values())


def test_embeddings_are_kept_and_missing_shards_alone_are_made(tmp_path: Path) -> None:
    items = [str(number) for number in range(SHARD_ITEMS * 2 + 5)]
    loaded: list[bool] = []
    seen: list[str] = []

    def load() -> Callable[[Sequence[str]], npt.NDArray[np.float32]]:
        loaded.append(True)

        def encode(texts: Sequence[str]) -> npt.NDArray[np.float32]:
            seen.extend(texts)
            return np.asarray([[float(text)] for text in texts], np.float32)

        return encode

    first = cached_embeddings(tmp_path, items, 10, load)
    assert first[:, 0].tolist() == list(range(10))
    whole = cached_embeddings(tmp_path, items, len(items), load)
    assert whole[:, 0].tolist() == list(range(len(items)))
    cached_embeddings(tmp_path, items, len(items), load)
    assert (len(seen), len(loaded)) == (len(items), 2)


def _text(name: str, short: str, long: str) -> PackageText:
    return PackageText(name=name, section="libs", short=short, long=long)


def test_texts_that_contain_each_other_or_their_query_are_left_out() -> None:
    body = " ".join(f"word{number}" for number in range(30))
    texts = [
        _text("a", "first thing", body),
        _text("b", "second thing", body + " and more"),  # begins like a
        _text("c", "third thing", "Some words before. " + " ".join(f"other{number}" for number in range(30))),
        _text("d", "fourth thing", " ".join(f"other{number}" for number in range(30))),  # stands in c
        _text("e", "other things", "These are other things, " + body[::-1]),  # contains its query
        _text("f", "Third Thing", body[::-1]),  # c's query
        _text("g", "a short one", "too short"),
    ]
    assert [text.name for text in distinct_texts(texts)] == ["a", "c"]


@pytest.mark.parametrize("relation", list(Relation))
def test_each_relation_is_what_it_says(relation: Relation) -> None:
    rng = np.random.default_rng(1)
    weaker, better = ((unit(rng.normal(size=(40, d))), unit(rng.normal(size=(40, d)))) for d in (12, 16))
    settings = GeometrySettings(relation=relation, kept_numbers=8)
    models = related(settings, weaker, better, rng.integers(0, 3, 40), rng)
    if relation is Relation.ROTATION:
        np.testing.assert_allclose(
            models.new_NW @ models.new_titles_NW.T, models.old_NO @ models.old_titles_NO.T, atol=1e-5
        )
    elif relation is Relation.TRUNCATION:
        cosines = (models.old_NO * unit(models.new_NW[:, :8])).sum(axis=1)
        np.testing.assert_allclose(cosines, 1, atol=1e-6)
    elif relation is Relation.INDEPENDENT:
        assert (models.old_NO.shape, models.new_NW is better[0]) == ((40, 8), True)
    else:
        assert models.old_NO is better[0]
        assert models.new_NW is weaker[0]
