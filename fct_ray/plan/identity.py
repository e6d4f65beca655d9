"""Names of runs: the same job with the same settings on the same input has the same name, and so resumes.

Owns: how a run's id is made. Knows no clock and no random numbers.
"""

from __future__ import annotations

import hashlib
import json
import re

from fct_ray.errors import SettingsError

_JOB = re.compile(r"[a-z][a-z0-9_-]*")


def run_id(job: str, *parts: str) -> str:
    """`<job>-<hash12>`: 12 hexadecimal digits of the SHA-256 over the canonical JSON list of `parts`.

    Give every setting that changes the bytes of the outcome (manifest hash, encoder, index, seed, precision, batch
    size) and nothing else (number of workers, report folder). Parts are quoted, so ("ab", "c") and ("a", "bc")
    differ, and so does their order.

    Raises:
        SettingsError: `job` is not a lower-case word.

    Examples:
        >>> run_id("upgrade", "api-v2", "Flat") == run_id("upgrade", "api-v2", "Flat")
        True
        >>> run_id("upgrade", "api-v2", "Flat") == run_id("upgrade", "api-v2", "HNSW32")
        False
    """
    if not _JOB.fullmatch(job):
        raise SettingsError(f"job is {job!r}, wanted a lower-case word such as 'upgrade'")
    canonical = json.dumps(list(parts), ensure_ascii=True, separators=(",", ":"))
    return f"{job}-{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"
