"""Bytes at a URI keep the same promises on local disk and on a real S3 server."""

from __future__ import annotations

import hashlib
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.fs
import pytest

from fct_ray.errors import FormatError, NotFoundError, PublishConflictError, SettingsError, StoreError
from fct_ray.storage import objects, s3_objects, s3_requests
from tests.s3_server import S3Server


def test_what_was_written_is_read_back_and_described(root: str) -> None:
    uri = objects.join(root, "a/b c/+ü.bin")
    assert objects.write_bytes(uri, b"one") == (3, hashlib.sha256(b"one").hexdigest())
    objects.write_bytes(uri, b"three")
    assert objects.read_bytes(uri) == b"three"
    assert objects.size_bytes(uri) == 5
    assert objects.exists(uri)


def test_an_object_that_is_not_there_is_named(root: str) -> None:
    uri = objects.join(root, "missing.bin")
    assert not objects.exists(uri)
    for look in (objects.read_bytes, objects.size_bytes):
        with pytest.raises(NotFoundError, match=r"missing\.bin"):
            look(uri)


def test_create_writes_only_once(root: str) -> None:
    uri = objects.join(root, "once.json")
    assert objects.create(uri, b"first")
    assert not objects.create(uri, b"second")
    assert not objects.create(uri, b"first"), "also when the content would be the same"
    assert objects.read_bytes(uri) == b"first"


def test_compare_and_swap_replaces_only_what_was_expected(root: str) -> None:
    uri = objects.join(root, "CURRENT.json")
    objects.compare_and_swap(uri, expected=None, new=b"1")
    with pytest.raises(PublishConflictError, match="seen '1', wanted no object"):
        objects.compare_and_swap(uri, expected=None, new=b"2")
    objects.compare_and_swap(uri, expected=b"1", new=b"2")
    with pytest.raises(PublishConflictError, match="seen '2', wanted '1'"):
        objects.compare_and_swap(uri, expected=b"1", new=b"3")
    assert objects.read_bytes(uri) == b"2"


def test_compare_and_swap_of_a_deleted_object_is_a_conflict(root: str) -> None:
    with pytest.raises(PublishConflictError, match="seen no object"):
        objects.compare_and_swap(objects.join(root, "gone"), expected=b"1", new=b"2")


def test_listings_are_sorted_and_complete_without_own_and_neighbouring_files(root: str) -> None:
    for path in ("d/b", "d/a/z", "d/a/y", "d-neighbour/x", "d.json"):
        objects.write_bytes(objects.join(root, path), b"x")
    objects.compare_and_swap(objects.join(root, "d/c"), expected=None, new=b"x")  # leaves a lock file locally
    wanted = [f"{root}/d/{name}" for name in ("a/y", "a/z", "b", "c")]
    assert objects.list_uris(f"{root}/d") == objects.list_uris(f"{root}/d/") == wanted
    assert objects.list_names(f"{root}/d") == ["a", "b", "c"]
    assert objects.list_uris(f"{root}/nothing") == []
    assert objects.list_names(f"{root}/nothing") == []


@pytest.mark.parametrize("place", [".hidden/store", "a/.x/b/store", ".store"])
def test_a_place_below_a_directory_that_begins_with_a_dot_is_listed_like_any_other(root: str, place: str) -> None:
    directory = f"{root}/{place}"
    for path in ("a", "b/c", ".own/x", "b/.own"):
        objects.write_bytes(f"{directory}/{path}", b"x")
    assert objects.list_uris(directory) == objects.list_uris(f"{directory}/") == [f"{directory}/a", f"{directory}/b/c"]
    assert objects.list_names(directory) == objects.list_names(f"{directory}/") == ["a", "b"]


def test_the_empty_objects_with_which_consoles_mark_directories_on_s3_are_no_objects(s3_uri: str) -> None:
    for key in ("d/", "d/sub/", "d/x"):
        s3_objects.put(f"{s3_uri}/{key}", b"")
    assert objects.list_uris(f"{s3_uri}/d") == [f"{s3_uri}/d/x"]
    assert objects.list_names(f"{s3_uri}/d") == ["sub", "x"]


def test_a_listing_of_more_than_one_page_is_complete_and_can_be_deleted(s3_uri: str) -> None:
    bucket_key = f"{s3_uri}/many"
    names = [f"{number:04d}" for number in range(1003)]
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda name: objects.write_bytes(f"{bucket_key}/{name}", b"x"), names))
    assert objects.list_names(bucket_key) == names
    objects.delete_tree(bucket_key)
    assert objects.list_uris(bucket_key) == []


def test_delete_tree_spares_neighbours_and_accepts_nothing(root: str) -> None:
    for path in ("v/1/a", "v/1/b/c", "v/10/a"):
        objects.write_bytes(objects.join(root, path), b"x")
    objects.delete_tree(f"{root}/v/1")
    objects.delete_tree(f"{root}/v/1")
    assert objects.list_uris(root) == [f"{root}/v/10/a"]
    objects.delete_tree(f"{root}/v/10/a")
    assert objects.list_uris(root) == []


@pytest.mark.parametrize("uri", ["/", "s3://bucket", "s3://bucket/", "file:///"])
def test_a_whole_bucket_or_file_system_is_never_deleted(uri: str) -> None:
    with pytest.raises(SettingsError, match="refusing"):
        objects.delete_tree(uri)


