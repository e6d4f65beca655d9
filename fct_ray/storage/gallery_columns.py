"""Which column of a gallery is what, by names and types alone, and which settings name columns of other names.

    doc_id: string, emb: list<double>, text: string    ->    --columns.id doc_id --columns.embedding emb

Owns: which column is taken for what, and the sentence for one that cannot be used. Which types may hold ids and vectors is
the rule of `adopt` (`key_types`, `foreign_vectors`). A
column that has the format's own name is taken; of others only one that is the only candidate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from fct_ray.gallery_facts import ColumnFacts, Role
from fct_ray.key_types import calls_items
from fct_ray.settings import CheckedSettings
from fct_ray.storage.foreign_vectors import conversion, could_be_vectors
from fct_ray.storage.id_columns import is_name_of_ids
from fct_ray.values import ROW_NUMBERS

_VECTOR_NAMES = {
    "emb", "embs", "embeddings", "vector", "vectors", "vec", "feature", "features", "embed", "dense", "dense_vector",
}  # fmt: skip
_LABEL_NAMES = {"labels", "class", "class_id", "category", "category_id", "target", "y"}


@dataclass(frozen=True, kw_only=True)
class GivenColumns(CheckedSettings):
    """What the columns are called, where they have other names than the format's."""

    id: str | None = None
    """The column of ids; "row": there is none, ids are the positions of the rows. None: find it."""
    embedding: str | None = None
    """The column of vectors. None: find it."""
    side_info: str | None = None
    """The column of side-information. None: `side_info`, if there is one."""
    label: str | None = None
    """The column of labels. None: find it, if there is one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Which column has which role; None: no column has it."""

    id: str | None
    """ROW_NUMBERS where ids are positions."""
    embedding: str | None
    side_info: str | None
    label: str | None
    facts: tuple[ColumnFacts, ...]
    problems: tuple[str, ...]
    """Why an id or an embedding column is missing: the gallery is refused as it is."""
    flags: tuple[str, ...]
    """Settings that name columns whose names are not the format's."""


def find_columns(schema: pa.Schema, names: GivenColumns) -> Columns:
    """The role of every column of `schema`; `names` are those that the user gave."""
    problems: list[str] = []
    id_name, id_why = _id(schema, names.id, problems)
    embedding, embedding_why = _embedding(schema, names.embedding, problems)
    side_info, side_why = _optional(schema, names.side_info, Role.SIDE_INFO, [embedding], problems)
    label, label_why = _label(schema, names.label, [id_name], problems)
    taken = {
        id_name: (Role.ID, id_why),
        embedding: (Role.EMBEDDING, embedding_why),
        side_info: (Role.SIDE_INFO, side_why),
        label: (Role.LABEL, label_why),
    }
    facts = []
    for field in schema:
        role, why = taken.get(field.name, (Role.CARRIED, _why_carried(field, side_info)))
        facts.append(ColumnFacts(name=field.name, type=str(field.type), role=role, why=why))
    found = {Role.ID: id_name, Role.EMBEDDING: embedding, Role.SIDE_INFO: side_info, Role.LABEL: label}
    return Columns(
        id=id_name,
        embedding=embedding,
        side_info=side_info,
        label=label,
        facts=tuple(facts),
        problems=tuple(problems),
        flags=tuple(_flags(found)),
    )


def _id(schema: pa.Schema, given: str | None, problems: list[str]) -> tuple[str | None, str]:
    if given == ROW_NUMBERS and given not in schema.names:
        return ROW_NUMBERS, "as you say: positions of rows"
    if given is not None:
        return _given(schema, given, Role.ID, _may_be_ids, problems), "as you say"
    if "id" in schema.names:
        if _may_be_ids(schema.field("id")):
            return "id", "by its name"
        problems.append(f"column 'id' is {schema.field('id').type}; wanted whole numbers, text or UUIDs. Cast it")
        return None, ""
    fields = [field for field in schema if _may_be_ids(field)]
    usual = [field.name for field in fields if is_name_of_ids(field.name)]
    candidates = usual or [field.name for field in fields if pa.types.is_integer(field.type)]
    if len(candidates) == 1:
        return candidates[0], "the only candidate"
    what = f"{len(candidates)} could be it: {_listed(candidates)}" if candidates else "none looks like one"
    problems.append(
        f"no column 'id', and {what}; name yours with --columns.id NAME, or take the rows' positions with "
        f"--columns.id {ROW_NUMBERS}"
    )
    return None, ""


