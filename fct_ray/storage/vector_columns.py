"""Columns of vectors: Arrow lists in, float32 arrays out, and back.

Owns: which Arrow types may hold vectors, what is refused (naming object and row), how float16 and int8 become float32
and back, and whether vectors are normalized. Array legend: N rows, D numbers of a vector.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fct_ray.errors import DataError, FormatError

NORM_TOLERANCE = 1e-3
FloatArray = npt.NDArray[np.float32]
ArrowArray: TypeAlias = Any  # pyarrow's own annotations differ between its versions
ArrowField: TypeAlias = Any
FLOATS = (pa.float32(), pa.float16(), pa.float64())
ARROW_TYPES: dict[str, Any] = {"float32": pa.float32(), "float16": pa.float16(), "int8": pa.int8()}
"""The types in which a store keeps side-information, by their names in a manifest."""


def single_column(table: pa.Table, name: str, uri: str) -> ArrowArray:
    """The column of this name in one piece. Raises FormatError if there is none, or more than one."""
    count = table.column_names.count(name)
    if count != 1:
        raise FormatError(
            f"{uri}: {count} columns named {name!r} among {table.column_names}; wanted exactly one. Rename the column, "
            "or write it with the data"
        )
    column: ArrowArray = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def vectors_of(
    table: pa.Table, name: str, uri: str, dimension: int | None, allowed: tuple[pa.DataType, ...]
) -> FloatArray:
    """The vectors of a column as float32 [N, D], C-contiguous; a view of the table's memory where it holds plain float32.

    `dimension` is the wanted D (None: what is there), `allowed` the types that a number may have. int8 is multiplied by
    the scale in the field's metadata. `uri` names the object in errors.

    Raises:
        FormatError: there is no such column, or it has another type or dimension.
        DataError: a null, NaN or infinite value; names the row.
    """
    column = single_column(table, name, uri)
    if not is_list(column.type) or column.type.value_type not in allowed:
        kinds = ", ".join(str(kind) for kind in allowed)
        raise FormatError(
            f"{uri}: column {name!r} is {column.type}; wanted a fixed_size_list of {kinds}"
            f"{f' of {dimension} values' if dimension else ''}. Write the vectors so, one list per row"
        )
    if column.null_count:
        raise DataError(f"{uri}: row {first_true(column.is_null())}: {name!r} is null; wanted a vector in every row")
    seen = _width(column, name, uri)
    if seen < 1 and len(column):
        raise FormatError(f"{uri}: column {name!r} has vectors without values; wanted 1 or more. Embed the items again")
    if dimension is not None and seen != dimension and len(column):
        raise FormatError(
            f"{uri}: column {name!r} has vectors of dimension {seen}; wanted {dimension}. Was it made by another model?"
        )
    values = column.flatten()
    if values.null_count:
        row = first_true(values.is_null()) // seen
        raise DataError(f"{uri}: row {row}: {name!r} holds a null; wanted {seen} finite numbers")
    vectors = values.to_numpy(zero_copy_only=True).reshape(len(column), seen)
    decoded = _decoded(vectors, table.schema.field(name), uri)
    _check_finite(decoded, name, uri)
    return decoded


def are_normalized(vectors_ND: FloatArray) -> bool:
    """Whether all vectors [N, D] have length 1, but for zero vectors; see `without_unit_length`."""
    return not without_unit_length(vectors_ND).any()


def without_unit_length(vectors_ND: FloatArray) -> npt.NDArray[np.bool_]:
    """Which vectors have neither length 1 nor length 0, bool [N].

    NORM_TOLERANCE is what float16 and other libraries leave of a length of 1. A zero vector has no direction and cannot
    be scaled to length 1: models that normalize give it for items in which they see nothing (an empty text), so it does
    not say that a model does not normalize.
    """
    lengths_N = np.linalg.norm(vectors_ND, axis=1)
    return np.asarray((np.abs(lengths_N - 1) >= NORM_TOLERANCE) & (lengths_N >= NORM_TOLERANCE))


def is_list(kind: pa.DataType) -> bool:
    """Whether a column of this type may hold vectors."""
    return bool(pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind))


def vector_array(vectors_ND: npt.NDArray[Any], dtype: str) -> ArrowArray:
    """Vectors [N, D] as fixed-size lists of `dtype`, one of ARROW_TYPES."""
    flat = np.ascontiguousarray(vectors_ND, dtype=dtype).reshape(-1)
    # "element" is what Parquet calls it: so a table read back equals the one written, and encodes to the same bytes.
    kind: Any = pa.list_(pa.field("element", ARROW_TYPES[dtype]), vectors_ND.shape[1])
    return pa.FixedSizeListArray.from_arrays(pa.array(flat, ARROW_TYPES[dtype]), type=kind)


def vector_column(vectors_ND: FloatArray, name: str, dtype: str) -> tuple[ArrowField, ArrowArray]:
    """(field, array) of a column `name` that holds vectors [N, D] as `dtype`, one of ARROW_TYPES.

    int8 gets one scale for the whole column, in the field's metadata.
    """
    if dtype != "int8":
        values = vector_array(vectors_ND, dtype)
        return pa.field(name, values.type), values
    _check_finite(vectors_ND, name, "vectors to be stored")
    scale = float(np.abs(vectors_ND).max(initial=0.0)) / 127 or 1.0
    values = vector_array(np.rint(vectors_ND / scale).astype(np.int8), dtype)
    return pa.field(name, values.type, metadata={b"scale": repr(scale).encode()}), values


def _width(column: ArrowArray, name: str, uri: str) -> int:
    if pa.types.is_fixed_size_list(column.type):
        return int(column.type.list_size)
    lengths_N = np.diff(column.offsets.to_numpy())
    if len(lengths_N) == 0:
        return 0
    if (lengths_N != lengths_N[0]).any():
        row = int(np.argmax(lengths_N != lengths_N[0]))
        raise FormatError(
            f"{uri}: row {row}: {name!r} has {lengths_N[row]} values, row 0 has {lengths_N[0]}; wanted equal lengths. "
            "Were embeddings of two models mixed?"
        )
    return int(lengths_N[0])


def _decoded(vectors: npt.NDArray[Any], field: ArrowField, uri: str) -> FloatArray:
    if vectors.dtype != np.int8:
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is refused as such
            return np.ascontiguousarray(vectors, dtype=np.float32)
    text = (field.metadata or {}).get(b"scale", b"")
    try:
        scale = float(text)
    except ValueError:
        scale = float("nan")
    if not (np.isfinite(scale) and scale > 0):
        raise FormatError(
            f"{uri}: column {field.name!r} is int8 with scale {text!r} in its field metadata; wanted a positive number "
            "under the key 'scale'. Without it the values have no length: write the column again, or, if only "
            "their directions count, adopt the gallery with --metric cosine"
        )
    decoded: FloatArray = np.multiply(vectors, np.float32(scale), dtype=np.float32)
    return decoded


def _check_finite(vectors: FloatArray, name: str, uri: str) -> None:
    # min and max pass NaN on, and need no array of booleans as large as the shard.
    if vectors.size == 0 or (np.isfinite(vectors.min()) and np.isfinite(vectors.max())):
        return
    bad_N = ~np.isfinite(vectors).all(axis=1)
    row = int(np.argmax(bad_N))
    value = vectors[row][~np.isfinite(vectors[row])][0]
    raise DataError(
        f"{uri}: row {row}: {name!r} holds {value}; wanted finite numbers ({int(bad_N.sum())} such rows in all). "
        "Embed these items again, or remove them"
    )


def first_true(mask: ArrowArray) -> int:
    """Position of the first true value of a boolean array."""
    return int(np.argmax(mask.to_numpy(zero_copy_only=False)))
