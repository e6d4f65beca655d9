"""Tables of LanceDB, embedded: a directory, or an S3 prefix, with a Lance data set for each table.

Shards are written as fragments of the table's own data set, which no reader sees. Reading back looks at a detached version of
it; the switch commits one version that consists of these fragments, over whatever was there. Former versions stay, and
`table.restore(VERSION)` goes back.

Owns: that, and the index, built after the switch: until it is there searches are exact.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lance
import lancedb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
from lance.fragment import FragmentMetadata, write_fragments

from fct_ray.connectors.places import Place, table_of
from fct_ray.connectors.protocols import Present, Target
from fct_ray.errors import SettingsError, StoreError
from fct_ray.key_types import texts
from fct_ray.kinds import KeyType, Metric

ROWS_FOR_INDEX = 10_000
"""Smaller tables are searched exactly, in milliseconds."""
_MARK, _FILLING = b"fct_ray", b"fct_ray_filling"
_DISTANCES = {Metric.IP: "dot", Metric.L2: "l2"}


def open_destination(place: Place, target: Target) -> LanceTable:
    """The table that a place names. Raises SettingsError: it names none."""
    return LanceTable(address=place.address, table=table_of(place), target=target)


@dataclass(kw_only=True)
class LanceTable:
    """One table, written as a version of its data set."""

    address: str
    table: str
    target: Target
    new: Any = None
    """The detached version, once `finish` has made it."""
    new_fragments: Sequence[Any] = ()

    @property
    def _uri(self) -> str:
        return f"{self.address.rstrip('/')}/{self.table}.lance"

    @property
    def _schema(self) -> pa.Schema:
        """UUIDs are text: LanceDB filters by text, and not by 16 bytes."""
        fields = [
            pa.field(field.name, pa.string())
            if field.name == self.target.schema.id_column and self._ids_are_text
            else field
            for field in self.target.schema.columns
        ]
        return pa.schema(fields)

    @property
    def _ids_are_text(self) -> bool:
        return self.target.schema.key_type in (KeyType.UUID, KeyType.BINARY)

    def check(self) -> None:
        """Refuse what is no database of LanceDB."""
        try:
            lancedb.connect(self.address)
        except (OSError, ValueError, RuntimeError) as error:
            raise StoreError(
                f"lancedb:{self.address}: cannot be opened ({error!s:.200}); check the directory"
            ) from error

    def present(self) -> Present:
        """What the table says of its origin; an empty one that this run made does not count."""
        found = self._opened()
        if found is None:
            return Present.NOTHING
        about = found.schema.metadata or {}
        if about.get(_MARK) == self._mark:
            return Present.OURS
        return Present.NOTHING if about.get(_FILLING) == self._mark else Present.OTHER

    def prepare(self, written: Sequence[str]) -> bool:
        """Where there is no table yet, make an empty one."""
        if self._opened() is None:
            empty = self._schema.with_metadata({_FILLING: self._mark})
            lancedb.connect(self.address).create_table(self.table, schema=empty)
            return False
        if not written:
            return True
        try:
            return self._detached(written).count_rows() >= 0 and self._files_are_there(written)
        except (OSError, ValueError, RuntimeError):
            return False

    def write(self, shard: int, rows: pa.Table) -> str:
        """Write fragments that belong to no version yet; those of an attempt that left no receipt are never committed.

        (The mode says that their columns need not be those of the table in use; nothing is overwritten here.)
        """
        del shard
        fragments = write_fragments(self._as_written(rows), self._uri, schema=self._schema, mode="overwrite")
        return json.dumps([fragment.to_json() for fragment in fragments])

    def finish(self, written: Sequence[str]) -> None:
        """Commit the fragments as a detached version, which only those see who know its number; keep what is committed."""
        self.new, self.new_fragments = self._detached(written), _fragments(written)

    def count(self) -> int:
        """Rows of the detached version."""
        return int(self.new.count_rows())

    def fetch(self, ids: pa.Array) -> pa.Table:
        """Rows of the detached version, by a filter."""
        name = self.target.schema.id_column
        values = texts(ids)
        if pa.types.is_string(self._schema.field(name).type):
            quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
        else:
            quoted = ", ".join(values)
        found = self.new.to_table(filter=f"`{name}` IN ({quoted})")
        if self._ids_are_text:
            where = pc.index_in(found[name].combine_chunks(), value_set=pa.array(values))
            found = found.set_column(found.schema.get_field_index(name), name, ids.take(where))
        return found

    def switch(self) -> Sequence[str]:
        """Commit the version that readers see from then on, then build the index."""
        notes, present = [], self.present()
        if present is not Present.OURS:
            if present is Present.OTHER and not self.target.replace:
                raise SettingsError(f"{self._uri}: was made by somebody else meanwhile; add --replace to replace it")
            before = lance.dataset(self._uri).version
            operation = lance.LanceOperation.Overwrite(
                self._schema.with_metadata({_MARK: self._mark}), self.new_fragments
            )
            lance.LanceDataset.commit(self._uri, operation, read_version=before)
            if present is Present.OTHER:
                notes.append(
                    f"what the table {self.table} held before is its version {before}: table.restore({before})"
                )
        self._build_index()
        metric, column = _DISTANCES[self.target.schema.metric], self.target.schema.embedding_column
        notes.append(f'search it with table.search(vector, "{column}").distance_type("{metric}")')
        return notes

    def _build_index(self) -> None:
        dataset, column = lance.dataset(self._uri), self.target.schema.embedding_column
        rows = dataset.count_rows()
        if rows < ROWS_FOR_INDEX or any(column in index["fields"] for index in dataset.list_indices()):
            return
        dataset.create_index(
            column,
            "IVF_FLAT",
            metric=_DISTANCES[self.target.schema.metric],
            num_partitions=max(1, round(math.sqrt(rows) / 2)),
        )

    def _detached(self, written: Sequence[str]) -> Any:
        operation = lance.LanceOperation.Overwrite(self._schema, _fragments(written))
        return lance.LanceDataset.commit(self._uri, operation, detached=True)

    def _files_are_there(self, written: Sequence[str]) -> bool:
        """Whether the data files lie where the fragments say: somebody may have dropped the table meanwhile."""
        listed = {name.rsplit("/", 1)[-1] for name in _names_below(f"{self._uri}/data")}
        named = {file["path"] for text in written for fragment in json.loads(text) for file in fragment["files"]}
        return named <= listed

    @property
    def _mark(self) -> bytes:
        return self.target.mark.encode()

    def _opened(self) -> Any | None:
        try:
            return lance.dataset(self._uri)
        except (ValueError, FileNotFoundError):
            return None

    def _as_written(self, rows: pa.Table) -> pa.Table:
        if not self._ids_are_text:
            return rows
        name = self.target.schema.id_column
        text = pa.array(texts(rows[name].combine_chunks()), pa.string())
        return rows.set_column(rows.schema.get_field_index(name), self._schema.field(name), text)


def _fragments(written: Sequence[str]) -> list[Any]:
    return [FragmentMetadata.from_json(json.dumps(fragment)) for text in written for fragment in json.loads(text)]


def _names_below(uri: str) -> list[str]:
    system, path = pafs.FileSystem.from_uri(uri) if "://" in uri else (pafs.LocalFileSystem(), uri)
    return [info.path for info in system.get_file_info(pafs.FileSelector(path, allow_not_found=True))]
