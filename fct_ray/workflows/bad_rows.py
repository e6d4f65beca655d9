"""Bad rows over a whole run: the settings, the cap, the list.

    rows in = rows out + quarantined          checked for every shard when the manifest is assembled (plan/versions)

Owns: what happens to them beyond one shard. `storage/quarantine` decides which rows are bad.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fct_ray.errors import DataError
from fct_ray.kinds import OnBadRow
from fct_ray.settings import CheckedSettings, CountOrZero
from fct_ray.storage import quarantine
from fct_ray.storage.store import Store
from fct_ray.values import Receipt

LIST_FILE = "quarantine.parquet"


@dataclass(frozen=True, kw_only=True)
class BadRowSettings(CheckedSettings):
    """What to do with rows that cannot be used."""

    on_bad_row: OnBadRow = OnBadRow.REFUSE
    """"refuse" stops at the first row that cannot be used (NaN, no vector, a repeated id, an unreadable item);
    "quarantine" leaves such rows out, counts them and lists them in `runs/<run id>/quarantine.parquet`."""
    max_bad_rows: CountOrZero = 1000
    """Quarantine at most so many rows in all: more is not a few bad rows, but a mistake."""


def list_bad_rows(store: Store, run: str, receipts: Sequence[Receipt], max_bad_rows: int) -> int:
    """Write the list of a run's bad rows, if there are any; returns how many.

    Raises:
        DataError: there are more than `max_bad_rows`; the list is written first. Nothing was published.
    """
    rows = [(receipt.record.shard, bad) for receipt in receipts for bad in receipt.bad_rows]
    if not rows:
        return 0
    uri = store.run_uri(run, LIST_FILE)
    quarantine.write_list(uri, rows)
    if len(rows) > max_bad_rows:
        raise DataError(
            f"{len(rows):,} bad rows, want at most {max_bad_rows:,} (--max-bad-rows): they are listed in {uri}; the first is "
            f"row {rows[0][1].row} of shard {rows[0][0]} (id {rows[0][1].name}): {rows[0][1].reason}"
        )
    return len(rows)
