"""Which typefaces draw the kanji, where Debian keeps them, and on which side of the study each one stands.

Owns: a table. Near twins (weights of one family, Motoya Cedar and Maru, MigMix, Migu and VL Gothic, Noto JP and SC)
stand on the same side, so that no query or gallery glyph is a re-drawing of one that was trained on. Left out:
AR PL UKai and UMing and Smiley Sans (106 to 1,083 missing-glyph boxes), Sawarabi Mincho and
cwTeXKai (boxes), Ume Gothic, UmePlus and YOzSX (the same drawings as Ume Hy Gothic and YOzS).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Typeface:
    """One font file (or one face of a collection) and the split that it belongs to."""

    name: str
    split: str
    package: str
    file: str
    face: int = 0


TYPEFACES = (
    Typeface("ipa-gothic", "fit", "fonts-ipafont-gothic", "ipag.ttf"),
    Typeface("ipa-mincho", "fit", "fonts-ipafont-mincho", "ipam.ttf"),
    Typeface("noto-sans-jp", "fit", "fonts-noto-cjk", "NotoSansCJK-Regular.ttc", 0),
    Typeface("noto-sans-sc", "fit", "fonts-noto-cjk", "NotoSansCJK-Regular.ttc", 2),
    Typeface("noto-sans-jp-bold", "fit", "fonts-noto-cjk", "NotoSansCJK-Bold.ttc", 0),
    Typeface("noto-serif-jp", "fit", "fonts-noto-cjk", "NotoSerifCJK-Regular.ttc", 0),
    Typeface("noto-serif-sc", "fit", "fonts-noto-cjk", "NotoSerifCJK-Regular.ttc", 2),
    Typeface("noto-serif-jp-bold", "fit", "fonts-noto-cjk", "NotoSerifCJK-Bold.ttc", 0),
    Typeface("bizud-gothic", "fit", "fonts-morisawa-bizud-gothic", "BIZUDGothic-Regular.ttf"),
    Typeface("bizud-gothic-bold", "fit", "fonts-morisawa-bizud-gothic", "BIZUDGothic-Bold.ttf"),
    Typeface("bizud-mincho", "fit", "fonts-morisawa-bizud-mincho", "BIZUDMincho-Regular.ttf"),
    Typeface("motoya-cedar", "fit", "fonts-motoya-l-cedar", "MTLc3m.ttf"),
    Typeface("motoya-maru", "fit", "fonts-motoya-l-maruberi", "MTLmr3m.ttf"),
    Typeface("migmix", "fit", "fonts-migmix", "migmix-1m-regular.ttf"),
    Typeface("migu-bold", "fit", "fonts-migmix", "migu-1m-bold.ttf"),
    Typeface("vl-gothic", "fit", "fonts-vlgothic", "VL-Gothic-Regular.ttf"),
    Typeface("wqy-microhei", "fit", "fonts-wqy-microhei", "wqy-microhei.ttc"),
    Typeface("ume-hy-gothic", "fit", "fonts-horai-umefont", "ume-hgo4.ttf"),
    Typeface("yozs", "fit", "fonts-yozvox-yozfont-standard-kana", "YOzRS_.ttf"),
    Typeface("yozs-bold", "fit", "fonts-yozvox-yozfont-standard-kana", "YOzBS_.ttf"),
    Typeface("dotgothic16", "fit", "fonts-dotgothic16", "DotGothic16-Regular.ttf"),
    Typeface("oradano-mincho", "fit", "fonts-oradano-mincho-gsrr", "OradanoGSRR.ttf"),
    Typeface("aoyagi-soseki", "fit", "fonts-aoyagi-soseki", "aoyagi-soseki.ttf"),
    Typeface("kouzan-brush", "fit", "fonts-kouzan-mouhitsu", "kouzan-mouhitsu.ttf"),
    Typeface("kouzan-sousyo", "fit", "fonts-kouzan-mouhitsu", "KouzanBrushFontSousyo.ttf"),
    Typeface("sawarabi-gothic", "gallery", "fonts-sawarabi-gothic", "sawarabi-gothic-medium.ttf"),
    Typeface("wqy-zenhei", "gallery", "fonts-wqy-zenhei", "wqy-zenhei.ttc"),
    Typeface("babelstone-han", "gallery", "fonts-babelstone-han", "BabelStoneHan.ttf"),
    Typeface("konatu", "gallery", "fonts-konatu", "Konatu.ttf"),
    Typeface("ume-mincho", "gallery", "fonts-horai-umefont", "ume-tmo3.ttf"),
    Typeface("hanazono", "gallery", "fonts-hanazono", "HanaMinA.ttf"),
    Typeface("aoyagi-kouzan", "gallery", "fonts-aoyagi-kouzan-t", "AoyagiKouzanT.ttf"),
    Typeface("train-one", "gallery", "fonts-train", "TrainOne-Regular.ttf"),
    Typeface("seto", "query", "fonts-seto", "setofont.ttf"),
    Typeface("kiloji", "query", "fonts-kiloji", "kiloji.ttf"),
    Typeface("reggae-one", "query", "fonts-reggae", "ReggaeOne-Regular.ttf"),
    Typeface("kouzan-gyousyo", "query", "fonts-kouzan-mouhitsu", "kouzan-mouhitsu-gyosho.ttf"),
    Typeface("yusei-magic", "query", "fonts-yusei-magic", "YuseiMagic-Regular.ttf"),
    Typeface("dejima-mincho", "query", "fonts-dejima-mincho", "dejima-mincho-r227.ttf"),
)
"""25 to fit on, 8 for the gallery, 6 for queries. An item's id holds the position in this table: only append."""

SPLITS = ("fit", "gallery", "query")
PACKAGES = tuple(sorted({typeface.package for typeface in TYPEFACES}))
