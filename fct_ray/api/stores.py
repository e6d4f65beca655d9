"""A store as a Python object: look at it, plan an upgrade, search, append, delete, verify, roll back, collect garbage.

Every method does what the command of the same name does. What needs a Ray cluster joins or starts one, see `connect`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from fct_ray.api.session import connect
from fct_ray.api.settings import settings_of
from fct_ray.api.upgrades import PlannedUpgrade
from fct_ray.api.vector_tables import VectorTable, is_path, parquet_bytes
from fct_ray.cli.pricing import PricingSettings, pricing_of
from fct_ray.errors import FctRayError, SettingsError
from fct_ray.kinds import Metric
from fct_ray.models.batch_encoder import BatchEncoder
from fct_ray.plan.collection import Collected
from fct_ray.report.html_fragment import render_tables
from fct_ray.report.tables import versions_table
from fct_ray.storage import documents, given_ids, objects, rollback
from fct_ray.storage.store import Store as StoreFiles
from fct_ray.values import Manifest
from fct_ray.workflows import garbage_collection
from fct_ray.workflows.adopt import AdoptSettings, plan_adopt, run_adopt
from fct_ray.workflows.append import AppendSettings, append
from fct_ray.workflows.backfill import BackfillSettings, plan_backfill, run_backfill
from fct_ray.workflows.delete import delete_items
from fct_ray.workflows.export import Exported, ExportSettings, plan_export, run_export
from fct_ray.workflows.search import Searcher, open_searcher
from fct_ray.workflows.upgrade.plan import plan_upgrade
from fct_ray.workflows.upgrade.settings import UpgradeSettings
from fct_ray.workflows.verify import Verified, VerifySettings, verify_store

Encoder = str | Path | BatchEncoder
"""A model directory, an import path `package.module:factory`, a pretrained model such as `timm:resnet50.a1_in1k`, a bare
name, or an object with `encode`."""


class Store:
    """All versions of one gallery below a directory or an s3:// prefix.

    >>> from fct_ray import Store
    >>> Store("s3://bucket/gallery")
    fct_ray.Store('s3://bucket/gallery')
    """

    def __init__(self, uri: str | Path) -> None:
        """Nothing is read yet, and the store need not exist."""
        self._files = StoreFiles(str(uri))

    @property
    def uri(self) -> str:
        """Where the store is: an absolute path or s3://bucket/prefix."""
        return self._files.uri

    @property
    def manifest(self) -> Manifest:
        """The published version: rows, encoder, metric, index, shards, gate. Raises NotFoundError if there is none."""
        return self._files.manifest()

    @property
    def version(self) -> int | None:
        """The number of the published version; None if nothing is published."""
        current = self._files.current()
        return None if current is None else current.version

    def history(self) -> list[Manifest]:
        """All complete versions, oldest first."""
        return self._files.history()

    def plan_upgrade(
        self,
        *,
        encoder: Encoder,
        pairs: VectorTable | None = None,
        source: str | None = None,
        index: str = "Flat",
        node_type: str = PricingSettings.node_type,
        spot: bool = False,
        **settings: Any,
    ) -> PlannedUpgrade:
        """Check everything about an upgrade and forecast it; nothing is changed and no worker is started.

        `pairs` are new embeddings of a sample of the gallery: a path, an Arrow table or a data frame with columns `id` and
        `embedding`, or (ids [N], embeddings [N, W]); ids are those of the store, whole numbers or keys. Instead of them,
        `source` says where the raw items are, and `encoder` embeds a sample. `index` is a FAISS factory string. `node_type`
        and `spot` choose the price of the price book.
        Further settings are those of the command, with underscores; nested ones are dictionaries:
        `seed=1, controls=True, fit={"epochs": 20}`.

        Raises:
            SettingsError: settings contradict each other, or one is unknown.
            FctRayError: store, encoder and pairs cannot work together.

        Examples:
            >>> store = adopt("shop", embeddings="vectors", encoder="api-v1")
            >>> store.plan_upgrade(encoder="api-v2", pairs="pairs.parquet")
            <PlannedUpgrade: version 1 (3,000 rows, api-v1) to api-v2, forecast ... s>
        """
        held, path = None, None
        if pairs is not None:
            if is_path(pairs):
                path = str(pairs)
            else:
                held = tempfile.TemporaryDirectory(prefix="fct-ray-pairs-")
                path = str(Path(held.name) / "pairs.parquet")
                Path(path).write_bytes(parquet_bytes(pairs, "pairs"))
        chosen = {
            **settings,
            "store": self.uri,
            "encoder": _name(encoder),
            "pairs": path,
            "source": source,
            "index": index,
        }
        pricing = PricingSettings(node_type=node_type, spot=spot)
        plan = plan_upgrade(
            settings_of(UpgradeSettings, chosen), pricing_of(pricing).usd_per_node_hour, None, encoder=_spec(encoder)
        )
        return PlannedUpgrade(plan=plan, pricing=pricing, in_memory=held)

    def searcher(self, encoder: Encoder | None = None, *, hold: bool = False) -> Searcher:
        """The published version, opened to be searched with queries of this encoder.

        A version whose vectors join those of several models is opened without naming one, and searched with a dictionary
        of the queries' embeddings, by role or encoder: `{"old": ..., "side": ..., "new": ...}`; see `manifest.queries`.
        With `hold` garbage collection spares the version until the searcher is closed.

        Raises:
            EncoderMismatchError: the version is for queries of another encoder.
            NotFoundError: nothing is published.

        Examples:
            >>> store = adopt("shop", embeddings="vectors", encoder="api-v1")
            >>> scores, ids = store.searcher("api-v1").search([[1, 0, 0, 0, 0, 0]], k=3)
            >>> scores.shape, ids.shape
            ((1, 3), (1, 3))
        """
        return open_searcher(self.uri, None if encoder is None else _spec(encoder), hold=hold)

    def append(
        self,
        *,
        encoder: Encoder,
        embeddings: VectorTable | None = None,
        source: str | None = None,
        side: Encoder | None = None,
        **settings: Any,
    ) -> int:
        """Add items as a new version; returns the number of the published version.

        `embeddings` are vectors by the encoder of the gallery, with the columns of the gallery (`side_info` too, if it has
        that): a path or glob, a table, or (ids, embeddings). Instead of them, `source` says where raw items are: those whose
        ids are new are embedded with `encoder` and `side`.

        Raises:
            FctRayError: the items do not fit the gallery, or are in it already.
        """
        in_memory = embeddings is not None and not is_path(embeddings)
        uri = None if embeddings is None else str(embeddings)
        if in_memory:  # every node of a cluster must be able to read it, so it goes to where the store is
            assert embeddings is not None  # noqa: S101 (said for the type checker)
            content = parquet_bytes(embeddings, "embeddings")
            uri = self._files.run_uri(f"in-memory-{documents.sha256_hex(content)[:12]}", "items.parquet")
        chosen = settings_of(
            AppendSettings,
            {
                **settings,
                "store": self.uri,
                "encoder": _name(encoder),
                "embeddings": uri,
                "source": source,
                "side": None if side is None else _name(side),
            },
        )
        size = connect()
        if not in_memory or uri is None:
            return append(chosen, size, encoder=_spec(encoder), side=_spec_or_none(side)).published.version
        objects.write_bytes(uri, content)
        try:
            return append(chosen, size, encoder=_spec(encoder)).published.version
        finally:
            objects.delete([uri])

    def delete(self, ids: Any, *, missing_ok: bool = False) -> int:
        """Take the items with these ids [N] out, as a new version; returns the number of the published version.

        `ids` are whole numbers, or in a store with keys those: strings, uuid.UUID or bytes, in a list, an array of NumPy or
        Arrow, or a Series. Older versions keep the items until garbage is collected with `purge_deleted=True`.

        Raises:
            SettingsError: ids are of no type that ids have.
            FormatError: they are of another type than the store's.
            DataError: the gallery does not have an id (unless `missing_ok`), or these are all of its items.
        """
        try:
            given = given_ids.from_python(ids, "ids")
        except FctRayError as error:
            raise SettingsError(str(error)) from error
        connect()
        return delete_items(self._files, given, missing_ok=missing_ok).published.version

    def export(self, to: str, **settings: Any) -> Exported:
        """Write a version to another system, and switch to it there when it is whole; the same call again does nothing.

        `to` is a place: "parquet:DIR", "huggingface:DIR", "faiss:FILE", "lancedb:DIR#TABLE",
        "pgvector:postgresql://USER@HOST/DB#TABLE". `version=` chooses another than the published one, `replace=True` replaces
        what is there.

        Raises:
            SettingsError: the place cannot hold the version, or is occupied.
            FctRayError: a shard could not be written, or what was read back differs; what was in use there still is.
        """
        plan = plan_export(settings_of(ExportSettings, {**settings, "store": self.uri, "to": to}))
        connect()
        return run_export(plan)

    def verify(self, **settings: Any) -> Verified:
        """Read a version again and list everything that is wrong with it in `.problems`.

        `version=` chooses another than the published one, `share=` reads a part of the shards only, `recompute=` says for how
        many shards vectors and indexes are made again.
        """
        chosen = settings_of(VerifySettings, {**settings, "store": self.uri})
        connect()
        return verify_store(chosen)

    def roll_back(self, version: int | None = None) -> int:
        """Publish another version again (None: the parent of the present one); returns its number. Nothing is deleted.

        Examples:
            >>> store = adopt("other-shop", embeddings="vectors", encoder="api-v1")
            >>> first = store.searcher("api-v1").search([[1, 0, 0, 0, 0, 0]], k=1)[1][0]
            >>> store.delete(first), store.manifest.num_rows
            (2, 2999)
            >>> store.roll_back(), store.manifest.num_rows
            (1, 3000)
        """
        return rollback.roll_back(self._files, version).version

    def collect_garbage(self, *, keep: int = 3, purge_deleted: bool = False, dry_run: bool = True) -> Collected:
        """What living readers and the newest `keep` versions do not need; deleted only with `dry_run=False`.

        `.versions` and `.paths` of the answer go, `.kept` stays. With `purge_deleted` versions that still hold deleted items
        go too, also the parent of the published version.

        Raises:
            NotFoundError: nothing is published.
            LeaseHeldError: another process is publishing.
        """
        work = garbage_collection.find_garbage if dry_run else garbage_collection.collect
        return work(self._files, keep=keep, purge=purge_deleted)

    def __repr__(self) -> str:
        """Where it is."""
        return f"fct_ray.Store({self.uri!r})"

    def _repr_html_(self) -> str:
        return render_tables([versions_table(self.uri, self.history(), self.version)])


