"""Planning an upgrade on the driver: read what is there, refuse what cannot work, forecast; no worker is started.

Owns: an upgrade's settings, what they mean for this store, and the run's id: a hash of all that decides the bytes of the
outcome, so that the same command resumes the same run, and finds it finished when it is.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial

from fct_ray.engine.cluster import ClusterSize
from fct_ray.errors import ModelError, SettingsError
from fct_ray.index import factory
from fct_ray.kinds import Accept, SideInfoUse, Task
from fct_ray.models.batch_encoder import BatchEncoder
from fct_ray.models.model_files import LoadedModel
from fct_ray.plan import checks
from fct_ray.plan.catch_up import bases
from fct_ray.plan.forecast import Forecast
from fct_ray.plan.identity import run_id
from fct_ray.plan.refine_budget import parse_refine_budget
from fct_ray.shards.encoder_names import EncoderChoice, EncoderSpec, resolve_encoder
from fct_ray.shards.model_directory import load_model, open_encoder
from fct_ray.storage import documents, objects, vector_columns
from fct_ray.storage import pairs as pair_files
from fct_ray.storage.store import Store
from fct_ray.values import Manifest
from fct_ray.workflows.commit import parent_of
from fct_ray.workflows.trained_index import check_enough_to_train
from fct_ray.workflows.upgrade.forecast import TargetSpace, num_to_refine, upgrade_forecast
from fct_ray.workflows.upgrade.pair_origin import PairOrigin, PairsFromEncoder, check_num_pairs, num_pairs, pair_origin
from fct_ray.workflows.upgrade.pairs import check_given_ids
from fct_ray.workflows.upgrade.pseudo_origin import PseudoOrigin, check_pseudo_origin, pseudo_origin
from fct_ray.workflows.upgrade.query_origin import RealQueries, real_queries
from fct_ray.workflows.upgrade.settings import UpgradeSettings

logger = logging.getLogger(__name__)
REFINE_IDS = "refine_ids.parquet"
"""The document of a run that says which items are embedded beside the pairs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UpgradePlan:
    """What the driver decided before any worker started."""

    settings: UpgradeSettings
    store: Store
    parent: Manifest
    """The version that the run started from; before publishing it catches up with CURRENT."""
    choice: EncoderChoice
    run: str
    space: TargetSpace
    use_side: bool
    pairs: PairOrigin
    num_pairs: int
    forecast: Forecast
    given: LoadedModel | None
    num_to_refine: int = 0
    """How many items are embedded with the new model beside the pairs, as the run decided when it began."""
    akin: tuple[str, ...] = ()
    """The runs that the same command is with another `task` or `accept`: what was brought for one counts for all."""
    queries: RealQueries | None = None
    """What ways are judged by; None: pseudo-queries, labels, pooled judgement or held-out pairs."""
    pseudo: PseudoOrigin | None = None
    """Other views of items and who embeds them; None: there are none."""
    finished: Manifest | None = None
    """The version that this very run has published already, if it has."""

    def found_in_runs(self, name: str) -> list[str]:
        """Where this document of the run lies: with the run itself, and with the same upgrade for another task."""
        return found_in_runs(self.store, (self.run, *self.akin), name)


def plan_upgrade(
    settings: UpgradeSettings,
    usd_per_node_hour: float | None,
    size: ClusterSize | None,
    *,
    encoder: EncoderSpec | None = None,
) -> UpgradePlan:
    """Decide what an upgrade of CURRENT would do and what it would take.

    `encoder` is the new encoder itself, where there is more of it than the name in the settings.

    Raises:
        FctRayError: store, encoder, pairs and settings cannot work together; nothing was changed.
    """
    store = Store(settings.store)
    newest = store.manifest()
    choice = resolve_encoder(settings.encoder if encoder is None else encoder, store)
    if settings.transformation is not None and settings.start_from is not None:
        raise SettingsError("both --transformation and --start-from are given; want one: a given h is not fitted again")
    pairs = pair_origin(settings, choice)
    pseudo = pseudo_origin(settings, choice, store)
    queries = _identity_of_queries(settings, pseudo)
    decisive = _decisive(settings, choice, pairs, queries)
    finished, parent = _begun_before(store, newest, choice, decisive) or (None, newest)
    space = _target_space(settings, parent, choice, pairs)
    _check(settings, parent, choice, space, pairs, pseudo)
    use_side = parent.side_info is not None and settings.side_info != SideInfoUse.NONE
    run = _run_id(store, parent, decisive)
    akin = tuple(_run_id(store, parent, one) for one in _with_another_task(settings, choice, pairs, queries))
    refine = _chosen_before(store, (run, *akin)) or num_to_refine(settings, parent, pairs, usd_per_node_hour)
    expected = upgrade_forecast(
        settings,
        parent,
        space,
        use_side=use_side,
        pairs=pairs,
        pseudo=pseudo,
        num_to_refine=refine,
        usd_per_node_hour=usd_per_node_hour,
        size=size,
    )
    checks.check_budget(expected, max_usd=settings.max_usd)
    return UpgradePlan(
        settings=settings,
        store=store,
        parent=parent,
        choice=choice,
        run=run,
        space=space,
        use_side=use_side,
        pairs=pairs,
        num_pairs=num_pairs(pairs, parent),
        forecast=expected,
        given=_given_transformation(settings, parent, choice, space),
        num_to_refine=refine,
        akin=akin,
        queries=real_queries(settings.queries_file, parent, space.dimension),
        pseudo=pseudo,
        finished=finished,
    )


