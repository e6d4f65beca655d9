"""What follows from the facts about a gallery: findings, how grave they are, and what to do.

Owns: thresholds and sentences. Knows no files and no commands; `next_commands` writes those. Each finding says what was
seen, what adopting and upgrading do with it, and the next action.
"""

from __future__ import annotations

from collections.abc import Iterator

from fct_ray.gallery_facts import Diagnosis, Finding, GalleryFacts, Level, Role, SpacesFacts, VectorFacts
from fct_ray.plan.next_commands import next_commands, rewrite_command
from fct_ray.plan.portions import MOST_TOGETHER, SHARD_BYTES, SLACK, SMALL_SHARE

TINY_ROWS, MANY_OBJECTS = 4_096, 1_000
"""More objects than this with fewer rows than that."""
LARGE_GROUP_BYTES = SLACK * SHARD_BYTES
FEW_ROWS = 1_000
MUCH_REPEATED, MANY_ZEROS = 0.01, 0.001
MEAN_OF_ONE_SIDE = 0.6
UNEVEN_SHARE = 0.5


def diagnose(facts: GalleryFacts, *, encoder: str | None, rewritten: str) -> Diagnosis:
    """Facts, findings (the gravest first) and the commands to run next.

    `encoder` is the name of the model that made the vectors, if it is known; `rewritten` is where a copy could be written.
    """
    findings = sorted(_findings(facts, rewritten), key=lambda one: list(Level).index(one.level), reverse=True)
    commands = next_commands(facts, findings, encoder=encoder)
    return Diagnosis(facts=facts, findings=tuple(findings), commands=commands)


def _findings(facts: GalleryFacts, rewritten: str) -> Iterator[Finding]:
    yield from _schema(facts)
    yield from _objects(facts, rewritten)
    yield from _ids(facts)
    if facts.vectors is not None:
        yield from _unusable(facts.vectors, "embedding")
        yield from _lengths(facts.vectors)
        yield from _variety(facts.vectors)
    if facts.side_info is not None:
        yield from _unusable(facts.side_info, "side_info")
    if facts.spaces is not None:
        yield from _spaces(facts.spaces, facts.objects.num_objects)
    yield from _labels(facts)


def _schema(facts: GalleryFacts) -> Iterator[Finding]:
    for problem in facts.problems:
        yield Finding(
            name="columns", level=Level.ERROR, seen=problem, effect="Refused before any work starts.", action=""
        )
    if facts.flags:
        named = ", ".join(
            f"{column.name!r} as {column.role}" for column in facts.columns if column.role != Role.CARRIED
        )
        yield Finding(
            name="column-names",
            level=Level.NOTE,
            seen=f"Columns are taken by other names than the format's: {named}.",
            effect="Taken with the settings below; no object is rewritten.",
            action=" ".join(facts.flags),
        )
    if facts.objects.other_schema:
        yield Finding(
            name="types-differ",
            level=Level.ERROR,
            seen=f"{facts.objects.other_schema:,} objects lack columns of the first, or hold no vectors or other ids there.",
            effect="Refused: one store holds one kind of embedding.",
            action="Adopt objects of each kind as a store of its own, or write them again with one schema.",
        )


