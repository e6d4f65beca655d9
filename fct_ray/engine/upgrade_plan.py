"""Planning an upgrade on the driver: read what is there, refuse what cannot work, forecast; no worker is started.

Owns: an upgrade's settings, what they mean for this store, and the run's id: a hash of all that decides the bytes of the
outcome, so that the same command resumes the same run, and finds it finished when it is.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from fct_ray.engine.actor_pool import PoolSettings
from fct_ray.engine.bad_rows import BadRowSettings
from fct_ray.engine.cluster import ClusterSize
from fct_ray.engine.fitting.trainer import TrainSettings
from fct_ray.engine.fitting.transformation_loop import TransformationFit
from fct_ray.engine.gating import GateSettings
from fct_ray.engine.index_training import check_enough_to_train
from fct_ray.engine.model_store import EncoderChoice, load_model, open_encoder, resolve_encoder
from fct_ray.engine.pairs import check_ids_in_range
from fct_ray.engine.rates import measured_rates
from fct_ray.errors import ModelError, SettingsError
from fct_ray.index import factory
from fct_ray.models.files import LoadedModel
from fct_ray.models.flops import transformation_flops
from fct_ray.models.transformation import TransformationArchitecture
from fct_ray.plan import checks
from fct_ray.plan.catch_up import bases
from fct_ray.plan.forecast import Forecast, forecast
from fct_ray.plan.identity import run_id
from fct_ray.storage import documents, objects, shards
from fct_ray.storage import pairs as pair_files
from fct_ray.storage.store import Store
from fct_ray.values import Manifest, Metric, Precision

PAIRS_SHARE, PAIRS_LEAST, PAIRS_MOST = 0.1, 500, 20_000
FIT_EFFICIENCY = 0.35  # of the matrix rate: small batches, and an optimiser step for each
FIXED_S = 30.0  # starting Ray Train and Ray Data workers, gate, verification on 2 cores; grows little with the gallery


@dataclass(frozen=True, kw_only=True)
class FitOnPairsSettings:
    """Fit h on pairs of a store, and judge it."""

    store: str
    """The store: a directory or s3:// prefix."""
    encoder: str
    """The new encoder: a model directory, `package.module:factory`, or (with --pairs) any name for it."""
    pairs: str | None = None
    """Parquet file of (id, embedding): the new model's embeddings of a sample of the gallery's ids."""
    source: str | None = None
    """Where the raw items of the gallery are (instead of --pairs), e.g. "images:s3://bucket/photos"."""
    num_pairs: int | None = None
    """With --source: how many items are embedded with the new model. None: 10 % of the gallery, 500 to 20,000."""
    side_info: str | None = None
    """"none" ignores the stored side-information; a name asks for that one. None: whatever the store has."""
    metric: Metric | None = None
    """How the new encoder's embeddings are compared. None: as the encoder says, else as the store does now."""
    controls: bool = False
    """Also fit the controls without side-information, to see what it is worth."""
    start_from: str | None = None
    """A transformation of the same encoders whose weights the fit starts from, e.g. one fitted on the encoders' own
    training images (jobs/fit.py transformation): with few pairs it is worth several times as many."""
    fit_dir: str | None = None
    """Where fitted transformations are kept, to be found again for the same pairs. None: with the run."""
    seed: int = 0
    """Seed of the pairs, the fit and the index."""
    batch_rows: int = 4096
    """Rows that h transforms at a time; part of the run's identity, for it can change last bits."""
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


