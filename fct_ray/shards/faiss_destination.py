"""A version as one FAISS file.

    FILE                     the index; ids are those of the store
    FILE.RUN.ivfdata         its inverted lists, where they are too large for memory; FILE reads them from there
    FILE.rows.parquet        keys and carried columns by id, where the store has some
    FILE.fct_ray.json        which export made it, metric and factory string
    FILE-RUN.parts/          an index of each shard, until the switch

Owns: these files and the switch, which is renaming FILE over the one in use. It is a `Destination` of connectors, and here
because faiss belongs to `index/`. Local disks only. Legend: N rows, D dimension.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from fct_ray.connectors.protocols import Present, Target
from fct_ray.errors import SettingsError
from fct_ray.index import merging
from fct_ray.index.build import ShardIndexBuilder
from fct_ray.index.factory import check_factory, needs_training
from fct_ray.index.merging import MergeKind
from fct_ray.storage.documents import sha256_hex
from fct_ray.storage.vector_columns import vector_array

_END_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class FaissFile:
    """One FAISS file of all shards."""

    path: str
    target: Target
    factory: str
    on_disk: bool
    """Whether inverted lists stay on the disk."""
    template: bytes | None
    """The trained, empty index; None before it is trained, and for types without training."""

    @property
    def _stage(self) -> Path:
        return Path(f"{self.path}-{self.target.run}.parts")

    @property
    def _merged(self) -> Path:
        return self._stage / "merged.faiss"

    @property
    def _lists(self) -> Path:
        return Path(f"{self.path}.{self.target.run}.ivfdata")

    @property
    def _kind(self) -> MergeKind:
        schema = self.target.schema
        return merging.merge_kind(self.factory, schema.dimension, schema.metric)

    def check(self) -> None:
        """Refuse an index that FAISS cannot build, and places that are no file."""
        if "://" in self.path:
            raise SettingsError(
                f"faiss:{self.path}: want a file on a disk that all workers see; export to a file and copy it"
            )
        if Path(self.path).is_dir():
            raise SettingsError(
                f"faiss:{self.path}: is a directory; want the name of a file, such as {self.path}/all.faiss"
            )
        check_factory(self.factory, self.target.schema.dimension, self.target.schema.metric)

    def present(self) -> Present:
        """Whether the file is there, and whether it is the one that this run wrote."""
        file = Path(self.path)
        if not file.exists():
            return Present.NOTHING
        try:
            about = json.loads(Path(f"{self.path}.fct_ray.json").read_text())
        except (OSError, ValueError):
            return Present.OTHER
        ours = about.get("made_by") == self.target.mark and about.get("ends") == _ends(file)
        return Present.OURS if ours else Present.OTHER

    def prepare(self, written: Sequence[str]) -> bool:
        """Make the directory of the parts."""
        self._stage.mkdir(parents=True, exist_ok=True)
        return all((self._stage / name).is_file() for name in written)

    def write(self, shard: int, rows: pa.Table) -> str:
        """Write the index of one shard and, where there is more than vectors, the other columns."""
        schema = self.target.schema
        ids_N = rows[schema.row_id_column or schema.id_column].to_numpy()
        vectors_ND = rows[schema.embedding_column].combine_chunks().flatten().to_numpy().reshape(-1, schema.dimension)
        again = self._kind is MergeKind.BUILT_AGAIN
        builder = ShardIndexBuilder(
            None if again else self.template, "Flat" if again else self.factory, schema.dimension, schema.metric
        )
        builder.add(ids_N, vectors_ND)
        name = f"{shard:05d}.faiss"
        if self._has_rows:
            self._write_whole(f"{shard:05d}.parquet", rows.drop_columns([schema.embedding_column]))
        self._write_whole(name, builder.finish())
        return name

    def finish(self, written: Sequence[str]) -> None:
        """Merge the parts, and the other columns."""
        parts = [str(self._stage / name) for name in written]
        schema, kind = self.target.schema, self._kind
        if self._lists_apart and self.template is not None:
            merging.merge_on_disk(self.template, parts, str(self._merged), str(self._lists))
        elif kind is MergeKind.BUILT_AGAIN:
            builder = ShardIndexBuilder(self.template, self.factory, schema.dimension, schema.metric)
            for path in parts:
                ids_N, vectors_ND = merging.all_rows(path)
                builder.add(ids_N, vectors_ND)
            self._write_whole(self._merged.name, builder.finish())
        else:
            merging.merge_in_memory(parts, str(self._merged))
        if self._has_rows:
            self._merge_rows([str(Path(path).with_suffix(".parquet")) for path in parts])

    def count(self) -> int:
        """Rows of the merged index."""
        return merging.count_rows(str(self._merged), lists_apart=self._lists_apart)

    def fetch(self, ids: pa.Array) -> pa.Table:
        """Vectors from the merged index, where its type keeps them, with the other columns."""
        schema, wanted = self.target.schema, ids
        columns = {schema.id_column: ids}
        table = pa.table(columns)
        if self._has_rows:
            file = pads.dataset(str(self._stage / "rows.parquet"), format="parquet")
            table = file.to_table(filter=pc.field(schema.id_column).isin(ids))
            wanted = table[schema.row_id_column or schema.id_column].combine_chunks()
        found_N, vectors_ND = merging.rows_of(
            str(self._merged), wanted.to_numpy(zero_copy_only=False), lists_apart=self._lists_apart
        )
        order = np.argsort(found_N)
        table = table.take(pc.sort_indices(wanted))
        there = np.isin(np.sort(wanted.to_numpy(zero_copy_only=False)), found_N)
        table = table.filter(pa.array(there))
        if vectors_ND is not None:
            table = table.append_column(schema.embedding_column, vector_array(vectors_ND[order], "float32"))
        return table

    def switch(self) -> Sequence[str]:
        """Rename the merged file over the one in use."""
        file, about = Path(self.path), Path(f"{self.path}.fct_ray.json")
        present = self.present()
        if present is Present.OTHER and not self.target.replace:
            raise SettingsError(f"faiss:{self.path}: was made by somebody else meanwhile; add --replace to replace it")
        if present is not Present.OURS:
            if self._has_rows:
                (self._stage / "rows.parquet").replace(f"{self.path}.rows.parquet")
            unfinished = about.with_suffix(f".{uuid.uuid4().hex}.tmp")
            unfinished.write_text(json.dumps(self._about(), indent=1) + "\n")
            unfinished.replace(about)
            self._merged.replace(file)
        shutil.rmtree(self._stage, ignore_errors=True)
        for leftover in file.parent.glob(f"{file.name}.export-*.ivfdata"):
            if leftover != self._lists:
                leftover.unlink()
        if self._lists.exists():
            return (f"{self.path} reads its inverted lists from {self._lists}: keep that file where it is",)
        return ()

    @property
    def _lists_apart(self) -> bool:
        return self.on_disk and self._kind is MergeKind.LISTS

    @property
    def _has_rows(self) -> bool:
        return len(self.target.schema.columns) > 2

    def _about(self) -> dict[str, object]:
        schema = self.target.schema
        return {
            "made_by": self.target.mark,
            "factory": self.factory,
            "metric": schema.metric.value,
            "dimension": schema.dimension,
            "rows": schema.num_rows,
            "ends": _ends(self._merged),
        }

    def _write_whole(self, name: str, content: bytes | pa.Table) -> None:
        unfinished = self._stage / f"{name}.{uuid.uuid4().hex}.tmp"
        if isinstance(content, bytes):
            unfinished.write_bytes(content)
        else:
            pq.write_table(content, unfinished, compression="zstd")
        unfinished.replace(self._stage / name)

    def _merge_rows(self, parts: Sequence[str]) -> None:
        with pq.ParquetWriter(self._stage / "rows.parquet", pq.read_schema(parts[0]), compression="zstd") as writer:
            for path in parts:
                writer.write_table(pq.read_table(path))


def needs_template(factory: str) -> bool:
    """Whether the parts of a type start from a trained index."""
    return needs_training(factory)


def _ends(file: Path) -> str:
    """A hash of the size, the beginning and the end of a file: enough to know one's own again."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        first = opened.read(_END_BYTES)
        opened.seek(max(0, size - _END_BYTES))
        return sha256_hex(f"{size}:".encode() + first + opened.read(_END_BYTES))
