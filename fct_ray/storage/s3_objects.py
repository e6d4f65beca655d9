"""Objects in S3 buckets: read and written whole, uploads in parts, conditional puts, listings, deletion.

Owns: what an object is and when a write has happened, also where an answer was lost. Every request goes through
`s3_requests`, which retries what passes. Speaks `s3://bucket/key` URIs; raises our errors, each with the URI.
"""

from __future__ import annotations

import functools
import logging
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError  # type: ignore[import-untyped]
from fsspec.asyn import sync

from fct_ray.errors import NotFoundError, StoreError
from fct_ray.storage.s3_requests import allowed_s, call, connection, error_code, split, with_retries

logger = logging.getLogger(__name__)

PART_BYTES = 64 * 1024 * 1024
"""Objects of twice this size and more go up in parts of this size, each with its own attempts."""
PARTS_AT_ONCE = 4

_WRITERS = "fct-ray-writers"
_WRITERS_KEPT = 100  # of 17 bytes: S3 allows 2 KB of metadata
_DELETE_BATCH = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class S3Object:
    """An object as it was read, and what a conditional put needs to replace exactly this one."""

    data: bytes
    etag: str
    writers: str
    """Tokens of the latest calls of `put_if` that wrote it, newest first."""


def get(uri: str, span: tuple[int, int] | None = None) -> S3Object:
    """An object, whole or its bytes [start, stop). Raises NotFoundError, StoreError."""
    bucket, key = split(uri)
    part = {} if span is None else {"Range": f"bytes={span[0]}-{span[1] - 1}"}

    def attempt() -> S3Object:
        answer = call("get_object", Bucket=bucket, Key=key, **part)
        body, loop = answer["Body"], connection().loop
        try:
            data: bytes = sync(loop, body.read, timeout=allowed_s(answer["ContentLength"]))
        finally:
            loop.call_soon_threadsafe(body.close)
        wanted = answer["ContentLength"] if span is None else span[1] - span[0]
        if len(data) != wanted:
            raise ConnectionError(f"got {len(data)} of {wanted} bytes")
        return S3Object(data=data, etag=answer["ETag"], writers=answer["Metadata"].get(_WRITERS, ""))

    return with_retries("read", uri, attempt)


def put(uri: str, data: bytes) -> None:
    """Write an object, in parts if it is large; it appears whole or not at all. Raises StoreError."""
    bucket, key = split(uri)
    if len(data) < 2 * PART_BYTES:
        with_retries("write", uri, lambda: call("put_object", Bucket=bucket, Key=key, Body=data))
    else:
        _put_in_parts(uri, data)


def put_if(uri: str, data: bytes, *, replaces: S3Object | None) -> bool:
    """Write an object if it still is the one that was read (None: if there is none); False if the condition failed.

    The object carries a token of this call, and those of the calls before: when an answer was lost and the request
    repeated (aiohttp does so too, silently), the repetition meets our own object, or what another writer has put
    upon it since, and fails; only the token tells that we had won.
    """
    bucket, key = split(uri)
    condition = {"IfNoneMatch": "*"} if replaces is None else {"IfMatch": replaces.etag}
    token = secrets.token_hex(8)
    writers = [token, *(replaces.writers.split() if replaces else ())]
    metadata = {_WRITERS: " ".join(writers[:_WRITERS_KEPT])}

    def attempt() -> bool:
        try:
            call("put_object", Bucket=bucket, Key=key, Body=data, Metadata=metadata, **condition)
        except FileNotFoundError:
            if replaces is None:
                raise
            return False
        except OSError as error:
            if not (isinstance(error, FileExistsError) or error_code(error) in {"PreconditionFailed", "412"}):
                raise
            return token in _writers(bucket, key)
        return True

    return with_retries("write", uri, attempt)


def size_bytes(uri: str) -> int | None:
    """Size of an object, None if there is none."""
    try:
        return int(_head(uri)["ContentLength"])
    except NotFoundError:
        return None


def etag(uri: str) -> str:
    """The ETag of an object: another one means that it was written again. Raises NotFoundError, StoreError."""
    return str(_head(uri)["ETag"])


def _head(uri: str) -> dict[str, Any]:
    bucket, key = split(uri)
    answer: dict[str, Any] = with_retries("look up", uri, lambda: call("head_object", Bucket=bucket, Key=key))
    return answer


