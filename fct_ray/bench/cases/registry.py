"""The upgrade cases by name, and making one.

    DIR = make_case("synthetic-few", data_directory() / "cases")

Owns: names and sizes. Each maker owns its construction.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fct_ray.bench.cases.case_files import ABOUT, CaseData, CaseTask, is_whole, write_case
from fct_ray.bench.cases.emoji import make_emoji
from fct_ray.bench.cases.geometry import GeometrySettings, Relation, make_geometry
from fct_ray.bench.cases.images import make_known_kanji, make_photos, make_unseen_kanji
from fct_ray.bench.cases.latent import LatentSettings, make_latent
from fct_ray.bench.cases.texts import SIDE, TextSettings, make_texts
from fct_ray.errors import SettingsError

FEW, MANY = 2_000, 20_000
"""Pairs of the synthetic cases: 1 and 10 % of their rows."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One upgrade case."""

    about: str
    """In a line: what it is."""
    make: Callable[[str, int], CaseData]
    """(name, seed of the sample) -> the case."""


def _text(about: str, settings: TextSettings) -> Case:
    def make(name: str, seed: int) -> CaseData:
        return make_texts(name, replace(settings, sample_seed=seed))

    return Case(about=about, make=make)


def _images(about: str, make_images: Callable[[str, int], CaseData]) -> Case:
    return Case(about=about, make=make_images)


def _synthetic(about: str, num_pairs: int, *, with_side: bool, task: CaseTask) -> Case:
    def make(name: str, seed: int) -> CaseData:
        return make_latent(name, LatentSettings(num_pairs=num_pairs, with_side=with_side, task=task, data_seed=seed))

    return Case(about=about, make=make)


def _geometry(about: str, relation: Relation) -> Case:
    def make(name: str, seed: int) -> CaseData:
        return make_geometry(name, GeometrySettings(relation=relation, sample_seed=seed))

    return Case(about=about, make=make)


CASES: Mapping[str, Case] = {
    "text-4000": _text("4,000 package descriptions, MiniLM-L3 -> L6, 1,200 pairs", TextSettings()),
    "text-26000": _text(
        "26,000 package descriptions, MiniLM-L3 -> L6, 7,800 pairs",
        TextSettings(num_documents=26_000, num_characters=400, num_queries=1_000),
    ),
    "text-static": _text(
        "4,000 package descriptions, WordLlama -> L6, 1,200 pairs, no side-information",
        TextSettings(old=SIDE, side=None),
    ),
    "chain": _text(
        "4,000 package descriptions, WordLlama, mapped to L3 by an earlier upgrade -> L6, 1,200 pairs, no side-information",
        TextSettings(chained_from=SIDE, side=None),
    ),
    "photos": _images("30,000 photos, small models, 5 of 10 classes -> all, 4,800 pairs", make_photos),
    "kanji-known": _images("11,600 glyphs of known characters, small models, a tenth are pairs", make_known_kanji),
    "kanji-unseen": _images("11,600 glyphs of unseen characters, small models, a tenth are pairs", make_unseen_kanji),
    "emoji-worse": _images("1,860 emoji, EfficientNet-Lite0 -> Lite2, which is worse here, 500 pairs", make_emoji),
    "synthetic-few": _synthetic(
        "200,000 rows, 2,000 pairs, no side-information", FEW, with_side=False, task=CaseTask.KNOWN_ITEM
    ),
    "synthetic-few-side": _synthetic("200,000 rows, 2,000 pairs", FEW, with_side=True, task=CaseTask.KNOWN_ITEM),
    "synthetic-many": _synthetic(
        "200,000 rows, 20,000 pairs, no side-information", MANY, with_side=False, task=CaseTask.SIMILAR
    ),
    "synthetic-many-side": _synthetic("200,000 rows, 20,000 pairs", MANY, with_side=True, task=CaseTask.SIMILAR),
    "rotation": _geometry("10,000 texts, new = old rotated", Relation.ROTATION),
    "truncation": _geometry("10,000 texts, old = the first numbers of new", Relation.TRUNCATION),
    "independent": _geometry("10,000 texts, old = random codes", Relation.INDEPENDENT),
    "worse": _geometry("10,000 texts, the new model is worse", Relation.WORSE),
}


def make_case(name: str, root: Path, seed: int = 0) -> Path:
    """The directory of this case below `root` (NAME, or NAME-seed-N), made if it is not there.

    Raises:
        SettingsError: there is no such case, or what it needs is not installed.
        SourceError: its data cannot be fetched.
    """
    if name not in CASES:
        raise SettingsError(f"no case {name!r}; want one of {', '.join(CASES)}")
    directory = root / (name if seed == 0 else f"{name}-seed-{seed}")
    if not is_whole(directory):
        write_case(directory, CASES[name].make(name, seed))
        measured = json.loads((directory / ABOUT).read_text(encoding="utf-8"))["known"]["measured"]
        logger.info("made %s: R@1 %s", directory, {way: truth["r1"] for way, truth in measured.items()})
    return directory