def adopt(
    store: str | Path,
    *,
    embeddings: str | Path,
    encoder: Encoder,
    metric: Metric | str = Metric.IP,
    side: Encoder | None = None,
    **settings: Any,
) -> Store:
    """Make a store out of Parquet files of (id, embedding, optionally side_info), which stay where they are.

    The same call again finds its work done and does nothing.

    Raises:
        FctRayError: a file cannot be used; the message names the file, the row and the next action.

    Examples:
        >>> store = adopt("shop", embeddings="vectors", encoder="api-v1", metric="ip")
        >>> store.version, store.manifest.num_rows
        (1, 3000)
    """
    chosen = {
        **settings,
        "store": str(store),
        "embeddings": str(embeddings),
        "encoder": _name(encoder),
        "metric": metric,
        "side": None if side is None else _name(side),
    }
    plan = plan_adopt(settings_of(AdoptSettings, chosen), encoder=_spec(encoder), side=_spec_or_none(side))
    connect()
    run_adopt(plan)
    return Store(store)


def backfill(
    store: str | Path, *, source: str, encoder: Encoder, side: Encoder | None = None, **settings: Any
) -> Store:
    """Embed every raw item of a source, with its side-information, as the next version of a store.

    The same call again finds its work done and does nothing.

    Raises:
        FctRayError: source, encoders or settings cannot work together, or an item is bad.
    """
    chosen = {
        **settings,
        "store": str(store),
        "source": source,
        "encoder": _name(encoder),
        "side": None if side is None else _name(side),
    }
    plan = plan_backfill(settings_of(BackfillSettings, chosen), encoder=_spec(encoder), side=_spec_or_none(side))
    run_backfill(plan, connect())
    return Store(store)


def _spec(encoder: Encoder) -> str | BatchEncoder:
    return str(encoder) if isinstance(encoder, Path) else encoder


def _spec_or_none(encoder: Encoder | None) -> str | BatchEncoder | None:
    return None if encoder is None else _spec(encoder)


def _name(encoder: Encoder) -> str:
    named = _spec(encoder)
    return named if isinstance(named, str) else str(getattr(named, "name", type(named).__name__))
