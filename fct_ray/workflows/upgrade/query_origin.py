"""The real queries that an upgrade is judged by, read and checked when it is planned.

Owns: what they must fit: the store's version, the new encoder. Reading the file is storage/query_file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fct_ray.errors import SettingsError
from fct_ray.evaluation.queries import JudgedQueries
from fct_ray.kinds import QueryRole
from fct_ray.plan.checks import MIN_GATE_PAIRS
from fct_ray.storage import documents, objects
from fct_ray.storage.query_file import read_query_file
from fct_ray.values import Manifest
from fct_ray.workflows.upgrade.pairs import FloatArray, check_ids_in_range


@dataclass(frozen=True, kw_only=True, slots=True)
class RealQueries:
    """Queries by every model that their file has, and what each should find."""

    uri: str
    sha256: str
    """The hash of the file as it was when the upgrade was planned."""
    vectors: Mapping[QueryRole, FloatArray]
    judged: JudgedQueries


def real_queries(uri: str | None, parent: Manifest, new_dimension: int) -> RealQueries | None:
    """The queries of a file; None where none is given.

    Raises:
        SettingsError: they do not fit the version or the new encoder, or are too few.
        DataError: relevant items that the store does not have.
        FormatError: the file lacks columns, or a value in it cannot be used.
    """
    if uri is None:
        return None
    if parent.queries:
        names = ", ".join(f"{query.encoder.name} ({query.role})" for query in parent.queries)
        raise SettingsError(
            f"{uri}: version {parent.version} has vectors that are joined of several models' ({names}), which a file of real "
            "queries cannot name: roll back to the version before (fct-ray store rollback) and upgrade that one, or leave "
            "--queries out"
        )
    file = read_query_file(uri)
    wanted = {
        QueryRole.OLD: parent.dimension,
        QueryRole.NEW: new_dimension,
        QueryRole.SIDE: None if parent.side_info is None else parent.side_info.dimension,
    }
    given = {QueryRole.OLD: file.old_QD, QueryRole.NEW: file.new_QW, QueryRole.SIDE: file.side_QS}
    vectors = {role: array for role, array in given.items() if array is not None and wanted[role] is not None}
    if QueryRole.OLD not in vectors:
        raise SettingsError(
            f"{uri}: has no column `old`; want the queries' embeddings by {parent.encoder.name}: without them nothing can be "
            "held against doing nothing"
        )
    for role, array in vectors.items():
        if array.shape[1] != wanted[role]:
            raise SettingsError(
                f"{uri}: column `{role}` has dimension {array.shape[1]}; want {wanted[role]}: embed the queries with the "
                f"{role} model of this upgrade"
            )
    judged = JudgedQueries(
        ids_Q=file.ids_Q,
        relevant_offsets_Q1=file.relevant_offsets_Q1,
        relevant_ids_R=file.relevant_ids_R,
        grades_R=file.grades_R,
        groups_Q=file.groups_Q,
    )
    if len(judged) < MIN_GATE_PAIRS:
        raise SettingsError(
            f"{uri}: has {len(judged)} queries; want at least {MIN_GATE_PAIRS} to judge by, 400 are a good start"
        )
    check_ids_in_range(np.unique(judged.relevant_ids_R), parent, uri)
    data = objects.read_bytes(uri)
    return RealQueries(uri=uri, sha256=documents.sha256_hex(data), vectors=vectors, judged=judged)