def _objects(facts: GalleryFacts, rewritten: str) -> Iterator[Finding]:
    objects = facts.objects
    rewrite = rewrite_command(facts.place, rewritten)
    if objects.unreadable:
        yield Finding(
            name="unreadable",
            level=Level.ERROR,
            seen=f"{objects.unreadable:,} of {objects.num_read:,} objects are no readable Parquet files.",
            effect="Refused, each by its name.",
            action="Copy or write them again, or move them out of the directory.",
        )
    if not objects.num_rows:
        yield Finding(
            name="no-rows",
            level=Level.ERROR,
            seen=f"None of {objects.num_objects:,} objects has rows.",
            effect="Refused.",
            action="Check the path.",
        )
    elif objects.num_rows < FEW_ROWS:
        yield Finding(
            name="few-rows",
            level=Level.WARNING,
            seen=f"{objects.num_rows:,} rows.",
            effect="An upgrade costs more than embedding them all again, and little can be proven.",
            action="Embed all items with the new model: fct-ray backfill.",
        )
    if objects.num_objects > MANY_OBJECTS and objects.rows_median < TINY_ROWS:
        yield Finding(
            name="tiny-objects",
            level=Level.WARNING,
            seen=f"{objects.num_objects:,} objects, half of them with {objects.rows_median:,} rows or fewer.",
            effect=f"Those below {SHARD_BYTES // SMALL_SHARE >> 20} MiB are copied into the store, up to {MOST_TOGETHER:,} "
            "in a shard; larger ones become a shard each, with an index file and a receipt.",
            action=f"To leave them where they are, write fewer, larger ones and adopt those: {rewrite}",
        )
    if objects.group_bytes_max > LARGE_GROUP_BYTES:
        yield Finding(
            name="large-row-groups",
            level=Level.WARNING,
            seen=f"A row group has {objects.group_rows_max:,} rows, {objects.group_bytes_max / 2**30:.1f} GiB unpacked.",
            effect=f"Groups above {LARGE_GROUP_BYTES >> 20} MiB are copied into the store in slices.",
            action=f"To leave them where they are, write smaller ones: {rewrite}",
        )
    if objects.num_empty and objects.num_rows:
        yield Finding(
            name="empty-objects",
            level=Level.NOTE,
            seen=f"{objects.num_empty:,} objects have no rows.",
            effect="Skipped, and named in the report.",
            action="",
        )


def _ids(facts: GalleryFacts) -> Iterator[Finding]:
    ids = facts.ids
    if ids is None:
        return
    where = f" (of {ids.num_rows:,}{'' if ids.whole else ' that were read'})"
    for count, name, what, action in (
        (
            ids.repeated,
            "repeated-ids",
            "Rows whose id an earlier row has",
            "Remove the copies, or make ids unique.",
        ),
        (ids.nulls, "null-ids", "Rows without an id", "Give them ids, or leave them out with --on-bad-row quarantine."),
    ):
        if count:
            yield Finding(
                name=name,
                level=Level.ERROR,
                seen=f"{what}: {count:,}{where}.",
                effect="Refused: an id names one item; all answers and deletions go by it.",
                action=action,
            )
    if not ids.whole:
        yield Finding(
            name="ids-in-part",
            level=Level.NOTE,
            seen=f"The ids of {ids.num_rows:,} rows were read.",
            effect="Adopting reads them all and refuses repeated ones.",
            action="--full reads them all now.",
        )


def _unusable(vectors: VectorFacts, column: str) -> Iterator[Finding]:
    counts = (
        (vectors.nulls, "without a vector or with a null in it"),
        (vectors.nan, "with NaN"),
        (vectors.infinite, "with an infinite value"),
    )
    found = [f"{count:,} {what}" for count, what in counts if count]
    if found:
        yield Finding(
            name=f"unusable-{column.replace('_', '-')}",
            level=Level.ERROR,
            seen=f"{column}: rows {', '.join(found)}, of {vectors.num_rows:,}.",
            effect="Refused, the first such row by name; with --on-bad-row quarantine left out, counted and listed.",
            action="--on-bad-row quarantine (with --max-bad-rows), or embed these items again.",
        )
    if vectors.other_dimension:
        yield Finding(
            name=f"dimensions-differ-{column.replace('_', '-')}",
            level=Level.ERROR,
            seen=f"{column}: {vectors.other_dimension:,} rows have another number of values than {vectors.dimension}.",
            effect="Refused: vectors of two models cannot be compared.",
            action="Embed these items again with the model of the others.",
        )


