"""What is wrong with a version, as far as its documents alone show: manifest, receipts, names of objects.

Owns: those comparisons; each problem is one sentence that names the object. Knows no storage: listings and receipts are
arguments. What lies inside the objects is engine/verification's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from fct_ray.values import Manifest, ObjectRef, Receipt


def manifest_problems(manifest: Manifest) -> list[str]:
    """Contradictions inside a manifest: numbers that do not add up, shards or objects listed twice."""
    name, problems = f"manifest of version {manifest.version}", []
    rows = sum(record.rows for record in manifest.shards)
    if rows != manifest.num_rows:
        problems.append(f"{name}: num_rows is {manifest.num_rows:,}, its shards sum to {rows:,}")
    for shard, times in Counter(record.shard for record in manifest.shards).items():
        if times > 1:
            problems.append(f"{name}: lists shard {shard} {times} times")
    for path, times in Counter(ref.path for ref in referenced(manifest)).items():
        if times > 1:
            problems.append(f"{name}: lists {path} {times} times")
    for record in manifest.shards:
        if record.rows < 1 or record.id_min > record.id_max or sum(record.counts.values()) not in {0, record.rows}:
            problems.append(
                f"{name}: shard {record.shard} has {record.rows} rows, ids {record.id_min} to {record.id_max}, counts "
                f"{record.counts}"
            )
        if (record.index is None) != (manifest.index is None):
            problems.append(f"{name}: shard {record.shard} and the version disagree whether there is an index")
    return problems


def receipt_problems(manifest: Manifest, receipts: Iterable[Receipt]) -> list[str]:
    """Shards whose entry is not what the worker signed that wrote them (adopted objects have no receipt)."""
    signed = {receipt.record.embeddings.path: receipt.record for receipt in receipts}
    problems = []
    for record in manifest.shards:
        if "://" in record.embeddings.path:
            continue
        seen = signed.get(record.embeddings.path)
        if seen is None:
            problems.append(f"{record.embeddings.path}: no receipt says who wrote it: a foreign shard?")
        elif seen != record:
            problems.append(
                f"{record.embeddings.path}: its receipt and the manifest of version {manifest.version} disagree: was the "
                "manifest edited?"
            )
    return problems


def listing_problems(manifest: Manifest, present: Mapping[int, Collection[str]]) -> list[str]:
    """Objects that are missing, or that lie in the version's own directory and belong to nothing.

    `present` has the paths, relative to the store, of all objects in the directory of every version that is referred to.
    """
    wanted = {ref.path for ref in referenced(manifest) if "://" not in ref.path}
    there = {path for paths in present.values() for path in paths}
    missing = [f"{path}: is missing" for path in sorted(wanted - there)]
    own = {
        path for path in present.get(manifest.version, ()) if path.rsplit("/", 2)[-2] in {"shards", "index"}
    }  # the rest of the directory are documents
    foreign = [f"{path}: no part of version {manifest.version}: a foreign object" for path in sorted(own - wanted)]
    return missing + foreign


def referenced(manifest: Manifest) -> list[ObjectRef]:
    """Every object that a version consists of."""
    trained = [manifest.index.trained] if manifest.index is not None and manifest.index.trained is not None else []
    indexes = [record.index for record in manifest.shards if record.index is not None]
    return [*(record.embeddings for record in manifest.shards), *indexes, *trained]


def directories(manifest: Manifest) -> set[int]:
    """Numbers of the versions in whose directories objects of this version lie."""
    paths = [ref.path for ref in referenced(manifest) if "://" not in ref.path]
    return {manifest.version, *(int(path.split("/")[1]) for path in paths)}
