"""Candidates of an upgrade: h fitted on cached pairs by Ray Train, the linear control, and ways in closed form.

Owns: which candidates are fitted, what each is called in reports, and keeping them. Ways that join or whiten stored
vectors are `joined`; everything that decides between candidates is in plan/verdict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fct_ray.engine.cluster import ClusterSize
from fct_ray.engine.trainer import TrainSettings, run_fit
from fct_ray.kinds import Method, method_of_transformation
from fct_ray.metering.meters import ProcessMeter
from fct_ray.models.blocks import BlockTransformation, gallery_text
from fct_ray.models.flops import transformation_flops
from fct_ray.models.model_files import LoadedModel, PackedModel, pack_model, unpack_model
from fct_ray.models.query_map import QueryMap
from fct_ray.models.transformation import (
    LinearTransformation,
    Transformation,
    TransformationArchitecture,
    TransformationKind,
    fit_linear,
)
from fct_ray.models.transformation_loop import (
    TransformationFit,
    TransformationLoopSettings,
    transformation_loop,
)
from fct_ray.plan.identity import run_id
from fct_ray.shards.encoder_names import is_model_uri
from fct_ray.shards.model_directory import check_model_uris, load_model, save_model
from fct_ray.shards.query_maps import query_map_at
from fct_ray.storage import documents, objects, shards
from fct_ray.values import EncoderRef, Usage
from fct_ray.workflows.upgrade.joined import MadeWay
from fct_ray.workflows.upgrade.pairs import Pairs

if TYPE_CHECKING:
    from fct_ray.workflows.upgrade.plan import UpgradePlan


@dataclass(frozen=True, kw_only=True, slots=True)
class Direction:
    """Between which models a transformation maps."""

    old: EncoderRef
    new: EncoderRef
    side_fingerprint: str | None
    normalized: bool


def direction_of(plan: UpgradePlan) -> Direction:
    """Between which models the candidates of an upgrade map."""
    side = plan.parent.side_info
    return Direction(
        old=plan.parent.encoder,
        new=plan.choice.ref,
        side_fingerprint=side.fingerprint if side is not None and plan.use_side else None,
        normalized=plan.space.normalized,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One way of upgrading: the model that makes a version's vectors, and what makes queries for them."""

    method: Method
    variant: str = ""
    """Which of several of this method, e.g. with which weights."""
    uri: str
    """Where its model directory is; empty where it is not saved."""
    model: LoadedModel
    queries: QueryMap
    usage: Usage = field(default_factory=Usage)
    reused: bool = False
    """Whether it was fitted by an earlier run on the same pairs."""
    packed: PackedModel | None = None
    """Its files, where it is not saved."""

    @property
    def key(self) -> tuple[Method, str]:
        """What tells it from all others."""
        return self.method, self.variant

    @property
    def is_joined(self) -> bool:
        """Whether its vectors are weighted blocks, which are compared by inner product whatever the models' metric."""
        return isinstance(self.model.transformation(), BlockTransformation)

    @property
    def gallery_text(self) -> str:
        """What its vectors are made of: "h(old, side)", or "[old; side]" for joined blocks."""
        return gallery_text(self.model.transformation())

    def saved(self, storage_uri: str) -> Candidate:
        """The same candidate, with its files in a model directory."""
        return self if self.packed is None else replace(self, uri=save_model(storage_uri, self.packed), packed=None)


def load_candidate(method: Method, uri: str, *, variant: str = "", reused: bool = False) -> Candidate:
    """A candidate from its model directory. Raises ModelError."""
    model = load_model(uri)
    return Candidate(
        method=method,
        variant=variant,
        uri=uri,
        model=model,
        queries=query_map_at(uri),
        usage=model.document.usage() or Usage(),
        reused=reused,
    )


def made_candidate(way: MadeWay, direction: Direction, *, reads_side: str | None) -> Candidate:
    """A way in closed form as a candidate that is not saved yet."""
    packed = pack_model(
        way.module,
        kind="transformation",
        name=f"way-{way.method.replace('_', '-')}",
        provenance={"from": direction.old.name, "variant": way.variant},
        from_encoder=direction.old.fingerprint,
        to_encoder=(direction.new if way.needs_new else direction.old).fingerprint,
        side_fingerprint=reads_side if way.module.architecture.side_dimension > 0 else None,
    )
    return _unsaved(way.method, packed, Usage(), way.variant)


def _unsaved(method: Method, packed: PackedModel, usage: Usage, variant: str = "") -> Candidate:
    return Candidate(
        method=method,
        variant=variant,
        uri="",
        model=unpack_model(packed.model_json, packed.weights, packed.directory_name),
        queries=QueryMap.of(packed.document, packed.weights, packed.directory_name),
        usage=usage,
        packed=packed,
    )


