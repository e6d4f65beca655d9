"""The quick start: from a labelled data set to an upgraded index, with nothing prepared, and what it saved.

    fit old, side, new --> embed gallery (version 1) --> upgrade (version 2) --> search it
                                                    +--> full backfill (elsewhere) --> compare

Owns: the demonstration's settings and the order of its steps. Every step is what the other jobs run. Fitted models are
kept, so that a second run starts at the embedding; the demonstration's stores are made anew each time.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from fct_ray.engine.cluster import ClusterSize
from fct_ray.kinds import QueryRole, Task
from fct_ray.models.encoder_loop import EncoderFit, EncoderLoss
from fct_ray.models.transformation_loop import TransformationFit
from fct_ray.settings import CheckedSettings, Count
from fct_ray.sources.registry import open_source
from fct_ray.storage import objects
from fct_ray.storage.store import Store
from fct_ray.workflows.backfill import BackfillSettings, plan_backfill, run_backfill
from fct_ray.workflows.commit import Committed
from fct_ray.workflows.compare import AgainstBackfill, compare_with_backfill
from fct_ray.workflows.fit.encoder import FitEncoderSettings, FittedEncoder, fit_encoder
from fct_ray.workflows.quality import Quality, QueryEncoders
from fct_ray.workflows.scratch import scratch_places
from fct_ray.workflows.search import open_searcher
from fct_ray.workflows.upgrade.plan import plan_upgrade
from fct_ray.workflows.upgrade.run import UpgradeOutcome, run_upgrade
from fct_ray.workflows.upgrade.settings import UpgradeSettings

logger = logging.getLogger(__name__)
MAX_GALLERY, MAX_QUERIES = 50_000, 2_000
MAX_JUDGED = 10_000  # rows of its gallery that judge: a fixed cost, which weighs in a gallery as small as this one
NUM_EXAMPLES, NUM_NEIGHBOURS = 5, 5


class NewModel(StrEnum):
    """Which new model the quick start upgrades to."""

    PRETRAINED = "pretrained"
    SMALL = "small"

    @property
    def default_source(self) -> str:
        """Labelled items that fit it."""
        return "fashion-mnist:fit?limit=6000" if self is NewModel.PRETRAINED else "fashion-mnist:fit"

    @property
    def default_num_pairs(self) -> int:
        """Pairs: each costs as much as embedding an item in a full backfill."""
        return 3000 if self is NewModel.PRETRAINED else 6000


@dataclass(frozen=True, kw_only=True)
class QuickstartSettings(CheckedSettings):
    """What the quick start shows, when no --store is given."""

    directory: str = ".data/quickstart"
    """Where its models, stores and reports go (local or s3://). Its stores are made anew each time, reports are kept."""
    old_source: str = "fashion-mnist:fit?classes=0-4"
    """What the old model is fitted on: it never sees the other classes."""
    side_source: str = "fashion-mnist:fit?classes=0-4"
    """What the side-information model is fitted on, without labels: like the old model, it knows no later task."""
    new: NewModel = NewModel.PRETRAINED
    """The new model: `pretrained` (EfficientNet-Lite0 with ImageNet weights, whose head is fitted here: embedding an image
    costs about 50 times what the old model takes) or `small` (as small as the old one, all of it fitted here: a full backfill
    of so few items is then cheaper than any upgrade)."""
    new_source: str | None = None
    """What the new model is fitted on. None: "fashion-mnist:fit", of which the pretrained one wants 6,000 images."""
    gallery: str = "fashion-mnist:gallery"
    """The items of the index."""
    queries: str = "fashion-mnist:query?limit=2000"
    """What searches it."""
    num_pairs: Count | None = None
    """Gallery items embedded with the new model to fit and judge h. None: 3,000 with the pretrained new model, 6,000 with
    the small one."""
    rows_per_shard: Count = 5000
    """Items per shard."""
    old: EncoderFit = field(default_factory=lambda: EncoderFit(backbone="small_cnn-8", dimension=128, epochs=3))
    """How the old model is fitted."""
    side: EncoderFit = field(
        default_factory=lambda: EncoderFit(backbone="small_cnn-16", dimension=128, epochs=5, loss=EncoderLoss.SIMCLR)
    )
    """How the side-information model is fitted."""
    pretrained: EncoderFit = field(
        default_factory=lambda: EncoderFit(
            backbone="efficientnet_lite0",
            pretrained=True,
            freeze_backbone=True,
            image_size=96,
            dimension=128,
            head_width=256,
            epochs=20,
            learning_rate=1e-3,
            weight_decay=1e-2,
            scale=8.0,
        )
    )
    """How the new model is fitted with `--quickstart.new pretrained`."""
    small: EncoderFit = field(default_factory=lambda: EncoderFit(backbone="small_cnn-16", dimension=128, epochs=3))
    """How the new model is fitted with `--quickstart.new small`."""
    h: TransformationFit = field(default_factory=lambda: TransformationFit(inner=512, batch_size=128, epochs=30))
    """How h is fitted; batches are small because there are few pairs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QuickstartOutcome:
    """What every step of the quick start made; `against` is None if the gate refused."""

    reports_uri: str
    """Where the reports of all runs are kept: beside the stores, which are made anew each time."""
    models: Mapping[str, FittedEncoder]
    embedded: Committed
    upgrade: UpgradeOutcome
    against: AgainstBackfill | None = None


def run_quickstart(
    settings: QuickstartSettings, upgrade: UpgradeSettings, size: ClusterSize, usd_per_node_hour: float | None
) -> QuickstartOutcome:
    """Fit (or reuse) three models, embed a gallery with the old one, upgrade it, and compare with a full backfill.

    Raises:
        SettingsError: a store lies where the quick start would make its own.
        FctRayError: a step failed.
    """
    root = objects.join(settings.directory, f"seed-{upgrade.seed}")
    with scratch_places(root, "quickstart", ("store", "backfill-store"), "--quickstart.directory") as places:
        return _run(settings, upgrade, root, places, size, usd_per_node_hour)


def _run(
    settings: QuickstartSettings,
    upgrade: UpgradeSettings,
    root: str,
    places: tuple[str, ...],
    size: ClusterSize,
    usd_per_node_hour: float | None,
) -> QuickstartOutcome:
    (store_uri, backfill_uri), reports_uri = places, objects.join(root, "reports")
    models = _fit_models(settings, upgrade, objects.join(root, "models"), size)
    _say("2/5 The index as it is today: the gallery embedded with the old model, side-information beside it.")
    first = BackfillSettings(
        store=store_uri,
        source=settings.gallery,
        encoder=models["old"].uri,
        side=models["side"].uri,
        index=upgrade.index,
        rows_per_shard=settings.rows_per_shard,
        seed=upgrade.seed,
        pool=upgrade.pool,
    )
    embedded = run_backfill(plan_backfill(first), size)
    _say(
        "3/5 The upgrade: the new model embeds a sample of the gallery (pairs), ways of upgrading are fitted on them and "
        "judged by what held-out ones find in the gallery, then every stored vector goes through the best into a new index."
    )
    chosen = replace(
        upgrade,
        store=store_uri,
        encoder=models["new"].uri,
        source=settings.gallery,
        num_pairs=settings.num_pairs or settings.new.default_num_pairs,
        fit=settings.h,
        fit_dir=objects.join(root, "models/h"),
        controls=True,
        task=upgrade.task or Task.SIMILAR,
        gate=replace(upgrade.gate, gallery_rows=min(upgrade.gate.gallery_rows, MAX_JUDGED)),
    )
    upgraded = run_upgrade(plan_upgrade(chosen, usd_per_node_hour, size), size)
    if upgraded.published is None or upgraded.judged is None:
        return QuickstartOutcome(reports_uri=reports_uri, models=models, embedded=embedded, upgrade=upgraded)
    _say("4/5 What it replaces: a full backfill of the same gallery with the new model, measured by the same meters.")
    against = compare_with_backfill(
        upgraded,
        plan_backfill(replace(first, store=backfill_uri, encoder=models["new"].uri, side=None)),
        QueryEncoders(old_uri=models["old"].uri, new_uri=models["new"].uri, side_uri=models["side"].uri),
        made_in=Store(store_uri),
        query_source=settings.queries,
        max_gallery=MAX_GALLERY,
        max_queries=MAX_QUERIES,
        size=size,
        usd_per_node_hour=usd_per_node_hour,
    )
    _say("5/5 A few queries of the new model through the upgraded index.")
    _search(settings, store_uri, None if upgraded.published.queries else models["new"].uri, against.quality)
    return QuickstartOutcome(
        reports_uri=reports_uri, models=models, embedded=embedded, upgrade=upgraded, against=against
    )


def _fit_models(
    settings: QuickstartSettings, upgrade: UpgradeSettings, models_uri: str, size: ClusterSize
) -> dict[str, FittedEncoder]:
    _say("1/5 Three models: the old one, one for side-information (contrastive, no labels), and later the new one.")
    parts = {
        "old": (settings.old_source, settings.old),
        "side": (settings.side_source, settings.side),
        "new": (
            settings.new_source or settings.new.default_source,
            settings.pretrained if settings.new is NewModel.PRETRAINED else settings.small,
        ),
    }
    return {
        name: fit_encoder(
            FitEncoderSettings(
                name=name, source=source, output=models_uri, fit=fit, train=upgrade.train, seed=upgrade.seed
            ),
            size,
        )
        for name, (source, fit) in parts.items()
    }


def _search(settings: QuickstartSettings, store_uri: str, encoder_uri: str | None, quality: Quality) -> None:
    """A few queries through the real index, as `fct-ray search` would."""
    searcher = open_searcher(store_uri, encoder_uri)
    roles = [query.role for query in searcher.manifest.queries] or [QueryRole.NEW]
    _, found_QK = searcher.search_ids({role: quality.queries[role][:NUM_EXAMPLES] for role in roles}, NUM_NEIGHBOURS)
    gallery = open_source(settings.gallery)
    assert gallery.labels_N is not None  # noqa: S101 (quality was measured with them)
    label_of = dict(zip(gallery.ids_N.tolist(), gallery.labels_N.tolist(), strict=True))
    for label, ids in zip(quality.query_labels_Q[:NUM_EXAMPLES].tolist(), found_QK.tolist(), strict=True):
        neighbours = " ".join(str(label_of[item]) for item in ids if item >= 0)
        _say(f"    an item of class {label} finds classes {neighbours}")


def _say(text: str) -> None:
    logger.info(text)
