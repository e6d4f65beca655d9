"""What every other system can do here: be read in parts, and be written shard by shard.

Owns: the two interfaces, and the values that cross them. Both run in workers as well as on the driver, so that whatever
implements them is picklable and opens its connections when it is first asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from fct_ray.kinds import Metric


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Rows of a foreign table that are read by one worker at a time, in an order that does not change."""

    number: int
    rows: int
    """How many rows it has; another number when it is read means that the table was changed meanwhile."""
    token: str
    """Which rows they are, in words of the system alone, e.g. a range of keys; kept in the run as it is."""


class ForeignTable(Protocol):
    """A table of another system, at one moment of its history where the system has such moments."""

    @property
    def mark(self) -> str:
        """Which state of the table is read: a version, a snapshot, sizes and times of files. Another mark, another run."""

    @property
    def metric(self) -> Metric | None:
        """How the system compares the vectors; None where it does not say."""

    def head(self, rows: int) -> pa.Table:
        """Its first rows, at most so many; their schema is that of every part."""

    def parts(self, rows: int) -> Sequence[Part]:
        """The whole table in parts of about `rows` rows."""

    def read(self, part: Part) -> pa.Table:
        """The rows of one part.

        Raises:
            SourceError: the system does not answer, or the table was changed so that the part is another one now.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetSchema:
    """What is written."""

    columns: pa.Schema
    """`id` (int64), or `key` (string, fixed_size_binary(16) or binary) where the store has keys, `embedding`
    (fixed_size_list<float32>[D]), and all columns that are carried."""
    id_column: str
    """Which column identifies a row for people: "id" or "key"."""
    dimension: int
    metric: Metric
    normalized: bool
    num_rows: int


class Destination(Protocol):
    """A table or collection of another system that one version of a store is written to."""

    def prepare(self, schema: TargetSchema) -> None:
        """Make the new, empty table beside the one that is in use; one that an earlier attempt of this run made is kept.

        Raises:
            SettingsError: a column or a type cannot be held by the system; what to leave out or convert.
        """

    def write(self, shard: int, rows: pa.Table) -> None:
        """Write the rows of one shard; written twice they are there once."""

    def finish(self) -> None:
        """Build what the system searches by, after the last shard."""

    def count(self) -> int:
        """How many rows the new table has."""

    def fetch(self, ids: pa.Array) -> pa.Table:
        """The rows of these ids (or keys) as the system gives them back, in any order."""

    def switch(self) -> None:
        """Put the new table in the place of the one that is in use, as the system does it; done twice it is done once."""
