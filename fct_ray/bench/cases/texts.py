"""Text cases: a package's short description must find its long one.

By default paraphrase-MiniLM-L3-v2 -> all-MiniLM-L6-v2, with WordLlama as side-information; labels are the archive's sections.
No document of a query is a pair. Embeddings are kept in the data directory by model and view, so that another sample of pairs
and queries costs seconds. Owns: which texts are shown to which model, and the samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fct_ray.bench.cases.case_files import CaseData, CaseTask, Queries
from fct_ray.bench.cases.debian_texts import PackageText, package_texts
from fct_ray.bench.cases.embedding_cache import cached_embeddings
from fct_ray.bench.cases.reference import ridge_between, with_known
from fct_ray.bench.cases.text_encoders import encoder_name
from fct_ray.bench.cases.text_models import ENCODERS
from fct_ray.errors import SettingsError
from fct_ray.settings import CheckedSettings, Count, Part, Seed
from fct_ray.sources.data_directory import data_directory
from fct_ray.sources.views import LEAST_CHARS

FloatArray = npt.NDArray[np.float32]
OLD, NEW, SIDE = "paraphrase-MiniLM-L3-v2", "all-MiniLM-L6-v2", "WordLlama-256"
VERDICT = "a map of old to new harms; fused whitened old + side is at least a full backfill, unfitted"


@dataclass(frozen=True, kw_only=True)
class TextSettings(CheckedSettings):
    """The size of a text case and its sample."""

    num_documents: Count = 4000
    """Documents of the gallery: the first of a fixed random order."""
    num_characters: Count = 256
    """Characters of a long description that are the document."""
    num_queries: Count = 400
    """Short descriptions that search."""
    pair_share: Part = 0.3
    """Share of the gallery that is embedded by the new model."""
    old: str = OLD
    """The old model, one of text_models.ENCODERS."""
    new: str = NEW
    """The new model."""
    side: str | None = SIDE
    """The model of the side-information."""
    chained_from: str | None = None
    """The gallery was embedded by this model, and its vectors were mapped to the old model's by an earlier upgrade."""
    sample_seed: Seed = 0
    """Which documents are asked for and which are pairs."""


def make_texts(name: str, settings: TextSettings) -> CaseData:
    """A text case; downloads lists (16 MB) and embeds texts where that was not done yet.

    Raises:
        SourceError: no Debian mirror is reached.
        SettingsError: too few texts, or a model's package is not installed.
    """
    num = settings.num_documents
    old_NO, new_NW, side_NS = (_documents(model, settings) for model in (settings.old, settings.new, settings.side))
    assert old_NO is not None  # noqa: S101 (both models have a name)
    assert new_NW is not None  # noqa: S101
    order_N = np.random.default_rng((settings.sample_seed, num)).permutation(num)
    asked_Q = np.sort(order_N[: settings.num_queries])
    pair_ids_P = np.sort(order_N[settings.num_queries :][: round(num * settings.pair_share)])
    old_QO, new_QW = (title_vectors(model, num)[asked_Q] for model in (settings.old, settings.new))
    side_QS = None if settings.side is None else title_vectors(settings.side, num)[asked_Q]
    if settings.chained_from is not None:
        old_NO = _mapped_before(settings.chained_from, old_NO, settings)
    labels_N, sections = section_labels(num)
    case = CaseData(
        name=name,
        task=CaseTask.KNOWN_ITEM,
        old_NO=old_NO,
        new_NW=new_NW,
        side_NS=side_NS,
        labels_N=labels_N,
        pair_ids_P=pair_ids_P,
        queries=Queries(
            old_QO=old_QO,
            new_QW=new_QW,
            side_QS=side_QS,
            labels_Q=labels_N[asked_Q],
            relevant=tuple((int(row),) for row in asked_Q),
        ),
        views_N=None if settings.chained_from else _later_parts(settings),
        encoders={
            role: encoder_name(model, settings.num_characters)
            for role, model in {"old": settings.old, "new": settings.new, "side": settings.side}.items()
            if model is not None
        },
        known={},
        sources={
            "data": "Debian package descriptions (Translation-en): long ones are documents, short ones queries",
            "labels": sections,
            "models": {"old": settings.old, "new": settings.new, "side": settings.side},
            "settings": asdict(settings),
        },
    )
    return with_known(case, VERDICT if settings.side == SIDE else "see what was measured")


def _documents(model: str | None, settings: TextSettings) -> FloatArray | None:
    return None if model is None else document_vectors(model, settings.num_documents, settings.num_characters)


def _later_parts(settings: TextSettings) -> tuple[str, ...]:
    """What follows the part of each document that was embedded; empty where that is next to nothing."""
    later = [text.long[settings.num_characters :].strip() for text in _texts(settings.num_documents)]
    return tuple(part if len(part) >= LEAST_CHARS else "" for part in later[: settings.num_documents])


def _mapped_before(first: str, old_NO: FloatArray, settings: TextSettings) -> FloatArray:
    """What an earlier upgrade left: a ridge map of the first model's vectors to the old model's, fitted on other pairs."""
    first_NF = document_vectors(first, settings.num_documents, settings.num_characters)
    num = settings.num_documents
    pair_ids_P = np.random.default_rng((settings.sample_seed, num, 1)).permutation(num)
    return ridge_between(first_NF, old_NO, pair_ids_P[: round(num * settings.pair_share)])


def document_vectors(model: str, num_documents: int, num_characters: int) -> FloatArray:
    """The first documents, cut to `num_characters`, by a model of text_models.ENCODERS."""
    return _vectors(model, f"long-{num_characters}", num_documents, lambda text: text.long[:num_characters])


def title_vectors(model: str, num_documents: int) -> FloatArray:
    """Their short descriptions."""
    return _vectors(model, "short", num_documents, lambda text: text.short)


def section_labels(num_documents: int) -> tuple[npt.NDArray[np.int64], list[str]]:
    """The section of each document as an index into the names, and the names."""
    texts = _texts(num_documents)
    names, labels = np.unique([text.section for text in texts], return_inverse=True)
    return labels[:num_documents].astype(np.int64), names.tolist()


def _vectors(model: str, view: str, num_documents: int, shown: Callable[[PackageText], str]) -> FloatArray:
    texts = [shown(text) for text in _texts(num_documents)]
    return cached_embeddings(_directory() / "embeddings" / model / view, texts, num_documents, ENCODERS[model])


def _texts(num_documents: int) -> list[PackageText]:
    texts = package_texts(_directory())
    if num_documents > len(texts):
        raise SettingsError(f"{num_documents} documents; Debian has {len(texts)} distinct ones. Ask for fewer")
    return texts


def _directory() -> Path:
    return data_directory() / "debian-texts"