@dataclass(frozen=True, kw_only=True)
class UpgradeSettings(FitOnPairsSettings, BadRowSettings):
    """Upgrade the vectors and the index of a store to a new encoder, without re-embedding it."""

    transformation: str | None = None
    """A transformation fitted before (a model directory): judged on the pairs instead of fitting one."""
    index: str = "Flat"
    """FAISS factory string of the new index, e.g. "IVF1024,PQ16"."""
    max_usd: float | None = None
    """Refuse to start if the forecast is above this many US dollars."""
    verify_shards: int = 4
    """How many shards are read back before publishing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetSpace:
    """The space that h leads to."""

    dimension: int
    metric: Metric
    normalized: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class UpgradePlan:
    """What the driver decided before any worker started."""

    store: Store
    parent: Manifest
    """The version that the run started from; before publishing it catches up with CURRENT."""
    choice: EncoderChoice
    run: str
    space: TargetSpace
    use_side: bool
    num_pairs: int
    forecast: Forecast
    given: LoadedModel | None
    finished: Manifest | None = None
    """The version that this very run has published already, if it has."""


def plan_upgrade(settings: UpgradeSettings, usd_per_node_hour: float | None, size: ClusterSize | None) -> UpgradePlan:
    """Decide what an upgrade of CURRENT would do and what it would take.

    Raises:
        FctRayError: store, encoder, pairs and settings cannot work together; nothing was changed.
    """
    store = Store(settings.store)
    newest = store.manifest()
    choice = resolve_encoder(settings.encoder, store)
    _check_pair_origin(settings, choice)
    decisive = _decisive(settings, choice)
    finished, parent = _begun_before(store, newest, choice, decisive) or (None, newest)
    space = _target_space(settings, parent, choice)
    checks.check_upgrade(parent, new_encoder=choice.ref, new_dimension=space.dimension, side_info=settings.side_info)
    factory.check_factory(settings.index, space.dimension, space.metric)
    check_enough_to_train(settings.index, parent.num_rows)
    num_pairs = _num_pairs(settings, parent)
    use_side = parent.side_info is not None and settings.side_info != "none"
    expected = _forecast(settings, parent, space, use_side, usd_per_node_hour, size)
    checks.check_budget(expected, max_usd=settings.max_usd)
    return UpgradePlan(
        store=store,
        parent=parent,
        choice=choice,
        run=_run_id(store, parent, decisive),
        space=space,
        use_side=use_side,
        num_pairs=num_pairs,
        forecast=expected,
        given=_given_transformation(settings, parent, choice, space),
        finished=finished,
    )


def _begun_before(
    store: Store, newest: Manifest, choice: EncoderChoice, decisive: str
) -> tuple[Manifest | None, Manifest] | None:
    """What a run of these settings published (None: nothing yet) and the version it started from, if there was one.

    Items may have been appended and deleted before and after it was published.
    """

    def made_from(version: Manifest) -> Manifest | None:
        return None if version.parent is None else store.find_manifest(version.parent)

    finished, grown, known = None, newest, set[str]()
    if newest.encoder.fingerprint == choice.ref.fingerprint:
        *_, finished = bases(newest, made_from)
        before = made_from(finished)
        if before is None:
            return None
        grown, known = before, {finished.run}
    else:
        known = store.unfinished_runs()
    if not known:
        return None
    started = next((base for base in bases(grown, made_from) if _run_id(store, base, decisive) in known), None)
    return None if started is None else (finished, started)


def _decisive(settings: UpgradeSettings, choice: EncoderChoice) -> str:
    """Everything but the parent that decides the outcome's bytes; not where it runs or where its report goes."""
    pairs = f"{settings.source} {settings.num_pairs}"
    if settings.pairs is not None:
        pairs = documents.sha256_hex(objects.read_bytes(settings.pairs))
    decisive = {
        "encoder": choice.ref.fingerprint,
        "pairs": pairs,
        "transformation": settings.transformation,
        "start_from": settings.start_from,
        "side_info": settings.side_info,
        "index": settings.index,
        "metric": str(settings.metric),
        "controls": settings.controls,
        "seed": settings.seed,
        "batch_rows": settings.batch_rows,
        "precision": str(settings.precision),
        "threads": settings.pool.threads,
        "fit_workers": settings.train.num_workers,
        "fit": asdict(settings.fit),
        "gate": asdict(settings.gate),
        "on_bad_row": str(settings.on_bad_row),
    }
    return documents.dump(decisive).decode()


def _run_id(store: Store, parent: Manifest, decisive: str) -> str:
    return run_id("upgrade", store.manifest_bytes_sha256(parent.version), decisive)


def _check_pair_origin(settings: UpgradeSettings, choice: EncoderChoice) -> None:
    if settings.transformation is not None and settings.start_from is not None:
        raise SettingsError("both --transformation and --start-from are given; want one: a given h is not fitted again")
    if settings.pairs is None and settings.source is None:
        raise SettingsError("no pairs: give --pairs FILE (id, embedding of the new model) or --source with raw items")
    if settings.pairs is not None and settings.source is not None:
        raise SettingsError("both --pairs and --source are given; want one origin of the pairs: leave one out")
    if settings.pairs is None and choice.uri is None:
        raise SettingsError(
            f"encoder {settings.encoder!r} is only a name, so it cannot embed --source: give a model directory or "
            "package.module:factory, or bring its embeddings with --pairs"
        )


