"""Which column of a gallery is what, by names and types alone, and which settings name columns of other names.

    doc_id: string, emb: list<double>, text: string    ->    --columns.id doc_id --columns.embedding emb

Owns: which types may hold ids and vectors, which names are usual, and the sentence for a column that cannot be used. A
column that has the format's own name is taken; of others only one that is the only candidate.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from fct_ray.gallery_facts import ColumnFacts, Role
from fct_ray.storage.vector_columns import FLOATS

ROW_NUMBERS = "row"
"""What is given for the id column of objects without one: ids are then the positions of the rows."""
_ID_NAMES = {
    "_id", "uid", "uuid", "guid", "key", "pk", "ids", "idx", "index", "item", "document", "row", "sku", "asin",
}  # fmt: skip
"""Besides all that end with `_id`."""
_VECTOR_NAMES = {
    "emb", "embs", "embeddings", "vector", "vectors", "vec", "feature", "features", "embed", "dense", "dense_vector",
}  # fmt: skip
_LABEL_NAMES = {"labels", "class", "class_id", "category", "category_id", "target", "y"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnNames:
    """What the columns are called; None: find out."""

    id: str | None = None
    embedding: str | None = None
    side_info: str | None = None
    label: str | None = None


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


def find_columns(schema: pa.Schema, names: ColumnNames) -> Columns:
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


def vector_value_type(kind: pa.DataType) -> pa.DataType | None:
    """The type of one number of a column of vectors; None where the type holds no lists."""
    if isinstance(kind, pa.FixedShapeTensorType):
        return kind.value_type
    lists = (
        pa.types.is_list,
        pa.types.is_large_list,
        pa.types.is_fixed_size_list,
        pa.types.is_list_view,
        pa.types.is_large_list_view,
    )
    return kind.value_type if any(is_one(kind) for is_one in lists) else None


def is_id_type(kind: pa.DataType) -> bool:
    """Whether ids may have this type: whole numbers, text, UUIDs and other short bytes."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if isinstance(kind, pa.ExtensionType | pa.BaseExtensionType):
        kind = kind.storage_type
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    others = (pa.types.is_integer, pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(is_one(kind) for is_one in (*texts, *others))


def _is_vector(kind: pa.DataType) -> bool:
    value = vector_value_type(kind)
    return value is not None and (value in FLOATS or pa.types.is_int8(value))


def _id(schema: pa.Schema, given: str | None, problems: list[str]) -> tuple[str | None, str]:
    if given == ROW_NUMBERS and given not in schema.names:
        return ROW_NUMBERS, "as you say: positions of rows"
    if given is not None:
        return _given(schema, given, Role.ID, is_id_type, problems), "as you say"
    if "id" in schema.names:
        if is_id_type(schema.field("id").type):
            return "id", "by its name"
        problems.append(f"column 'id' is {schema.field('id').type}; wanted whole numbers, text or UUIDs. Cast it")
        return None, ""
    fields = [field for field in schema if is_id_type(field.type)]
    usual = [field.name for field in fields if field.name.lower() in _ID_NAMES or field.name.lower().endswith("_id")]
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
        return _given(schema, given, Role.EMBEDDING, _is_vector, problems), "as you say"
    if "embedding" in schema.names:
        kind = schema.field("embedding").type
        if _is_vector(kind):
            return "embedding", "by its name"
        problems.append(f"column 'embedding' is {kind}; wanted one list of float numbers per row. {_conversion(kind)}")
        return None, ""
    vectors = [field.name for field in schema if _is_vector(field.type) and field.name != "side_info"]
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
        return _given(schema, given, role, _is_vector, problems), "as you say"
    name = role.value
    found = name in schema.names and name not in others and _is_vector(schema.field(name).type)
    return (name, "by its name") if found else (None, "")


def _label(
    schema: pa.Schema, given: str | None, others: Sequence[str | None], problems: list[str]
) -> tuple[str | None, str]:
    if given is not None:
        return _given(schema, given, Role.LABEL, lambda kind: vector_value_type(kind) is None, problems), "as you say"
    if "label" in schema.names:
        return "label", "by its name"
    candidates = [
        field.name
        for field in schema
        if field.name.lower() in _LABEL_NAMES and field.name not in others and pa.types.is_integer(field.type)
    ]
    return (candidates[0], "the only candidate") if len(candidates) == 1 else (None, "")


def _given(schema: pa.Schema, name: str, role: Role, is_possible: object, problems: list[str]) -> str | None:
    flag = f"--columns.{role.value.replace('_', '-')} {name}"
    if schema.names.count(name) != 1:
        problems.append(f"{flag}: {schema.names.count(name)} columns of this name; there are {_listed(schema.names)}")
        return None
    kind = schema.field(name).type
    if not (callable(is_possible) and is_possible(kind)):
        problems.append(f"{flag}: its type is {kind}, which cannot be the {role.value}. {_conversion(kind)}".strip())
        return None
    return name


def _flags(found: dict[Role, str | None]) -> Iterable[str]:
    for role, name in found.items():
        if name is not None and name != role.value:
            yield f"--columns.{role.value.replace('_', '-')} {name}"


def _why_carried(field: pa.Field, side_info: str | None) -> str:
    if _is_vector(field.type) and side_info is None:
        return f"carried as it is; --columns.side-info {field.name} makes it side-information"
    return "carried as it is"


def _conversion(kind: pa.DataType) -> str:
    """How a column of this type becomes one of vectors, in a sentence."""
    value = vector_value_type(kind)
    if value is not None and pa.types.is_integer(value):
        return (
            "Binary or scaled codes must be unpacked to floats first: numpy.unpackbits(codes, axis=1), or codes * scale"
        )
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return "If the bytes are numbers, numpy.frombuffer(value, 'float32') makes a list of each"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "If the text is a list, json.loads(value) makes a list of each"
    return ""


def _hint(schema: pa.Schema) -> str:
    """The conversion of the first column whose name says that it has vectors."""
    named = [field.type for field in schema if field.name.lower() in _VECTOR_NAMES]
    return _conversion(named[0]) if named else ""


def _listed(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(repr(name) for name in names[:most]) + (", ..." if len(names) > most else "")
