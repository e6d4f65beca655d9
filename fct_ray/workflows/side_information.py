"""What a version's side-information took to make, which an upgrade's saving must be charged with.

Owns: finding the receipts and the model's record. What an upgrade saved in all is plan/savings.
"""

from __future__ import annotations

from fct_ray.plan.origins import embedding_receipts
from fct_ray.plan.resume import usage_of
from fct_ray.plan.savings import InAdvance
from fct_ray.shards.encoder_names import is_model_uri
from fct_ray.shards.model_directory import load_model, open_encoder
from fct_ray.storage.store import Store
from fct_ray.values import Manifest, Receipt, Usage
from fct_ray.workflows.run_usage import RunUsage


def side_information_work(store: Store, old: Manifest, side_uri: str | None) -> InAdvance | None:
    """What making the side-information took: fitting its model, and its share (by FLOPs) of embedding the gallery.

    Counted wherever the rows were embedded: in a full backfill or in appends, before deletions and earlier upgrades. None
    where it is not known: items were adopted, receipts were collected, or the encoders do not say their FLOPs. The fit
    counts only where this package did it: models of your own do not say what they took.
    """
    if old.side_info is None:
        return InAdvance(embedding=Usage(), fitting=Usage())
    if side_uri is None:
        return None
    receipts = [receipt for version in store.claims() for receipt in store.receipts(version)]
    origins = embedding_receipts(old.shards, receipts)
    if not origins:
        return None
    embedding, side_flops_per_item = usage_of(origins), open_encoder(side_uri).flops_per_item
    if not embedding.flops or not side_flops_per_item:
        return None
    share = min(1.0, side_flops_per_item * embedding.rows / embedding.flops)
    embedded = (embedding + Usage(node_s=_node_s(store, origins, receipts))) * share
    fitted = load_model(side_uri).document.usage() if is_model_uri(side_uri) else None
    return InAdvance(embedding=embedded, fitting=fitted or Usage())


def _node_s(store: Store, origins: list[Receipt], receipts: list[Receipt]) -> float:
    """Node-seconds of the runs that embedded these shards, by each run's share of rows."""
    total = 0.0
    for run in {receipt.run for receipt in origins}:
        rows = sum(receipt.record.rows for receipt in receipts if receipt.run == run)
        mine = sum(receipt.record.rows for receipt in origins if receipt.run == run)
        total += RunUsage(store, run).used().get("stream", Usage()).node_s * mine / rows
    return total
