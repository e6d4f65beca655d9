"""A diagnosis as tables and sentences: columns, sizes, vectors; shared by console and page.

Owns: which figures are shown, and their words. Statistics only.
"""

from __future__ import annotations

from fct_ray.gallery_facts import Diagnosis, GalleryFacts, SpacesFacts, VectorFacts
from fct_ray.report.quantities import bytes_text, count, percent
from fct_ray.report.text_table import Table


def diagnosis_tables(facts: GalleryFacts) -> tuple[Table, ...]:
    """All tables that apply."""
    vectors = [(name, found) for name, found in (("embedding", facts.vectors), ("side_info", facts.side_info)) if found]
    tables = [_columns(facts), _sizes(facts)]
    if vectors:
        tables.append(_vectors(vectors))
    if facts.spaces is not None:
        tables.append(_spaces(facts.spaces))
    return tuple(tables)


def looked_at(facts: GalleryFacts) -> str:
    """What was read, in a sentence."""
    sample, objects = facts.sample, facts.objects
    if not sample.num_rows:
        return "No values were read, footers only."
    if sample.whole:
        return f"Every row was read: {count(sample.num_rows)} in {count(sample.num_objects)} objects."
    return (
        f"A sample was read: {count(sample.num_rows)} of {count(objects.num_rows)} rows, from {count(sample.num_groups)} "
        f"row groups of {count(sample.num_objects)} of {count(objects.num_objects)} objects (seed {sample.seed})."
    )


def summary(diagnosis: Diagnosis) -> str:
    """How many findings there are of each level, in a sentence."""
    levels = [finding.level for finding in diagnosis.findings]
    if not levels:
        return "Nothing was found that stands in the way of an upgrade."
    named = [
        f"{levels.count(level)} {level}{'s' if levels.count(level) > 1 else ''}" for level in dict.fromkeys(levels)
    ]
    return f"Found: {', '.join(named)}."


def _columns(facts: GalleryFacts) -> Table:
    return Table(
        name="columns",
        title="Columns",
        sentence="By the footer of the first object that has rows.",
        header=("column", "type", "taken as", "because"),
        rows=tuple((column.name, column.type, column.role.value, column.why) for column in facts.columns),
    )


def _sizes(facts: GalleryFacts) -> Table:
    objects = facts.objects
    rows = [
        ("rows", count(objects.num_rows)),
        ("objects", count(objects.num_objects)),
        ("bytes", bytes_text(objects.num_bytes)),
        ("rows of an object: fewest, median, most", _listed(objects.rows_min, objects.rows_median, objects.rows_max)),
        ("largest row group", f"{count(objects.group_rows_max)} rows, {bytes_text(objects.group_bytes_max)} unpacked"),
    ]
    if facts.ids is not None:
        rows.append(("ids that were compared", count(facts.ids.num_rows)))
    if facts.label is not None:
        rows.append((f"classes in {facts.label.column}", count(facts.label.num_classes)))
    return Table(name="sizes", title="Sizes", sentence=looked_at(facts), header=("", "seen"), rows=tuple(rows))


def _vectors(vectors: list[tuple[str, VectorFacts]]) -> Table:
    def of(show: str) -> tuple[str, ...]:
        return tuple(str(count(getattr(found, show))) for _, found in vectors)

    found = [facts for _, facts in vectors]
    rows = (
        ("dimension", *of("dimension")),
        ("rows read", *of("num_rows")),
        ("null, NaN, infinite", *(_listed(one.nulls, one.nan, one.infinite) for one in found)),
        ("of another dimension", *of("other_dimension")),
        ("zero vectors", *of("zeros")),
        ("equal to an earlier one", *of("repeated")),
        ("of length 1", *(percent(one.unit / max(one.usable, 1)) for one in found)),
        ("length at 1, 50, 99 %", *(", ".join(f"{one.norm_quantiles[k]:.4g}" for k in (0, 2, 4)) for one in found)),
        ("numbers that hardly vary", *of("constant_dimensions")),
        ("length of the mean direction", *(f"{one.mean_length:.2f}" for one in found)),
        ("effective dimensions", *(f"{one.effective_dimensions:.1f}" for one in found)),
    )
    return Table(
        name="vectors",
        title="Vectors",
        sentence="Effective dimensions says how many principal axes share the variance.",
        header=("", *(name for name, _ in vectors)),
        rows=rows,
    )


def _spaces(spaces: SpacesFacts) -> Table:
    return Table(
        name="spaces",
        title=f"One model or two: {'two are suspected' if spaces.suspected else 'no sign of a second'}",
        sentence="The split of the rows that looks most like two embedding spaces. All signs must be there: hardly any "
        "neighbours across, held-out neighbourhoods are recognised, and the smaller part is as varied as the rest.",
        header=("sign", "seen", "two models"),
        rows=(
            ("smaller part of the rows", percent(spaces.share), ""),
            ("neighbours across", percent(spaces.crossing), "3 % or less"),
            ("held-out neighbourhoods recognised", percent(spaces.recognised), "82 % or more"),
            ("by so many nats a row", f"{spaces.contrast:.1f}", "9 or more"),
            ("variety, as a part of that of others", f"{spaces.diversity:.2f}", "0.5 or more"),
            ("told by its place in the objects", percent(spaces.placed), ""),
        ),
    )


def _listed(*values: int) -> str:
    return ", ".join(count(value) for value in values)