def fit_candidates(
    pairs: Pairs,
    direction: Direction,
    *,
    fit: TransformationFit,
    train: TrainSettings,
    seed: int,
    controls: bool,
    storage_uri: str,
    size: ClusterSize,
    start_from: str | None = None,
) -> tuple[Candidate, ...]:
    """Fit h with side-information where the pairs have it, its linear control, and with `controls` both without.

    `start_from` is a transformation whose weights, and width, the MLP that reads what it reads takes over. Returns
    candidates in a fixed order; the usage of the Ray Train run is divided by the FLOPs of its candidates.
    """
    sides = _sides(use_side=pairs.side_PS is not None, controls=controls)
    given = None if start_from is None else load_model(start_from)
    start = None if given is None else given.transformation().architecture
    architectures = tuple(
        start
        if isinstance(start, TransformationArchitecture) and (start.side_dimension > 0) == with_side
        else _architecture(pairs, direction, with_side, fit)
        for with_side in sides
    )
    settings = TransformationLoopSettings(architectures=architectures, fit=fit, seed=seed, start_from=given)
    table = pairs.to_table()
    columns = [name for name in ("id", "old", "side", "new") if name in table.column_names]
    content = documents.sha256_hex(shards.encode_table(table.select(columns)))
    name = run_id("h", repr((architectures, fit, seed, start_from)), repr(direction), str(train.num_workers), content)
    known = _remembered(storage_uri, name)
    if known:
        return known
    candidates = [_linear(pairs, direction, with_side) for with_side in sides]
    outcome = run_fit(
        transformation_loop,
        settings,
        name=name,
        storage_uri=storage_uri,
        train=train,
        size=size,
        dataset=table.select(columns),
        describe="fit h",
    )
    shares = _flops_shares(architectures)
    for architecture, state in zip(architectures, outcome.state["done"], strict=True):
        module = Transformation(architecture)
        module.load_state_dict(state)
        usage = outcome.usage * shares[architecture]
        candidates.append(_candidate(module, direction, usage))
    saved = tuple(candidate.saved(storage_uri) for candidate in candidates)
    directories = {candidate.method: candidate.uri for candidate in saved}
    objects.write_bytes(objects.join(storage_uri, f"{name}.json"), documents.dump(directories))
    return saved


def methods_fitted(*, use_side: bool, controls: bool) -> tuple[Method, ...]:
    """Which candidates `fit_candidates` fits."""
    kinds: tuple[TransformationKind, ...] = ("linear", "mlp")
    sides = _sides(use_side=use_side, controls=controls)
    return tuple(method_of_transformation(kind, reads_side=side) for kind in kinds for side in sides)


def _sides(*, use_side: bool, controls: bool) -> tuple[bool, ...]:
    """Whether candidates read side-information: each kind with it, with controls also without it."""
    return (True, False) if use_side and controls else (use_side,)


def _remembered(storage_uri: str, name: str) -> tuple[Candidate, ...]:
    """The candidates of the same fit on the same pairs, if they are all still there; what it took is in their provenance."""
    uri = objects.join(storage_uri, f"{name}.json")
    if not objects.exists(uri):
        return ()
    directories = documents.load(dict[Method, str], objects.read_bytes(uri), uri)
    check_model_uris(directories.values(), (storage_uri,), uri)
    if not all(is_model_uri(directory) for directory in directories.values()):  # collected, or deleted by hand
        return ()
    return tuple(load_candidate(method, directory, reused=True) for method, directory in directories.items())


def _flops_shares(architectures: tuple[TransformationArchitecture, ...]) -> Mapping[TransformationArchitecture, float]:
    flops = {architecture: transformation_flops(architecture) for architecture in architectures}
    return {architecture: value / sum(flops.values()) for architecture, value in flops.items()}


def _architecture(
    pairs: Pairs, direction: Direction, with_side: bool, fit: TransformationFit
) -> TransformationArchitecture:
    return TransformationArchitecture(
        kind="mlp",
        old_dimension=pairs.old_PD.shape[1],
        side_dimension=pairs.side_PS.shape[1] if with_side and pairs.side_PS is not None else 0,
        new_dimension=pairs.new_PW.shape[1],
        inner=fit.inner,
        normalized=direction.normalized,
    )


def _linear(pairs: Pairs, direction: Direction, with_side: bool) -> Candidate:
    meter = ProcessMeter()
    side_PS = pairs.side_PS if with_side else None
    module = fit_linear(pairs.old_PD, side_PS, pairs.new_PW, normalized=direction.normalized)
    features = pairs.old_PD.shape[1] + (0 if side_PS is None else side_PS.shape[1])
    flops = 2.0 * len(pairs.ids_P) * features * (features + pairs.new_PW.shape[1])  # the normal equations
    usage = meter.read() + Usage(flops=flops, rows=len(pairs.ids_P))
    return _candidate(module, direction, usage)


def _candidate(module: Transformation | LinearTransformation, direction: Direction, usage: Usage) -> Candidate:
    with_side = module.architecture.side_dimension > 0
    method = method_of_transformation(module.architecture.kind, reads_side=with_side)
    packed = pack_model(
        module,
        kind="transformation",
        name=f"h-{method.replace('_', '-')}",
        provenance={"from": direction.old.name, "to": direction.new.name, "usage": documents.plain(usage)},
        from_encoder=direction.old.fingerprint,
        to_encoder=direction.new.fingerprint,
        side_fingerprint=direction.side_fingerprint if with_side else None,
    )
    return _unsaved(method, packed, usage)
