"""A store as a Python object: look at it, plan an upgrade, search, append, delete, verify, roll back.

Every method does what the job of the same name does, on a Ray cluster that is joined or started with the first call.
"""

from __future__ import annotations

import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fct_ray.api.session import connect
from fct_ray.api.upgrades import PlannedUpgrade
from fct_ray.api.vector_tables import VectorTable, parquet_file
from fct_ray.cli.pricing import PricingSettings, pricing_of
from fct_ray.errors import SettingsError
from fct_ray.models.batch_encoder import BatchEncoder
from fct_ray.storage import rollback
from fct_ray.storage.store import Store as StoreFiles
from fct_ray.values import Manifest, Metric
from fct_ray.workflows import garbage_collection
from fct_ray.workflows.adopt import AdoptSettings, plan_adopt, run_adopt
from fct_ray.workflows.append import AppendSettings, append
from fct_ray.workflows.backfill import BackfillSettings, plan_backfill, run_backfill
from fct_ray.workflows.delete import delete_items
from fct_ray.workflows.search import Searcher, open_searcher
from fct_ray.workflows.upgrade.plan import plan_upgrade
from fct_ray.workflows.upgrade.settings import UpgradeSettings
from fct_ray.workflows.verify import Verified, VerifySettings, verify_store

SettingsT = TypeVar("SettingsT")
Encoder = str | BatchEncoder
"""A model directory, an import path `package.module:factory`, a bare name, or an object with `encode`."""


class Store:
    """All versions of one gallery below a directory or an s3:// prefix."""

    def __init__(self, uri: str | Path) -> None:
        """Nothing is read yet, and the store need not exist."""
        self._files = StoreFiles(str(uri))

    @property
    def uri(self) -> str:
        """Where the store is: an absolute path or s3://bucket/prefix."""
        return self._files.uri

    @property
    def manifest(self) -> Manifest:
        """The published version: rows, encoder, metric, shards, gate. Raises NotFoundError if there is none."""
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
        **settings: Any,
    ) -> PlannedUpgrade:
        """Check everything about an upgrade and forecast it; nothing is changed and no worker is started.

        `pairs` are new embeddings of a sample of the gallery: a path, an Arrow table or pandas frame with columns id and
        embedding, or (ids, embeddings). Instead of them, `source` says where the raw items are. `index` is a FAISS factory
        string. Further settings are those of `UpgradeSettings`, e.g. `seed=1`, `controls=True`.

        Raises:
            SettingsError: settings contradict each other, or one is unknown.
            FctRayError: store, encoder and pairs cannot work together.
        """
        held = tempfile.TemporaryDirectory(prefix="fct-ray-pairs-")
        path = None if pairs is None else parquet_file(pairs, Path(held.name), "pairs")
        chosen = {
            "store": self.uri,
            "encoder": _name(encoder),
            "pairs": path,
            "source": source,
            "index": index,
            **settings,
        }
        pricing = PricingSettings(node_type=node_type)
        plan = plan_upgrade(
            _settings(UpgradeSettings, chosen), pricing_of(pricing).usd_per_node_hour, None, encoder=encoder
        )
        return PlannedUpgrade(plan=plan, pricing=pricing, in_memory=held)

    def searcher(self, encoder: Encoder) -> Searcher:
        """The published version, opened to be searched with queries of this encoder.

        Raises:
            EncoderMismatchError: the version is for queries of another encoder.
        """
        return open_searcher(self.uri, encoder)

    def append(self, *, encoder: Encoder, **settings: Any) -> int:
        """Add items as a new version, from `embeddings` (Parquet) or `source` (raw items); returns its number.

        Raises:
            FctRayError: the items do not fit the gallery, or are in it already.
        """
        chosen = _settings(AppendSettings, {"store": self.uri, "encoder": _name(encoder), **settings})
        return append(chosen, connect(), encoder=encoder).published.version

    def delete(self, ids: npt.ArrayLike, *, missing_ok: bool = False) -> int:
        """Take the items with these ids out, as a new version; returns its number.

        Raises:
            DataError: the gallery does not have an id (unless `missing_ok`), or these are all of its items.
        """
        connect()
        return delete_items(self._files, np.asarray(ids, dtype=np.int64), missing_ok=missing_ok).published.version

    def verify(self, **settings: Any) -> Verified:
        """Read a version again and list everything that is wrong with it in `.problems`; see `VerifySettings`."""
        connect()
        return verify_store(_settings(VerifySettings, {"store": self.uri, **settings}))

    def roll_back(self, version: int | None = None) -> int:
        """Publish an earlier version again (None: the parent of the present one); returns its number."""
        return rollback.roll_back(self._files, version).version

    def collect_garbage(self, *, keep: int = 2, purge_deleted: bool = False) -> tuple[int, ...]:
        """Delete what the newest `keep` versions and living readers do not need; returns the versions that went."""
        return garbage_collection.collect(self._files, keep=keep, purge=purge_deleted).versions

    def __repr__(self) -> str:
        """Where it is."""
        return f"fct_ray.Store({self.uri!r})"


def adopt(
    store: str | Path,
    *,
    embeddings: str | Path,
    encoder: Encoder,
    metric: Metric | str = Metric.IP,
    side: Encoder | None = None,
    **settings: Any,
) -> Store:
    """Make a store out of Parquet files of (id, embedding, optionally side_info), which stay where they lie.

    Raises:
        FctRayError: a file cannot be used; the message names file, row and the next action.
    """
    connect()
    chosen = {
        "store": str(store),
        "embeddings": str(embeddings),
        "encoder": _name(encoder),
        "metric": Metric(metric),
        "side": None if side is None else _name(side),
        **settings,
    }
    run_adopt(plan_adopt(_settings(AdoptSettings, chosen), encoder=encoder, side=side))
    return Store(store)


def backfill(
    store: str | Path, *, source: str, encoder: Encoder, side: Encoder | None = None, **settings: Any
) -> Store:
    """Embed every raw item of a source, with its side-information, as the next version of a store.

    Raises:
        FctRayError: source, encoders or settings cannot work together, or an item is bad.
    """
    chosen = {
        "store": str(store),
        "source": source,
        "encoder": _name(encoder),
        "side": None if side is None else _name(side),
        **settings,
    }
    run_backfill(plan_backfill(_settings(BackfillSettings, chosen), encoder=encoder, side=side), connect())
    return Store(store)


def _name(encoder: Encoder) -> str:
    return encoder if isinstance(encoder, str) else encoder.name


def _settings(kind: type[SettingsT], values: dict[str, Any]) -> SettingsT:
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type] # every settings class is a dataclass
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise SettingsError(f"there is no setting {unknown[0]!r}; want one of {', '.join(known)}")
    return kind(**values)
