"""Which files are images: by their suffix, and where that says nothing, by their first bytes.

| suffix | read |
|---|---|
| .jpg .jpeg .png .webp .bmp .gif .tif .tiff .heic .heif .avif | always, whatever the content is: a damaged one is named |
| that of text, tables, archives, films, sidecars or raw photos | never |
| another one, or none | if its first bytes are those of an image |

Owns: that table, and the signatures. Opens no file, and knows no pixel.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterable
from typing import Literal

from PIL import features

from fct_ray.errors import SourceError

ImageFormat = Literal["JPEG", "PNG", "GIF", "WebP", "BMP", "TIFF", "AVIF", "HEIC"]
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".heif", ".avif")
HEAD_BYTES = 64
"""So many bytes tell a format."""
NO_SUFFIX, HIDDEN = "no suffix", "hidden"
OTHER_SUFFIXES = {
    *(".txt", ".md", ".rst", ".html", ".htm", ".xml", ".xmp", ".aae", ".json", ".jsonl"),
    *(".yaml", ".yml", ".toml", ".ini", ".csv", ".tsv", ".log", ".pdf", ".svg", ".eps", ".ps"),
    *(".parquet", ".arrow", ".feather", ".npy", ".npz", ".pkl", ".pt", ".pth", ".onnx"),
    *(".safetensors", ".h5", ".hdf5", ".db", ".sqlite", ".lmdb", ".mat", ".tfrecord"),
    *(".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"),
    *(".mp4", ".mov", ".avi", ".mkv", ".webm", ".mp3", ".wav", ".py", ".sh", ".js", ".css"),
    *(".cr2", ".cr3", ".nef", ".nrw", ".arw", ".dng", ".orf", ".rw2", ".raf", ".pef", ".srw"),
}
"""Suffixes of what is no image, or of raw photos, which look like TIFF and have a small preview for a first picture: such
files are not opened, so that a sidecar beside every photo costs no request."""
_HEIC_BRANDS = frozenset((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"))
_AVIF_BRANDS = frozenset((b"avif", b"avis"))
_BMP_HEADERS = frozenset((12, 16, 40, 52, 56, 64, 108, 124))


def format_of(head: bytes) -> ImageFormat | None:
    """The format whose signature these first bytes of a file have; None: none that is read.

    Examples:
        >>> format_of(bytes.fromhex("89504e470d0a1a0a"))
        'PNG'
        >>> format_of(b"BMW: a list of cars")
    """
    starts: tuple[tuple[tuple[bytes, ...], ImageFormat], ...] = (
        ((b"\xff\xd8\xff",), "JPEG"),
        ((b"\x89PNG\r\n\x1a\n",), "PNG"),
        ((b"GIF87a", b"GIF89a"), "GIF"),
        ((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TIFF"),
    )
    for signatures, name in starts:
        if head.startswith(signatures):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    return _of_brands(head) if head[4:8] == b"ftyp" else None


def _of_brands(head: bytes) -> ImageFormat | None:
    """AVIF or HEIC, by the brands of a file type box; films begin with such a box too."""
    end = min(len(head), int.from_bytes(head[:4], "big"))
    brands = {head[8:12], *(head[start : start + 4] for start in range(16, end, 4))}
    if brands & _AVIF_BRANDS:
        return "AVIF"
    return "HEIC" if head[8:12] in _HEIC_BRANDS else None


def suffix_of(path: str) -> str:
    """The suffix of a path in lower case with its point; "no suffix" where there is none."""
    stem, point, suffix = path.rpartition("/")[2].rpartition(".")
    return f".{suffix.lower()}" if point and stem and suffix else NO_SUFFIX


def missing_decoder(kind: ImageFormat | None) -> str | None:
    """What to install so that this format can be read; None where it can."""
    if kind == "HEIC" and importlib.util.find_spec("pillow_heif") is None:
        return "HEIC images need a package that is not installed: pip install 'fct_ray[heif]'"
    if kind == "AVIF" and not features.check("avif"):
        return "AVIF images need a newer Pillow than the one that is installed: pip install 'pillow>=11.3'"
    return None


def check_decoders(suffixes: Iterable[str], uri: str) -> None:
    """Refuse a folder whose images, by their suffixes, this machine cannot read, before anything is embedded.

    Raises:
        SourceError: says how many there are, and what to install.
    """
    counts = Counter(suffixes)
    of_format: dict[ImageFormat, tuple[str, ...]] = {"HEIC": (".heic", ".heif"), "AVIF": (".avif",)}
    for kind, own in of_format.items():
        number = sum(counts[suffix] for suffix in own)
        if number and (missing := missing_decoder(kind)):
            raise SourceError(f"{uri} has {number:,} files that end with {' or '.join(own)}: {missing}")


def left_out_text(counts: Iterable[tuple[str, int]]) -> str:
    """Files that are no images, in words, the most frequent suffix first; empty where there are none.

    Examples:
        >>> left_out_text([(".txt", 2), ("hidden", 1), (".json", 1200)])
        '1,203 files are no images and were left out: .json 1,200, .txt 2, hidden 1'
    """
    ordered = sorted(counts, key=lambda pair: (-pair[1], pair[0]))
    total = sum(number for _, number in ordered)
    if not total:
        return ""
    said = "1 file is no image and was" if total == 1 else f"{total:,} files are no images and were"
    return f"{said} left out: {', '.join(f'{suffix} {number:,}' for suffix, number in ordered)}"