def test_join_keeps_absolute_uris_and_refuses_to_climb_out() -> None:
    assert objects.join("s3://b/p/", "x/y") == "s3://b/p/x/y"
    assert objects.join("/data", "s3://b/x") == "s3://b/x"
    assert objects.join("/data", "file:///x") == "file:///x"
    for path in ("../x", "a/../x", "/etc/passwd", ""):
        with pytest.raises(FormatError, match="wanted a path relative to it"):
            objects.join("/data", path)


@pytest.mark.parametrize("uri", ["", "gs://bucket/x", "s3://", "s3:///key"])
def test_uris_of_no_known_kind_are_refused(uri: str) -> None:
    with pytest.raises((SettingsError, StoreError), match=r"wanted|write s3://"):
        objects.absolute(uri)


def test_large_objects_go_up_in_parts_and_come_back_whole(s3_uri: str) -> None:
    data = bytes(range(256)) * (130 * 4096)  # 130 MiB: three parts
    assert (
        objects.write_bytes(f"{s3_uri}/large", data)[1]
        == hashlib.sha256(objects.read_bytes(f"{s3_uri}/large")).hexdigest()
    )


def test_arrow_filesystem_reads_and_writes_the_same_objects_in_any_process(root: str) -> None:
    filesystem, path = objects.arrow_filesystem(f"{root}/train")
    pickled = pickle.dumps(filesystem)
    with ThreadPoolExecutor(1) as other_thread:
        unpickled = other_thread.submit(pickle.loads, pickled).result()
    assert unpickled == filesystem, "Ray Train asks whether a checkpoint lies in the file system of its run"
    filesystem = unpickled
    assert isinstance(filesystem, pyarrow.fs.FileSystem)
    filesystem.create_dir(path, recursive=True)
    with filesystem.open_output_stream(f"{path}/x") as stream:
        stream.write(b"through arrow")
    assert objects.read_bytes(f"{root}/train/x") == b"through arrow"


def test_an_arrow_stream_that_breaks_off_writes_nothing(root: str) -> None:
    """As when Ray Train copies a checkpoint, and reading it fails half-way."""
    filesystem, path = objects.arrow_filesystem(f"{root}/x")
    stream = filesystem.open_output_stream(path)
    stream.write(b"half")
    del stream
    assert not objects.exists(f"{root}/x")


def test_a_pickled_arrow_filesystem_holds_no_credentials(s3_uri: str, s3: S3Server) -> None:
    pickled = pickle.dumps(objects.arrow_filesystem(s3_uri)[0])
    assert s3.secret_key.encode() not in pickled
    assert s3.access_key.encode() not in pickled


@pytest.mark.parametrize("change", [{"AWS_SECRET_ACCESS_KEY": "wrong"}, {"AWS_ACCESS_KEY_ID": "stranger"}])
def test_wrong_credentials_are_said_within_seconds(
    s3_uri: str, change: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in change.items():
        monkeypatch.setenv(name, value)
    _expect_refusals_within_seconds(s3_uri)


def test_missing_credentials_are_said_within_seconds(
    s3_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    _expect_refusals_within_seconds(s3_uri)


def _expect_refusals_within_seconds(s3_uri: str) -> None:
    started = time.monotonic()
    for action in (
        lambda: objects.read_bytes(f"{s3_uri}/x"),
        lambda: objects.write_bytes(f"{s3_uri}/x", b""),
        lambda: objects.create(f"{s3_uri}/x", b""),
        lambda: objects.list_uris(s3_uri),
        lambda: objects.exists(f"{s3_uri}/x"),
    ):
        with pytest.raises(StoreError, match=r"s3://test/.*AWS_ACCESS_KEY_ID") as caught:
            action()
        assert not isinstance(caught.value, NotFoundError)
        assert isinstance(pickle.loads(pickle.dumps(caught.value)), StoreError)  # noqa: S301
    assert time.monotonic() - started < 15


def test_a_bucket_that_does_not_exist_is_not_an_empty_one(s3_uri: str) -> None:
    with pytest.raises(NotFoundError, match="no-such-bucket"):
        objects.list_uris("s3://no-such-bucket/x")


def test_an_unwritable_directory_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="file/below"):
        objects.write_bytes(str(tmp_path / "file" / "below"), b"")


def test_a_failed_write_leaves_no_temporary_files(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(StoreError):
        objects.write_bytes(str(tmp_path / "taken"), b"")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_litter_of_killed_writers_goes_and_objects_stay(root: str) -> None:
    objects.write_bytes(f"{root}/versions/000001/shards/0.parquet", b"whole")
    if root.startswith("s3://"):
        bucket, key = s3_requests.split(f"{root}/versions/000001/shards/1.parquet")
        s3 = s3_requests.connection()
        upload = s3.call_s3("create_multipart_upload", Bucket=bucket, Key=key)["UploadId"]
        s3.call_s3("upload_part", Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"part")
    else:
        (Path(root) / "versions/000001/shards/.1.parquet.0123.tmp").write_bytes(b"half")
    objects.delete_litter(f"{root}/versions")
    assert objects.read_bytes(f"{root}/versions/000001/shards/0.parquet") == b"whole"
    if root.startswith("s3://"):
        left = s3_requests.connection().call_s3("list_multipart_uploads", Bucket=bucket, Prefix=key)
        assert not left.get("Uploads")
    else:
        assert [path.name for path in (Path(root) / "versions/000001/shards").iterdir()] == ["0.parquet"]
