"""Data sets of Hugging Face's `datasets`: directories that `save_to_disk` wrote, and names on the hub.

    huggingface:DIR_OR_NAME[#SPLIT]

Owns: opening them, and their state (`datasets` fingerprints every data set). Rows are read from memory-mapped Arrow files.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from fct_ray.connectors.places import Place
from fct_ray.connectors.protocols import Part
from fct_ray.connectors.spans import Span, parts_of
from fct_ray.errors import SourceError
from fct_ray.kinds import VectorMetric


class HuggingFaceDataset:
    """A `ForeignTable` of one split."""

    metric: VectorMetric | None = None

    def __init__(self, place: Place) -> None:
        """Nothing is read yet."""
        self.place = place

    def __getstate__(self) -> dict[str, Any]:
        return {"place": self.place}

    @cached_property
    def dataset(self) -> Any:
        """The split, rows as Arrow. Raises SourceError: there is no such data set or split."""
        import datasets

        address, split = self.place.address, self.place.table
        try:
            is_saved = Path(address).is_dir() and any(Path(address).rglob("dataset_info.json"))
            opened = datasets.load_from_disk(address) if is_saved else datasets.load_dataset(address, split=split)
        except (OSError, ValueError, datasets.exceptions.DatasetNotFoundError) as error:
            raise SourceError(
                f"{self.place}: cannot be opened ({error!s:.300}); check the directory or name"
            ) from error
        if isinstance(opened, datasets.DatasetDict):
            if split is None and len(opened) == 1:
                split = next(iter(opened))
            if split not in opened:
                raise SourceError(
                    f"{self.place}: has the splits {', '.join(opened)}; name one: huggingface:{address}#SPLIT"
                )
            opened = opened[split]
        return opened.with_format("arrow")

    @property
    def mark(self) -> str:
        """The fingerprint of the data set, and its number of rows."""
        return f"{self.dataset._fingerprint} {self.dataset.num_rows}"  # noqa: SLF001 (it has no public name)

    def head(self, rows: int) -> pa.Table:
        """The first rows."""
        return self._rows(0, min(rows, self.dataset.num_rows))

    def parts(self, rows: int) -> list[Part]:
        """Spans of rows."""
        return parts_of([("", self.dataset.num_rows)], rows)

    def read(self, part: Part) -> pa.Table:
        """The rows of one part."""
        span = Span.of(part)
        return self._rows(span.start, span.stop)

    def _rows(self, start: int, stop: int) -> pa.Table:
        table: pa.Table = self.dataset[start:stop]
        return table.combine_chunks()


def open_table(place: Place) -> HuggingFaceDataset:
    """The data set at a place. Raises ImportError, SourceError."""
    table = HuggingFaceDataset(place)
    _ = table.dataset
    return table
