"""Which items become pairs and which pairs are held out: deterministic choices by a hash of the id.

Owns: the hash, the split into fit and gate pairs, the stratified sample over shards. Knows no store, no arrays
of vectors, no random state: the same ids and the same seed choose the same items on every platform, however the
gallery is sharded and in whatever order it is read.

Shapes: N items. Counts are rows; shares are parts of 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fct_ray.errors import SettingsError

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def splitmix64(values_N: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """First output of the SplitMix64 generator seeded with each value, uint64 [N] -> uint64 [N].

    Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014. A bijection of 64-bit
    numbers, so that distinct ids never collide.
    """
    with np.errstate(over="ignore"):
        mixed_N = np.asarray(values_N, dtype=np.uint64) + _GOLDEN
        mixed_N = (mixed_N ^ (mixed_N >> np.uint64(30))) * _MIX_1
        mixed_N = (mixed_N ^ (mixed_N >> np.uint64(27))) * _MIX_2
        return np.asarray(mixed_N ^ (mixed_N >> np.uint64(31)), dtype=np.uint64)


def _salted(ids_N: npt.ArrayLike, salt: str) -> npt.NDArray[np.uint64]:
    """A different bijection of ids for every salt."""
    ids = np.asarray(ids_N)
    if ids.dtype.kind not in "iu":
        if ids.size:
            raise SettingsError(f"ids have dtype {ids.dtype}, wanted int64: cast them before splitting")
        ids = ids.astype(np.int64)
    salt_number = np.uint64(int.from_bytes(hashlib.sha256(salt.encode()).digest()[:8], "little"))
    return splitmix64(splitmix64(ids.astype(np.int64).view(np.uint64)) ^ salt_number)


def unit_hash(ids_N: npt.ArrayLike, salt: str) -> npt.NDArray[np.float64]:
    """A number in [0, 1) per id, uniform and independent between salts: int64 [N] -> float64 [N].

    SplitMix64 of the id, XOR the first 64 bits of the salt's SHA-256, SplitMix64 again, upper 53 bits.
    """
    upper_N = _salted(ids_N, salt) >> np.uint64(11)
    return upper_N.astype(np.float64) * 2.0**-53


def gate_mask(ids_N: npt.ArrayLike, share: float, seed: int) -> npt.NDArray[np.bool_]:
    """True for the pairs that are held out for the gate, bool [N]; about `share` of them.

    Raises:
        SettingsError: `share` is not strictly between 0 and 1.

    Examples:
        >>> held_out = gate_mask(np.arange(10_000), share=0.2, seed=0)
        >>> bool(0.19 < held_out.mean() < 0.21)
        True
    """
    if not 0.0 < share < 1.0:
        raise SettingsError(f"gate share is {share}, wanted more than 0 and less than 1, for example 0.2")
    return np.asarray(unit_hash(ids_N, f"gate:{seed}") < share)


def sample_mask(ids_N: npt.ArrayLike, count: int, seed: int) -> npt.NDArray[np.bool_]:
    """True for the `count` items with the smallest hash, bool [N].

    Samples are nested: those of a smaller count are contained in those of a larger one, so that more pairs can be
    added later without losing the embeddings already paid for.

    Raises:
        SettingsError: `count` is negative or more than N.

    Examples:
        >>> ids = np.arange(1000)
        >>> few, more = sample_mask(ids, 10, seed=0), sample_mask(ids, 20, seed=0)
        >>> int(few.sum()), bool((few <= more).all())
        (10, True)
    """
    keys_N = _salted(ids_N, f"pairs:{seed}")
    if not 0 <= count <= len(keys_N):
        raise SettingsError(f"sample of {count} items wanted out of {len(keys_N)}: ask for at most {len(keys_N)}")
    mask_N = np.zeros(len(keys_N), dtype=np.bool_)
    if count:
        mask_N[np.argpartition(keys_N, count - 1)[:count]] = True
    return mask_N


def pairs_per_shard(rows_by_shard: Sequence[int], total: int) -> list[int]:
    """How many pairs each shard contributes: proportional to its rows, summing exactly to `total`.

    Largest remainder (Hamilton): every shard gets the whole part of its quota rows * total / all rows, the shards
    with the largest remainders one more; ties go to the lower shard. Never more than the shard's rows. Exact
    integer arithmetic, so billions of rows do not round.

    Raises:
        SettingsError: `total` is negative or more than all rows, or a shard has a negative number of rows.

    Examples:
        >>> pairs_per_shard([100, 50, 50], 10)
        [5, 3, 2]
    """
    all_rows = sum(rows_by_shard)
    if any(rows < 0 for rows in rows_by_shard):
        raise SettingsError(f"a shard has {min(rows_by_shard)} rows, wanted 0 or more: check the manifest")
    if not 0 <= total <= all_rows:
        raise SettingsError(
            f"{total:,} pairs wanted from a gallery of {all_rows:,} rows: ask for at most {all_rows:,} pairs"
        )
    if all_rows == 0:
        return [0] * len(rows_by_shard)
    counts = [rows * total // all_rows for rows in rows_by_shard]
    remainders = [rows * total % all_rows for rows in rows_by_shard]
    by_remainder = sorted(range(len(counts)), key=lambda shard: (-remainders[shard], shard))
    for shard in by_remainder[: total - sum(counts)]:
        counts[shard] += 1
    return counts
