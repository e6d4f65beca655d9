"""Statistics of the vectors of a gallery, added up batch by batch in bounded memory.

Owns: what is counted of all rows, and the random rows that are kept for what needs them together (norms, spectrum, spaces).
Knows no files. Array legend: N rows, D numbers of a vector, M kept rows.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fct_ray.gallery_facts import VectorFacts

FloatArray = npt.NDArray[np.float32]
UNIT_TOLERANCE = 1e-3
"""What float16 and other libraries leave of a length of 1; shorter vectors count as zero."""
CONSTANT = 1e-3
"""A number that varies by less than this part of what is usual among the others counts as constant."""
SPECTRUM_ROWS, SPECTRUM_AXES, HISTOGRAM_STEPS = 2_048, 64, 40
QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)


class VectorStatistics:
    """Adds batches up; `facts` says what they hold."""

    def __init__(self, dimension: int, *, kept_rows: int, seed: int) -> None:
        """At most `kept_rows` rows are kept, each with the same chance."""
        self.dimension, self.kept_rows = dimension, kept_rows
        self._draw = np.random.default_rng((seed, dimension))
        self._factors_D = self._draw.integers(1, 2**63, size=dimension, dtype=np.uint64) | np.uint64(1)
        self._hashes: list[npt.NDArray[np.uint64]] = []
        self._counts = dict.fromkeys(("rows", "nulls", "other", "nan", "infinite", "zeros", "unit"), 0)
        self._sum_D, self._squares_D = np.zeros(dimension), np.zeros(dimension)
        self._norm_min, self._norm_max = np.inf, 0.0
        self._tickets_M = np.empty(0)
        self._kept_MD = np.empty((0, dimension), np.float32)
        self._places_M2 = np.empty((0, 2), np.int64)

    def add(
        self,
        vectors_ND: FloatArray,
        places_N2: npt.NDArray[np.int64],
        *,
        num_rows: int,
        nulls: int,
        other_dimension: int,
    ) -> None:
        """A batch of `num_rows` rows, N of them with a vector of the right dimension.

        `places_N2` has (number of the object, position in it) of each of the N rows.
        """
        infinite_N = np.isinf(vectors_ND).any(axis=1)
        nan_N = np.isnan(vectors_ND).any(axis=1) & ~infinite_N
        finite_ND = vectors_ND[~(infinite_N | nan_N)]
        places_N2 = places_N2[~(infinite_N | nan_N)]
        norms_N = np.linalg.norm(finite_ND.astype(np.float64), axis=1)
        zeros_N = norms_N < UNIT_TOLERANCE * min(1.0, float(np.median(norms_N)) if len(norms_N) else 1.0)
        unit_N = np.abs(norms_N - 1) < UNIT_TOLERANCE
        found = (num_rows, nulls, other_dimension, nan_N.sum(), infinite_N.sum(), zeros_N.sum(), unit_N.sum())
        for name, count in zip(self._counts, found, strict=True):
            self._counts[name] += int(count)
        useful_ND = finite_ND[~zeros_N]
        if not len(useful_ND):
            return
        self._sum_D += useful_ND.sum(axis=0, dtype=np.float64)
        self._squares_D += np.square(useful_ND, dtype=np.float64).sum(axis=0)
        self._norm_min = min(self._norm_min, float(norms_N[~zeros_N].min()))
        self._norm_max = max(self._norm_max, float(norms_N.max()))
        words_ND = np.ascontiguousarray(useful_ND + np.float32(0)).view(np.uint32).astype(np.uint64)  # -0 becomes 0
        self._hashes.append(words_ND @ self._factors_D)
        self._keep(useful_ND, places_N2[~zeros_N])

    def kept(self) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        """The kept rows [M, D] and their places [M, 2], in the order of their places; zero vectors are none of them."""
        order_M = np.lexsort((self._places_M2[:, 1], self._places_M2[:, 0]))
        return self._kept_MD[order_M], self._places_M2[order_M]

    def facts(self) -> VectorFacts:
        """What all batches hold."""
        counts, kept_MD = self._counts, self.kept()[0]
        norms_M = np.linalg.norm(kept_MD.astype(np.float64), axis=1)
        variances = spectrum(kept_MD)
        hashes = np.concatenate(self._hashes) if self._hashes else np.empty(0, np.uint64)
        norm_min = self._norm_min if len(hashes) else 0.0
        limits = (norm_min, max(self._norm_max, norm_min * (1 + UNIT_TOLERANCE) + 1e-12))
        total = variances.sum()
        return VectorFacts(
            num_rows=counts["rows"],
            dimension=self.dimension,
            nulls=counts["nulls"],
            other_dimension=counts["other"],
            nan=counts["nan"],
            infinite=counts["infinite"],
            zeros=counts["zeros"],
            repeated=len(hashes) - len(np.unique(hashes)),
            unit=counts["unit"],
            norm_min=norm_min,
            norm_max=self._norm_max,
            norm_quantiles=tuple(float(q) for q in np.quantile(norms_M, QUANTILES)) if len(norms_M) else (0.0,) * 5,
            constant_dimensions=self._constant_dimensions(len(hashes)),
            mean_length=float(np.linalg.norm(unit(kept_MD).mean(axis=0))) if len(kept_MD) else 0.0,
            effective_dimensions=float(total**2 / np.square(variances).sum()) if total > 0 else 0.0,
            spectrum=tuple((variances / total)[:SPECTRUM_AXES].tolist()) if total > 0 else (),
            histogram_step=(limits[1] - limits[0]) / HISTOGRAM_STEPS,
            histogram=tuple(np.histogram(norms_M, HISTOGRAM_STEPS, limits)[0].tolist()),
        )

    def _keep(self, vectors_ND: FloatArray, places_N2: npt.NDArray[np.int64]) -> None:
        tickets_N = self._draw.random(len(vectors_ND))
        worst = self._tickets_M.max(initial=0.0) if len(self._tickets_M) >= self.kept_rows else 1.0
        lucky_N = tickets_N < worst
        tickets = np.concatenate([self._tickets_M, tickets_N[lucky_N]])
        vectors = np.concatenate([self._kept_MD, vectors_ND[lucky_N]])
        places = np.concatenate([self._places_M2, places_N2[lucky_N]])
        if len(tickets) > self.kept_rows:
            best = np.argpartition(tickets, self.kept_rows)[: self.kept_rows]
            tickets, vectors, places = tickets[best], vectors[best], places[best]
        self._tickets_M, self._kept_MD, self._places_M2 = tickets, vectors, places

    def _constant_dimensions(self, num_rows: int) -> int:
        if num_rows < 2:
            return 0
        variances_D = np.maximum(self._squares_D / num_rows - np.square(self._sum_D / num_rows), 0)
        deviations_D = np.sqrt(variances_D)
        return int((deviations_D <= CONSTANT * np.median(deviations_D)).sum()) if deviations_D.any() else self.dimension


def spectrum(vectors_MD: FloatArray) -> npt.NDArray[np.float64]:
    """Variances along the principal axes, largest first, of at most SPECTRUM_ROWS of the rows in equal steps."""
    step = max(-(-len(vectors_MD) // SPECTRUM_ROWS), 1)
    rows_MD = vectors_MD[::step].astype(np.float64)
    if len(rows_MD) < 2:
        return np.zeros(1)
    rows_MD -= rows_MD.mean(axis=0)
    gram = rows_MD.T @ rows_MD if rows_MD.shape[1] <= len(rows_MD) else rows_MD @ rows_MD.T
    return np.asarray(np.maximum(np.linalg.eigvalsh(gram)[::-1], 0) / (len(rows_MD) - 1))


def unit(vectors_ND: FloatArray) -> FloatArray:
    """Directions: every row divided by its length; zero vectors stay."""
    norms_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return np.asarray(vectors_ND / np.where(norms_N1 > 0, norms_N1, 1), dtype=np.float32)
