"""Image folders on local disk and on a real S3 server."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from fct_ray.errors import SettingsError, SourceError
from fct_ray.sources import folder
from fct_ray.sources.decoding import decode
from fct_ray.sources.listing import listing_of
from fct_ray.sources.registry import open_listing, open_source


def png(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def plain(colour: tuple[int, ...], size: tuple[int, int] = (4, 3), mode: str = "RGB") -> Image.Image:
    return Image.new(mode, size, colour)


def write_photos(uri: str) -> None:
    """Two cats, one dog, and what is no photo."""
    filesystem, root = fsspec.core.url_to_fs(uri)
    files = {
        "dogs/a.PNG": png(plain((0, 0, 255))),
        "cats/b.png": png(plain((0, 255, 0))),
        "cats/a.bmp": png(plain((255, 0, 0)), "BMP"),
        "cats/notes.txt": b"no photo",
        "cats/.hidden.png": b"no photo",
    }
    for name, data in files.items():
        filesystem.makedirs(f"{root}/{name}".rpartition("/")[0], exist_ok=True)
        filesystem.pipe_file(f"{root}/{name}", data)


def check_photos(uri: str) -> list[int]:
    source = open_source(f"images:{uri}")
    assert source.num_items == 3
    assert source.labels_N is not None
    assert source.labels_N.tolist() == [0, 0, 1]
    items = source.read(np.array([2, 0, 1]))
    assert items.ids_N.tolist() == source.ids_N[[2, 0, 1]].tolist()
    assert items.carried["label_name"] == ["dogs", "cats", "cats"]
    assert items.carried["uri"] == [f"{uri}/dogs/a.PNG", f"{uri}/cats/a.bmp", f"{uri}/cats/b.png"]
    assert items.columns["image"].shape == (3, 3, 4, 3)
    assert items.columns["image"][:, 0, 0].tolist() == [[0, 0, 255], [255, 0, 0], [0, 255, 0]]
    assert items.bytes_read > 0
    ids: list[int] = source.ids_N.tolist()
    return ids


def test_photos_are_sorted_labelled_by_directory_and_read_in_the_order_asked_for(tmp_path: Path) -> None:
    write_photos(str(tmp_path))
    check_photos(str(tmp_path))


def test_the_same_photos_on_s3_have_the_same_ids(tmp_path: Path, s3_uri: str) -> None:
    write_photos(str(tmp_path))
    write_photos(s3_uri)
    assert check_photos(s3_uri) == check_photos(str(tmp_path))
    with pytest.raises(SourceError, match="has no file that ends with"):
        open_source(f"images:{s3_uri}/elsewhere")


def test_an_id_is_63_bits_of_the_relative_path_and_survives_new_photos(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(png(plain((1, 2, 3))))
    before = open_source(f"images:{tmp_path}")
    (tmp_path / "a.png").write_bytes(png(plain((1, 2, 3))))
    after = open_source(f"images:{tmp_path}/")
    assert before.labels_N is None, "without sub-directories there are no labels"
    assert after.ids_N[1] == before.ids_N[0] == folder.path_id("b.png")
    assert (after.ids_N >= 0).all()
    assert open_source(f"images:{tmp_path}?limit=1").ids_N.tolist() == [folder.path_id("a.png")]


def test_photos_of_unequal_size_come_as_a_list(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(plain((1, 2, 3), (5, 2))))
    (tmp_path / "b.jpg").write_bytes(png(plain((100,), (2, 7), "L"), "JPEG"))
    images = open_source(f"images:{tmp_path}").read(np.arange(2)).columns["image"]
    assert [image.shape for image in images] == [(2, 5, 3), (7, 2, 3)]


def test_a_damaged_photo_is_named(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(png(plain((1, 2, 3))))
    (tmp_path / "cut.jpg").write_bytes(png(plain((1, 2, 3), (64, 64)), "JPEG")[:300])
    source = open_source(f"images:{tmp_path}")
    with pytest.raises(SourceError, match=r"cut\.jpg \(300 bytes\) cannot be decoded"):
        source.read(np.arange(2))


def test_a_photo_that_vanished_is_named(tmp_path: Path) -> None:
    (tmp_path / "gone.png").write_bytes(png(plain((1, 2, 3))))
    source = open_source(f"images:{tmp_path}")
    (tmp_path / "gone.png").unlink()
    with pytest.raises(SourceError, match=r"gone\.png does not exist"):
        source.read(np.arange(1))


def test_transparent_pixels_lie_on_white_and_turned_photos_stand_upright() -> None:
    half = decode(png(plain((255, 0, 0, 0), mode="RGBA")), "clear.png")
    assert half[0, 0].tolist() == [255, 255, 255]
    turned = plain((9, 9, 9), (6, 2))
    exif = turned.getexif()
    exif[0x0112] = 6  # rotate by 90 degrees to show
    assert decode(png(turned, "JPEG", exif=exif), "turned.jpg").shape == (6, 2, 3)


def test_an_image_is_one_by_its_content_and_what_is_none_is_counted_by_suffix(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    red, rng = plain((255, 0, 0)), np.random.default_rng(0)
    files = {
        "a/no_suffix": png(red),
        "a/odd.dat": png(red, "WEBP", lossless=True),
        "a/wrong.jpg": png(red),
        "a/scan.TIF": png(red, "TIFF"),
        "a/moving.gif": png(red, "GIF"),
        "a/new.avif": png(red, "AVIF", quality=100),
        "a/0": b"",
        "a/notes.txt": png(red),
        "a/raw.cr2": png(red, "TIFF"),
        "a/noise.dat": rng.bytes(200),
        "a/LETTER": b"BMW",
        "a/.DS_Store": b"x",
        "b/.thumbnails/t.png": png(red),
    }
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    source = open_source(f"images:{tmp_path}")
    paths = source.listing.spans["path"].to_pylist()
    assert paths == ["a/moving.gif", "a/new.avif", "a/no_suffix", "a/odd.dat", "a/scan.TIF", "a/wrong.jpg"]
    assert source.ids_N.tolist() == [folder.path_id(path) for path in paths]
    assert dict(source.listing.source.left_out) == {
        ".txt": 1, ".cr2": 1, ".dat": 1, "no suffix": 2, "hidden": 2,
    }  # fmt: skip
    assert "7 files are no images and were left out: hidden 2, no suffix 2, .cr2 1, .dat 1, .txt 1" in caplog.text
    images = source.read(np.arange(6)).columns["image"]
    assert np.abs(images.astype(int) - (255, 0, 0)).max() <= 3, "AVIF is lossy"
    again = listing_of(source.listing.to_table())
    assert (again.source, again.fingerprint) == (source.listing.source, source.listing.fingerprint)


def test_content_decides_on_s3_too(tmp_path: Path, s3_uri: str) -> None:
    filesystem, root = fsspec.core.url_to_fs(s3_uri)
    for name, data in {
        "photo": png(plain((255, 0, 0))),
        "empty": b"",
        "rest.bin": b"\0" * 9,
        "b.png": b"damaged",
    }.items():
        filesystem.pipe_file(f"{root}/{name}", data)
    source = open_source(f"images:{s3_uri}")
    assert source.listing.spans["path"].to_pylist() == ["b.png", "photo"]
    assert dict(source.listing.source.left_out) == {"no suffix": 1, ".bin": 1}


def test_ids_and_labels_of_a_folder_of_before_are_what_they_were(tmp_path: Path) -> None:
    """By hand: 63 bits of BLAKE2b-64 of the path; directories in sorted order."""
    write_photos(str(tmp_path))
    source = open_source(f"images:{tmp_path}")
    paths = ["cats/a.bmp", "cats/b.png", "dogs/a.PNG"]
    wanted = [int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest(), "big") >> 1 for path in paths]
    assert source.ids_N.tolist() == wanted
    assert source.labels_N is not None
    assert source.labels_N.tolist() == [0, 0, 1]


def test_a_listing_that_was_kept_before_files_were_counted_is_read() -> None:
    table = open_source("fashion-mnist:gallery?limit=3").listing.to_table()
    head = json.loads(table.schema.metadata[b"fct_ray.listing"])
    del head["left_out"]
    old = table.replace_schema_metadata({b"fct_ray.listing": json.dumps(head).encode()})
    assert listing_of(old).source.left_out == ()


def test_an_empty_folder_says_what_was_wanted(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no photo")
    with pytest.raises(SourceError, match=r"\.jpg.*1 other files seen"):
        open_source(f"images:{tmp_path}")


def test_with_id_path_photos_are_called_by_their_paths_and_keep_their_ids(tmp_path: Path) -> None:
    for name in ("b/2.png", "a/1.png", "a/3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (2, 2), 7).save(tmp_path / name)
    by_hash, by_path = open_source(f"images:{tmp_path}"), open_source(f"images:{tmp_path}?id=path")
    assert by_hash.keys.keys is None
    assert by_path.user_ids.to_pylist() == ["a/1.png", "a/3.png", "b/2.png"]
    assert by_path.ids_N.tolist() == by_hash.ids_N.tolist() == by_hash.user_ids.to_pylist()
    items = by_path.read(np.array([2, 0]))
    assert items.keys is not None
    assert items.keys.to_pylist() == ["b/2.png", "a/1.png"]
    assert open_listing(by_path.listing.take(np.array([1]))).user_ids.to_pylist() == ["a/3.png"]
    with pytest.raises(SettingsError, match="option id is 'name'; want path"):
        open_source(f"images:{tmp_path}?id=name")
