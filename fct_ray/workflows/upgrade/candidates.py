"""Candidates of an upgrade: h fitted on cached pairs by Ray Train, the linear control, and ways in closed form.

Owns: which candidates are fitted, what each is called in reports, and keeping them. Ways that join or whiten stored
vectors are `joined`; everything that decides between candidates is in plan/verdict.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fct_ray.engine.cluster import ClusterSize
from fct_ray.engine.trainer import TrainSettings, run_fit
from fct_ray.evaluation.compatibility import cosine_mean
from fct_ray.kinds import Method, method_of_transformation
from fct_ray.metering.meters import ProcessMeter
from fct_ray.models.blocks import BlockTransformation, gallery_text
from fct_ray.models.correction import CorrectedTransformation
from fct_ray.models.correction_fit import fit_correction
from fct_ray.models.flops import transformation_flops
from fct_ray.models.model_files import LoadedModel, PackedModel, pack_model, unpack_model, with_true_vectors
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
from fct_ray.models.transformation_runner import TransformRunner
from fct_ray.models.true_vectors import can_hold
from fct_ray.plan.identity import run_id
from fct_ray.shards.encoder_names import is_model_uri
from fct_ray.shards.model_directory import check_model_uris, load_model, packed_model, save_model
from fct_ray.shards.query_maps import query_map_at
from fct_ray.storage import documents, objects, shards
from fct_ray.values import EncoderRef, Usage
from fct_ray.workflows.upgrade.joined import MadeWay
from fct_ray.workflows.upgrade.kept_vectors import TRUE_VECTORS_KEPT, VectorsToKeep
from fct_ray.workflows.upgrade.pairs import Pairs

if TYPE_CHECKING:
    from fct_ray.workflows.upgrade.plan import UpgradePlan

logger = logging.getLogger(__name__)
MOST_CORRECTED = 1000
"""Pairs that a correction keeps: each costs as much as a row of a layer for every item of the gallery."""
LEAST_GAIN = 0.003
"""In the pilot, in cosine: less is noise, or is not worth a network."""


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
    true: VectorsToKeep | None = None
    """What stands in its version in the place of the model's output. None: the model makes every vector."""

    @property
    def key(self) -> tuple[Method, str]:
        """What tells it from all others."""
        return self.method, self.text

    @property
    def text(self) -> str:
        """The variant, with whether true vectors are kept."""
        return ", ".join([self.variant] * bool(self.variant) + [TRUE_VECTORS_KEPT] * (self.true is not None))

    @property
    def is_joined(self) -> bool:
        """Whether its vectors are weighted blocks, which are compared by inner product whatever the models' metric."""
        return isinstance(self.model.transformation(), BlockTransformation)

    @property
    def gallery_text(self) -> str:
        """What its vectors are made of: "h(old, side)", or "[old; side]" for joined blocks."""
        return gallery_text(self.model.transformation())

    def with_true_vectors(self, true: VectorsToKeep) -> Candidate | None:
        """The same way with these vectors kept in its version; None where it has no place for them."""
        return replace(self, true=true) if can_hold(self.queries) else None

    def saved(self, storage_uri: str) -> Candidate:
        """The same candidate, with its files in a model directory, true vectors among them."""
        has_others = self.model.document.true_vectors_sha256 is not None  # a given model may be of another version
        if self.packed is None and self.true is None and not has_others:
            return self
        packed = self.packed or packed_model(self.uri, true_vectors=False)
        if self.true is not None or has_others:
            packed = with_true_vectors(packed, None if self.true is None else self.true.to_bytes())
        return replace(self, uri=save_model(storage_uri, packed), packed=None)


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


@dataclass(frozen=True, kw_only=True, slots=True)
class FitJob:
    """How and where candidates are fitted."""

    fit: TransformationFit
    train: TrainSettings
    seed: int
    controls: bool
    """Also fit maps without side-information, to see what it is worth."""
    storage_uri: str
    start_from: str | None = None
    """A transformation whose weights, and width, the network that reads what it reads takes over."""
    pilot: bool = False
    """Fit the network only where a pilot says that it can come nearer to the new embeddings than a linear map."""


