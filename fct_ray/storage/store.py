"""A store: all versions of one gallery below one URI, and the pointer that moves between them.

Owns: where things lie in a store, which numbers are taken, and the order in which a version becomes visible
(manifest, then CURRENT by compare-and-swap). Knows nothing of what is in a shard, and no Ray. A `Store` holds its
URI only: cheap to make, picklable, usable in any process.

    <store>/CURRENT.json   versions/000001/{run.json, manifest.json, shards/, index/, receipts/}   models/   runs/
"""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fct_ray.errors import FormatError, NotFoundError, PublishConflictError, StoreError
from fct_ray.storage import documents, manifest_checks, objects, paths
from fct_ray.values import Current, Manifest, ObjectRef, Receipt

_CURRENT = "CURRENT.json"
_THREADS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionClaim:
    """versions/NNNNNN/run.json: which run may write this version's directory, and from which version."""

    run: str
    parent: int | None = None


@dataclass(frozen=True, slots=True)
class Store:
    """All versions of one gallery below `uri` (a local directory, made absolute, or `s3://bucket/prefix`)."""

    uri: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "uri", objects.absolute(self.uri))

    def uri_of(self, path: str) -> str:
        """The URI of a path of a manifest: relative to the store, or the absolute URI of an adopted object."""
        return objects.join(self.uri, path)

    @staticmethod
    def version_path(version: int) -> str:
        """Directory of a version, relative to the store's root."""
        return f"versions/{version:06d}"

    @staticmethod
    def manifest_path(version: int) -> str:
        """Path of a version's manifest; the version is complete when it exists."""
        return f"{Store.version_path(version)}/manifest.json"

    @staticmethod
    def shard_path(version: int, shard: int) -> str:
        """Path of a shard's Parquet object."""
        return f"{Store.version_path(version)}/shards/{shard:05d}.parquet"

    @staticmethod
    def index_path(version: int, shard: int) -> str:
        """Path of a shard's FAISS file."""
        return f"{Store.version_path(version)}/index/{shard:05d}.faiss"

    @staticmethod
    def trained_path(version: int) -> str:
        """Path of the trained, empty index that all shards of a version share."""
        return f"{Store.version_path(version)}/index/trained.faiss"

    @staticmethod
    def receipt_path(version: int, shard: int) -> str:
        """Path of a shard's receipt."""
        return f"{Store.version_path(version)}/receipts/{shard:05d}.json"

    def run_uri(self, run: str, name: str) -> str:
        """The URI of a document of a run."""
        return self.uri_of(f"runs/{run}/{name}")

    def models_uri(self) -> str:
        """The directory that holds the model directories."""
        return self.uri_of("models")

    def model_uris(self) -> list[str]:
        """Sorted URIs of the directories below `models/` that hold a model.json."""
        suffix = "/model.json"
        return [uri.removesuffix(suffix) for uri in objects.list_uris(self.models_uri()) if uri.endswith(suffix)]

    def find_transformation(self, manifest: Manifest) -> str | None:
        """Where the transformation that made a version is kept; None if it has none, or it is gone."""
        if manifest.transformation is None:
            return None
        ending = f"-{manifest.transformation.fingerprint[:12]}"
        return next((uri for uri in self.model_uris() if uri.endswith(ending)), None)

    def current(self) -> Current | None:
        """The published version, or None if nothing was published yet. Raises FormatError, StoreError."""
        data, uri = self._current_bytes(), self.uri_of(_CURRENT)
        return None if data is None else paths.check_current(documents.load(Current, data, uri), uri)

    def manifest(self, version: int | None = None) -> Manifest:
        """The manifest of a version, by default of CURRENT's, whose hash is then checked.

        Raises:
            NotFoundError: there is no such complete version; says how to make one.
            StoreError: it is not the manifest that CURRENT names.
            FormatError: it is damaged, or of another format version.
        """
        current = self.current()
        if version is None and current is None:
            raise NotFoundError(
                f"{self.uri}: nothing is published here: no {_CURRENT}. Make a first version with "
                "`fct-ray backfill` (from raw items) or `fct-ray adopt` (from Parquet embeddings), or "
                "check --store"
            )
        pointed = current if current and version in {None, current.version} else None
        path = pointed.manifest if pointed else self.manifest_path(version or 0)
        data = self._manifest_bytes(path)
        if pointed and documents.sha256_hex(data) != pointed.sha256:
            raise StoreError(
                f"{self.uri_of(path)}: sha256 {documents.sha256_hex(data)}, but {_CURRENT} wants {pointed.sha256}: the "
                "manifest was edited or damaged. Restore it, or roll back with `fct-ray store rollback`"
            )
        return manifest_checks.load_manifest(data, self.uri_of(path), pointed.version if pointed else version)

    def pinned(self) -> tuple[Current, Manifest]:
        """CURRENT and its manifest, read so that they belong together. Raises like `manifest`."""
        while True:
            current, manifest = self.current(), self.manifest()
            if current is not None and manifest.version == current.version:
                return current, manifest

    def find_manifest(self, version: int) -> Manifest | None:
        """The manifest of a version, or None if it is not complete, or was collected."""
        try:
            return self.manifest(version)
        except NotFoundError:
            return None

    def manifest_bytes_sha256(self, version: int) -> str:
        """The SHA-256 of a version's manifest as it lies in the store. Raises NotFoundError."""
        return documents.sha256_hex(self._manifest_bytes(self.manifest_path(version)))

    def read(self, ref: ObjectRef) -> bytes:
        """The content of an object of a manifest, or of the part of one that it names; its hash is checked.

        Raises:
            NotFoundError: it is gone.
            FormatError: its bytes are not those that were published.
        """
        uri = self.uri_of(ref.path)
        data = objects.read_bytes(uri) if ref.byte_range is None else objects.read_range(uri, *ref.byte_range)
        seen = documents.sha256_hex(data)
        if seen != ref.sha256:
            raise FormatError(
                f"{uri}: sha256 is {seen} ({len(data):,} bytes), the manifest says {ref.sha256} ({ref.bytes:,} bytes): the "
                "object was damaged or replaced after it was written; restore it, or roll back (fct-ray store rollback)"
            )
        return data

    def versions(self) -> list[int]:
        """Numbers of the complete versions (those with a manifest), ascending."""
        numbers = self._numbers()
        with ThreadPoolExecutor(_THREADS) as threads:
            complete = threads.map(lambda number: objects.exists(self.uri_of(self.manifest_path(number))), numbers)
            return [number for number, there in zip(numbers, complete, strict=True) if there]

    def history(self) -> list[Manifest]:
        """Manifests of all complete versions, oldest first."""
        return [self.manifest(version) for version in self.versions()]

    def claims(self) -> dict[int, VersionClaim]:
        """Who claimed which version number, complete or not."""
        return {number: claim for number, claim in self._claimed().items() if claim is not None}

    def claim_version(self, run: str, parent: int | None) -> int:
        """The number under which `run` writes what it makes of `parent`: above all existing; the same again on resume.

        The claim is `run.json` in the version's directory, created only if absent: two runs never share a number, and
        the outputs in a directory all come from one parent.
        """
        claim, claimed = VersionClaim(run=run, parent=parent), self._claimed()
        known = [number for number, other in claimed.items() if other == claim]
        if known:
            return known[0]
        number = max(claimed, default=0) + 1
        while not objects.create(self._claim_uri(number), documents.dump(claim)):
            if self._claim_of(number) == claim:
                break
            number += 1
        return number

    def runs(self) -> list[str]:
        """Ids of all runs that left something in the store."""
        return objects.list_names(self.uri_of("runs"))

    def unfinished_runs(self) -> set[str]:
        """Runs that have begun and are not in what is published: running, killed, refused by the gate, or rolled back.

        A version can be complete and yet unpublished: its run was killed, or lost a race, just before CURRENT moved.
        """
        claims, current, published = self.claims(), self.current(), set[int]()
        number = None if current is None else current.version
        while number in claims and number not in published:
            published.add(number)
            number = claims[number].parent
        return set(self.runs()) - {claims[number].run for number in published}

    def write_receipt(self, version: int, receipt: Receipt) -> None:
        """Record that a shard's outputs are durable; a repeated shard replaces its receipt."""
        objects.write_bytes(self.uri_of(self.receipt_path(version, receipt.record.shard)), documents.dump(receipt))

    def ledger(self, run: str) -> list[Receipt]:
        """The receipts that `run` wrote, of every version that it claimed, sorted by shard. Raises FormatError."""
        mine = [number for number, claim in self.claims().items() if claim.run == run]
        receipts = [receipt for number in mine for receipt in self.receipts(number) if receipt.run == run]
        return sorted(receipts, key=lambda receipt: receipt.record.shard)

    def receipts(self, version: int) -> list[Receipt]:
        """All receipts in a version's directory, read from storage. Raises FormatError."""
        uris = objects.list_uris(self.uri_of(f"{self.version_path(version)}/receipts"))
        with ThreadPoolExecutor(_THREADS) as threads:
            return list(threads.map(lambda uri: documents.load(Receipt, objects.read_bytes(uri), uri), uris))

    def paths_of_version(self, version: int) -> list[str]:
        """Paths, relative to the store, of all objects in a version's directory."""
        return self.paths_below(self.version_path(version))

    def paths_below(self, path: str) -> list[str]:
        """Paths, relative to the store, of all objects below one of its directories."""
        return [uri.removeprefix(f"{self.uri}/") for uri in objects.list_uris(self.uri_of(path))]

    def litter_below(self, path: str) -> list[str]:
        """Paths, relative to the store, of unfinished writes below one of its directories; see `objects.list_litter`."""
        return [uri.removeprefix(f"{self.uri}/") for uri in objects.list_litter(self.uri_of(path))]

    def publish(self, manifest: Manifest, *, expected: Current | None) -> Current:
        """Make a version complete and then current: write its manifest once, then move CURRENT from `expected`.

        Repeated by the same run after an interruption it finishes what is missing; the first manifest stands.

        Raises:
            PublishConflictError: CURRENT is neither `expected` nor this version.
            StoreError: the version is complete already, with another content.
        """
        uri = self.uri_of(self.manifest_path(manifest.version))
        data = documents.dump(manifest_checks.check_manifest(manifest, uri))
        if not objects.create(uri, data):
            data = objects.read_bytes(uri)
            written = manifest_checks.load_manifest(data, uri, manifest.version)
            if dataclasses.replace(written, created_at=manifest.created_at) != manifest:
                raise StoreError(
                    f"{uri}: version {manifest.version} is complete already, written by run {written.run}, and differs "
                    f"from what run {manifest.run} wants to publish. Versions are never edited: start a new run"
                )
        return self._move(_pointer(manifest.version, data), expected)

    def move_current(self, version: int, *, expected: Current) -> Current:
        """Point CURRENT at another complete version (rolling back or forward), if it is still `expected`.

        Raises:
            NotFoundError: the version is not complete.
            PublishConflictError: CURRENT moved meanwhile.
        """
        return self._move(_pointer(version, self._manifest_bytes(self.manifest_path(version))), expected)

    def _move(self, new: Current, expected: Current | None) -> Current:
        uri, seen = self.uri_of(_CURRENT), self._current_bytes()
        seen_current = None if seen is None else documents.load(Current, seen, uri)
        if seen_current == new:
            return new
        if seen_current != expected:
            raise PublishConflictError(
                f"{uri} points at {_describe(seen_current)}, wanted {_describe(expected)}: another run published while "
                "this one worked. Nothing was overwritten; run again, to start from what is published now"
            )
        objects.compare_and_swap(uri, expected=seen, new=documents.dump(new))
        return new

    def _current_bytes(self) -> bytes | None:
        try:
            return objects.read_bytes(self.uri_of(_CURRENT))
        except NotFoundError:
            return None

    def _manifest_bytes(self, path: str) -> bytes:
        try:
            return objects.read_bytes(self.uri_of(path))
        except NotFoundError as error:
            raise NotFoundError(
                f"{self.uri_of(path)}: there is no such manifest, so this version does not exist or is not complete. "
                f"Complete versions: {self.versions() or 'none'}; an interrupted run is finished by running it again"
            ) from error

    def _numbers(self) -> list[int]:
        names = objects.list_names(self.uri_of("versions"))
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def _claimed(self) -> dict[int, VersionClaim | None]:
        numbers = self._numbers()
        with ThreadPoolExecutor(_THREADS) as threads:
            return dict(zip(numbers, threads.map(self._claim_of, numbers), strict=True))

    def _claim_uri(self, version: int) -> str:
        return self.uri_of(f"{self.version_path(version)}/run.json")

    def _claim_of(self, version: int) -> VersionClaim | None:
        uri = self._claim_uri(version)
        try:
            return documents.load(VersionClaim, objects.read_bytes(uri), uri)
        except NotFoundError:
            return None


def _pointer(version: int, manifest_bytes: bytes) -> Current:
    return Current(version=version, manifest=Store.manifest_path(version), sha256=documents.sha256_hex(manifest_bytes))


def _describe(current: Current | None) -> str:
    return "no version" if current is None else f"version {current.version} (sha256 {current.sha256[:12]})"
