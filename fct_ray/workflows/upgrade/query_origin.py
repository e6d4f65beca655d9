"""The real queries that an upgrade is judged by, read and checked when it is planned.

Owns: what they must fit: the store's version, the new encoder. Reading the file is storage/query_file. In a store with keys
the ids of what they look for are found by `looked_up`, once there is a cluster; until then numbers stand in for keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from fct_ray.errors import DataError, SettingsError
from fct_ray.evaluation.queries import JudgedQueries
from fct_ray.key_types import UserIds, texts
from fct_ray.kinds import KeyType, QueryRole
from fct_ray.plan.checks import MIN_GATE_PAIRS
from fct_ray.storage import documents, keys, objects
from fct_ray.storage.query_file import QueryFile, read_query_file
from fct_ray.storage.store import Store
from fct_ray.values import Manifest
from fct_ray.workflows.keys import ids_of
from fct_ray.workflows.upgrade.pairs import FloatArray, IntArray, check_ids_in_range


@dataclass(frozen=True, kw_only=True, slots=True)
class RealQueries:
    """Queries by every model that their file has, and what each should find."""

    uri: str
    sha256: str
    """The hash of the file as it was when the upgrade was planned."""
    vectors: Mapping[QueryRole, FloatArray]
    judged: JudgedQueries
    keys: UserIds | None = None
    """Keys whose ids are to be looked up: until then the relevant ids of `judged` are positions in these."""


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
    judged, to_look_up = _judged(file, parent.keys, uri)
    if len(judged) < MIN_GATE_PAIRS:
        raise SettingsError(
            f"{uri}: has {len(judged)} queries; want at least {MIN_GATE_PAIRS} to judge by, 400 are a good start"
        )
    if to_look_up is None:
        check_ids_in_range(np.unique(judged.relevant_ids_R), parent, uri)
    data = objects.read_bytes(uri)
    return RealQueries(uri=uri, sha256=documents.sha256_hex(data), vectors=vectors, judged=judged, keys=to_look_up)


def looked_up(queries: RealQueries | None, store: Store, version: Manifest) -> RealQueries | None:
    """The same queries with the ids of what they look for, where these were keys. Reads the keys of the version.

    Raises:
        DataError: keys that the version does not have.
    """
    if queries is None or queries.keys is None:
        return queries
    ids_U = ids_of(store, version, queries.keys, queries.uri)
    judged = replace(queries.judged, relevant_ids_R=ids_U[queries.judged.relevant_ids_R])
    return replace(queries, judged=judged, keys=None)


def _judged(file: QueryFile, key_type: KeyType | None, uri: str) -> tuple[JudgedQueries, UserIds | None]:
    """The queries and what they look for, and keys whose ids are not known yet."""
    relevant = keys.as_stored(file.relevant, key_type, uri)
    to_look_up = None if key_type is None else relevant.unique()
    if to_look_up is None:
        relevant_ids_R = np.asarray(relevant.to_numpy(), dtype=np.int64)
    else:
        relevant_ids_R = relevant.dictionary_encode().indices.to_numpy().astype(np.int64)
        _refuse_repeated(file, relevant_ids_R, to_look_up, uri)
    judged = JudgedQueries(
        ids_Q=file.ids_Q,
        relevant_offsets_Q1=file.relevant_offsets_Q1,
        relevant_ids_R=relevant_ids_R,
        grades_R=file.grades_R,
        groups_Q=file.groups_Q,
    )
    return judged, to_look_up


def _refuse_repeated(file: QueryFile, relevant_R: IntArray, to_look_up: UserIds, uri: str) -> None:
    query_R = np.repeat(np.arange(len(file.ids_Q)), np.diff(file.relevant_offsets_Q1))
    order = np.lexsort((relevant_R, query_R))
    twice = np.flatnonzero((np.diff(query_R[order]) == 0) & (np.diff(relevant_R[order]) == 0))
    if len(twice):
        at = order[twice[0]]
        key = texts(to_look_up.slice(int(relevant_R[at]), 1))[0]
        raise DataError(f"{uri}: row {query_R[at]}: 'relevant' lists item {key} twice; wanted each item once")
