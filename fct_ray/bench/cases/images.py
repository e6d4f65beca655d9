"""Image cases by small models that are fitted here with the product's own `fit`: photos and kanji glyphs.

    photos         Fashion-MNIST; old knows 5 of 10 classes. A query is a test photo; similar is what has its class
    kanji-known    glyphs in typefaces that nobody trained on; old knows 300 characters, new the 1,500 of the gallery
    kanji-unseen   the same models; gallery and queries are the 1,465 characters that none was fitted on

A kanji query is a glyph in another typeface and must find the glyphs of its character. Side-information is SimCLR on what
old was fitted on. Owns: which items are shown to which model, and the samples. Fitted models and embeddings are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fct_ray.bench.cases.case_files import CaseData, CaseTask, Queries
from fct_ray.bench.cases.embedding_cache import cached_embeddings
from fct_ray.bench.cases.reference import with_known
from fct_ray.engine.cluster import ClusterSettings, ClusterSize, cluster_size, connected, is_connected
from fct_ray.models.encoder_loop import EncoderFit, EncoderLoss
from fct_ray.models.module_encoder import ModuleEncoder
from fct_ray.shards.model_directory import load_model
from fct_ray.sources.data_directory import data_directory
from fct_ray.sources.items import Source
from fct_ray.sources.registry import open_source
from fct_ray.workflows.fit.encoder import FitEncoderSettings, fit_encoder

FloatArray = npt.NDArray[np.float32]
CNN_8, CNN_16, CNN_16X4 = "small_cnn-8", "small_cnn-16", "small_cnn-16x4"


@dataclass(frozen=True, kw_only=True, slots=True)
class FittedHere:
    """A model, and what it is fitted on."""

    name: str
    source: str
    fit: EncoderFit


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSettings:
    """What an image case is made of."""

    models: tuple[FittedHere, FittedHere, FittedHere]
    """Old, side, new."""
    gallery: str
    queries: str
    task: CaseTask
    num_queries: int
    num_pairs: int
    verdict: str
    seed: int = 0


PHOTOS = ImageSettings(
    models=(
        FittedHere(name="photos-old", source="fashion-mnist:fit?classes=0-4", fit=EncoderFit(backbone=CNN_8)),
        FittedHere(
            name="photos-side",
            source="fashion-mnist:fit?classes=0-4",
            fit=EncoderFit(backbone=CNN_16, epochs=5, loss=EncoderLoss.SIMCLR),
        ),
        FittedHere(name="photos-new", source="fashion-mnist:fit", fit=EncoderFit(backbone=CNN_16)),
    ),
    gallery="fashion-mnist:gallery",
    queries="fashion-mnist:query",
    task=CaseTask.SIMILAR,
    num_queries=2_000,
    num_pairs=4_800,
    verdict="upgrade: h recovers most of the gain in mAP",
)
GLYPHS = EncoderFit(batch_size=128, flip=False, epochs=4)
KANJI_KNOWN = ImageSettings(
    models=(
        FittedHere(name="kanji-old", source="kanji:fit?characters=0-299", fit=replace(GLYPHS, backbone=CNN_8)),
        FittedHere(
            name="kanji-side",
            source="kanji:fit?characters=0-299",
            fit=replace(GLYPHS, backbone=CNN_16X4, epochs=10, loss=EncoderLoss.SIMCLR),
        ),
        FittedHere(
            name="kanji-new", source="kanji:fit?characters=0-1499", fit=replace(GLYPHS, backbone=CNN_16X4, scale=24)
        ),
    ),
    gallery="kanji:gallery?characters=0-1499",
    queries="kanji:query?characters=0-1499",
    task=CaseTask.KNOWN_ITEM,
    num_queries=2_000,
    num_pairs=1_170,
    verdict="upgrade with side-information; fused at least",
)
KANJI_UNSEEN = replace(
    KANJI_KNOWN, gallery="kanji:gallery?characters=1500-2964", queries="kanji:query?characters=1500-2964"
)


def make_photos(name: str, seed: int) -> CaseData:
    """Fashion-MNIST. Raises SourceError: it cannot be fetched; FitError."""
    return _make(name, replace(PHOTOS, seed=seed))


def make_known_kanji(name: str, seed: int) -> CaseData:
    """Kanji that the new model knows. Raises SourceError: `python -m fct_ray.sources.kanji` was not run; FitError."""
    return _make(name, replace(KANJI_KNOWN, seed=seed))


def make_unseen_kanji(name: str, seed: int) -> CaseData:
    """Kanji that no model knows. Raises like `make_known_kanji`."""
    return _make(name, replace(KANJI_UNSEEN, seed=seed))


def _make(name: str, settings: ImageSettings) -> CaseData:
    gallery, asking = open_source(settings.gallery), open_source(settings.queries)
    rng = np.random.default_rng((settings.seed, gallery.num_items))
    chosen_Q = np.sort(rng.permutation(asking.num_items)[: settings.num_queries])
    asking = asking.take(chosen_Q)
    with _cluster() as size:
        uris = [_fitted(model, settings.seed, size) for model in settings.models]
    (old_NO, old_QO), (side_NS, side_QS), (new_NW, new_QW) = (
        (_vectors(uri, settings.gallery, gallery), _vectors(uri, f"{settings.queries}-{settings.seed}", asking))
        for uri in uris
    )
    assert gallery.labels_N is not None  # noqa: S101 (both data sets have labels)
    assert asking.labels_N is not None  # noqa: S101
    labels_N, labels_Q = gallery.labels_N, asking.labels_N
    known_items = settings.task is CaseTask.KNOWN_ITEM
    case = CaseData(
        name=name,
        task=settings.task,
        old_NO=old_NO,
        new_NW=new_NW,
        side_NS=side_NS,
        labels_N=labels_N,
        pair_ids_P=np.sort(rng.permutation(gallery.num_items)[: settings.num_pairs]),
        queries=Queries(
            old_QO=old_QO,
            new_QW=new_QW,
            side_QS=side_QS,
            labels_Q=labels_Q,
            relevant=tuple(_relevant(labels_N, label, first=not known_items) for label in labels_Q),
        ),
        known={},
        sources={
            "data": {"gallery": settings.gallery, "queries": settings.queries},
            "models": {model.name: uri.rsplit("/", 1)[-1] for model, uri in zip(settings.models, uris, strict=True)},
            "seed": settings.seed,
        },
    )
    return with_known(case, settings.verdict)


def _relevant(labels_N: npt.NDArray[np.int64], label: int, *, first: bool) -> tuple[int, ...]:
    """The rows of this label; the first of them alone where labels judge, so that files stay small."""
    rows = np.flatnonzero(labels_N == label)
    return tuple(rows[: 1 if first else None].tolist())


def _fitted(model: FittedHere, seed: int, size: ClusterSize) -> str:
    output = data_directory() / "cases" / "models"
    settings = FitEncoderSettings(name=model.name, source=model.source, output=str(output), fit=model.fit, seed=seed)
    return fit_encoder(settings, size).uri


def _vectors(uri: str, view: str, source: Source) -> FloatArray:
    """Unit vectors of all items of a source, kept by model and view."""
    directory = data_directory() / "cases" / "embeddings" / uri.rsplit("/", 1)[-1] / view.replace("/", "-")
    return cached_embeddings(
        directory,
        range(source.num_items),
        source.num_items,
        lambda: lambda rows: ModuleEncoder(load_model(uri)).encode(source.read(np.asarray(rows)).columns),
    )


@contextmanager
def _cluster() -> Iterator[ClusterSize]:
    """The cluster that this process is connected to, or one for this block."""
    if is_connected():
        yield cluster_size()
    else:
        with connected(ClusterSettings()) as size:
            yield size
