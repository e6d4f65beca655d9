"""The stage "refine": items that maps are uncertain of are embedded with the new model.

    pairs --> uncertainty --> threshold of drawing, from a sample of the gallery
                          --> every shard: ids above it --> the budget's many --> runs/<run id>/refine_ids.parquet
    raw items of these ids --> new encoder --> runs/<run id>/refined.parquet

Owns: that order and its caches. How uncertain an item is, is `models/uncertainty`; what the embeddings are used for is
decided in `judgement` and `kept_vectors`. Memory of the driver: the embeddings of the chosen items. Legend: P pairs, G
items of a sample.
"""

from __future__ import annotations

import logging
import math

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fct_ray.engine.cluster import ClusterSize
from fct_ray.engine.tasks import map_tasks
from fct_ray.metering.meters import StageMeter
from fct_ray.models.uncertainty import Uncertainty, highest
from fct_ray.shards.stored_rows import vectors_column
from fct_ray.shards.uncertain_rows import UncertaintySearch, keys_of, uncertain_rows
from fct_ray.sources.registry import open_source
from fct_ray.storage import pairs as pair_files
from fct_ray.storage.gallery_reader import Reading
from fct_ray.workflows.chosen_items import encode_items
from fct_ray.workflows.item_positions import positions_of
from fct_ray.workflows.run_usage import RunUsage
from fct_ray.workflows.upgrade.pair_origin import PairsFromEncoder
from fct_ray.workflows.upgrade.pairs import Pairs
from fct_ray.workflows.upgrade.plan import REFINE_IDS, UpgradePlan
from fct_ray.workflows.upgrade.stored_sample import gallery_sample, rows_with_ids

IntArray = npt.NDArray[np.int64]
logger = logging.getLogger(__name__)
REFINED_FILE = "refined.parquet"
SAMPLE_ROWS = 20_000
"""Rows of the gallery, to place the threshold by: shares of 1 % are within a tenth of that."""
MARGIN, DEVIATIONS = 1.25, 3.0
"""How many more than wanted are let through, because the threshold comes from a sample."""


def refined_pairs(plan: UpgradePlan, pairs: Pairs, log: RunUsage, size: ClusterSize) -> Pairs | None:
    """The drawn items with the new model's embeddings; None where no budget was given.

    Found again by the next attempt, and by the same upgrade for another task: first which they are, then their embeddings.
    A stage that is killed while it embeds begins to embed again.

    Raises:
        SourceError: the source does not have one of them.
    """
    origin = plan.pairs
    if plan.num_to_refine == 0 or not isinstance(origin, PairsFromEncoder):
        return None
    uri = plan.store.run_uri(plan.run, REFINED_FILE)
    if found := plan.found_in_runs(REFINED_FILE):
        table = pair_files.read_table(found[0])
        if found[0] != uri:  # that run may be collected before this one ends
            pair_files.write_table(uri, table)
        return Pairs.from_table(table)
    with log.stage("refine") as meter:
        ids = _chosen(plan, pairs, meter)
        stored = rows_with_ids(
            plan.store, plan.parent, ids, use_side=plan.use_side, meter=meter, describe="refine: read the chosen"
        )
        source = open_source(origin.source)
        encoded = encode_items(
            source,
            (origin.encoder,),
            positions_of(plan.store, plan.parent, stored["id"].to_numpy(), source),
            pool=plan.settings.pool,
            size=size,
            describe="refine: embed with the new model",
        )
        meter.add(encoded.usage.replace(rows=0))  # each item is counted once: when its row was read
        refined = Pairs.from_table(stored.append_column("new", vectors_column(encoded.embeddings[0])))
    # Written after the stage's record: work that a kill loses is done and counted again.
    pair_files.write_table(uri, refined.to_table())
    return refined


def _chosen(plan: UpgradePlan, pairs: Pairs, meter: StageMeter) -> IntArray:
    """Which items are embedded, ascending: chosen once for a run."""
    uri = plan.store.run_uri(plan.run, REFINE_IDS)
    found = plan.found_in_runs(REFINE_IDS)
    if uri in found:
        return pair_files.read_ids(uri)
    if found:
        ids = pair_files.read_ids(found[0])
    else:
        ids = _drawn(plan, pairs, Uncertainty(pairs.old_PD, pairs.side_PS, seed=plan.settings.seed), meter)
    pair_files.write_table(uri, pa.table({"id": ids}))
    return ids


def _drawn(plan: UpgradePlan, pairs: Pairs, uncertainty: Uncertainty, meter: StageMeter) -> IntArray:
    """As many as are wanted over the whole gallery, or all that are no pairs."""
    wanted, parent, side = plan.num_to_refine, plan.parent, plan.parent.side_info
    sample = gallery_sample(
        plan.store,
        parent,
        SAMPLE_ROWS,
        np.empty(0, np.int64),
        seed=plan.settings.seed + 2,  # another sample than those of the pairs and of the gate
        use_side=plan.use_side,
        meter=meter,
        describe="refine: sample the gallery",
    )
    unknown_G = ~np.isin(sample.ids_G, pairs.ids_P)
    keys_G = keys_of(sample.ids_G, sample.old_GD, sample.side_GS, uncertainty, plan.settings.seed)[unknown_G]
    share, above = wanted / max(1, parent.num_rows - len(pairs.ids_P)), math.inf
    while True:
        above = threshold(keys_G, share)
        search = UncertaintySearch(
            store_uri=plan.store.uri,
            dimension=parent.dimension,
            side_dimension=side.dimension if side is not None and plan.use_side else None,
            uncertainty=uncertainty,
            above=above,
            most=wanted,
            seed=plan.settings.seed,
            known_ids=pairs.ids_P,
            reading=Reading.of(parent),
        )
        parts = []
        for _, part in map_tasks(
            uncertain_rows,
            parent.shards,
            search,
            describe="refine: find the uncertain",
            name=lambda r: r.embeddings.path,
        ):
            meter.add(part.usage)
            parts.append(part)
        ids_N = np.concatenate([part.ids_N for part in parts])
        if len(ids_N) >= wanted or above == -math.inf:
            return highest(ids_N, np.concatenate([part.keys_N for part in parts]), wanted)
        share *= 4  # maps were more certain of the shards of the sample than of the others
        logger.info("%d items are above the threshold, wanted %d: it is lowered", len(ids_N), wanted)


def threshold(keys_G: npt.NDArray[np.float64], share: float) -> float:
    """The key that a few more than `share` of a sample have, or -inf where the sample is too small to say.

    Examples:
        >>> threshold(np.arange(10_000) / 10_000, share=0.01)
        0.9845
        >>> threshold(np.arange(10) / 10, share=0.5)
        -inf
    """
    expected = len(keys_G) * share
    position = math.ceil(MARGIN * expected + DEVIATIONS * math.sqrt(expected))
    if position >= len(keys_G):
        return -math.inf
    return float(np.sort(keys_G)[::-1][position - 1]) if position else math.inf
