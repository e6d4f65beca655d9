"""What an upgrade saved against the full backfill it replaced: the factors, and from which gallery on it pays.

Owns: which work counts as what; the arithmetic is plan/cost's. Work is counted in three parts, because they grow differently:

    per row     stream + verify + publish of the upgrade
    one-off     embedding pairs, fitting h, the gate
    in advance  fitting the side-information model and embedding the gallery with it, paid when the old index was made
"""

from __future__ import annotations

from fct_ray.plan.resume import usage_of
from fct_ray.shards.encoder_names import is_model_uri
from fct_ray.shards.model_directory import load_model, open_encoder
from fct_ray.storage.store import Store
from fct_ray.values import Manifest, Usage
from fct_ray.workflows.run_log import RunLog


def side_information_work(store: Store, old: Manifest, side_uri: str | None, encoder_uri: str) -> Usage | None:
    """What making the side-information took: its model's fit, and its share (by FLOPs) of embedding the gallery.

    None where it is not known, because the version was adopted or the encoders do not say their FLOPs. The fit counts only
    where this engine did it: models of your own do not say what they took.
    """
    if old.side_info is None:
        return Usage()
    if side_uri is None:
        return None
    embedding = usage_of(store.ledger(old.run))
    if embedding.rows == 0:
        return None
    side, encoder = open_encoder(side_uri), open_encoder(encoder_uri)
    both_flops = side.flops_per_item + encoder.flops_per_item
    if not both_flops:
        return None
    share = side.flops_per_item / both_flops
    wall = RunLog(store, old.run).used().get("stream", Usage())
    embedded = (embedding + Usage(node_s=wall.node_s)) * share
    fitted = load_model(side_uri).document.usage() if is_model_uri(side_uri) else None
    return embedded if fitted is None else embedded + fitted
