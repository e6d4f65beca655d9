"""The simplest ways of searching, as plain oracles: whitened vectors, fused blocks, a ridge map. In memory, in numpy.

What the product does streamed must agree with these; a case's `case.json` holds what they reach, so that a verdict can be
judged. Whitening: with gallery mean m and covariance eigenpairs (w, U), x -> unit((x - m) U w^(-a/2)). Shapes: N gallery
rows, Q queries, P pairs, D numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fct_ray.bench.cases.case_files import CaseData
from fct_ray.bench.cases.truth import backfill_found, backfill_truth, keep_truth, queries_of, truth_of

FloatArray = npt.NDArray[np.float32]
EXPONENT = 0.5
"""The exponent of whitening, for supervised and text vectors."""
SMALLEST_SHARE = 1e-6
"""Eigenvalues below this share of the largest are noise of the arithmetic; they are raised to it."""
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Penalties tried, as multiples of the number of pairs."""
HELD_OUT_SHARE = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One part of a fused search: its queries, its gallery, its weight in the sum of cosines."""

    query_QD: FloatArray
    gallery_ND: FloatArray
    weight: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Whitening:
    """x -> unit((x - mean) @ matrix)."""

    mean_D: FloatArray
    matrix_DD: FloatArray

    def __call__(self, vectors_ND: FloatArray) -> FloatArray:
        """The whitened vectors, of length 1."""
        return unit((vectors_ND - self.mean_D) @ self.matrix_DD)


def unit(vectors_ND: npt.NDArray[np.floating[Any]]) -> FloatArray:
    """Vectors of length 1; zero vectors stay."""
    lengths_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return np.asarray(vectors_ND / np.where(lengths_N1 > 0, lengths_N1, 1), np.float32)


def fit_whitening(gallery_ND: FloatArray, exponent: float = EXPONENT) -> Whitening:
    """Whitening with the statistics of `gallery_ND`; an exponent of 0 centres and rotates only."""
    mean_D = gallery_ND.mean(axis=0, dtype=np.float64)
    moments_DD = np.zeros((gallery_ND.shape[1],) * 2)
    for start in range(0, len(gallery_ND), 50_000):
        centred = gallery_ND[start : start + 50_000] - mean_D
        moments_DD += centred.T @ centred
    values_D, vectors_DD = np.linalg.eigh(moments_DD / len(gallery_ND))
    values_D = np.maximum(values_D, values_D.max() * SMALLEST_SHARE)
    matrix_DD = vectors_DD * values_D ** (-exponent / 2)
    return Whitening(mean_D=mean_D.astype(np.float32), matrix_DD=matrix_DD.astype(np.float32))


def fused(blocks: Sequence[Block]) -> tuple[FloatArray, FloatArray]:
    """(queries, gallery) whose inner product is the weighted sum of the blocks' cosines."""
    scales = [np.float32(np.sqrt(block.weight)) for block in blocks]
    queries = [unit(block.query_QD) * scale for block, scale in zip(blocks, scales, strict=True)]
    gallery = [unit(block.gallery_ND) * scale for block, scale in zip(blocks, scales, strict=True)]
    return np.concatenate(queries, axis=1), np.concatenate(gallery, axis=1)


def ridge_map(case: CaseData, *, with_side: bool) -> FloatArray:
    """The gallery through a linear map of [old, side] to new, fitted on the pairs, of length 1."""
    side = [case.side_NS] if with_side and case.side_NS is not None else []
    return ridge_between(np.concatenate([case.old_NO, *side], axis=1), case.new_NW, case.pair_ids_P)


def ridge_between(from_ND: FloatArray, to_NW: FloatArray, pair_ids_P: npt.NDArray[np.int64]) -> FloatArray:
    """All rows through a linear map (with a constant) that was fitted on those of the pairs, of length 1.

    The penalty is the one of RIDGES with the best cosine on held-out pairs (the first fifth of them, shuffled); the map is
    then fitted on all.
    """
    inputs_ND = np.concatenate([from_ND, np.ones((len(from_ND), 1), np.float32)], axis=1)
    order = np.random.default_rng(0).permutation(pair_ids_P)
    held_out = order[: int(len(order) * HELD_OUT_SHARE)]
    fitted_on = order[len(held_out) :]

    def cosine(ridge: float) -> float:
        mapped = unit(inputs_ND[held_out] @ _ridge(inputs_ND[fitted_on], to_NW[fitted_on], ridge))
        return float((mapped * unit(to_NW[held_out])).sum(axis=1).mean())

    best = max(RIDGES, key=cosine)
    return unit(inputs_ND @ _ridge(inputs_ND[order], to_NW[order], best))


def simple_ways(case: CaseData) -> Iterator[tuple[str, FloatArray, FloatArray]]:
    """(name, queries [Q, D], gallery [N, D]) of the ways that need no fitted network: whitened, joined, a ridge map.

    Raises:
        SettingsError: the case has no queries.
    """
    queries = queries_of(case)
    old_white = fit_whitening(case.old_NO)
    old = Block(query_QD=old_white(queries.old_QO), gallery_ND=old_white(case.old_NO), weight=0.5)
    yield "whitened old", old.query_QD, old.gallery_ND
    yield "ridge", queries.new_QW, ridge_map(case, with_side=False)
    if case.side_NS is None or queries.side_QS is None:
        return
    raw = [
        Block(query_QD=queries.old_QO, gallery_ND=case.old_NO, weight=0.5),
        Block(query_QD=queries.side_QS, gallery_ND=case.side_NS, weight=0.5),
    ]
    yield "fused old + side", *fused(raw)
    side_white = fit_whitening(case.side_NS)
    side = Block(query_QD=side_white(queries.side_QS), gallery_ND=side_white(case.side_NS), weight=0.5)
    yield "fused whitened old + side", *fused([old, side])
    yield "ridge with side", queries.new_QW, ridge_map(case, with_side=True)


def reference_truths(case: CaseData) -> dict[str, dict[str, Any]]:
    """What doing nothing, a full backfill and the simple ways reach on this case, by the name of the way.

    Raises:
        SettingsError: the case has no queries.
    """
    queries, backfill = queries_of(case), backfill_found(case)
    new_white = fit_whitening(case.new_NW)
    ways = {
        "keep": keep_truth(case, backfill),
        "full backfill": backfill_truth(case, backfill),
        "whitened new": truth_of(case, new_white(queries.new_QW), new_white(case.new_NW), backfill),
    }
    for name, query_QD, gallery_ND in simple_ways(case):
        ways[name] = truth_of(case, query_QD, gallery_ND, backfill)
    return {way: {name: _rounded(value) for name, value in asdict(truth).items()} for way, truth in ways.items()}


def with_known(case: CaseData, verdict: str) -> CaseData:
    """The case with what the reference ways reach, and in words what a right verdict says."""
    return replace(case, known={"verdict": verdict, "measured": reference_truths(case)})


def _ridge(inputs_PD: FloatArray, new_PW: FloatArray, ridge: float) -> FloatArray:
    gram_DD = (inputs_PD.T @ inputs_PD).astype(np.float64)
    gram_DD += ridge * np.eye(len(gram_DD)) * np.trace(gram_DD) / len(gram_DD)
    return np.asarray(np.linalg.solve(gram_DD, (inputs_PD.T @ new_PW).astype(np.float64)), np.float32)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
