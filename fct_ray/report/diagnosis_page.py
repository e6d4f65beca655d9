"""A diagnosis as one HTML page that can be attached to a report: statistics only.

Owns: what is left out: paths but for the gallery's own name, names of objects, ids, vectors, labels. Names and types of
columns are shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fct_ray.gallery_facts import Diagnosis, GalleryFacts
from fct_ray.plan.gallery_findings import diagnose
from fct_ray.report.content import Environment
from fct_ray.report.diagnosis_tables import diagnosis_tables, looked_at, summary
from fct_ray.report.html_file import render_page
from fct_ray.report.quantities import count

if TYPE_CHECKING:
    from fct_ray.report.plots import Plot


@dataclass(frozen=True, kw_only=True, slots=True)
class _Page:
    """What the template of reports asks of a report."""

    environment: Environment
    notes: tuple[str, ...]
    job: str = "doctor"
    settings: Mapping[str, object] = field(default_factory=dict)


def render_diagnosis(diagnosis: Diagnosis, environment: Environment) -> str:
    """The page, without scripts and without references to anything outside."""
    name = gallery_name(diagnosis.facts.place)
    shown = diagnose(replace(diagnosis.facts, place=name, unreadable=()), encoder=None, rewritten="REWRITTEN")
    notes = [f"{found.level.value.upper()}: {found.seen} {found.effect} {found.action}" for found in shown.findings]
    facts = shown.facts
    return render_page(
        report=_Page(environment=environment, notes=tuple(note.strip() for note in notes)),
        store_name=name,
        subtitle=f"{count(facts.objects.num_rows)} rows in {count(facts.objects.num_objects)} objects",
        sentences=[summary(shown), looked_at(facts), *(f"Next: {command}" for command in shown.commands)],
        tables=diagnosis_tables(facts),
        plots=_plots(facts),
        plot_of={"vectors": "lengths", "spaces": "spectrum"},
    )


def gallery_name(place: str) -> str:
    """The last part of a path that has no wildcards: "s3://bucket/vectors/*.parquet" is "vectors"."""
    parts = [part for part in place.partition("://")[2].split("/") if part] if "://" in place else place.split("/")
    plain = [part for part in parts if part and not set(part) & set("*?[")]
    return plain[-1] if plain else "gallery"


def _plots(facts: GalleryFacts) -> tuple[Plot, ...]:
    from fct_ray.report.plots import bars  # matplotlib takes a second to import: only when something is drawn

    if facts.vectors is None or not facts.vectors.spectrum:
        return ()
    vectors = facts.vectors
    lengths = [vectors.norm_min + vectors.histogram_step * (place + 0.5) for place in range(len(vectors.histogram))]
    return bars(
        ("lengths", lengths, vectors.histogram, "length of a vector", "rows", "Lengths of the vectors."),
        (
            "spectrum",
            list(range(1, len(vectors.spectrum) + 1)),
            [share * 100 for share in vectors.spectrum],
            "principal axis",
            "percent of the variance",
            "How the variance is spread over the principal axes, largest first.",
        ),
    )
