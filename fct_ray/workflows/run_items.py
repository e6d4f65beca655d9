"""The raw items of a run: listed when it begins, kept with it, and the same when it resumes.

    first attempt     list the source             --> runs/<run id>/items/0000-<fingerprint8>.parquet, written once
    resumed           read what the run began with; what was uploaded since is not part of it
                      an object of an unfinished shard is gone, or was changed       --> refused by name
                      a photo of an unfinished shard was replaced (repaired, say)    --> .../0001-..., as it is now

A run's id is made of its settings and of the items that it began with: `embed-<settings12>-<items8>`. So the same command
on the same items is the same run, and an interrupted run is found again by the first two parts.

Owns: finding, checking and keeping a run's items. How they are listed and read is `sources`', their file `listed_items`'.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fct_ray.errors import SourceError
from fct_ray.kinds import OnBadRow
from fct_ray.shards.listed_items import ListedItems, listing_to_parquet
from fct_ray.sources.image_formats import left_out_text
from fct_ray.sources.items import Source
from fct_ray.sources.listing import Listing
from fct_ray.sources.registry import open_listing
from fct_ray.storage import objects
from fct_ray.storage.store import Store

logger = logging.getLogger(__name__)
NUM_NAMED = 5
"""How many objects a message names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunItems:
    """The items of a run, and its id."""

    run: str
    source: Source

    def keep(self, store: Store) -> str:
        """Write the listing into the store, if it is not there yet, and return its URI; the caller has the run's lease."""
        names, ending = _kept(store, self.run), _ending(self.source.listing)
        known = [name for name in names if name.endswith(ending)]
        uri = store.run_uri(self.run, f"items/{known[-1] if known else f'{len(names):04d}{ending}'}")
        objects.create(uri, listing_to_parquet(self.source.listing))
        return uri


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardRanges:
    """Which items each shard of a run has: `rows_per_shard` each, in order, from `first_shard` on."""

    first_shard: int
    rows_per_shard: int

    def items_to_do(self, store: Store, run: str, listing: Listing) -> Listing:
        """The items of the shards that have no receipt yet."""
        to_do_N = np.ones(listing.num_items, dtype=bool)
        for receipt in store.ledger(run):
            start = (receipt.record.shard - self.first_shard) * self.rows_per_shard
            to_do_N[start : start + self.rows_per_shard] = False
        return listing.take(np.flatnonzero(to_do_N))


def items_of_run(
    store: Store,
    request: str,
    now: Source,
    shards: ShardRanges,
    *,
    choose: Callable[[Source], Source] | None = None,
    on_bad_row: OnBadRow,
    restart: bool,
) -> RunItems:
    """The items of the run that was interrupted with these settings, else of a new one.

    `request` is the id of the settings (`run_id`), `now` what the source has now; `choose` picks the items of a new run from
    it, where it does not take all. With `restart` no interrupted run goes on, unless it has the very same items. Nothing
    is written.

    Raises:
        SourceError: the interrupted run needs an object that is gone or was changed; with
            `OnBadRow.QUARANTINE` the workers leave such items out and list them instead.
    """
    open_run = None if restart else _open_run(store, request, now.listing)
    if open_run is None:
        source = now if choose is None else choose(now)
        return RunItems(run=run_named(store, request, source.listing), source=source)
    kept = ListedItems(store.run_uri(open_run, f"items/{_kept(store, open_run)[-1]}")).whole()
    listing = _checked(store, open_run, kept, now, shards, on_bad_row)
    logger.info(
        "run %s goes on with the %d items that it began with; later uploads are not part of it (add --restart to take all)",
        open_run,
        listing.num_items,
    )
    return RunItems(run=open_run, source=open_listing(listing))


def left_out_notes(source: Source) -> tuple[str, ...]:
    """What a report says of files in the source that are no items: one sentence, or none."""
    said = left_out_text(source.listing.source.left_out)
    return (f"{source.spec}: {said}",) if said else ()


def run_named(store: Store, request: str, listing: Listing) -> str:
    """The id of the run with these settings whose items are these, whether it exists or not."""
    ending = _ending(listing)
    known = [run for run in _runs(store, request) if (_kept(store, run) or [""])[-1].endswith(ending)]
    return min(known, default=f"{request}-{listing.fingerprint[:8]}")


def _open_run(store: Store, request: str, now: Listing) -> str | None:
    """The run with these settings that began and did not complete its version; of several the one that began last."""
    if not (candidates := _runs(store, request)):
        return None
    claims, complete = store.claims(), set(store.versions())
    finished = {claim.run for number, claim in claims.items() if number in complete}
    last_claim = {claim.run: number for number, claim in sorted(claims.items())}
    begun = [run for run in candidates if run not in finished and _kept(store, run)]
    same = run_named(store, request, now)
    return max(begun, key=lambda run: (run == same, last_claim.get(run, 0)), default=None)


def _checked(store: Store, run: str, kept: Listing, now: Source, shards: ShardRanges, on_bad_row: OnBadRow) -> Listing:
    """The run's items, with the versions that replaced photos have now. Raises SourceError for what is gone or changed."""
    to_do = shards.items_to_do(store, run, kept)
    gone, changed = to_do.missing_from(now.listing), to_do.changed_in(now.listing)
    if changed and now.reader.ids_are_paths:
        logger.info("replaced since run %s began, taken as they are now: %s", run, _named(changed))
        kept, changed = _with_marks(kept, to_do, now.listing), []
    problems = [f"{len(gone):,} are gone ({_named(gone)})"] * bool(gone)
    problems += [f"{len(changed):,} were changed ({_named(changed)})"] * bool(changed)
    if problems and on_bad_row is OnBadRow.REFUSE:
        raise SourceError(
            f"{now.spec}: run {run} was interrupted, and of the objects that it still needs {' and '.join(problems)}; put "
            "them back as they were, or add --restart to begin anew with the items as they are now"
        )
    return kept


def _with_marks(kept: Listing, to_do: Listing, now: Listing) -> Listing:
    """The versions that are there now for what is still to do; finished shards keep the versions that they were made from."""
    renewed = to_do.with_marks_of(now)
    return kept.with_marks_of(renewed)


def _runs(store: Store, request: str) -> list[str]:
    return [run for run in store.runs() if run.startswith(f"{request}-")]


def _kept(store: Store, run: str) -> list[str]:
    """Names of the run's listings, oldest first."""
    return sorted(objects.list_names(store.run_uri(run, "items")))


def _ending(listing: Listing) -> str:
    return f"-{listing.fingerprint[:8]}.parquet"


def _named(paths: list[str]) -> str:
    return ", ".join(paths[:NUM_NAMED]) + (", ..." if len(paths) > NUM_NAMED else "")
