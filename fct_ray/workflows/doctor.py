"""Looking at a gallery before anything is done with it: Parquet objects that somebody else wrote, or a store.

Owns: the order (list, footers, columns, rows, spaces) and what becomes of objects that cannot be read. Writes nothing and
starts no cluster: one process reads a seeded sample of bounded size, or everything. What follows from what was seen is
decided in `plan/gallery_findings`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fct_ray.errors import FormatError
from fct_ray.evaluation.gallery_statistics import VectorStatistics
from fct_ray.evaluation.two_spaces import find_two_spaces
from fct_ray.gallery_facts import Diagnosis, GalleryFacts, IdFacts, LabelFacts, SampleFacts
from fct_ray.key_types import calls_items, key_type_of
from fct_ray.plan.gallery_findings import diagnose
from fct_ray.settings import CheckedSettings, Count, NumBytes, Seed
from fct_ray.storage import objects, parquet_listing
from fct_ray.storage.foreign_vectors import could_be_vectors
from fct_ray.storage.gallery_batches import (
    GalleryBatch,
    GroupToRead,
    VectorBatch,
    count_ids,
    dimensions_of,
    groups_to_read,
    read_batches,
)
from fct_ray.storage.gallery_columns import Columns, GivenColumns, find_columns
from fct_ray.storage.gallery_files import GalleryFooters, ObjectFooter, read_footers
from fct_ray.storage.store import Store
from fct_ray.values import AdoptedLayout

logger = logging.getLogger(__name__)
IDS_OF_A_SAMPLE, IDS_OF_ALL = 5_000_000, 100_000_000
"""Rows whose ids are compared, without and with `full`: they are held in memory."""
MOST_CLASSES, SHOWN = 1_000_000, 3


@dataclass(frozen=True, kw_only=True)
class DoctorSettings(CheckedSettings):
    """Look at a gallery before anything is done with it."""

    columns: GivenColumns = field(default_factory=GivenColumns)
    """What the columns are called."""
    encoder: str | None = None
    """The name of the model that made the vectors, for the commands that are proposed."""
    full: bool = False
    """Read every row instead of a sample."""
    sample_bytes: NumBytes = 256 << 20
    """A gallery that is larger than this (unpacked) is read in part: row groups drawn from all objects."""
    sample_rows: Count = 20_000
    """Norms, spectrum and spaces are computed of at most so many of the rows that are read."""
    seed: Seed = 0
    """Seed of the samples."""


def examine(place: str, settings: DoctorSettings) -> Diagnosis:
    """Facts about the gallery at `place`, what follows from them, and the commands to run next.

    `place` is a directory, a pattern, an object, or a store (its published version is looked at).

    Raises:
        NotFoundError: there is nothing at that place.
        FormatError: it is a table of Delta Lake, Iceberg or Hudi; says how to write what is current.
    """
    store = Store(place)
    current = None if any(sign in place for sign in "*?[") else store.current()
    wanted = settings.columns
    if current is None:
        uris = parquet_listing.list_parquet(place)
    else:
        manifest = store.manifest()
        uris = sorted({store.uri_of(record.embeddings.path) for record in manifest.shards})
        if manifest.adopted is not None and all(manifest.is_adopted(record.embeddings) for record in manifest.shards):
            wanted = _as_adopted(wanted, manifest.adopted, has_side=manifest.side_info is not None)
    footers = read_footers(uris, settings.seed)
    facts = _facts(place, footers, wanted, settings, is_store=current is not None)
    return diagnose(facts, encoder=settings.encoder, rewritten=f"{objects.absolute(place).rstrip('/*')}-rewritten")


def _as_adopted(names: GivenColumns, layout: AdoptedLayout, *, has_side: bool) -> GivenColumns:
    """Names that were given, else those by which a store reads the objects that it adopted; labels are found."""
    return GivenColumns(
        id=names.id or layout.id,
        embedding=names.embedding or layout.embedding,
        side_info=names.side_info or (layout.side_info if has_side else None),
        label=names.label,
    )


def _facts(
    place: str, footers: GalleryFooters, names: GivenColumns, settings: DoctorSettings, *, is_store: bool
) -> GalleryFacts:
    with_rows = footers.with_rows
    nothing = SampleFacts(whole=False, num_rows=0, num_objects=0, num_groups=0, seed=settings.seed, detailed_rows=0)
    if not with_rows:
        return GalleryFacts(
            place=place,
            is_store=is_store,
            objects=footers.facts(),
            columns=(),
            sample=nothing,
            unreadable=footers.unreadable[:SHOWN],
        )
    columns = find_columns(with_rows[0].schema, names)
    alike = [footer for footer in with_rows if _goes_with(footer, with_rows[0], columns)]
    facts = GalleryFacts(
        place=place,
        is_store=is_store,
        objects=footers.facts(other_schema=len(with_rows) - len(alike)),
        columns=columns.facts,
        sample=nothing,
        problems=columns.problems,
        unreadable=footers.unreadable[:SHOWN],
        flags=columns.flags,
    )
    if columns.embedding is None:
        return facts
    return _with_values(facts, _Reading(footers=tuple(footers.footers), alike=tuple(alike), columns=columns), settings)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Reading:
    """Whose values are read."""

    footers: tuple[ObjectFooter, ...]
    """All, by the numbers that row groups name."""
    alike: tuple[ObjectFooter, ...]
    columns: Columns


def _with_values(facts: GalleryFacts, reading: _Reading, settings: DoctorSettings) -> GalleryFacts:
    """`facts` with what the values of rows say."""
    groups = groups_to_read(
        reading.alike, most_bytes=None if settings.full else settings.sample_bytes, seed=settings.seed
    )
    try:
        ids = count_ids(reading.alike, reading.columns.id, IDS_OF_ALL if settings.full else IDS_OF_A_SAMPLE)
        seen = _Seen(reading, groups, settings)
    except FormatError as error:
        sizes = replace(facts.objects, unreadable=facts.objects.unreadable + 1)
        return replace(facts, objects=sizes, unreadable=(*facts.unreadable, str(error)))
    vectors_MD, places_M2 = seen.embedding.kept()
    logger.info("looking for a second space among %s rows", f"{len(vectors_MD):,}")
    all_rows = sum(group.num_rows for group in groups) == sum(footer.num_rows for footer in reading.alike)
    whole = all_rows and facts.objects.num_read == facts.objects.num_objects
    return replace(
        facts,
        sample=SampleFacts(
            whole=whole,
            num_rows=sum(group.num_rows for group in groups),
            num_objects=len({group.group.object for group in groups}),
            num_groups=len(groups),
            seed=settings.seed,
            detailed_rows=len(vectors_MD),
        ),
        ids=None
        if ids is None
        else IdFacts(
            num_rows=ids.num_rows,
            whole=ids.whole and facts.objects.num_read == facts.objects.num_objects,
            nulls=ids.nulls,
            repeated=ids.repeated,
        ),
        vectors=seen.embedding.facts(),
        side_info=None if seen.side_info is None else seen.side_info.facts(),
        label=seen.label_facts(),
        spaces=find_two_spaces(vectors_MD, places_M2, seed=settings.seed),
    )


class _Seen:
    """All chosen rows, read and added up."""

    def __init__(self, reading: _Reading, groups: Sequence[GroupToRead], settings: DoctorSettings) -> None:
        self._columns = reading.columns
        dimensions = dimensions_of(reading.footers, groups, reading.columns)
        self._labels: Counter[object] = Counter()
        assert reading.columns.embedding is not None  # noqa: S101 (the caller looked)
        self.embedding = self._statistics(dimensions[reading.columns.embedding], settings)
        side = reading.columns.side_info
        self.side_info = None if side is None else self._statistics(dimensions[side], settings)
        for batch in read_batches(reading.footers, groups, reading.columns, dimensions):
            _add(self.embedding, batch, batch.embedding)
            if self.side_info is not None and batch.side_info is not None:
                _add(self.side_info, batch, batch.side_info)
            if batch.labels is not None and len(self._labels) < MOST_CLASSES:
                self._labels.update(batch.labels.to_pylist())

    def label_facts(self) -> LabelFacts | None:
        """What the labels hold, if there are labels."""
        name = self._columns.label
        if name is None:
            return None
        counts = {label: count for label, count in self._labels.items() if label is not None}
        total = sum(counts.values())
        return LabelFacts(
            column=name,
            whole_numbers=all(isinstance(label, int) for label in counts),
            num_rows=self._labels.total(),
            nulls=self._labels[None],
            num_classes=len(counts),
            singletons=sum(count == 1 for count in counts.values()),
            largest_share=max(counts.values(), default=0) / max(total, 1),
        )

    @staticmethod
    def _statistics(dimension: int, settings: DoctorSettings) -> VectorStatistics:
        return VectorStatistics(dimension, kept_rows=settings.sample_rows, seed=settings.seed)


def _add(statistics: VectorStatistics, batch: GalleryBatch, vectors: VectorBatch) -> None:
    places_N2 = np.stack([np.full(len(vectors.rows_N), batch.object), batch.first_row + vectors.rows_N], axis=1)
    statistics.add(
        vectors.vectors_ND,
        places_N2,
        num_rows=vectors.num_rows,
        nulls=vectors.nulls,
        other_dimension=vectors.other_dimension,
    )


def _goes_with(footer: ObjectFooter, first: ObjectFooter, columns: Columns) -> bool:
    """Whether an object has the first one's columns of vectors, and ids of the same kind: what `adopt` puts together."""
    names = [name for name in (columns.embedding, columns.side_info) if name is not None]
    schema, ids = footer.schema, columns.id
    if not all(name in schema.names and could_be_vectors(schema.field(name)) for name in names):
        return False
    if ids is None or ids not in first.schema.names:
        return True
    if ids not in schema.names or not calls_items(schema.field(ids).type):
        return False
    return key_type_of(schema.field(ids).type) is key_type_of(first.schema.field(ids).type)
