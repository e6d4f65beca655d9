"""One case judged by one kind of evidence: adopted, upgraded by the product as users would, and searched by other queries.

Owns: which evidence a case allows, how the product is asked for it, and measuring what it published. The truth
(`new.parquet`) is shown to the product only where it asks for embeddings of items, as a user would embed them.
Array legend: Q queries of the case, R those that do not judge, D numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fct_ray.bench.calibration_outcomes import CaseOutcome, Difference, Level
from fct_ray.bench.cases.case_files import VIEWS, CaseData, CaseTask
from fct_ray.bench.cases.reference import simple_ways
from fct_ray.bench.cases.truth import measured, queries_of
from fct_ray.engine.cluster import ClusterSize
from fct_ray.kinds import Accept, QueryRole, Task, Verdict
from fct_ray.storage.store import Store
from fct_ray.storage.vector_columns import vector_array
from fct_ray.workflows.adopt import AdoptSettings, plan_adopt, run_adopt
from fct_ray.workflows.quality import gallery_vectors
from fct_ray.workflows.search import Searcher
from fct_ray.workflows.upgrade.kinds_of_evidence import WANTED_EMBEDDINGS, WANTED_IDS
from fct_ray.workflows.upgrade.plan import plan_upgrade
from fct_ray.workflows.upgrade.run import UpgradeOutcome, run_upgrade
from fct_ray.workflows.upgrade.settings import UpgradeSettings

MOST_SEARCHING = 1000
"""Queries that measure: an average precision over a large gallery costs a sort of it."""


@dataclass(frozen=True, kw_only=True)
class JudgedCase:
    """A case, where it lies, and which of its queries judge."""

    case: CaseData
    directory: Path
    scratch: Path
    fits: Path
    """Where fitted maps are kept: the same pairs are fitted once for all kinds of evidence."""
    seed: int

    @cached_property
    def judging_Q(self) -> npt.NDArray[np.bool_]:  # noqa: N802 (its shape)
        """A random half of the queries."""
        num = len(queries_of(self.case).relevant)
        return np.asarray(np.random.default_rng(self.seed).permutation(num) % 2 == 0)

    @cached_property
    def rest_R(self) -> npt.NDArray[np.int64]:  # noqa: N802 (its shape)
        """Positions of the queries that measure what then happens."""
        return np.flatnonzero(~self.judging_Q)[:MOST_SEARCHING]


def levels_of(case: CaseData, directory: Path) -> list[Level]:
    """Which evidence a case allows, the strongest first."""
    known_items = case.queries is not None and case.task is CaseTask.KNOWN_ITEM
    has = {
        Level.QUERIES: known_items,
        Level.LABELS: case.labels_N is not None,
        Level.VIEWS: (directory / VIEWS).is_dir(),
    }
    return [level for level in Level if has.get(level, True)]


def judge_case(job: JudgedCase, level: Level, size: ClusterSize) -> CaseOutcome:
    """Upgrade the case by this evidence, and search what was published with the queries that did not judge.

    Raises:
        FctRayError: the upgrade failed; a refusal is an outcome.
    """
    case, queries, store = job.case, queries_of(job.case), str(job.scratch / "store")
    _adopt(job, store, _encoders(job, level), with_labels=level is Level.LABELS)
    settings = _settings(job, store, level)
    outcome = _upgraded(job, settings, level, size)
    assert outcome.judged is not None  # noqa: S101 (a new store was judged just now)
    gate = outcome.judged.result
    keep_R = measured(case, queries.old_QO, case.old_NO, job.rest_R)
    found = {"keep": keep_R, "backfill": measured(case, queries.new_QW, case.new_NW, job.rest_R)}
    if outcome.published is not None:
        found["published"] = _published(job, store)
    accepted = None
    if gate.verdict is Verdict.MORE_EVIDENCE:
        again = run_upgrade(plan_upgrade(replace(settings, accept=Accept.PROVISIONAL), None, size), size)
        accepted = None if again.published is None else Difference.of(_published(job, store), keep_R)
    simple = {
        name: Difference.of(measured(case, query_QD, gallery_ND, job.rest_R), keep_R)
        for name, query_QD, gallery_ND in simple_ways(case)
    }
    best = max(simple, key=lambda name: simple[name].mean)
    first = gate.checks[0]
    return CaseOutcome(
        case=case.name,
        task=case.task,
        level=level,
        evidence=gate.evidence.value,
        verdict=gate.verdict,
        way=gate.chosen.value,
        measure=first.measure,
        predicted=first.margin,
        low=first.margin_low,
        keep=float(keep_R.mean()),
        backfill=Difference.of(found["backfill"], keep_R),
        simple=simple[best],
        simple_way=best,
        published=None if outcome.published is None else Difference.of(found["published"], keep_R),
        accepted=accepted,
        recall_at_1=(
            {name: float((found_R == 1).mean()) for name, found_R in found.items()}
            if case.task is CaseTask.KNOWN_ITEM
            else {}
        ),
    )


def _encoders(job: JudgedCase, level: Level) -> dict[str, str]:
    """Names of the encoders: of what embeds views, where views judge, else names alone."""
    if level is Level.VIEWS:
        return dict(job.case.encoders)
    return {"old": "old-v1", "new": "new-v1"} | ({} if job.case.side_NS is None else {"side": "side-v1"})


def _adopt(job: JudgedCase, store: str, encoders: dict[str, str], *, with_labels: bool) -> None:
    gallery = job.directory / "gallery"
    if not with_labels and job.case.labels_N is not None:
        gallery = _without_labels(gallery, job.scratch / "gallery")
    settings = AdoptSettings(
        store=store,
        embeddings=str(gallery),
        encoder=encoders["old"],
        side=encoders.get("side"),
    )
    run_adopt(plan_adopt(settings))


def _without_labels(gallery: Path, copy: Path) -> Path:
    copy.mkdir()
    for path in gallery.glob("*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns(["label"]), copy / path.name)
    return copy


def _settings(job: JudgedCase, store: str, level: Level) -> UpgradeSettings:
    """What a user with this evidence, and with the task of the case, would say."""
    file = None
    if level is Level.QUERIES:
        file = job.scratch / "queries.parquet"
        pq.write_table(_queries_table(job), file)
    encoders, by_views = _encoders(job, level), level is Level.VIEWS
    return UpgradeSettings(
        store=store,
        encoder=encoders["new"],
        views=f"parquet:{job.directory / VIEWS}?text=text" if by_views else None,
        old_encoder=encoders["old"] if by_views else None,
        side_encoder=encoders.get("side") if by_views else None,
        pairs=str(job.directory / "pairs.parquet"),
        queries=None if file is None else str(file),
        task=None if file is not None else Task(job.case.task.value),
        fit_dir=str(job.fits),
        seed=job.seed,
    )


def _upgraded(job: JudgedCase, settings: UpgradeSettings, level: Level, size: ClusterSize) -> UpgradeOutcome:
    """The upgrade; where it asks for embeddings, they are brought, unless the case is to show the evidence without them."""
    outcome = run_upgrade(plan_upgrade(settings, None, size), size)
    wanted = Path(settings.store) / "runs" / outcome.plan.run / WANTED_IDS
    if level in (Level.LABELS, Level.HELD_OUT) or not wanted.is_file():
        return outcome
    ids = pq.read_table(wanted)["id"]
    columns = {"id": ids, "embedding": vector_array(job.case.new_NW[ids.to_numpy()], "float32")}
    pq.write_table(pa.table(columns), wanted.with_name(WANTED_EMBEDDINGS))
    return run_upgrade(plan_upgrade(settings, None, size), size)


def _published(job: JudgedCase, store_uri: str) -> npt.NDArray[np.float64]:
    """What each of the queries that do not judge finds in what is published, searched as users search it, [R]."""
    queries, store = queries_of(job.case), Store(store_uri)
    manifest = store.manifest()
    searcher = Searcher(manifest, store)
    given = {QueryRole.OLD: queries.old_QO, QueryRole.NEW: queries.new_QW, QueryRole.SIDE: queries.side_QS}
    roles = [query.role for query in manifest.queries]
    query_QD = searcher.query_vectors(
        {role.value: vectors for role, vectors in given.items() if role in roles and vectors is not None}
        if roles
        else (queries.old_QO if manifest.encoder == store.manifest(1).encoder else queries.new_QW)
    )
    gallery_ND = gallery_vectors(store, manifest, manifest.num_rows, job.seed).embeddings_GD
    return measured(job.case, query_QD, gallery_ND, job.rest_R)


def _queries_table(job: JudgedCase) -> pa.Table:
    queries, chosen = queries_of(job.case), np.flatnonzero(job.judging_Q)
    columns = {
        "query": pa.array(chosen),
        "old": vector_array(queries.old_QO[chosen], "float32"),
        "new": vector_array(queries.new_QW[chosen], "float32"),
        "relevant": pa.array([list(queries.relevant[place]) for place in chosen], pa.list_(pa.int64())),
    }
    if queries.side_QS is not None:
        columns["side"] = vector_array(queries.side_QS[chosen], "float32")
    return pa.table(columns)
