"""A directory of Parquet files, plain or as the `datasets` library of Hugging Face opens it.

    DIR/part-00000.parquet                      parquet:DIR
    DIR/data/train-00000-of-00003.parquet       huggingface:DIR, with a README.md that names the files
    DIR/fct_ray.json                            which export made it

Owns: the files, and the switch: the new directory lies beside DIR and takes its name; a directory that was replaced is kept
as DIR-before-RUN. Local disks only: objects of S3 cannot be renamed.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from fct_ray.connectors.places import Place
from fct_ray.connectors.protocols import Present, Target
from fct_ray.errors import IncompleteRunError, SettingsError
from fct_ray.key_types import texts
from fct_ray.kinds import KeyType

_ORIGIN = "fct_ray.json"
_ROWS_PER_GROUP = 65_536


def open_destination(place: Place, target: Target) -> ParquetDirectory:
    """The directory that a place names. Raises SettingsError: it is not on a local disk."""
    if "://" in place.address:
        raise SettingsError(
            f"{place}: want a directory on a disk that all workers see, since objects of S3 cannot be renamed; export to a "
            "directory and copy it (aws s3 sync)"
        )
    return ParquetDirectory(directory=place.address, target=target, for_datasets=place.system == "huggingface")


@dataclass(frozen=True, kw_only=True)
class ParquetDirectory:
    """One Parquet file for each shard."""

    directory: str
    target: Target
    for_datasets: bool

    @property
    def _stage(self) -> Path:
        return Path(f"{self.directory}-{self.target.run}")

    def check(self) -> None:
        """Nothing that a store has cannot be held by Parquet."""

    def present(self) -> Present:
        """Whether the directory is there, and which run made it."""
        path = Path(self.directory)
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            return Present.NOTHING
        return Present.OURS if _origin(path) == self.target.mark else Present.OTHER

    def prepare(self, written: Sequence[str]) -> bool:
        """Make the new directory beside the one in use."""
        self._stage.mkdir(parents=True, exist_ok=True)
        return all((self._stage / name).is_file() for name in written)

    def write(self, shard: int, rows: pa.Table) -> str:
        """Write one file, whole or not at all."""
        name = f"shards/{shard:05d}.parquet"
        path = self._stage / name
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
        pq.write_table(self._as_written(rows), unfinished, compression="zstd", row_group_size=_ROWS_PER_GROUP)
        unfinished.replace(path)
        return name

    def finish(self, written: Sequence[str]) -> None:
        """Say what the files are."""
        for leftover in self._stage.glob("shards/*.tmp"):  # of a task that was killed
            leftover.unlink()
        schema = self.target.schema
        about = {
            "made_by": self.target.mark,
            "id": schema.id_column,
            "embedding": schema.embedding_column,
            "metric": schema.metric.value,
            "normalized": schema.normalized,
            "dimension": schema.dimension,
            "rows": schema.num_rows,
            "files": len(written),
        }
        (self._stage / _ORIGIN).write_text(json.dumps(about, indent=1) + "\n")
        if self.for_datasets:
            (self._stage / "README.md").write_text(_CARD.format(**about))

    def count(self) -> int:
        """Rows of all files, from their footers."""
        return int(sum(pq.ParquetFile(path).metadata.num_rows for path in self._files(self._stage)))

    def fetch(self, ids: pa.Array) -> pa.Table:
        """Rows by a scan of the column of ids."""
        name = self.target.schema.id_column
        wanted = self._ids_as_written(ids)
        tables = [
            pads.dataset(str(path), format="parquet").to_table(filter=pc.field(name).isin(wanted))
            for path in self._files(self._stage)
        ]
        found = pa.concat_tables(tables)
        if wanted.type != ids.type:
            back = ids.take(pc.index_in(found[name].combine_chunks(), value_set=wanted))
            found = found.set_column(found.schema.get_field_index(name), name, back)
        return found

    def switch(self) -> Sequence[str]:
        """Rename; a kill between the two renames leaves both directories, and the next call goes on."""
        final, kept = Path(self.directory), Path(f"{self.directory}-before-{self.target.run}")
        notes = []
        if self.present() is not Present.OURS:
            if self.present() is Present.OTHER:
                if not self.target.replace:
                    raise SettingsError(f"{final}: was made by somebody else meanwhile; add --replace to replace it")
                final.rename(kept)
            if not self._stage.exists():
                raise IncompleteRunError(f"{self._stage}: is gone; run the same command again")
            _final_names(self._stage, for_datasets=self.for_datasets)
            if final.exists():
                final.rmdir()  # empty, as `present` says
            self._stage.rename(final)
        elif self._stage.exists():
            shutil.rmtree(self._stage)
        if kept.exists():
            notes.append(f"what was at {final} before is at {kept}; delete it when nobody needs it")
        return notes

    def _files(self, directory: Path) -> list[Path]:
        return sorted(directory.rglob("*.parquet"))

    def _as_written(self, rows: pa.Table) -> pa.Table:
        name = self.target.schema.id_column
        return rows.set_column(
            rows.schema.get_field_index(name), name, self._ids_as_written(rows[name].combine_chunks())
        )

    def _ids_as_written(self, ids: pa.Array) -> pa.Array:
        """UUIDs as text in a data set of Hugging Face, which has no type of 16 bytes."""
        is_uuid = self.for_datasets and self.target.schema.key_type is KeyType.UUID
        return pa.array(texts(ids), pa.string()) if is_uuid else ids


def _final_names(stage: Path, *, for_datasets: bool) -> None:
    """Move the files of the shards to where they are looked for; done in part, the rest is done."""
    files = sorted(stage.glob("shards/*.parquet"))
    about = json.loads((stage / _ORIGIN).read_text())
    for path in files:
        number = int(path.stem)
        if for_datasets:
            target = stage / "data" / f"train-{number:05d}-of-{about['files']:05d}.parquet"
        else:
            target = stage / f"part-{number:05d}.parquet"
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
    if (stage / "shards").exists():
        (stage / "shards").rmdir()


def _origin(directory: Path) -> str | None:
    try:
        about = json.loads((directory / _ORIGIN).read_text())
    except (OSError, ValueError):
        return None
    return about.get("made_by") if isinstance(about, dict) else None


_CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
---
Embeddings with {dimension} dimensions of {rows} items, compared by `{metric}`; made by {made_by}.
Column `{id}` says which item a row is, `{embedding}` is its embedding.
"""
