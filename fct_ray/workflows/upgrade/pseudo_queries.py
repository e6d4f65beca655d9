"""Pseudo-queries: other views of some items, embedded once by every model, each of which looks for its one item.

    gallery, or its sample --less pairs that are fitted on--> some items --other views--> runs/<run id>/pseudo_queries.parquet

Owns: which items, and the cache of the embeddings. Items are taken from those that are searched, so that each of them can be
found. A map finds an item that it was fitted on better than others, so none of these is taken.
"""

from __future__ import annotations

import numpy as np

from fct_ray.errors import DataError
from fct_ray.evaluation.queries import JudgedQueries
from fct_ray.kinds import EvidenceKind, QueryRole
from fct_ray.plan.checks import MIN_GATE_PAIRS
from fct_ray.plan.splits import sample_mask
from fct_ray.sources.items import Source
from fct_ray.sources.registry import open_source
from fct_ray.storage import pairs as pair_files
from fct_ray.workflows.chosen_items import encode_items
from fct_ray.workflows.item_positions import are_in_source, positions_of
from fct_ray.workflows.upgrade.evidence import FromQueries, IntArray, item_queries
from fct_ray.workflows.upgrade.kinds_of_evidence import EvidenceSources
from fct_ray.workflows.upgrade.pairs import Pairs
from fct_ray.workflows.upgrade.plan import UpgradePlan
from fct_ray.workflows.upgrade.stored_sample import StoredRows

PSEUDO_QUERIES = "pseudo_queries.parquet"


def pseudo_evidence(sources: EvidenceSources, gallery: StoredRows) -> FromQueries:
    """Every pseudo-query with the one item that it looks for.

    Raises:
        DataError: too few items have another view.
        SourceError: an item of the source of views cannot be read.
    """
    views = _made_before(sources.plan) or _embedded(sources, gallery)
    views = views.rows(
        ~np.isin(views.ids_P, sources.fitted_ids())
    )  # the same upgrade for another task may have refined others
    _check_enough(
        len(views.ids_P), f"{sources.plan.settings.views} makes, of items that no map is fitted on,", sources.plan
    )
    return FromQueries(
        judged=JudgedQueries.of([[item] for item in views.ids_P.tolist()], ids=views.ids_P, groups=views.labels_P),
        queries=item_queries(views),
        gallery=gallery,
        k=sources.plan.settings.gate.k,
        groups_Q=views.labels_P,
        kind=EvidenceKind.PSEUDO,
    )


def _made_before(plan: UpgradePlan) -> Pairs | None:
    """Views that an earlier attempt embedded, or the same command with another task."""
    found = plan.found_in_runs(PSEUDO_QUERIES)
    return Pairs.from_table(pair_files.read_table(found[0])) if found else None


def _embedded(sources: EvidenceSources, gallery: StoredRows) -> Pairs:
    """Views of some items by every encoder, ascending by id."""
    plan, origin = sources.plan, sources.plan.pseudo
    assert origin is not None  # noqa: S101 (asked before)
    source = open_source(origin.views.source)
    items_A = _chosen(sources, gallery, source)
    _check_enough(len(items_A), f"{origin.views.source} has, of items that no map is fitted on,", plan)
    roles, positions_A = tuple(origin.encoders), positions_of(plan.store, plan.parent, items_A, source)
    encoded = encode_items(
        source,
        tuple(origin.encoders[role].spec for role in roles),
        positions_A,
        pool=plan.settings.pool,
        size=sources.size,
        describe="gate: embed other views of items",
        cut=origin.views.cut,
    )
    sources.meter.add(encoded.usage)
    vectors = dict(zip(roles, encoded.embeddings, strict=True))
    ids_Q = items_A[np.isin(source.ids_N[positions_A], encoded.ids_N)]  # in the same order, without those left out
    at_Q = np.searchsorted(gallery.ids_G, ids_Q)
    views = Pairs(
        ids_P=ids_Q,
        old_PD=vectors[QueryRole.OLD],
        side_PS=vectors.get(QueryRole.SIDE),
        new_PW=vectors[QueryRole.NEW],
        labels_P=None if gallery.labels_G is None else gallery.labels_G[at_Q],
    )
    pair_files.write_table(plan.store.run_uri(plan.run, PSEUDO_QUERIES), views.to_table())
    return views


def _chosen(sources: EvidenceSources, gallery: StoredRows, views: Source) -> IntArray:
    """Ids of items that are searched, that no map is fitted on and that have another view, ascending.

    By the hash that picks pairs: so held-out pairs, whose new embeddings are known, are among them.
    """
    plan, settings = sources.plan, sources.plan.settings
    with_view = gallery.ids_G[are_in_source(plan.store, plan.parent, gallery.ids_G, views)]
    possible = np.setdiff1d(with_view, sources.fitted_ids())
    return possible[sample_mask(possible, min(settings.gate.num_queries, len(possible)), settings.seed)]


def _check_enough(count: int, seen: str, plan: UpgradePlan) -> None:
    if count < MIN_GATE_PAIRS:
        raise DataError(
            f"{seen} another view of {count:,} items of the {plan.settings.gate.num_queries:,} that were asked for; want at "
            f"least {MIN_GATE_PAIRS}: raise --gate.num-queries, give views of more items, fit on fewer, or leave --views out"
        )
