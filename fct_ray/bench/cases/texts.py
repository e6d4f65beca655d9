"""Text cases: a package's short description must find its long one; paraphrase-MiniLM-L3-v2 -> all-MiniLM-L6-v2.

Side-information is WordLlama; labels are the archive's sections. No document of a query is a pair. Embeddings are kept in
the data directory by model and view, so that another sample of pairs and queries costs seconds. Owns: which texts are
shown to which model, and the samples.
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
from fct_ray.bench.cases.reference import with_known
from fct_ray.bench.cases.text_models import ENCODERS
from fct_ray.errors import SettingsError
from fct_ray.settings import CheckedSettings, Count, Part, Seed
from fct_ray.sources.data_directory import data_directory

FloatArray = npt.NDArray[np.float32]
OLD, NEW, SIDE = "paraphrase-MiniLM-L3-v2", "all-MiniLM-L6-v2", "WordLlama-256"


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
    sample_seed: Seed = 0
    """Which documents are asked for and which are pairs."""


def make_texts(name: str, settings: TextSettings) -> CaseData:
    """A text case; downloads lists (16 MB) and embeds texts where that was not done yet.

    Raises:
        SourceError: no Debian mirror is reached.
        SettingsError: too few texts, or a model's package is not installed.
    """
    num = settings.num_documents
    old_NO, new_NW, side_NS = (document_vectors(model, num, settings.num_characters) for model in (OLD, NEW, SIDE))
    order_N = np.random.default_rng((settings.sample_seed, num)).permutation(num)
    asked_Q = np.sort(order_N[: settings.num_queries])
    pair_ids_P = np.sort(order_N[settings.num_queries :][: round(num * settings.pair_share)])
    old_QO, new_QW, side_QS = (title_vectors(model, num)[asked_Q] for model in (OLD, NEW, SIDE))
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
        known={},
        sources={
            "data": "Debian package descriptions (Translation-en): long ones are documents, short ones queries",
            "labels": sections,
            "models": {"old": OLD, "new": NEW, "side": SIDE},
            "settings": asdict(settings),
        },
    )
    return with_known(
        case, "a map of old to new harms; fused whitened old + side is at least a full backfill, unfitted"
    )


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
