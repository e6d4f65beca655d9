"""The items of a run as they lie in its store: one Parquet file, of which a worker reads the part that its shard needs.

    runs/<run id>/items/0000-<fingerprint8>.parquet      the listing that the run began with
    runs/<run id>/items/0001-<fingerprint8>.parquet      the same items, some of whose objects were replaced before a resume

Owns: that file, and reading a part of it. What a listing is, and how items are read, is `sources`'.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fct_ray.sources.listing import Listing, listed_source, listing_of
from fct_ray.storage import objects

FIRST_ITEM = "first_item"
"""The position of a span's first item; row groups are chosen by it."""
SPANS_PER_GROUP = 16_384


def listing_to_parquet(listing: Listing) -> bytes:
    """The file's content; about 50 bytes a photo, and a few bytes for each Parquet object."""
    sink = pa.BufferOutputStream()
    table = listing.to_table().append_column(FIRST_ITEM, pa.array(listing.starts_S[:-1]))
    pq.write_table(table, sink, compression="zstd", row_group_size=SPANS_PER_GROUP, store_schema=True)
    return bytes(sink.getvalue())


class ListedItems:
    """A listing in the store, of which parts are read; the whole never enters memory."""

    def __init__(self, uri: str) -> None:
        """Read the file's footer.

        Raises:
            NotFoundError: there is no such file.
        """
        filesystem, path = objects.arrow_filesystem(uri)
        self.file = pq.ParquetFile(filesystem.open_input_file(path))
        self.source = listed_source(self.file.schema_arrow)
        column = self.file.schema_arrow.get_field_index(FIRST_ITEM)
        groups = [self.file.metadata.row_group(number) for number in range(self.file.num_row_groups)]
        self.first_items = np.array([group.column(column).statistics.min for group in groups if group.num_rows])

    def part(self, start: int, stop: int) -> Listing:
        """Items [start, stop) of the run."""
        first = max(0, int(np.searchsorted(self.first_items, start, side="right")) - 1)
        last = int(np.searchsorted(self.first_items, stop, side="left"))
        table = self.file.read_row_groups(range(first, last))
        listing = listing_of(table)
        offset = int(self.first_items[first])
        return listing.take(np.arange(start - offset, stop - offset))

    def whole(self) -> Listing:
        """All items of the run."""
        return listing_of(self.file.read())