def _check(
    settings: UpgradeSettings,
    parent: Manifest,
    choice: EncoderChoice,
    space: TargetSpace,
    pairs: PairOrigin,
    pseudo: PseudoOrigin | None,
) -> None:
    checks.check_upgrade(parent, new_encoder=choice.ref, new_dimension=space.dimension, side_info=settings.side_info)
    factory.check_factory(settings.index, space.dimension, space.metric)
    check_enough_to_train(settings.index, parent.num_rows)
    check_num_pairs(pairs, parent, settings)
    check_pseudo_origin(pseudo, parent, settings)


def _begun_before(
    store: Store, newest: Manifest, choice: EncoderChoice, decisive: str
) -> tuple[Manifest | None, Manifest] | None:
    """What a run of these settings published (None: nothing yet) and the version it started from, if there was one.

    Items may have been appended and deleted before and after it was published.
    """
    made_from = partial(parent_of, store)
    if newest.encoder.fingerprint == choice.ref.fingerprint or newest.queries:
        *_, finished = bases(newest, made_from)
        before = made_from(finished)
        started = None if before is None else _started_from(store, before, decisive, {finished.run})
        if started is not None:
            return finished, started
        if not newest.queries:  # another encoder's run cannot have started from this version
            return None
    started = _started_from(store, newest, decisive, store.unfinished_runs())
    return None if started is None else (None, started)


def _started_from(store: Store, grown: Manifest, decisive: str, runs: Collection[str]) -> Manifest | None:
    """From which of the versions that `grown` grew from one of these runs started, by what decides its outcome."""
    if not runs:
        return None
    every = bases(grown, partial(parent_of, store))
    return next((base for base in every if _run_id(store, base, decisive) in runs), None)


def _identity_of_queries(settings: UpgradeSettings, pseudo: PseudoOrigin | None) -> dict[str, str | None]:
    """What decides the queries; that of pseudo-queries only where there are some, so that other runs keep their ids."""
    uri = settings.queries_file
    identity = {"queries": None if uri is None else documents.sha256_hex(objects.read_bytes(uri))}
    return identity if pseudo is None else {**identity, "pseudo_queries": pseudo.identity}


def _decisive(
    settings: UpgradeSettings, choice: EncoderChoice, origin: PairOrigin, queries: Mapping[str, str | None]
) -> str:
    """Everything but the parent that decides the outcome's bytes; not where it runs or where its report goes."""
    decisive = {
        "encoder": choice.ref.fingerprint,
        "pairs": origin.identity,
        **queries,
        "task": None if settings.task is None else str(settings.task),
        "accept": str(settings.accept),
        "way": str(settings.way),
        "transformation": settings.transformation,
        "start_from": settings.start_from,
        "side_info": None if settings.side_info == SideInfoUse.STORED else str(settings.side_info),
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
    if settings.refine_budget is not None:  # not how many items it means: that may depend on the machine that plans
        decisive["refine_budget"] = str(parse_refine_budget(settings.refine_budget))
    return documents.dump(decisive).decode()


def found_in_runs(store: Store, runs: Iterable[str], name: str) -> list[str]:
    """Where these runs have a document of this name."""
    return [uri for uri in (store.run_uri(run, name) for run in runs) if objects.exists(uri)]


def _chosen_before(store: Store, runs: Iterable[str]) -> int:
    """How many items an earlier attempt, or the same upgrade for another task, chose to embed; 0 if none got so far."""
    found = found_in_runs(store, runs, REFINE_IDS)
    return len(pair_files.read_ids(found[0])) if found else 0


def _with_another_task(
    settings: UpgradeSettings, choice: EncoderChoice, origin: PairOrigin, queries: Mapping[str, str | None]
) -> list[str]:
    others = [replace(settings, task=task, accept=accept) for task in (None, *Task) for accept in Accept]
    return [_decisive(other, choice, origin, queries) for other in others if other != settings]


def _run_id(store: Store, parent: Manifest, decisive: str) -> str:
    return run_id("upgrade", store.manifest_bytes_sha256(parent.version), decisive)


def _target_space(settings: UpgradeSettings, parent: Manifest, choice: EncoderChoice, pairs: PairOrigin) -> TargetSpace:
    if isinstance(pairs, PairsFromEncoder):
        encoder = pairs.opened
        metric = settings.metric or encoder.metric
        return TargetSpace(dimension=encoder.dimension, metric=metric, normalized=encoder.normalized)
    check_given_ids(pairs.given.ids, parent, pairs.uri)
    seen = pairs.given.embeddings_NW.shape[1]
    metric = settings.metric or parent.metric
    asking = _that_answers(choice)
    if asking is not None:
        metric = settings.metric or asking.metric
        if seen != asking.dimension:
            raise SettingsError(
                f"{pairs.uri}: embeddings have dimension {seen}, encoder {asking.name} has {asking.dimension}: embed the "
                "pairs with that encoder"
            )
    return TargetSpace(
        dimension=seen, metric=metric, normalized=vector_columns.are_normalized(pairs.given.embeddings_NW)
    )


def _that_answers(choice: EncoderChoice) -> BatchEncoder | None:
    """The new encoder, to check the pairs by; None where it is not here, or an endpoint does not answer now."""
    if choice.uri is None:
        return None
    encoder = open_encoder(choice.uri)
    try:
        _ = encoder.dimension
    except ModelError as error:
        logger.warning("the pairs are taken as they are, their encoder cannot be asked: %s", error)
        return None
    return encoder


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
