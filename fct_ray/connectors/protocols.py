"""What every other system can do here: be read in parts, and be written shard by shard.

Owns: the two interfaces, and the values that cross them. Both run in workers as well as on the driver, so that whatever
implements them is picklable and opens its connections when it is first asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import pyarrow as pa

from fct_ray.kinds import KeyType, Metric, VectorMetric


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
    def metric(self) -> VectorMetric | None:
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
    """The column of ids (int64, or a store's keys: string, fixed_size_binary(16) for UUIDs, or binary), the column of
    embeddings (fixed_size_list<float32>[D]), and all columns that are carried."""
    id_column: str
    embedding_column: str
    key_type: KeyType | None
    """What the ids are, where they are no whole numbers."""
    row_id_column: str | None = None
    """The column of whole numbers beside keys, for systems that need them."""
    dimension: int
    metric: Metric
    normalized: bool
    num_rows: int

    @property
    def carried(self) -> list[pa.Field]:
        """The columns beside ids and embeddings."""
        return [field for field in self.columns if field.name not in {self.id_column, self.embedding_column}]


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One version of a store on its way to another system."""

    run: str
    """The run that writes it: what it leaves in the other system carries this name, and so is known again as its own."""
    version: int
    schema: TargetSchema
    replace: bool
    """Whether what is at the place now may be replaced."""

    @property
    def mark(self) -> str:
        """What a system is told about the origin of a table."""
        return f"fct_ray {self.run}: version {self.version}"

    def stage_name(self, name: str) -> str:
        """The name of the new table, beside the one that is in use."""
        return f"{name}_v{self.version:06d}"


class Present(StrEnum):
    """What is at a place."""

    NOTHING = "nothing"
    OURS = "ours"
    """What this very run switched to there."""
    OTHER = "other"


class Destination(Protocol):
    """A table or collection of another system that one version of a store is written to.

    Used in this order, and from `prepare` on again after a kill:

        check, present                    on the driver, before any work; nothing is changed
        prepare                           on the driver
        write                             once for each shard, in workers, in any order, some of them at once
        finish, count, fetch              on the driver, after the last shard
        switch                            on the driver, after what was fetched was found right
    """

    def check(self) -> None:
        """Refuse what the system cannot hold. It is reached for the first time here.

        Raises:
            SettingsError: a column, a type, the dimension or the metric; what to leave out or convert.
            StoreError: the system does not answer.
        """

    def present(self) -> Present:
        """What is at the place now."""

    def prepare(self, written: Sequence[str]) -> bool:
        """Make the new, empty table beside the one that is in use, or find the one that an earlier attempt of this run made.

        `written` is what `write` returned to earlier attempts. False: what they wrote is not all there, so the new table is
        empty and every shard is to be written.
        """

    def write(self, shard: int, rows: pa.Table) -> str:
        """Write the rows of one shard; written twice they are there once.

        Returns what `finish` must know of it (kept in the run), e.g. names of files; "" where there is nothing to know.
        """

    def finish(self, written: Sequence[str]) -> None:
        """After the last shard: build what the system searches by. `written` is what `write` returned, in order of shards."""

    def count(self) -> int:
        """How many rows the new table has."""

    def fetch(self, ids: pa.Array) -> pa.Table:
        """The rows of these ids as the system gives them back, in any order, with ids and vectors of the types of `schema`.

        A column that the system does not keep as it was, such as compressed vectors, is left out.
        """

    def switch(self) -> Sequence[str]:
        """Put the new table in the place of the one that is in use, as the system does it; done twice it is done once.

        Returns what people should know, e.g. where the former table is now.
        """