def _lengths(vectors: VectorFacts) -> Iterator[Finding]:
    low, middle, high = vectors.norm_quantiles[0], vectors.norm_quantiles[2], vectors.norm_quantiles[-1]
    spread = f"lengths {low:.3g} to {high:.3g} (98 % of them), median {middle:.3g}"
    if vectors.usable and not vectors.normalized:
        some = 0.001 < vectors.unit / vectors.usable < 0.999
        yield Finding(
            name="partly-normalized" if some else "not-normalized",
            level=Level.WARNING if some else Level.NOTE,
            seen=f"{vectors.unit / vectors.usable:.1%} of the vectors have length 1: {spread}.",
            effect="Inner products of vectors of different lengths are no cosines: longer vectors are found more often."
            if some
            else "The metric says what that means: inner product, distance and cosine give different answers.",
            action="Were some written by another program? Normalize all or none."
            if some
            else "Adopt with the metric that the index is searched with today.",
        )
    if vectors.zeros:
        many = vectors.zeros > MANY_ZEROS * max(vectors.usable, 1)
        yield Finding(
            name="zero-vectors",
            level=Level.WARNING if many else Level.NOTE,
            seen=f"{vectors.zeros:,} of {vectors.num_rows:,} vectors are zero.",
            effect="They go through an upgrade like others: a map gives them all one vector, found together.",
            action="Usually empty texts or images that failed: embed these items again, or delete them.",
        )
    if vectors.mean_length > MEAN_OF_ONE_SIDE:
        yield Finding(
            name="one-direction",
            level=Level.NOTE,
            seen=f"The mean of all directions has length {vectors.mean_length:.2f}: all vectors point to one side.",
            effect="Scores differ little; ways of upgrading that centre the vectors gain from that.",
            action="",
        )


def _variety(vectors: VectorFacts) -> Iterator[Finding]:
    if vectors.repeated:
        share = vectors.repeated / max(vectors.usable, 1)
        yield Finding(
            name="repeated-vectors",
            level=Level.WARNING if share > MUCH_REPEATED else Level.NOTE,
            seen=f"{vectors.repeated:,} vectors ({share:.1%}) equal an earlier one.",
            effect="Copies take places in every answer, and a pair whose copy is held out makes the gate too hopeful.",
            action="Keep one of each, if they are copies of one item." if share > MUCH_REPEATED else "",
        )
    if vectors.constant_dimensions:
        yield Finding(
            name="constant-dimensions",
            level=Level.WARNING if vectors.constant_dimensions > vectors.dimension / 2 else Level.NOTE,
            seen=f"{vectors.constant_dimensions:,} of {vectors.dimension:,} numbers of a vector hardly vary.",
            effect="They tell no items apart; maps and whitening leave them out.",
            action="Was the vector padded, or a part of the model switched off?",
        )


def _spaces(spaces: SpacesFacts, num_objects: int) -> Iterator[Finding]:
    if not spaces.suspected:
        return
    where = ""
    if spaces.objects and num_objects > 1:
        where = f" Objects that hold nearly nothing else: {spaces.objects:,}."
    elif spaces.placed > 0.5:
        where = " They lie together in runs of rows."
    yield Finding(
        name="two-models",
        level=Level.WARNING,
        seen=f"About {spaces.share:.1%} of the rows look as if another model had made them: {spaces.crossing:.1%} of their "
        f"nearest neighbours lie among the others, {spaces.recognised:.0%} of held-out neighbourhoods show their "
        f"side by how their rows differ, and they are as varied ({spaces.diversity:.2f}) as equally many others.{where}",
        effect="Vectors of two models cannot be compared: searches miss one part, and one map of both fits neither.",
        action="Find out which model made which rows (when, by which version), and embed the smaller part again before an "
        "upgrade; or adopt each part as a store of its own. Two unlike kinds of items (text and images) look the same.",
    )


def _labels(facts: GalleryFacts) -> Iterator[Finding]:
    label = facts.label
    if label is None:
        return
    if not label.whole_numbers:
        yield Finding(
            name="labels-no-numbers",
            level=Level.NOTE,
            seen=f"{label.column!r} has {label.num_classes:,} values that are no whole numbers.",
            effect="Carried, but the gate cannot judge by it.",
            action="A column of whole numbers named label (or --columns.label NAME) lets labels decide for --task similar.",
        )
        return
    uneven = label.largest_share > UNEVEN_SHARE
    yield Finding(
        name="labels",
        level=Level.WARNING if uneven or label.num_classes < 2 else Level.NOTE,
        seen=f"{label.num_classes:,} classes in {label.column!r}, {label.singletons:,} with one row; the largest has "
        f"{label.largest_share:.1%} of the rows, {label.nulls:,} rows have none.",
        effect="The gate can judge by labels (--task similar)"
        + ("; with most rows in one class that says little." if uneven else "."),
        action="",
    )
