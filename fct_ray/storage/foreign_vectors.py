"""Vectors as other tools keep them: views of lists, tensors, and what is no vector at all.

    list, large_list, fixed_size_list                       as they are
    list_view, large_list_view                              as large_list
    Arrow's fixed_shape_tensor, Ray Data's tensors          the list that they are stored as, if it is one vector a row
    binary codes, bytes, text, whole numbers, ...           refused, with the way to convert them

Owns: that table, by types and the metadata of fields alone: neither Ray nor any other tool is imported. `vector_columns`
turns lists into arrays.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fct_ray.errors import FormatError
from fct_ray.storage.vector_columns import FLOATS, ArrowArray, ArrowField

EXTENSION_NAME, _EXTENSION_SHAPE = b"ARROW:extension:name", b"ARROW:extension:metadata"
NUMBERS = (*FLOATS, pa.int8())
"""What a number of a vector may be; int8 needs a scale in the metadata of its field."""


def vector_lists(column: ArrowArray, field: ArrowField, uri: str) -> ArrowArray:
    """A column of vectors as list, large_list or fixed_size_list of NUMBERS. Raises FormatError: it holds no vectors."""
    check_vectors(field, uri)
    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], type=column.type.storage_type)
    if _is_ragged_tensor(column.type):
        if pc.any(pc.not_equal(pc.list_value_length(pc.struct_field(column, "shape")), 1)).as_py():
            raise FormatError(
                f"{uri}: column {field.name!r} holds tensors of several dimensions; wanted one vector a row"
            )
        column = pc.struct_field(column, "data")
    if _is_view(column.type):
        kind: Any = pa.large_list(column.type.value_type)
        column = pa.chunked_array([_list_of(chunk) for chunk in column.chunks], type=kind)
    return column


def check_vectors(field: ArrowField, uri: str) -> None:
    """Refuse a column that holds no vectors of numbers, by its type alone. Raises FormatError: says how to convert it."""
    kind, name = field.type, field.name
    shape = _shape(field)
    if shape is not None and math.prod(shape) != max(shape, default=1):
        raise FormatError(
            f"{uri}: column {name!r} holds tensors of shape {tuple(shape)}; wanted one vector a row: reshape them to "
            f"({math.prod(shape)},) or keep the row that counts, and write the file again"
        )
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    if _is_ragged_tensor(kind):
        kind = kind.field("data").type
    if is_any_list(kind) and kind.value_type in NUMBERS:
        return
    raise FormatError(
        f"{uri}: column {name!r} is {field.type}; wanted lists of float32, one a row. {conversion(kind, name)}"
    )


def could_be_vectors(field: ArrowField) -> bool:
    """Whether a column may hold vectors, by its type."""
    try:
        check_vectors(field, "")
    except FormatError:
        return False
    return True


def is_any_list(kind: pa.DataType) -> bool:
    """Whether a type is one of Arrow's list types."""
    is_plain = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return is_plain or _is_view(kind)


def _is_view(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind))


def _list_of(view: ArrowArray) -> ArrowArray:
    """A view of lists as lists: pyarrow 25 casts the ones that Parquet files hold to arrays without a last offset."""
    lengths = pc.list_value_length(view).fill_null(0).cast(pa.int64()).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    return pa.LargeListArray.from_arrays(offsets, view.flatten(), mask=view.is_null() if view.null_count else None)


def _is_ragged_tensor(kind: pa.DataType) -> bool:
    """Ray Data's tensors of varying shape: the numbers and the shape of each, side by side."""
    return bool(pa.types.is_struct(kind)) and [kind.field(at).name for at in range(kind.num_fields)] == [
        "data",
        "shape",
    ]


def _shape(field: ArrowField) -> list[int] | None:
    """The shape of each row of a tensor column, where the file says it; None: it does not."""
    if isinstance(field.type, pa.FixedShapeTensorType):
        return list(field.type.shape)
    metadata = field.metadata or {}
    text: Any = metadata.get(_EXTENSION_SHAPE)
    if isinstance(field.type, pa.BaseExtensionType):
        shape = getattr(field.type, "shape", None)  # Ray's types, where a process has imported Ray Data
        return list(shape) if isinstance(shape, tuple | list) and all(isinstance(size, int) for size in shape) else None
    if text is None or b"tensor" not in metadata.get(EXTENSION_NAME, b""):
        return None
    try:
        said = json.loads(text)
    except ValueError:  # other serialisations are not looked into: they may run code
        return None
    shape = said.get("shape") if isinstance(said, dict) else said
    return shape if isinstance(shape, list) and all(isinstance(size, int) for size in shape) else None


def conversion(kind: pa.DataType, name: str) -> str:
    """How to make vectors of what a column holds instead: one sentence."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return (
            "Read the text as JSON once: import json, pandas; t = pandas.read_parquet('OLD.parquet'); "
            f"t[{name!r}] = t[{name!r}].map(json.loads); t.to_parquet('NEW.parquet')"
        )
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return (
            "If the bytes are float32 numbers, unfold them once: import numpy, pandas; t = pandas.read_parquet("
            f"'OLD.parquet'); t[{name!r}] = t[{name!r}].map(lambda b: numpy.frombuffer(b, 'float32')); "
            "t.to_parquet('NEW.parquet')"
        )
    value = kind.value_type if is_any_list(kind) else kind
    if pa.types.is_boolean(value) or pa.types.is_uint8(value) or pa.types.is_fixed_size_binary(value):
        return (
            "Binary codes are compared by their bits, which no metric here does: unpack them to -1 and 1 once with "
            f"2.0 * numpy.unpackbits(numpy.array(codes, 'uint8'), axis=-1) - 1 (in the column {name!r}, float32) and adopt "
            "them with --metric ip, or adopt the vectors that they were made of"
        )
    if is_any_list(kind) and (pa.types.is_integer(value) or pa.types.is_decimal(value)):
        return (
            f"Cast the numbers of {name!r} to float32, times the scale that they were rounded with, and write it again"
        )
    return "Write the vectors so, one list per row, or name the column that holds them with --columns.embedding"
