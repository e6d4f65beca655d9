"""Cases whose answer follows from how old and new lie to each other, on real text vectors (see `texts`).

    rotation      new = old @ orthogonal: a fitted rotation is lossless, and no better than doing nothing
    truncation    old = the first numbers of new, as in a Matryoshka family: identity is free, only true new vectors gain
    independent   old = a random code of each item and a little of its class: no map of it can find an item
    worse         the new model is the worse one

Owns: these constructions. No side-information: what it could add is another case's question.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from fct_ray.bench.cases.case_files import CaseData, CaseTask, Queries
from fct_ray.bench.cases.reference import unit, with_known
from fct_ray.bench.cases.texts import NEW as BETTER_MODEL
from fct_ray.bench.cases.texts import OLD as WEAKER_MODEL
from fct_ray.bench.cases.texts import document_vectors, section_labels, title_vectors
from fct_ray.errors import SettingsError
from fct_ray.settings import CheckedSettings, Count, Part, Seed

FloatArray = npt.NDArray[np.float32]
CODE_CLASS, CODE_VIEW = 0.5, 3.6
"""How strongly a random code shows its item's label, and how much two views of an item differ (its own part: 1)."""


class Relation(StrEnum):
    """How old and new lie to each other; see the module."""

    ROTATION = "rotation"
    TRUNCATION = "truncation"
    INDEPENDENT = "independent"
    WORSE = "worse"


VERDICTS = {
    Relation.ROTATION: "keep the old model: new finds exactly what old finds. A fitted rotation would lose nothing",
    Relation.TRUNCATION: "keep, or backfill fully: the stored numbers are new's own, a map adds nothing; true vectors do",
    Relation.INDEPENDENT: "backfill fully; a map finds no item at all, though it may find the class, which old shows too",
    Relation.WORSE: "keep the old model: even a full backfill harms",
}


@dataclass(frozen=True, kw_only=True)
class GeometrySettings(CheckedSettings):
    """One relation on a gallery of texts."""

    relation: Relation = Relation.ROTATION
    """How old and new lie to each other."""
    num_documents: Count = 10_000
    """Rows of the gallery."""
    num_characters: Count = 400
    """Characters of a document."""
    num_queries: Count = 1000
    """Short descriptions that search; their documents are no pairs."""
    pair_share: Part = 0.2
    """Share of the gallery that is embedded by the new model."""
    kept_numbers: Count = 128
    """Numbers that a truncated vector keeps, and of a random code."""
    sample_seed: Seed = 0
    """Seed of the samples, of the rotation and of random codes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Models:
    """Vectors by both models of gallery and titles."""

    old_NO: FloatArray
    new_NW: FloatArray
    old_titles_NO: FloatArray
    new_titles_NW: FloatArray


def make_geometry(name: str, settings: GeometrySettings) -> CaseData:
    """A case of this relation. Raises like `texts.make_texts`."""
    num = settings.num_documents
    rng = np.random.default_rng((settings.sample_seed, num))
    order_N = rng.permutation(num)
    asked_Q = np.sort(order_N[: settings.num_queries])
    labels_N, sections = section_labels(num)
    weaker, better = (
        (document_vectors(model, num, settings.num_characters), title_vectors(model, num))
        for model in (WEAKER_MODEL, BETTER_MODEL)
    )
    models = related(settings, weaker, better, labels_N, rng)
    case = CaseData(
        name=name,
        task=CaseTask.KNOWN_ITEM,
        old_NO=models.old_NO,
        new_NW=models.new_NW,
        labels_N=labels_N,
        pair_ids_P=np.sort(order_N[settings.num_queries :][: round(num * settings.pair_share)]),
        queries=Queries(
            old_QO=models.old_titles_NO[asked_Q],
            new_QW=models.new_titles_NW[asked_Q],
            labels_Q=labels_N[asked_Q],
            relevant=tuple((int(row),) for row in asked_Q),
        ),
        known={},
        sources={
            "data": "Debian package descriptions (Translation-en): long ones are documents, short ones queries",
            "labels": sections,
            "models": {"weaker": WEAKER_MODEL, "better": BETTER_MODEL},
            "settings": asdict(settings),
        },
    )
    return with_known(case, VERDICTS[settings.relation])


def related(
    settings: GeometrySettings,
    weaker: tuple[FloatArray, FloatArray],
    better: tuple[FloatArray, FloatArray],
    labels_N: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> Models:
    """Old and new in this relation; `weaker` and `better` are (documents, titles) by two real models."""
    if settings.relation is Relation.ROTATION:
        rotation = np.linalg.qr(rng.normal(size=(weaker[0].shape[1],) * 2))[0].astype(np.float32)
        return _models(weaker, (weaker[0] @ rotation, weaker[1] @ rotation))
    if settings.relation is Relation.TRUNCATION:
        kept = settings.kept_numbers
        if kept >= better[0].shape[1]:
            raise SettingsError(f"kept_numbers {kept}: the vectors have {better[0].shape[1]}; keep fewer")
        return _models((unit(better[0][:, :kept]), unit(better[1][:, :kept])), better)
    if settings.relation is Relation.INDEPENDENT:
        return _models(_codes(labels_N, settings.kept_numbers, rng), better)
    return _models(better, weaker)


def _models(old: tuple[FloatArray, FloatArray], new: tuple[FloatArray, FloatArray]) -> Models:
    return Models(old_NO=old[0], old_titles_NO=old[1], new_NW=new[0], new_titles_NW=new[1])


def _codes(labels_N: npt.NDArray[np.int64], dimension: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """A random code of each item, and another view of it."""
    centres = rng.normal(size=(int(labels_N.max()) + 1, dimension)) * CODE_CLASS
    codes_ND = centres[labels_N] + rng.normal(size=(len(labels_N), dimension))
    return unit(codes_ND), unit(codes_ND + CODE_VIEW * rng.normal(size=codes_ND.shape))
