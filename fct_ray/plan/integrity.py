"""What is wrong with a version, as far as its manifest, its receipts and the names of its objects show.

Owns: those comparisons; each problem is one sentence that names the object. Knows no storage: listings and receipts are
arguments. That a manifest agrees with itself is checked whenever it is read (storage/manifest_checks); what lies inside the
objects is the work of `workflows/verify`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from fct_ray.values import Manifest, ObjectRef, Receipt


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
