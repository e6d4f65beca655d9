"""Which stored vectors of a version are true ones, seen from the version itself: for edits, which keep only some rows.

Owns: that comparison with the file of true vectors of the version's model, and the check of that file. Imports no torch:
most edits need none.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fct_ray.errors import FormatError
from fct_ray.models.true_vectors import KnownRows, are_in
from fct_ray.shards.encoder_names import read_document
from fct_ray.shards.query_maps import query_map_at
from fct_ray.storage import documents, objects, true_vector_files
from fct_ray.storage.true_vector_files import TrueVectorFile


def were_purged(model_uri: str) -> bool:
    """Whether a model has a file of true vectors that was deleted with items they may be of."""
    named = read_document(model_uri).true_vectors_sha256 is not None
    return named and not objects.exists(objects.join(model_uri, true_vector_files.NAME))


def num_true_rows(model_uri: str, ids_N: npt.NDArray[np.int64], vectors_NV: npt.NDArray[np.float32]) -> int | None:
    """How many of these rows of a version hold the true vector that the model directory has for their id.

    None: nobody knows, because the file was purged with deleted items.
    """
    document = read_document(model_uri)
    if document.true_vectors_sha256 is None:
        return 0
    if were_purged(model_uri):
        return None
    true = TrueVectorFile(objects.join(model_uri, true_vector_files.NAME))
    rows_K = np.flatnonzero(np.isin(ids_N, true.ids_T))
    rows_K = rows_K[np.argsort(ids_N[rows_K], kind="stable")]
    if len(rows_K) == 0:
        return 0
    known = KnownRows(rows_K=rows_K, new_KW=true.vectors(np.searchsorted(true.ids_T, ids_N[rows_K])))
    return int(are_in(vectors_NV, known, query_map_at(model_uri), normalized=document.normalized).sum())


def check_true_vectors(model_uri: str) -> None:
    """Read the whole file of true vectors of a model directory, if it has one that was not purged with deleted items.

    Raises:
        FormatError: it is not the one that model.json names.
    """
    wanted = read_document(model_uri).true_vectors_sha256
    if wanted is None or were_purged(model_uri):
        return
    uri = objects.join(model_uri, true_vector_files.NAME)
    seen = documents.sha256_hex(objects.read_bytes(uri))
    if seen != wanted:
        raise FormatError(
            f"{uri}: sha256 is {seen}, model.json wants {wanted}: the file was damaged or replaced after it was written; "
            "restore it, or roll back (fct-ray store rollback)"
        )
