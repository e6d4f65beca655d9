"""The commands that come after a diagnosis, with their settings filled in as far as the gallery tells them.

Owns: which command, and the choice of metric and index type by what was seen. What a person must fill in is in capitals.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence

from fct_ray.gallery_facts import Finding, GalleryFacts, Level

SMALL_GALLERY = 50_000
"""Up to here an exact index is as fast as it needs to be."""
QUARANTINABLE = {"null-ids", "unusable-embedding", "unusable-side-info"}
FILE_ROWS, GROUP_ROWS = 262_144, 65_536


def next_commands(facts: GalleryFacts, findings: Sequence[Finding], *, encoder: str | None) -> tuple[str, ...]:
    """Adopt and then plan the upgrade, or only the latter for a store; nothing where the gallery is refused as it is."""
    errors = {finding.name for finding in findings if finding.level is Level.ERROR}
    if errors - QUARANTINABLE:
        return ()
    store = shlex.quote(facts.place) if facts.is_store else "STORE"
    upgrade = (
        f"fct-ray upgrade --store {store} --pairs pairs.parquet --queries queries.parquet --encoder NEW_MODEL "
        f'--index "{index_factory(facts.objects.num_rows)}" --plan'
    )
    if facts.is_store:
        return (upgrade,)
    parts = [
        f"fct-ray adopt --store {store} --embeddings {shlex.quote(facts.place)}",
        f"--encoder {shlex.quote(encoder or 'OLD_MODEL')} --metric {_metric(facts)}",
        *facts.flags,
        *(["--on-bad-row quarantine"] if errors else []),
    ]
    return " ".join(parts), upgrade


def index_factory(num_rows: int) -> str:
    """Flat, or IVF with a power of two near four times the root of the number of rows as lists."""
    if num_rows <= SMALL_GALLERY:
        return "Flat"
    return f"IVF{2 ** round(math.log2(4 * math.sqrt(num_rows)))},Flat"


def rewrite_command(place: str, rewritten: str) -> str:
    """A command that writes the same rows as objects of a good size; it runs as it is, with pyarrow alone."""
    program = (
        "import pyarrow.dataset as d; "
        f"d.write_dataset(d.dataset({place!r}, format='parquet'), {rewritten!r}, format='parquet', "
        f"max_rows_per_file={FILE_ROWS}, max_rows_per_group={GROUP_ROWS}, min_rows_per_group={GROUP_ROWS // 2}, "
        "use_threads=False)"
    )
    return f"python -c {shlex.quote(program)}"


def _metric(facts: GalleryFacts) -> str:
    """Inner product of vectors of length 1; for others a person must say."""
    return "ip" if facts.vectors is not None and facts.vectors.normalized else "METRIC"
