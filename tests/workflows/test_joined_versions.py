"""Versions of joined vectors: published by real queries, searched by several embeddings, and lived with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from fct_ray.errors import EncoderMismatchError, SettingsError
from fct_ray.kinds import EvidenceKind, Method, QueryRole, Verdict
from fct_ray.storage.rollback import roll_back
from fct_ray.workflows.garbage_collection import collect
from fct_ray.workflows.search import open_searcher
from fct_ray.workflows.upgrade import run as upgrade_run
from fct_ray.workflows.upgrade.plan import plan_upgrade
from fct_ray.workflows.upgrade.run import UpgradeOutcome, run_upgrade
from fct_ray.workflows.verify import VerifySettings, verify_store
from tests.workflows.asked import Asked, by_queries, noisy_photos
from tests.workflows.living import START, Living


@pytest.fixture(scope="module")
def asked(adopted: Living) -> Asked:
    return noisy_photos(adopted)


@pytest.fixture(scope="module")
def questions(asked: Asked, tmp_path_factory: pytest.TempPathFactory) -> str:
    return asked.write(tmp_path_factory.mktemp("questions") / "queries.parquet")


@pytest.fixture(scope="module")
def done(adopted: Living, questions: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Living, UpgradeOutcome]:
    """A gallery whose old vectors and side-information were joined, and what that upgrade said."""
    living = adopted.copy(tmp_path_factory.mktemp("joined"))
    return living, run_upgrade(plan_upgrade(by_queries(living, questions), None, None), living.size)


@pytest.fixture
def joined(done: tuple[Living, UpgradeOutcome], tmp_path: Path) -> Living:
    return done[0].copy(tmp_path)


def _found_first(living: Living, queries: object, asked: Asked) -> float:
    searcher = open_searcher(living.store.uri)
    _, ids_QK = searcher.search(queries, k=1, nprobe=16)  # type: ignore[arg-type]
    return float((ids_QK[:, 0] == asked.relevant_Q).mean())


def test_real_queries_publish_joined_vectors_and_the_manifest_says_what_a_query_needs(
    done: tuple[Living, UpgradeOutcome],
) -> None:
    living, outcome = done
    published = outcome.published
    assert published is not None
    assert published.gate is not None
    assert (published.gate.evidence, published.gate.verdict) == (EvidenceKind.QUERIES, Verdict.UPGRADE)
    assert published.gate.chosen in (Method.FUSED, Method.FUSED_WHITENED)
    assert published.format_version == 2
    assert published.encoder.name == "old-api", "nothing was fitted: old queries stay"
    assert [(query.role, query.encoder.name, query.dimension) for query in published.queries] == [
        (QueryRole.OLD, "old-api", 6),
        (QueryRole.SIDE, published.side_info.name, 24),  # type: ignore[union-attr]
    ]
    assert "fit" not in outcome.stages, "only ways without a fit were asked for"
    assert published.gate.gallery_rows == published.gate.gallery_total == START
    assert json.loads(Path(living.store.uri, living.store.current().manifest).read_text())["format_version"] == 2  # type: ignore[union-attr]


def test_a_joined_version_is_searched_by_arrays_named_by_role_or_encoder(joined: Living, asked: Asked) -> None:
    manifest = joined.store.manifest()
    side = manifest.queries[1].encoder.name
    by_role = _found_first(joined, {"old": asked.old_QD, "side": asked.side_QS}, asked)
    assert by_role == _found_first(joined, {"old-api": asked.old_QD, side: asked.side_QS}, asked)
    assert by_role > 0.6
    before = manifest.gate.checks[0].bar  # type: ignore[union-attr]
    assert by_role > before


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["old"], "side"),
        (["side"], "old"),
        (["old", "side", "new"], "new"),
        (["old", "old-api", "side"], "old-api"),
        (["old", "sides"], "sides"),
        ([], "old"),
    ],
)
def test_missing_and_superfluous_query_embeddings_are_refused_by_name(
    done: tuple[Living, UpgradeOutcome], asked: Asked, given: list[str], named: str
) -> None:
    arrays = {"old": asked.old_QD, "old-api": asked.old_QD, "side": asked.side_QS, "sides": asked.side_QS}
    arrays["new"] = asked.new_QW
    with pytest.raises(SettingsError, match=named):
        open_searcher(done[0].store.uri).search({name: arrays[name] for name in given})


def test_query_embeddings_of_another_shape_are_refused(done: tuple[Living, UpgradeOutcome], asked: Asked) -> None:
    searcher = open_searcher(done[0].store.uri)
    bad: list[Mapping[str, np.ndarray]] = [
        {"old": asked.old_QD[:, :5], "side": asked.side_QS},
        {"old": asked.old_QD, "side": asked.new_QW},
        {"old": asked.old_QD, "side": asked.side_QS[:5]},
        {"old": asked.old_QD[0], "side": asked.side_QS[0]},
    ]
    for queries in bad:
        with pytest.raises(SettingsError, match=r"old|side"):
            searcher.search(queries)
    with pytest.raises(SettingsError, match="one array"):
        searcher.search(asked.old_QD)
    with pytest.raises(EncoderMismatchError, match="new-api"):
        open_searcher(done[0].store.uri, "new-api")


def test_a_joined_version_is_whole_and_its_vectors_can_be_computed_again(joined: Living) -> None:
    seen = verify_store(VerifySettings(store=joined.store.uri, recompute=5))
    assert seen.problems == ()
    assert seen.num_recomputed == 5


def test_the_same_command_finds_it_finished_also_after_a_deletion(
    done: tuple[Living, UpgradeOutcome], joined: Living, questions: str
) -> None:
    first = joined.store.manifest()
    again = run_upgrade(plan_upgrade(by_queries(done[0], questions), None, None), done[0].size)
    assert again.published == first
    assert again.judged is not None
    assert not again.judged.fit_reused, "nothing was fitted"
    settings = by_queries(joined, questions)
    after = joined.delete(np.arange(10))
    assert after.queries == first.queries
    assert after.format_version == 2
    plan = plan_upgrade(settings, None, None)
    assert plan.finished is not None
    assert plan.finished.version == first.version
    assert joined.store.manifest().version == after.version


def test_after_a_deletion_the_rest_is_found_and_the_version_is_whole(joined: Living, asked: Asked) -> None:
    gone = np.flatnonzero(np.isin(joined.vectors.ids_N, asked.relevant_Q[:20]))
    joined.delete(gone)
    _, ids_QK = open_searcher(joined.store.uri).search({"old": asked.old_QD, "side": asked.side_QS}, k=10, nprobe=16)
    assert not np.isin(ids_QK, asked.relevant_Q[:20]).any()
    assert (ids_QK[20:, 0] == asked.relevant_Q[20:]).mean() > 0.6
    assert verify_store(VerifySettings(store=joined.store.uri)).problems == ()


def test_what_is_appended_goes_through_the_same_map_and_is_found(joined: Living) -> None:
    before = joined.store.manifest()
    after = joined.append(START, START + 200)
    assert (after.queries, after.num_rows, after.dimension) == (before.queries, START + 200, before.dimension)
    vectors, rows = joined.vectors, np.arange(START, START + 200)
    searcher = open_searcher(joined.store.uri)
    _, ids_QK = searcher.search({"old": vectors.old_ND[rows], "side": vectors.side_NS[rows]}, k=1, nprobe=16)
    assert (ids_QK[:, 0] == vectors.ids_N[rows]).mean() > 0.98
    assert verify_store(VerifySettings(store=joined.store.uri)).problems == ()


def test_a_rollback_gives_the_old_version_back(joined: Living) -> None:
    roll_back(joined.store, None)
    manifest = joined.store.manifest()
    assert (manifest.version, manifest.queries, manifest.format_version) == (1, (), 1)
    _, ids_QK = open_searcher(joined.store.uri, "old-api").search(joined.vectors.old_ND[:5], k=1)
    assert ids_QK.shape == (5, 1)


def test_a_collection_keeps_the_model_that_joins_the_queries(joined: Living, asked: Asked) -> None:
    collect(joined.store, keep=1, purge=False)
    assert joined.store.find_transformation(joined.store.manifest()) is not None
    assert _found_first(joined, {"old": asked.old_QD, "side": asked.side_QS}, asked) > 0.6
    assert verify_store(VerifySettings(store=joined.store.uri)).problems == ()


def _shards(living: Living) -> dict[str, str]:
    directory = Path(living.store.uri) / "versions" / f"{living.store.manifest().version:06d}"
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.suffix in (".parquet", ".faiss", ".index")
    }


class _KilledError(Exception):
    pass


@pytest.mark.journey
@pytest.mark.parametrize("when", ["after the gate", "before publishing"])
def test_a_killed_run_resumes_to_the_same_bytes(
    adopted: Living,
    done: tuple[Living, UpgradeOutcome],
    questions: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
) -> None:
    living = adopted.copy(tmp_path)
    settings = by_queries(living, questions)

    def killed(*_: object, **__: object) -> object:
        raise _KilledError

    with monkeypatch.context() as patch:
        patch.setattr(upgrade_run, "stream_transformed" if when == "after the gate" else "keep_model", killed)
        with pytest.raises(_KilledError):
            run_upgrade(plan_upgrade(settings, None, None), living.size)
    assert living.store.manifest().version == 1
    run_upgrade(plan_upgrade(settings, None, None), living.size)
    assert _shards(living) == _shards(done[0])
    assert _shards(living)
