"""A version's vectors from stored rows: what everybody computes them by who writes, checks or samples a version.

    old, side --> the way's model --> vectors_NV --> true vectors of some rows put in --> vectors_NV

Owns: opening a way's model directory, with the file of true vectors where there is one, and that order. Legend: N rows,
O dim of old, S of side-information, V of the version.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fct_ray.kinds import Precision
from fct_ray.models.transformation_runner import TransformRunner
from fct_ray.models.true_vectors import KnownRows, matching, put_in
from fct_ray.shards.model_directory import load_model
from fct_ray.shards.query_maps import query_map_at
from fct_ray.storage import objects, true_vector_files
from fct_ray.storage.true_vector_files import TrueVectorFile
from fct_ray.values import Usage

FloatArray = npt.NDArray[np.float32]
NOTHING_KNOWN = KnownRows(rows_K=np.empty(0, np.int64), new_KW=np.empty((0, 0), np.float32))


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeVectors:
    """Vectors of a version, and what making them took."""

    vectors_NV: FloatArray
    true_N: npt.NDArray[np.bool_]
    """Which of the rows hold what the new model says, rather than what the map makes of old vectors."""
    usage: Usage


class VersionVectors:
    """The model of a way and its true vectors, ready to run; made once per process."""

    def __init__(self, uri: str, *, batch_rows: int, precision: Precision, purged: bool = False) -> None:
        """`purged`: the file of true vectors may have been deleted with items; without it the map makes every vector.

        Raises ModelError, FormatError, NotFoundError: a file of the model directory is damaged or gone.
        """
        model = load_model(uri)
        self.runner = TransformRunner(model, batch_rows=batch_rows, precision=precision)
        self.queries, self.normalized = query_map_at(uri), model.document.normalized
        self.true: TrueVectorFile | None = None
        if model.document.true_vectors_sha256 is not None:
            file = objects.join(uri, true_vector_files.NAME)
            self.true = None if purged and not objects.exists(file) else TrueVectorFile(file)

    def known(self, ids_N: npt.NDArray[np.int64], old_NO: FloatArray) -> KnownRows:
        """Which of these rows have a true vector, and theirs, read from the file."""
        if self.true is None:
            return NOTHING_KNOWN
        rows_K, positions_K = matching(self.true.ids_T, self.true.old_crc32_T, ids_N, old_NO)
        if len(rows_K) == 0:
            return NOTHING_KNOWN
        order = np.argsort(positions_K, kind="stable")
        return KnownRows(rows_K=rows_K[order], new_KW=self.true.vectors(positions_K[order]))

    def make(self, old_NO: FloatArray, side_NS: FloatArray | None, known: KnownRows) -> MadeVectors:
        """The version's vectors of these rows, with what is known of them put in."""
        vectors_NV, usage = self.runner.run(old_NO, side_NS)
        put_in(vectors_NV, known, self.queries, normalized=self.normalized)
        true_N = np.zeros(len(old_NO), dtype=bool)
        true_N[known.rows_K] = True
        usage += Usage(bytes_read=known.new_KW.nbytes)
        return MadeVectors(vectors_NV=vectors_NV, true_N=true_N, usage=usage)

    def of_rows(self, ids_N: npt.NDArray[np.int64], old_NO: FloatArray, side_NS: FloatArray | None) -> MadeVectors:
        """Both steps, for who has nothing to do between them."""
        return self.make(old_NO, side_NS, self.known(ids_N, old_NO))
