"""Which paths the documents of a store may hold: into its versions, or to objects that were adopted by name.

    CURRENT.json     versions/NNNNNN/manifest.json, of its own version
    manifest.json    versions/NNNNNN/shards/... and versions/NNNNNN/index/..., of any version; for the Parquet objects
                     of shards also s3://... or file:///... below one of the manifest's `adopted_from`

Owns: that rule, and the only spelling in which a path is accepted: no `..`, no `.`, no empty part, no backslash, no
control character, nothing of these percent-encoded either. Looks at names only, never at files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import PurePosixPath
from urllib.parse import unquote, unquote_to_bytes

from fct_ray.errors import FormatError
from fct_ray.values import Current, Manifest

_VERSION = r"versions/(?:[0-9]{6}|[1-9][0-9]{6,})"
_SHARDS, _INDEX = re.compile(f"{_VERSION}/shards/(.+)"), re.compile(f"{_VERSION}/index/(.+)")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_UNWANTED = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")
_ADVICE = (
    "A store refers to nothing else. Restore the document or roll back (`fct-ray store rollback`); objects that "
    "lie elsewhere are taken over with `fct-ray adopt`"
)


def check_current(current: Current, uri: str) -> Current:
    """`current`, if it names the manifest of its own version. Raises FormatError."""
    wanted = f"versions/{current.version:06d}/manifest.json"
    if current.version < 1 or current.manifest != wanted:
        raise FormatError(
            f"{uri}: version {current.version} with manifest {current.manifest!r:.200}; wanted {wanted!r} of a version "
            f"from 1 on. {_ADVICE}"
        )
    return current


def check_manifest_paths(manifest: Manifest, uri: str) -> None:
    """Refuse a manifest that leads out of its store to anything but adopted objects. Raises FormatError."""
    for root in manifest.adopted_from:
        if not _is_canonical_uri(root):
            raise _refusal(uri, "adopted_from", root, "s3://BUCKET/PREFIX or file:///DIR, canonical")
    for record in manifest.shards:
        path = record.embeddings.path
        if not (_is_inside(path, _SHARDS) or _is_adopted(path, manifest.adopted_from)):
            wanted = "versions/NNNNNN/shards/NAME, or a canonical URI below one of adopted_from "
            raise _refusal(uri, f"shard {record.shard}", path, wanted + str(list(manifest.adopted_from)))
        if record.index is not None and not _is_inside(record.index.path, _INDEX):
            raise _refusal(uri, f"index of shard {record.shard}", record.index.path, "versions/NNNNNN/index/NAME")
    trained = manifest.index.trained if manifest.index is not None else None
    if trained is not None and not _is_inside(trained.path, _INDEX):
        raise _refusal(uri, "trained index", trained.path, "versions/NNNNNN/index/NAME")


def adopted_root(uris: Sequence[str]) -> str:
    """The innermost directory that holds all of these objects: what a manifest that adopts them allows itself.

    Raises:
        FormatError: an object has a name that no manifest may hold.
    """
    for uri in uris:
        if not _is_canonical_uri(uri):
            raise FormatError(
                f"{uri!r:.300}: objects with such a name cannot be adopted: wanted UTF-8 without empty parts, '.', '..', "
                "backslashes and control characters. Copy or rename the object"
            )
    levels = zip(*(uri.split("/")[:-1] for uri in uris), strict=False)
    return "/".join(names[0] for names in takewhile(lambda names: len(set(names)) == 1, levels))


def is_below(uri: str, directory_uri: str) -> bool:
    """Whether a location lies below a directory, by its name alone; what climbs out with `..` does not."""
    root = f"{directory_uri.rstrip('/')}/"
    return uri.startswith(root) and _are_plain(uri.removeprefix(root).split("/"))


def _is_inside(path: str, directory: re.Pattern[str]) -> bool:
    match = directory.fullmatch(path)
    return match is not None and _are_plain(match[1].split("/"))


def _is_adopted(path: str, roots: Sequence[str]) -> bool:
    return _is_canonical_uri(path) and any(is_below(path, root) for root in roots)


def _is_canonical_uri(uri: str) -> bool:
    if uri.startswith("s3://"):
        bucket, *parts = uri.removeprefix("s3://").split("/")
        return bool(_BUCKET.fullmatch(bucket)) and _are_plain(parts)
    if not (uri.startswith("file:///") and uri.isascii()):
        return False
    decoded = unquote_to_bytes(uri.removeprefix("file://")).decode(errors="surrogateescape")
    # The only spelling: so what is opened, the decoded path, is what was compared.
    return _are_plain(decoded[1:].split("/")) and PurePosixPath(decoded).as_uri() == uri


def _are_plain(parts: Sequence[str]) -> bool:
    return not any(unquote(part) in {"", ".", ".."} or _UNWANTED.search(unquote(part)) for part in parts)


def _refusal(uri: str, what: str, seen: str, wanted: str) -> FormatError:
    return FormatError(f"{uri}: {what} is {seen!r:.200}; wanted {wanted}. {_ADVICE}")
