"""Which evidence decides an upgrade, and what is measured of the other task beside it.

    real queries                 decide; labels tell what becomes of similar items
    pseudo-queries               decide for known items, and are told where similar items alone are asked for
    labels, pooled judgement     decide for similar items; where both tasks are asked for, they must not fall; else they are
                                 told where nothing has to be embedded for it

Owns: that choice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fct_ray.kinds import EvidenceKind, Task
from fct_ray.workflows.upgrade.evidence import Evidence
from fct_ray.workflows.upgrade.kinds_of_evidence import (
    EvidenceSources,
    from_labels,
    from_pool,
    from_queries,
    held_out_evidence,
    wanted_embeddings,
)
from fct_ray.workflows.upgrade.pseudo_queries import pseudo_evidence
from fct_ray.workflows.upgrade.stored_sample import StoredRows


@dataclass(frozen=True, kw_only=True, slots=True)
class EvidenceByTask:
    """What decides, and what stands beside it."""

    deciding: Evidence
    must_not_fall: Evidence | None = None
    """What shows the other task, where both are asked for."""
    told: Evidence | None = None
    """What shows the other task, where it decides nothing."""

    @property
    def other(self) -> EvidenceKind | None:
        """What has a say beside what decides."""
        return None if self.must_not_fall is None else self.must_not_fall.kind

    def without_pool(self, sources: EvidenceSources) -> EvidenceByTask:
        """The same where the new model cannot judge what ways return: held-out pairs, or one task alone."""
        if self.must_not_fall is not None:
            return replace(self, must_not_fall=None)
        return replace(self, deciding=held_out_evidence(sources))


def evidence_by_task(sources: EvidenceSources, gallery: StoredRows) -> EvidenceByTask:
    """The strongest evidence that the data allow for the task; a pool may turn out to lack embeddings.

    Raises:
        DataError, SourceError: other views of items are missing, or cannot be read.
    """
    plan, task = sources.plan, sources.plan.settings.task
    if plan.queries is not None:
        return EvidenceByTask(deciding=from_queries(sources, gallery), told=_similar_at_no_cost(sources, gallery))
    if plan.pseudo is None:
        return EvidenceByTask(deciding=_similar(sources, gallery))
    known_item = pseudo_evidence(sources, gallery)
    if task is Task.SIMILAR:
        return EvidenceByTask(deciding=_similar(sources, gallery), told=known_item)
    if task is Task.KNOWN_ITEM:
        return EvidenceByTask(deciding=known_item, told=_similar_at_no_cost(sources, gallery))
    return EvidenceByTask(deciding=known_item, must_not_fall=_similar(sources, gallery))


def _similar(sources: EvidenceSources, gallery: StoredRows) -> Evidence:
    """What shows whether similar items are found: labels, else the new model."""
    return from_labels(sources, gallery) or from_pool(sources, gallery)


def _similar_at_no_cost(sources: EvidenceSources, gallery: StoredRows) -> Evidence | None:
    """The same where nothing has to be embedded for it; a pool may turn out to lack embeddings."""
    labels = from_labels(sources, gallery)
    if labels is not None or not wanted_embeddings(sources.plan):
        return labels
    return from_pool(sources, gallery, may_embed=False)
