"""Images as people have them: every format, depth, colour model and orientation is read right, or refused by name."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from fct_ray.errors import SourceError
from fct_ray.sources.decoding import MOST_PIXELS, decode
from fct_ray.sources.image_formats import format_of
from tests.sources.image_files import ORIENTATIONS, Pixels, encoded, heic, picture, with_orientation

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF")
LOSSY_BY = {"JPEG": 12, "AVIF": 12, "HEIF": 12}
"""How far a pixel may be from the drawn one; the borders of patches are left out of lossy pictures."""


def as_file(pixels: Pixels, image_format: str) -> bytes:
    image = Image.fromarray(pixels)
    return heic(image, quality=95) if image_format == "HEIF" else encoded(image, image_format)


def assert_near(seen: Pixels, wanted: Pixels, image_format: str) -> None:
    assert seen.shape == wanted.shape
    assert seen.dtype == np.uint8
    if image_format not in LOSSY_BY:
        np.testing.assert_array_equal(seen, wanted)
        return
    rows, columns = wanted.shape[0] // 2, wanted.shape[1] // 2
    for row in (rows // 2, rows + rows // 2):
        for column in (columns // 2, columns + columns // 2):
            assert np.abs(seen[row, column].astype(int) - wanted[row, column]).max() <= LOSSY_BY[image_format]


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_photo_stands_upright_whatever_its_orientation_says(image_format: str, orientation: int) -> None:
    data = with_orientation(picture(), orientation, image_format)
    assert_near(decode(data, "photo"), picture(), image_format)


@pytest.mark.parametrize("image_format", ["BMP", "GIF", "TGA", "PPM"])
def test_formats_without_orientation_are_read_as_they_are(image_format: str) -> None:
    np.testing.assert_array_equal(decode(as_file(picture(), image_format), "photo"), picture())


DEEP = np.array([[0, 1, 128, 129], [4000, 32767, 32768, 65535]], np.uint16)
DEEP_AS_8 = np.array([[0, 0, 0, 1], [16, 127, 128, 255]], np.uint8)
"""round(v * 255 / 65535), by hand: 128/257 = 0.498, 129/257 = 0.502, 4000/257 = 15.56, 32767/257 = 127.498."""


def tiff_of_grey(values: npt.NDArray[np.uint16], *, order: str, bits: int, photometric: int) -> bytes:
    """An uncompressed TIFF of one strip, written byte by byte: Pillow writes neither big-endian nor inverted ones."""
    height, width = values.shape
    strip = values.astype(f"{order}u2").tobytes()
    if bits == 12:  # two numbers in three bytes
        flat = values.ravel().astype(int)
        strip = b"".join(
            bytes((a >> 4, (a & 15) << 4 | b >> 8, b & 255)) for a, b in zip(flat[::2], flat[1::2], strict=True)
        )
    tags = ((256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, height))
    entries = [struct.pack(f"{order}HHI", tag, 4, 1) + struct.pack(f"{order}I", value) for tag, value in tags]
    entries.append(struct.pack(f"{order}HHI", 279, 4, 1) + struct.pack(f"{order}I", len(strip)))
    head = b"II" if order == "<" else b"MM"
    start = 8 + len(strip) + len(strip) % 2
    return (
        head + struct.pack(f"{order}HI", 42, start) + strip + b"\0" * (len(strip) % 2)
        + struct.pack(f"{order}H", len(entries)) + b"".join(entries) + struct.pack(f"{order}I", 0)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("data", "inverted"),
    [
        (encoded(Image.fromarray(DEEP), "PNG"), False),
        (encoded(Image.fromarray(DEEP), "TIFF"), False),
        (encoded(Image.fromarray(DEEP), "TIFF", compression="tiff_lzw"), False),
        (tiff_of_grey(DEEP, order="<", bits=16, photometric=1), False),
        (tiff_of_grey(DEEP, order=">", bits=16, photometric=1), False),
        (tiff_of_grey(DEEP, order="<", bits=16, photometric=0), True),
    ],
    ids=["png", "tiff", "tiff-lzw", "little-endian", "big-endian", "white-is-zero"],
)
def test_16_bit_grey_is_scaled_to_8_bits(data: bytes, inverted: bool) -> None:
    wanted = 255 - DEEP_AS_8 if inverted else DEEP_AS_8
    np.testing.assert_array_equal(decode(data, "scan.tif"), np.repeat(wanted[:, :, None], 3, axis=2))


def test_12_bit_grey_is_scaled_by_its_own_range() -> None:
    values = np.array([[0, 2048], [4000, 4095]], np.uint16)
    seen = decode(tiff_of_grey(values, order="<", bits=12, photometric=1), "scan.tif")
    assert seen[..., 0].tolist() == [[0, 128], [249, 255]]  # 2048 * 255 / 4095 = 127.53, 4000 * 255 / 4095 = 249.08


def test_a_clear_grey_of_16_bits_lies_on_white() -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header, lines = struct.pack(">IIBBBBB", 2, 1, 16, 0, 0, 0, 0), zlib.compress(b"\0" + struct.pack(">HH", 4000, 0))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"tRNS", struct.pack(">H", 4000))
    assert decode(data + chunk(b"IDAT", lines) + chunk(b"IEND", b""), "scan.png")[0, :, 0].tolist() == [255, 0]


def test_16_bit_colour_is_read() -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    lines = zlib.compress(b"\0" + struct.pack(">HHH", 65535, 32896, 0))  # 32896 = 128 * 257
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")
    assert decode(data, "deep.png").tolist() == [[[255, 128, 0]]]


@pytest.mark.parametrize("mode", ["F", "I"])
def test_numbers_without_a_known_range_are_refused(mode: str) -> None:
    image = Image.fromarray(np.full((2, 2), 4000, np.float32 if mode == "F" else np.int32))
    with pytest.raises(SourceError, match=rf"scan\.tif has pixels of mode {mode} in TIFF.*16-bit grey"):
        decode(encoded(image, "TIFF"), "scan.tif")


@pytest.mark.parametrize("image_format", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(image_format: str) -> None:
    """R = 255 (1 - C) (1 - K), likewise G and B."""
    inks = np.zeros((16, 32, 4), np.uint8)
    inks[:, :16] = (0, 255, 255, 0)  # magenta and yellow: red
    inks[:, 16:] = (51, 0, 0, 51)
    seen = decode(encoded(Image.fromarray(inks, "CMYK"), image_format, quality=100), "print")
    tolerance = 3 if image_format == "JPEG" else 1
    np.testing.assert_allclose(seen[8, 4], (255, 0, 0), atol=tolerance)
    np.testing.assert_allclose(seen[8, 28], (163, 204, 204), atol=tolerance)  # 204 * 204 / 255 = 163.2


def test_a_palette_with_a_clear_colour_lies_on_white() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    for column in range(3):
        image.putpixel((column, 0), column)
    wanted = [[[255, 0, 0], [255, 255, 255], [0, 0, 255]]]
    assert decode(encoded(image, "PNG", transparency=1), "logo.png").tolist() == wanted
    assert decode(encoded(image, "GIF", transparency=1), "logo.gif").tolist() == wanted
    half = decode(encoded(image, "PNG", transparency=bytes((255, 0, 128))), "logo.png")[0].tolist()
    assert half == [[255, 0, 0], [255, 255, 255], [127, 127, 255]]  # 255 (1 - 128/255) = 127


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "TIFF", "PNG"])
def test_of_several_frames_or_pages_the_first_is_read(image_format: str) -> None:
    first, second = (Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 0, 255)))
    options = {"lossless": True} if image_format == "WEBP" else {}
    data = encoded(first, image_format, save_all=True, append_images=[second], **options)
    assert decode(data, "moving")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("image_format", [*FORMATS, "BMP", "GIF"])
def test_a_truncated_file_is_refused_by_name_at_whatever_byte_it_ends(image_format: str) -> None:
    rng = np.random.default_rng(0)
    whole = as_file(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8), image_format)
    for share in (0.0, 0.02, 0.3, 0.6, 0.9):
        data = whole[: int(share * len(whole))]
        with pytest.raises(SourceError, match=r"^photos/cut\.img.* (has 0 bytes|cannot be decoded)"):
            decode(data, "photos/cut.img")


@pytest.mark.parametrize("image_format", [*FORMATS, "BMP", "GIF"])
def test_damaged_bytes_give_pixels_or_an_error_that_names_the_file(image_format: str) -> None:
    whole, rng = as_file(picture(), image_format), np.random.default_rng(1)
    for _ in range(150):
        data = bytearray(whole)
        for place in rng.integers(0, min(len(data), 400), 3):
            data[place] = rng.integers(0, 256)
        try:
            assert decode(bytes(data), "damaged.img").dtype == np.uint8
        except SourceError as error:
            assert str(error).startswith("damaged.img")  # noqa: PT017 (either is right)


def test_what_is_no_image_is_said_without_an_address_in_memory() -> None:
    with pytest.raises(SourceError) as refusal:
        decode(b"Dear Sir or Madam", "letter.jpg")
    assert str(refusal.value) == (
        "letter.jpg (17 bytes) cannot be decoded: it is no image that is known; replace the image or leave it out of the "
        "source"
    )


def test_a_bomb_is_refused_before_its_pixels_are_unpacked() -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )
    with pytest.raises(SourceError, match=r"bomb\.png"):
        decode(data, "bomb.png")


def test_a_bomb_is_refused_also_where_pillow_was_told_to_allow_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    wide = encoded(Image.new("1", (MOST_PIXELS // 1000 + 1, 1000)), "PNG")
    with pytest.raises(
        SourceError, match=r"wide\.png says that it has 178,957 x 1,000 pixels; want at most 178,956,970"
    ):
        decode(wide, "wide.png")


def test_a_drawing_is_not_handed_to_another_program() -> None:
    data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n" + b"showpage\n" * 20
    with pytest.raises(SourceError, match=r"drawing\.jpg is EPS"):
        decode(data, "drawing.jpg")


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"BMW: a list of cars, one a line, and so on", None),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp42", None),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", None),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"", None),
    ],
)
def test_what_only_begins_like_an_image_is_none(head: bytes, said: str | None) -> None:
    assert format_of(head) == said