def pages(prefix_uri: str, delimiter: str = "") -> Iterator[tuple[dict[str, int], list[str]]]:
    """({key: size in bytes}, common prefixes) of each page of a listing, as S3 sorts them."""
    bucket, prefix = split(prefix_uri)
    request: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix} | ({"Delimiter": delimiter} if delimiter else {})
    while True:
        page = with_retries("list", prefix_uri, lambda: call("list_objects_v2", **request))
        yield (
            {entry["Key"]: entry["Size"] for entry in page.get("Contents", ())},
            [entry["Prefix"] for entry in page.get("CommonPrefixes", ())],
        )
        if not page.get("IsTruncated"):
            return
        request["ContinuationToken"] = page["NextContinuationToken"]


def delete(prefix_uri: str, keys: list[str]) -> None:
    """Delete `keys` of the bucket of `prefix_uri`; nothing happens for those that do not exist. Raises StoreError."""
    from s3fs.errors import translate_boto_error

    bucket, _ = split(prefix_uri)
    for batch in (keys[start : start + _DELETE_BATCH] for start in range(0, len(keys), _DELETE_BATCH)):
        wanted = {"Objects": [{"Key": key} for key in batch], "Quiet": True}

        def attempt(wanted: dict[str, Any] = wanted) -> None:
            for error in call("delete_objects", Bucket=bucket, Delete=wanted).get("Errors", ()):
                error["Message"] = f"{error.get('Message')} ({error.get('Key')})"
                raise translate_boto_error(ClientError({"Error": error}, "DeleteObjects"))

        with_retries("delete", prefix_uri, attempt)


def uploads(prefix_uri: str) -> Iterator[dict[str, str]]:
    """(Bucket, Key, UploadId) of each upload below a prefix that was begun and neither finished nor aborted."""
    bucket, prefix = split(prefix_uri)
    page: dict[str, Any] = {"IsTruncated": True}
    while page.get("IsTruncated"):
        after = {name: page[f"Next{name}"] for name in ("KeyMarker", "UploadIdMarker") if f"Next{name}" in page}
        listing = functools.partial(call, "list_multipart_uploads", Bucket=bucket, Prefix=prefix, **after)
        page = with_retries("list the uploads of", prefix_uri, listing)
        for upload in page.get("Uploads", ()):
            yield {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}


def abort_uploads(prefix_uri: str) -> None:
    """Drop the parts of uploads below a prefix that nobody finished: a killed writer leaves them, unseen and paid for."""
    for upload in list(uploads(prefix_uri)):
        _abort(f"s3://{upload['Bucket']}/{upload['Key']}", upload)


def _put_in_parts(uri: str, data: bytes) -> None:
    bucket, key = split(uri)
    token = secrets.token_hex(8)
    started = with_retries(
        "write", uri, lambda: call("create_multipart_upload", Bucket=bucket, Key=key, Metadata={_WRITERS: token})
    )
    upload = {"Bucket": bucket, "Key": key, "UploadId": started["UploadId"]}

    def put_part(number: int) -> dict[str, Any]:
        body = data[(number - 1) * PART_BYTES : number * PART_BYTES]
        answer = with_retries("write", uri, lambda: call("upload_part", **upload, PartNumber=number, Body=body))
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def complete() -> None:
        try:
            call("complete_multipart_upload", **upload, MultipartUpload={"Parts": parts})
        except FileNotFoundError:  # no such upload: completed already, if only the answer was lost
            if token not in _writers(bucket, key):
                raise

    try:
        with ThreadPoolExecutor(PARTS_AT_ONCE) as threads:
            parts = list(threads.map(put_part, range(1, -(-len(data) // PART_BYTES) + 1)))
        with_retries("write", uri, complete)
    except BaseException:
        _abort(uri, upload)
        raise


def _abort(uri: str, upload: dict[str, Any]) -> None:
    try:
        with_retries("abort the upload of", uri, lambda: call("abort_multipart_upload", **upload))
    except NotFoundError:
        return
    except StoreError as error:
        logger.warning("its parts stay until a lifecycle rule (AbortIncompleteMultipartUpload) removes them: %s", error)


def _writers(bucket: str, key: str) -> list[str]:
    try:
        metadata = call("head_object", Bucket=bucket, Key=key)["Metadata"]
    except FileNotFoundError:
        return []
    return str(metadata.get(_WRITERS, "")).split()