def _target_space(settings: UpgradeSettings, parent: Manifest, choice: EncoderChoice) -> TargetSpace:
    dimension, metric, normalized = None, settings.metric, None
    if choice.uri is not None:
        encoder = open_encoder(choice.uri)
        dimension, metric, normalized = encoder.dimension, metric or encoder.metric, encoder.normalized
    if settings.pairs is not None:
        given = pair_files.read_pairs(settings.pairs)
        check_ids_in_range(given.ids_N, parent, settings.pairs)
        seen = given.embeddings_NW.shape[1]
        if dimension is not None and seen != dimension:
            raise SettingsError(
                f"{settings.pairs}: embeddings have dimension {seen}, encoder {choice.ref.name} has {dimension}: "
                "embed the pairs with that encoder"
            )
        dimension, normalized = seen, shards.are_normalized(given.embeddings_NW)
    assert dimension is not None  # noqa: S101 (one of the two origins is there, see _check_pair_origin)
    return TargetSpace(dimension=dimension, metric=metric or parent.metric, normalized=bool(normalized))


def _num_pairs(settings: UpgradeSettings, parent: Manifest) -> int:
    if settings.num_pairs is not None:
        return settings.num_pairs
    return min(parent.num_rows, max(PAIRS_LEAST, min(PAIRS_MOST, round(parent.num_rows * PAIRS_SHARE))))


def _given_transformation(
    settings: UpgradeSettings, parent: Manifest, choice: EncoderChoice, space: TargetSpace
) -> LoadedModel | None:
    given = settings.transformation or settings.start_from
    if given is None:
        return None
    model = load_model(given)
    document = model.document
    if document.kind != "transformation" or document.from_encoder is None or document.to_encoder is None:
        raise ModelError(f"{given} is a model of kind {document.kind!r}; want a transformation")
    architecture = model.transformation().architecture
    checks.check_transformation(
        parent,
        from_encoder=document.from_encoder,
        to_encoder=document.to_encoder,
        side_fingerprint=document.side_fingerprint,
        old_dimension=architecture.old_dimension,
        side_dimension=architecture.side_dimension,
        new_dimension=architecture.new_dimension,
        new_encoder=choice.ref,
        wanted_dimension=space.dimension,
    )
    if settings.transformation is not None:
        return model
    if architecture.kind != "mlp" or architecture.normalized != space.normalized:
        raise ModelError(
            f"--start-from {given}: is a {architecture.kind} (normalized: {architecture.normalized}); want an mlp whose "
            f"output is {'' if space.normalized else 'not '}normalized, as the new embeddings are"
        )
    return None


def _forecast(
    settings: UpgradeSettings,
    parent: Manifest,
    space: TargetSpace,
    use_side: bool,
    usd_per_node_hour: float | None,
    size: ClusterSize | None,
) -> Forecast:
    side = parent.side_info.dimension if parent.side_info is not None and use_side else 0
    architecture = TransformationArchitecture(
        kind="mlp",
        old_dimension=parent.dimension,
        side_dimension=side,
        new_dimension=space.dimension,
        inner=settings.fit.inner,
        normalized=space.normalized,
    )
    flops_per_row, rates = transformation_flops(architecture), measured_rates()
    read = sum(record.embeddings.bytes for record in parent.shards)
    written = read + parent.num_rows * 4 * (2 * space.dimension - parent.dimension)
    candidates = 0 if settings.transformation is not None else 2 if settings.controls and side else 1
    fit_flops = 3 * flops_per_row * _num_pairs(settings, parent) * settings.fit.epochs * candidates
    return forecast(
        rows=parent.num_rows,
        num_bytes=max(read + written, 0),
        flops_per_row=flops_per_row,
        num_nodes=size.num_nodes if size is not None else 1,
        rates=rates,
        usd_per_node_hour=usd_per_node_hour,
        fixed_s=FIXED_S + fit_flops / (rates.flops_per_s * FIT_EFFICIENCY),
    )
