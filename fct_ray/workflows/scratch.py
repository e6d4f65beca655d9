"""Places that a verb empties and fills anew each time it runs, without deleting what it did not make.

    <directory>/made-by-compare.json    says that `compare` made upgrade/ and backfill/ here
    <directory>/leases/compare.json     held while it is at work
    <directory>/upgrade/, .../backfill/ deleted at the start of the next run

Owns: that mark, the lease, and the deletion. What is made in the places is the verb's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from fct_ray.errors import SettingsError
from fct_ray.storage import documents, leases, objects
from fct_ray.storage.store import Store


@contextmanager
def scratch_places(directory_uri: str, verb: str, names: Sequence[str], flag: str) -> Iterator[tuple[str, ...]]:
    """The places `names` below a directory, emptied, for the time of the block; nobody else uses them meanwhile.

    `flag` is the setting that names the directory.

    Raises:
        SettingsError: one of the places is there already, and this verb did not make it; nothing was deleted.
        LeaseHeldError: a living process of the same verb is at work in the directory.
    """
    places = tuple(objects.join(directory_uri, name) for name in names)
    mark_uri = objects.join(directory_uri, f"made-by-{verb}.json")
    if not objects.exists(mark_uri):
        _refuse_what_is_there(places, verb, flag)
    with leases.take(Store(directory_uri), verb, f"{verb} in {directory_uri}"):
        objects.write_bytes(mark_uri, documents.dump({"verb": verb, "made_anew_each_time": list(names)}))
        for place in places:
            objects.delete_tree(place)
        yield places


def _refuse_what_is_there(places: Sequence[str], verb: str, flag: str) -> None:
    for place in places:
        if objects.exists(place) or objects.list_names(place):
            raise SettingsError(
                f"{place} is there already and was not made by `{verb}`, which would delete it; want a place of its own: "
                f"name another directory with {flag}, or move this one away. Nothing was deleted"
            )
