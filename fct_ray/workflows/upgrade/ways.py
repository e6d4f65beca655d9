"""Every way of upgrading that a gallery, its pairs and the user's choice allow, as candidates for the gate.

Owns: that list. What each does is in models/, which is best is for the gate.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from fct_ray.errors import SettingsError
from fct_ray.index import factory
from fct_ray.kinds import Metric, QueryRole, WayChoice
from fct_ray.workflows.upgrade.candidates import Candidate, direction_of, made_candidate
from fct_ray.workflows.upgrade.joined import MadeWay, compatible, joined_with, nothing_fitted, stored_blocks, wanted
from fct_ray.workflows.upgrade.pairs import Pairs
from fct_ray.workflows.upgrade.plan import UpgradePlan
from fct_ray.workflows.upgrade.stored_sample import StoredRows

logger = logging.getLogger(__name__)


def every_candidate(
    plan: UpgradePlan, pairs: Pairs, fitted: Sequence[Candidate], gallery: StoredRows
) -> tuple[Candidate, ...]:
    """The fitted maps and all ways in closed form, less those that the user's choice or the index leaves out.

    Raises:
        SettingsError: none is left.
    """
    choice, side = plan.settings.way, plan.parent.side_info
    direction = direction_of(plan)
    made = [
        made_candidate(way, direction, reads_side=None if side is None else side.fingerprint)
        for way in _made(plan, pairs, fitted, gallery)
        if wanted(choice, way)
    ]
    maps = fitted if choice in (WayChoice.AUTO, WayChoice.H) else ()
    if plan.parent.queries:  # its queries are joined already, which no block can name again
        made = [candidate for candidate in made if QueryRole.OLD not in candidate.queries.needs]
    fitting = [candidate for candidate in (*maps, *made) if _fits_index(plan, candidate)]
    if not (*maps, *made):
        raise SettingsError(
            f"--way {choice}: version {plan.parent.version} allows none: its vectors "
            f"{'are joined already' if plan.parent.queries else 'do not vary'}; choose --way auto"
        )
    if not fitting:
        raise SettingsError(
            f"--way {choice}: index {plan.settings.index!r} fits none of its vectors; choose another index, or --way auto"
        )
    return tuple(fitting)


def _made(plan: UpgradePlan, pairs: Pairs, fitted: Sequence[Candidate], gallery: StoredRows) -> Iterator[MadeWay]:
    stored, old_dimension = tuple(stored_blocks(gallery)), gallery.old_GD.shape[1]
    yield from nothing_fitted(stored, old_dimension)
    yield from compatible(pairs, normalized=plan.space.normalized)
    yield from joined_with({candidate.method: candidate.model for candidate in fitted}, stored, old_dimension)


def _fits_index(plan: UpgradePlan, candidate: Candidate) -> bool:
    """Whether the new index can hold vectors of this dimension, e.g. 16 equal parts for PQ16."""
    dimension = candidate.model.document.dimension
    try:
        factory.check_factory(plan.settings.index, dimension, Metric.IP if candidate.is_joined else plan.space.metric)
    except SettingsError as error:
        logger.info("%s %s is left out: %s", candidate.method, candidate.variant, error)
        return False
    return True