def _embedding(schema: pa.Schema, given: str | None, problems: list[str]) -> tuple[str | None, str]:
    if given is not None:
        return _given(schema, given, Role.EMBEDDING, could_be_vectors, problems), "as you say"
    if "embedding" in schema.names:
        kind = schema.field("embedding").type
        if could_be_vectors(schema.field("embedding")):
            return "embedding", "by its name"
        problems.append(
            f"column 'embedding' is {kind}; wanted one list of float numbers per row. {conversion(kind, 'embedding')}"
        )
        return None, ""
    vectors = [field.name for field in schema if could_be_vectors(field) and field.name != "side_info"]
    usual = [name for name in vectors if name.lower() in _VECTOR_NAMES]
    candidates = usual if len(usual) == 1 else vectors
    if len(candidates) == 1:
        return candidates[0], "the only candidate"
    what = f"{len(candidates)} hold vectors: {_listed(candidates)}" if candidates else "none holds lists of numbers"
    problems.append(
        f"no column 'embedding', and {what}; name yours with --columns.embedding NAME. {_hint(schema)}".strip()
    )
    return None, ""


def _optional(
    schema: pa.Schema, given: str | None, role: Role, others: Sequence[str | None], problems: list[str]
) -> tuple[str | None, str]:
    if given is not None:
        return _given(schema, given, role, could_be_vectors, problems), "as you say"
    name = role.value
    found = name in schema.names and name not in others and could_be_vectors(schema.field(name))
    return (name, "by its name") if found else (None, "")


def _label(
    schema: pa.Schema, given: str | None, others: Sequence[str | None], problems: list[str]
) -> tuple[str | None, str]:
    if given is not None:
        return _given(schema, given, Role.LABEL, lambda field: not could_be_vectors(field), problems), "as you say"
    if "label" in schema.names:
        return "label", "by its name"
    candidates = [
        field.name
        for field in schema
        if field.name.lower() in _LABEL_NAMES and field.name not in others and pa.types.is_integer(field.type)
    ]
    return (candidates[0], "the only candidate") if len(candidates) == 1 else (None, "")


def _given(
    schema: pa.Schema, name: str, role: Role, is_possible: Callable[[pa.Field], bool], problems: list[str]
) -> str | None:
    flag = f"--columns.{role.value.replace('_', '-')} {name}"
    if schema.names.count(name) != 1:
        problems.append(f"{flag}: {schema.names.count(name)} columns of this name; there are {_listed(schema.names)}")
        return None
    kind = schema.field(name).type
    if not is_possible(schema.field(name)):
        advice = conversion(kind, name) if role in (Role.EMBEDDING, Role.SIDE_INFO) else ""
        problems.append(f"{flag}: its type is {kind}, which cannot be the {role.value}. {advice}".strip())
        return None
    return name


def _flags(found: dict[Role, str | None]) -> Iterable[str]:
    for role, name in found.items():
        if name is not None and name != role.value:
            yield f"--columns.{role.value.replace('_', '-')} {name}"


def _why_carried(field: pa.Field, side_info: str | None) -> str:
    if could_be_vectors(field) and side_info is None:
        return f"carried as it is; --columns.side-info {field.name} makes it side-information"
    return "carried as it is"


def _hint(schema: pa.Schema) -> str:
    """The conversion of the first column whose name says that it has vectors."""
    named = [field for field in schema if field.name.lower() in _VECTOR_NAMES]
    return conversion(named[0].type, named[0].name) if named else ""


def _may_be_ids(field: pa.Field) -> bool:
    return calls_items(field.type)


def _listed(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(repr(name) for name in names[:most]) + (", ..." if len(names) > most else "")
