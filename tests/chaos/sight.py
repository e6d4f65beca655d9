"""How far an upgrade is, by what anyone can see in its store.

Owns: reading the store with the standard library alone, as a bystander, and the name of the stage that follows from it.
Files that are just being replaced are whole: the store writes them atomically.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.decisions import Stage


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What a store shows of one driver's work."""

    at_work: bool = False
    """Whether the driver holds the lease of its run."""
    pairs: bool = False
    fitted: bool = False
    judged: bool = False
    publishing: bool = False
    """Whether the driver holds the lease under which CURRENT moves."""
    num_verified: int = 0
    """How often a version was read back to the end, over all attempts."""
    version: int = 0
    """What CURRENT points at."""
    published: bool = False
    """Whether CURRENT holds transformed embeddings."""


def stage_of(seen: Seen, *, fits: bool, verified_before: int) -> Stage:
    """The stage that a driver is at; `verified_before` is what its store showed when it started."""
    if seen.published:
        return Stage.REPORTING
    if not seen.at_work:
        return Stage.PLANNING
    if not seen.pairs:
        return Stage.PAIRS
    if not seen.judged:
        return Stage.FITTING if fits and not seen.fitted else Stage.GATE
    if not seen.publishing:
        return Stage.STREAMING
    return Stage.PUBLISHING if seen.num_verified > verified_before else Stage.VERIFYING


def look(store: Path, driver: int) -> Seen:
    """What the store shows of the upgrade whose driver is the process `driver`."""
    current = json.loads((store / "CURRENT.json").read_text())
    published = json.loads((store / current["manifest"]).read_text())["transformation"] is not None
    held = [path.stem for path in (store / "leases").glob("*.json") if _holder(path) == driver]
    run = next((store / "runs" / name for name in held if name != "publish"), None)
    if run is None:
        return Seen(version=current["version"], published=published)
    return Seen(
        at_work=True,
        pairs=(run / "pairs.parquet").exists(),
        fitted=any((run / "fit").glob("h-*.json")),
        judged=(run / "gate.json").exists(),
        publishing="publish" in held,
        num_verified=num_verified(store),
        version=current["version"],
        published=published,
    )


def num_verified(store: Path) -> int:
    """How often upgrades were read back to the end, over all attempts."""
    return sum(1 for _ in store.glob("runs/upgrade-*/usage/verify-*.json"))


def receipts(store: Path) -> dict[str, int]:
    """When each receipt was written last, in nanoseconds, by its path in the store."""
    return {str(path.relative_to(store)): path.stat().st_mtime_ns for path in store.glob("versions/*/receipts/[0-9]*")}


def _holder(lease: Path) -> int:
    """The process that holds a lease; 0 if it was released."""
    words = str(json.loads(lease.read_text())["holder"]).rsplit(" ", 2)
    return int(words[1]) if len(words) == 3 else 0
