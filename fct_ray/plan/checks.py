"""What cannot work is refused here, on the driver, before a worker starts.

Owns: the agreement between a version, the new encoder, a transformation and the pairs. Knows no files: manifests and
the fields of model documents are arguments. Every message has the value seen, the value wanted and the next action.
"""

from __future__ import annotations

from collections.abc import Sequence

from fct_ray.errors import ModelError, SettingsError
from fct_ray.kinds import SideInfoUse
from fct_ray.plan.forecast import Forecast
from fct_ray.values import EncoderRef, Manifest

MIN_GATE_PAIRS = 30
"""Below this the normal approximation of the gate's bounds is not worth the name."""


def check_upgrade(
    manifest: Manifest,
    *,
    new_encoder: EncoderRef,
    new_dimension: int | None = None,
    side_info: SideInfoUse | str = SideInfoUse.STORED,
) -> None:
    """Refuse an upgrade of this version to this encoder where it cannot work.

    `side_info` is what the user asks for: what the store has, none, or the name or fingerprint of the side-information
    model, which must be the one the version was stored with.

    Raises:
        SettingsError: empty store, same encoder, unusable dimension, or side-information that the version lacks.
    """
    if not manifest.shards or manifest.num_rows == 0:
        raise SettingsError(
            f"version {manifest.version} has {len(manifest.shards)} shards and {manifest.num_rows} rows, wanted at "
            f"least one row: embed or adopt a gallery first (fct-ray backfill, fct-ray adopt)"
        )
    if new_encoder.fingerprint == manifest.encoder.fingerprint:
        raise SettingsError(
            f"version {manifest.version} already holds embeddings of {new_encoder.name} "
            f"({new_encoder.fingerprint[:12]}): name a different new encoder, there is nothing to upgrade"
        )
    if new_dimension is not None and new_dimension < 1:
        raise SettingsError(f"new embeddings have dimension {new_dimension}, wanted 1 or more: check encoder and pairs")
    if side_info in tuple(SideInfoUse):
        return
    stored = manifest.side_info
    if stored is None:
        raise SettingsError(
            f"side-information {side_info!r} is asked for, version {manifest.version} stores none: upgrade without "
            f"(--side-info none), or re-embed the gallery with a side-information model (fct-ray backfill)"
        )
    if side_info not in (stored.name, stored.fingerprint):
        raise SettingsError(
            f"side-information {side_info!r} is asked for, version {manifest.version} stores that of {stored.name!r} "
            f"({stored.fingerprint[:12]}): use that, or none"
        )


def check_transformation(
    manifest: Manifest,
    *,
    from_encoder: str,
    to_encoder: str,
    side_fingerprint: str | None,
    old_dimension: int,
    side_dimension: int,
    new_dimension: int,
    new_encoder: EncoderRef,
    wanted_dimension: int | None = None,
) -> None:
    """Refuse an h that was fitted for other encoders, other side-information, other dimensions, or backwards.

    Arguments are fields of h's model document; `side_dimension` 0 means that h takes no side-information,
    `wanted_dimension` is the new encoder's where known.

    Raises:
        ModelError: any disagreement with the version or with `new_encoder`.
    """
    old = manifest.encoder
    if (from_encoder, to_encoder) == (new_encoder.fingerprint, old.fingerprint):
        raise ModelError(
            f"this transformation leads from {new_encoder.name} to {old.name}, wanted the other direction: fit one "
            f"from {old.name} to {new_encoder.name} (fct-ray fit transformation)"
        )
    _check_fingerprint("from", from_encoder, old)
    _check_fingerprint("to", to_encoder, new_encoder)
    if old_dimension != manifest.dimension:
        raise ModelError(
            f"this transformation takes embeddings of dimension {old_dimension}, version {manifest.version} has "
            f"{manifest.dimension}: fit one on this store"
        )
    if wanted_dimension is not None and new_dimension != wanted_dimension:
        raise ModelError(
            f"this transformation makes dimension {new_dimension}, {new_encoder.name} has {wanted_dimension}: fit one "
            f"on pairs of that encoder"
        )
    _check_side_information(manifest, side_fingerprint, side_dimension)


