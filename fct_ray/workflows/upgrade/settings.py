"""The settings of an upgrade, and of fitting h on a store's pairs without upgrading it."""

from __future__ import annotations

from dataclasses import dataclass, field

from fct_ray.engine.actor_pool import PoolSettings
from fct_ray.engine.trainer import TrainSettings
from fct_ray.kinds import Accept, Metric, Precision, SideInfoUse, Task, WayChoice
from fct_ray.models.transformation_loop import TransformationFit
from fct_ray.settings import CheckedSettings, Count, CountOrZero, Part, PartOrNone, PositiveOrZero, Seed
from fct_ray.workflows.bad_rows import BadRowSettings


@dataclass(frozen=True, kw_only=True)
class GateSettings(CheckedSettings):
    """How h is judged before anything is published."""

    share: Part = 0.2
    """Share of the pairs that are held out from the fit, chosen by a hash of the id."""
    k: Count = 10
    """How many results count: recall@k, agreement@k."""
    gallery_rows: Count = 50_000
    """Most items of the gallery that are searched to judge; where it has more, a sample of it is, and the report says so."""
    num_queries: Count = 500
    """Most items that search the gallery, where there are no real queries: held-out ones or, with --views, other views."""
    tolerance: PartOrNone = 0.0
    """How much worse than doing nothing is still accepted, in shares of 1; 0 asks for proven better."""


@dataclass(frozen=True, kw_only=True)
class FitOnPairsSettings(CheckedSettings):
    """Fit h on pairs of a store, and judge it."""

    store: str
    """The store: a directory or s3:// prefix."""
    encoder: str
    """The new encoder: a model directory, `package.module:factory`, a pretrained model by name (e.g. "openai:MODEL@URL"), or
    (with --pairs) any name for it."""
    pairs: str | None = None
    """Parquet file of (id, embedding): the new model's embeddings of a sample of the gallery's ids."""
    source: str | None = None
    """Where the raw items of the gallery are (instead of --pairs), e.g. "images:s3://bucket/photos"."""
    num_pairs: Count | None = None
    """With --source: how many items are embedded with the new model. None: 10 % of the gallery, 500 to 20,000."""
    queries: str | None = None
    """Parquet file of real queries: columns `old`, `new` and, for ways that need it, `side` (the query's embedding by each
    model) and `relevant` (a list of ids), optionally `query`, `grades`, `group`. With it, nothing else decides."""
    views: str | None = None
    """Pseudo-queries: another view of an item, which the index does not hold, looks for this item. "crop" (a strong crop of
    images) or "span:CHARS" (what follows the first CHARS characters of a text) with --source, or a source that has the ids
    of the gallery, e.g. "parquet:DIR?text=title"."""
    old_encoder: str | None = None
    """With --views: the encoder of the store's vectors: a model directory, `package.module:factory` or a pretrained model by
    name."""
    side_encoder: str | None = None
    """With --views: the model of the store's side-information, likewise; without it ways that join side-information are not
    judged by pseudo-queries, and so not published on them."""
    task: Task | None = None
    """What people search for: one known item, or similar items. None: both, and what cannot be shown is not published."""
    accept: Accept = Accept.PROVEN
    """Whether an upgrade may be published on provisional evidence, such as held-out pairs alone."""
    way: WayChoice = WayChoice.AUTO
    """Which ways of upgrading are compared."""
    side_info: SideInfoUse | str = SideInfoUse.STORED
    """Side-information to read: "stored" is whatever the store has, "none" is none; the name of a model asks for that of
    this model, and is refused if the store has another."""
    metric: Metric | None = None
    """How the new encoder's embeddings are compared. None: as the encoder says, else as the store does now."""
    controls: bool = False
    """Also fit the controls without side-information, to see what it is worth."""
    start_from: str | None = None
    """A transformation of the same encoders whose weights the fit starts from, e.g. one fitted on the encoders' own
    training images (fct-ray fit transformation): with few pairs it is worth several times as many."""
    fit_dir: str | None = None
    """Where fitted transformations are kept, to be found again for the same pairs. None: with the run."""
    seed: Seed = 0
    """Seed of the pairs, the fit and the index."""
    batch_rows: Count = 4096
    """Rows that h transforms at a time; part of the run's identity, because it can change the last bits of a vector."""
    precision: Precision | None = None
    """Numbers that h is computed with, float32 or bfloat16. None: bfloat16 where this machine or the cluster's GPUs are
    faster with it and the gate sees at most 0.5 points of agreement lost, else float32."""
    gate: GateSettings = field(default_factory=GateSettings)
    """The check that decides whether the version may be published."""
    fit: TransformationFit = field(default_factory=TransformationFit)
    """How h is fitted."""
    train: TrainSettings = field(default_factory=TrainSettings)
    """The workers that fit it."""
    pool: PoolSettings = field(default_factory=PoolSettings)
    """The actors that embed pairs, and that shards stream through."""

    @property
    def asks_pilot(self) -> bool:
        """Whether a pilot decides if the network h is fitted: where nothing that the user said asks for it."""
        return self.way is not WayChoice.H and not self.controls and self.start_from is None

    @property
    def queries_file(self) -> str | None:
        """The file of real queries that ways are judged by."""
        return self.queries

    @property
    def encoders_are_for_views(self) -> bool:
        """Whether old and side encoder embed other views of items, and nothing else."""
        return True


@dataclass(frozen=True, kw_only=True)
class UpgradeSettings(FitOnPairsSettings, BadRowSettings):
    """Upgrade the vectors and the index of a store to a new encoder, without re-embedding it."""

    transformation: str | None = None
    """A transformation fitted before (a model directory): judged on the pairs instead of fitting one."""
    index: str = "Flat"
    """FAISS factory string of the new index, e.g. "IVF1024,PQ16"."""
    refine_budget: str | None = None
    """With --source: embed more items with the new model, drawn by how uncertain maps are of them: a share of the gallery
    (5%), dollars ($20) or hours of nodes (2gpu-h, 2node-h). Maps are fitted on them, and where that is better the version
    keeps them as they are."""
    max_usd: PositiveOrZero | None = None
    """Refuse to start if the forecast is above this many US dollars."""
    verify_shards: CountOrZero = 4
    """How many shards are read back before publishing."""