def fit_candidates(
    pairs: Pairs, held_out: Pairs, direction: Direction, job: FitJob, size: ClusterSize
) -> tuple[Candidate, ...]:
    """Fit maps on pairs: linear ones and their correction in closed form, then the network h by Ray Train.

    Each with side-information where the pairs have it, with `controls` also without. Returns candidates in a fixed order;
    the usage of the Ray Train run is divided by the FLOPs of its networks. `held_out` pairs judge the pilot alone.
    """
    sides = _sides(use_side=pairs.side_PS is not None, controls=job.controls)
    given = None if job.start_from is None else load_model(job.start_from)
    architectures = tuple(_architecture(pairs, direction, with_side, job.fit, given) for with_side in sides)
    table = pairs.to_table()
    table = table.select([name for name in ("id", "old", "side", "new") if name in table.column_names])
    decisive = (architectures, job.fit, job.seed, job.start_from, job.pilot)
    content = documents.sha256_hex(shards.encode_table(table))
    name = run_id("h", repr(decisive), repr(direction), str(job.train.num_workers), content)
    known = _remembered(job.storage_uri, name)
    if known:
        return known
    candidates = list(closed_form_maps(pairs, direction, controls=job.controls, seed=job.seed))
    if not job.pilot or network_is_promising(candidates[0], candidates[-1], held_out):
        settings = TransformationLoopSettings(architectures=architectures, fit=job.fit, seed=job.seed, start_from=given)
        outcome = run_fit(
            transformation_loop,
            settings,
            name=name,
            storage_uri=job.storage_uri,
            train=job.train,
            size=size,
            dataset=table,
            describe="fit h",
        )
        shares = _flops_shares(architectures)
        for architecture, state in zip(architectures, outcome.state["done"], strict=True):
            module = Transformation(architecture)
            module.load_state_dict(state)
            candidates.append(_candidate(module, direction, outcome.usage * shares[architecture]))
    saved = tuple(candidate.saved(job.storage_uri) for candidate in candidates)
    directories = {candidate.method: candidate.uri for candidate in saved}
    objects.write_bytes(objects.join(job.storage_uri, f"{name}.json"), documents.dump(directories))
    return saved


def closed_form_maps(pairs: Pairs, direction: Direction, *, controls: bool, seed: int) -> tuple[Candidate, ...]:
    """Linear maps, that with side-information first, and last the first one's correction by near pairs; not saved."""
    sides = _sides(use_side=pairs.side_PS is not None, controls=controls)
    linear = [_linear(pairs, direction, with_side) for with_side in sides]
    return (*linear, _corrected(pairs, direction, linear[0], seed))


def network_is_promising(linear: Candidate, corrected: Candidate, held_out: Pairs) -> bool:
    """Whether a kernel correction of the linear map comes nearer to held-out new embeddings: there is something to learn
    that is not linear. Where it does not (often on text), a network costs most of an upgrade and is thrown away.
    """
    cosines = [_cosine(candidate, held_out) for candidate in (linear, corrected)]
    promising = cosines[1] - cosines[0] >= LEAST_GAIN
    logger.info(
        "pilot: held-out cosine %.4f of a linear map, %.4f with a kernel correction: the network h is %s",
        *cosines,
        "fitted" if promising else "not fitted (--way h fits it in any case)",
    )
    return promising


def _cosine(candidate: Candidate, pairs: Pairs) -> float:
    output_PW, _ = TransformRunner(candidate.model, batch_rows=4096).run(pairs.old_PD, pairs.side_PS)
    return cosine_mean(output_PW, pairs.new_PW)


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
    pairs: Pairs, direction: Direction, with_side: bool, fit: TransformationFit, given: LoadedModel | None
) -> TransformationArchitecture:
    """That of the given transformation, where it reads what this one reads."""
    start = None if given is None else given.transformation().architecture
    if isinstance(start, TransformationArchitecture) and (start.side_dimension > 0) == with_side:
        return start
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


def _corrected(pairs: Pairs, direction: Direction, linear: Candidate, seed: int) -> Candidate:
    """The linear map with a correction by the pairs that are near."""
    meter, base = ProcessMeter(), linear.model.transformation()
    assert isinstance(base, LinearTransformation)  # noqa: S101 (said for the type checker)
    side_PS = pairs.side_PS if base.architecture.side_dimension > 0 else None
    module = fit_correction(base, pairs.old_PD, side_PS, pairs.new_PW, seed=seed, most_pairs=MOST_CORRECTED)
    return _candidate(module, direction, meter.read() + Usage(rows=len(pairs.ids_P)))


def _candidate(
    module: Transformation | LinearTransformation | CorrectedTransformation, direction: Direction, usage: Usage
) -> Candidate:
    with_side = module.architecture.side_dimension > 0
    kind = module.architecture.kind
    method = Method.CORRECTED if kind == "corrected" else method_of_transformation(kind, reads_side=with_side)
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