def _check_fingerprint(end: str, seen: str, wanted: EncoderRef) -> None:
    if seen != wanted.fingerprint:
        raise ModelError(
            f"this transformation was fitted {end} encoder {seen[:12]}, wanted {end} {wanted.name} "
            f"({wanted.fingerprint[:12]}): fit one for these encoders (fct-ray fit transformation)"
        )


def _check_side_information(manifest: Manifest, side_fingerprint: str | None, side_dimension: int) -> None:
    if side_dimension == 0:
        return
    stored = manifest.side_info
    if stored is None:
        raise ModelError(
            f"this transformation takes side-information of dimension {side_dimension}, version {manifest.version} "
            f"stores none: use one fitted without, or re-embed the gallery with side-information"
        )
    if side_fingerprint != stored.fingerprint or side_dimension != stored.dimension:
        raise ModelError(
            f"this transformation takes side-information {str(side_fingerprint)[:12]} of dimension {side_dimension}, "
            f"version {manifest.version} stores {stored.fingerprint[:12]} ({stored.name}) of dimension "
            f"{stored.dimension}: fit one on this store"
        )


def check_pair_counts(*, num_fit: int, num_gate: int) -> None:
    """Refuse a split that leaves too little to fit on or to judge by.

    Raises:
        SettingsError: fewer than 2 pairs to fit, or fewer than `MIN_GATE_PAIRS` held out.
    """
    if num_fit < 2 or num_gate < MIN_GATE_PAIRS:
        raise SettingsError(
            f"{num_fit:,} pairs to fit on and {num_gate:,} held out for the gate, wanted at least 2 and "
            f"{MIN_GATE_PAIRS}: bring more pairs (a few per cent of the gallery), or change the gate's share"
        )


def uncovered_share(pairs_by_shard: Sequence[int], rows_by_shard: Sequence[int]) -> float:
    """Share of the gallery's rows that lie in shards without any pair; 0 means that every shard was sampled.

    h can do harm where no pair covers the gallery, and held-out pairs cannot show it there: give this to the gate.

    Raises:
        SettingsError: the two lists differ in length.
    """
    if len(pairs_by_shard) != len(rows_by_shard):
        raise SettingsError(f"{len(pairs_by_shard)} counts of pairs for {len(rows_by_shard)} shards, wanted one each")
    rows = sum(rows_by_shard)
    without = sum(r for pairs, r in zip(pairs_by_shard, rows_by_shard, strict=True) if pairs == 0)
    return without / rows if rows else 0.0


def check_budget(expected: Forecast, *, max_usd: float | None = None, max_wall_s: float | None = None) -> None:
    """Refuse a run whose forecast is over the budget.

    Raises:
        SettingsError: over budget, a budget in dollars without a price, or work that the forecast leaves out: it could cost
            more than the budget, and would be let through.
    """
    if max_usd is not None and expected.usd is None:
        raise SettingsError(f"budget is {max_usd:.2f} USD but no price is known: name a node type of the price book")
    if max_usd is not None and expected.left_out:
        raise SettingsError(
            f"budget is {max_usd:.2f} USD, but the forecast leaves out {'; '.join(expected.left_out)}: it cannot be held to "
            "a budget. Leave --max-usd out, or make that work known or needless (--pairs)"
        )
    if max_usd is not None and expected.usd is not None and expected.usd > max_usd:
        raise SettingsError(
            f"forecast is {expected.usd:.2g} USD, budget {max_usd:.2g} USD: raise the budget, or use spot nodes"
        )
    if max_wall_s is not None and expected.wall_s > max_wall_s:
        raise SettingsError(f"forecast is {expected.wall_s:.0f} s, limit {max_wall_s:.0f} s: use more nodes")
