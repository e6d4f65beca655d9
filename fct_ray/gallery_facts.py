"""What `doctor` tells of a gallery: the facts that were read and computed, and the findings that follow from them.

Owns: the nouns alone. `storage/gallery_files` and `storage/gallery_batches` read, `evaluation/gallery_statistics` and
`evaluation/two_spaces` compute, `plan/gallery_findings` decides. Statistics only: no id, no vector, no label of an item.
Shares are of 1. Lengths (`norm`) are Euclidean.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How grave a finding is."""

    NOTE = "note"
    """Good to know."""
    WARNING = "warning"
    """The gallery can be upgraded, but something in it makes the result worse, dearer or harder to judge."""
    ERROR = "error"
    """The gallery is refused as it is."""

    def reaches(self, other: Level) -> bool:
        """Whether it is at least as grave as another."""
        return list(Level).index(self) >= list(Level).index(other)


class Role(StrEnum):
    """What a column is taken as."""

    ID = "id"
    EMBEDDING = "embedding"
    SIDE_INFO = "side_info"
    LABEL = "label"
    CARRIED = "carried"
    """It goes through an upgrade untouched."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnFacts:
    """One column of the objects."""

    name: str
    type: str
    role: Role
    why: str
    """How it came by its role, in a few words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectFacts:
    """Sizes of the Parquet objects, from their footers."""

    num_objects: int
    num_read: int
    """Footers that were read; fewer than the objects where these are too many."""
    num_rows: int
    """Scaled up where not all footers were read."""
    num_bytes: int
    rows_min: int
    rows_median: int
    rows_max: int
    num_empty: int
    num_groups: int
    group_rows_max: int
    group_bytes_max: int
    """The largest row group when it is unpacked."""
    unreadable: int = 0
    """Objects without a readable footer."""
    other_schema: int = 0
    """Objects whose id or vectors have another type than the first object's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleFacts:
    """What was looked at."""

    whole: bool
    """Whether every row was read."""
    num_rows: int
    num_objects: int
    num_groups: int
    seed: int
    detailed_rows: int
    """Rows of which norms, spectrum and spaces were computed, drawn at random from those that were read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IdFacts:
    """The ids of the rows that were looked at."""

    num_rows: int
    whole: bool
    nulls: int
    repeated: int
    """Rows whose id an earlier row has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VectorFacts:
    """The vectors of the rows that were looked at."""

    num_rows: int
    dimension: int
    nulls: int
    """Rows without a vector, or with a null in it."""
    other_dimension: int
    """Rows whose vector has another number of values than most."""
    nan: int
    """Rows with a NaN and nothing infinite."""
    infinite: int
    zeros: int
    repeated: int
    """Rows whose vector equals that of an earlier row, zero vectors left out."""
    unit: int
    """Rows of length 1."""
    norm_min: float
    norm_max: float
    norm_quantiles: tuple[float, ...]
    """At 1, 25, 50, 75 and 99 %."""
    constant_dimensions: int
    """Numbers of a vector that are the same in all rows, or nearly."""
    mean_length: float
    """Length of the mean of all directions: 0 where they point everywhere, 1 where all are equal."""
    effective_dimensions: float
    """(sum of variances)² / sum of squared variances along principal axes: how many axes share the variance."""
    spectrum: tuple[float, ...]
    """Share of the variance on each principal axis, largest first, at most 64."""
    histogram: tuple[int, ...]
    """Rows by length, in steps of `histogram_step` from `norm_min` on."""
    histogram_step: float

    @property
    def usable(self) -> int:
        """Rows with a finite vector of the right dimension."""
        return self.num_rows - self.nulls - self.other_dimension - self.nan - self.infinite

    @property
    def normalized(self) -> bool:
        """Whether all usable vectors have length 1, but for zero vectors."""
        return self.usable > 0 and self.unit + self.zeros == self.usable


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelFacts:
    """The labels of the rows that were looked at."""

    column: str
    whole_numbers: bool
    num_rows: int
    nulls: int
    num_classes: int
    singletons: int
    """Classes with one row."""
    largest_share: float
    """Share of the rows in the largest class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpacesFacts:
    """Whether the vectors look as if they came from two models; see `evaluation/two_spaces`."""

    num_rows: int
    """Rows that were judged."""
    suspected: bool
    share: float
    """Share of the rows in the smaller of the two groups that look most like two spaces."""
    crossing: float
    """Share of the nearest neighbours of the smaller group that lie in the larger one."""
    recognised: float
    """Share of neighbourhoods whose group is told by how their rows differ, by Gaussians that saw neither them nor what
    touches them: the lower one of both groups."""
    contrast: float
    """By how many nats a row: the median, the lower one of both groups."""
    diversity: float
    """How much of the larger group's variety the smaller one has, per equal number of rows."""
    placed: float
    """How well the place of a row (its object, its part of it) tells its group: 0 not at all, 1 exactly."""
    objects: int
    """Objects that lie nearly whole in the smaller group."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that is worth knowing before an upgrade."""

    name: str
    level: Level
    seen: str
    """What was seen, with figures."""
    effect: str
    """What adopting and upgrading do with it."""
    action: str
    """What to do; empty where nothing is needed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GalleryFacts:
    """All that was found out about a gallery. What could not be read is None."""

    place: str
    is_store: bool
    objects: ObjectFacts
    columns: tuple[ColumnFacts, ...]
    sample: SampleFacts
    ids: IdFacts | None = None
    vectors: VectorFacts | None = None
    side_info: VectorFacts | None = None
    label: LabelFacts | None = None
    spaces: SpacesFacts | None = None
    problems: tuple[str, ...] = ()
    """Why columns have no role, one sentence each: then the gallery is refused as it is."""
    unreadable: tuple[str, ...] = ()
    """Why objects could not be read, a few of them, by name."""
    flags: tuple[str, ...] = ()
    """Settings by which the columns are named where their names are others than the format's, in order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """Facts, what follows from them, and what to run next."""

    facts: GalleryFacts
    findings: tuple[Finding, ...]
    commands: tuple[str, ...]

    @property
    def worst(self) -> Level | None:
        """The gravest level of all findings."""
        levels = [finding.level for finding in self.findings]
        return max(levels, key=list(Level).index, default=None)
