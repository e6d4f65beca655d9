"""Objects in S3 buckets: single requests with one bounded layer of retries, uploads in parts, conditional puts.

Owns: the connection (endpoint and credentials come only from the environment, `AWS_*`), what counts as a passing
fault, how long to wait and how often to insist. Speaks `s3://bucket/key` URIs; raises our errors, each with the URI.
Keeps one s3fs instance per process and environment, so that it works in any thread, after a fork, and when a test
changes the environment; nothing of it is ever pickled. s3fs is imported with the first request: that takes half a
second, and most processes never speak S3. Times are in seconds.

How long a fault can last before it is an error, for one small request:

    wrong, unknown or expired credentials       at once; "access denied", which also comes under load: 2 s
    nobody listens at the endpoint              18 s
    packets to the endpoint vanish              ATTEMPTS x CONNECT_S + 18 s: 1 minute
    the endpoint throttles everything           18 s
    it takes requests and never answers         ATTEMPTS x STALL_S + 18 s: 2 minutes

A request or answer of many bytes may take another second per SLOWEST_BYTES_PER_S, at each attempt.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
    HTTPClientError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from fsspec.asyn import sync
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from fct_ray.errors import NotFoundError, StoreError

if TYPE_CHECKING:
    import s3fs

T = TypeVar("T")
logger = logging.getLogger(__name__)

ATTEMPTS = 7
"""Tries of a request that meets passing faults, after random waits of up to 0.4, 0.8, 1.6, 3.2, 6, 6 s: 18 s in all."""
REFUSED_ATTEMPTS = 3
"""How many of them may be refusals: some servers deny access under load, but a wrong key must fail in seconds."""
CONNECT_S = 5.0
STALL_S = 15.0
"""A request without any answer for so long is cut and repeated; so is an answer that stops for so long."""
SLOWEST_BYTES_PER_S = 256 * 1024
"""A request or an answer slower than this, over `STALL_S` and its size, is cut too: a trickle must not be a hang."""
PART_BYTES = 64 * 1024 * 1024
"""Objects of twice this size and more go up in parts of this size, each with its own attempts."""
PARTS_AT_ONCE = 4

_PASSING_CODES = {
    *("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "RequestTimeTooSkewed", "Throttling"),
    *("ThrottlingException", "TooManyRequests", "OperationAborted", "ConditionalRequestConflict", "IncompleteBody"),
    *("BadDigest", "500", "502", "503", "504", "429", "409"),
}
_WRITERS = "fct-ray-writers"
_WRITERS_KEPT = 100  # of 17 bytes: S3 allows 2 KB of metadata
_DELETE_BATCH = 1000
_REFUSED_FOR_GOOD = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}

_connections: dict[tuple[int, tuple[tuple[str, str], ...]], s3fs.S3FileSystem] = {}
_connections_lock = threading.Lock()


def connection() -> s3fs.S3FileSystem:
    """The s3fs instance of this process for the present environment; without listing cache and own retries."""
    environment = tuple(sorted((key, value) for key, value in os.environ.items() if key.startswith("AWS_")))
    key = (os.getpid(), environment)
    with _connections_lock:
        if key not in _connections:
            _connections[key] = _connect()
        return _connections[key]


def split(uri: str) -> tuple[str, str]:
    """(bucket, key) of an `s3://bucket/key` URI."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not bucket:
        raise StoreError(f"{uri!r} names no bucket: write s3://BUCKET/PREFIX")
    return bucket, key


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
        answer = _call("get_object", Bucket=bucket, Key=key, **part)
        body, loop = answer["Body"], connection().loop
        try:
            data: bytes = sync(loop, body.read, timeout=_allowed_s(answer["ContentLength"]))
        finally:
            loop.call_soon_threadsafe(body.close)
        wanted = answer["ContentLength"] if span is None else span[1] - span[0]
        if len(data) != wanted:
            raise ConnectionError(f"got {len(data)} of {wanted} bytes")
        return S3Object(data=data, etag=answer["ETag"], writers=answer["Metadata"].get(_WRITERS, ""))

    return _insist("read", uri, attempt)


def put(uri: str, data: bytes) -> None:
    """Write an object, in parts if it is large; it appears whole or not at all. Raises StoreError."""
    bucket, key = split(uri)
    if len(data) < 2 * PART_BYTES:
        _insist("write", uri, lambda: _call("put_object", Bucket=bucket, Key=key, Body=data))
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
            _call("put_object", Bucket=bucket, Key=key, Body=data, Metadata=metadata, **condition)
        except FileNotFoundError:
            if replaces is None:
                raise
            return False
        except OSError as error:
            if not (isinstance(error, FileExistsError) or _code(error) in {"PreconditionFailed", "412"}):
                raise
            return token in _writers(bucket, key)
        return True

    return _insist("write", uri, attempt)


def size_bytes(uri: str) -> int | None:
    """Size of an object, None if there is none."""
    bucket, key = split(uri)
    try:
        answer = _insist("look up", uri, lambda: _call("head_object", Bucket=bucket, Key=key))
    except NotFoundError:
        return None
    return int(answer["ContentLength"])


def pages(prefix_uri: str, delimiter: str = "") -> Iterator[tuple[dict[str, int], list[str]]]:
    """({key: size in bytes}, common prefixes) of each page of a listing, as S3 sorts them."""
    bucket, prefix = split(prefix_uri)
    request: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix} | ({"Delimiter": delimiter} if delimiter else {})
    while True:
        page = _insist("list", prefix_uri, lambda: _call("list_objects_v2", **request))
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
            for error in _call("delete_objects", Bucket=bucket, Delete=wanted).get("Errors", ()):
                error["Message"] = f"{error.get('Message')} ({error.get('Key')})"
                raise translate_boto_error(ClientError({"Error": error}, "DeleteObjects"))

        _insist("delete", prefix_uri, attempt)


def abort_uploads(prefix_uri: str) -> None:
    """Drop the parts of uploads below a prefix that nobody finished: a killed writer leaves them, unseen and paid for."""
    bucket, prefix = split(prefix_uri)
    page: dict[str, Any] = {"IsTruncated": True}
    while page.get("IsTruncated"):
        after = {name: page[f"Next{name}"] for name in ("KeyMarker", "UploadIdMarker") if f"Next{name}" in page}
        listing = functools.partial(_call, "list_multipart_uploads", Bucket=bucket, Prefix=prefix, **after)
        page = _insist("list the uploads of", prefix_uri, listing)
        for upload in page.get("Uploads", ()):
            _abort(f"s3://{bucket}/{upload['Key']}", {"Bucket": bucket} | {n: upload[n] for n in ("Key", "UploadId")})


def _put_in_parts(uri: str, data: bytes) -> None:
    bucket, key = split(uri)
    token = secrets.token_hex(8)
    started = _insist(
        "write", uri, lambda: _call("create_multipart_upload", Bucket=bucket, Key=key, Metadata={_WRITERS: token})
    )
    upload = {"Bucket": bucket, "Key": key, "UploadId": started["UploadId"]}

    def put_part(number: int) -> dict[str, Any]:
        body = data[(number - 1) * PART_BYTES : number * PART_BYTES]
        answer = _insist("write", uri, lambda: _call("upload_part", **upload, PartNumber=number, Body=body))
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def complete() -> None:
        try:
            _call("complete_multipart_upload", **upload, MultipartUpload={"Parts": parts})
        except FileNotFoundError:  # no such upload: completed already, if only the answer was lost
            if token not in _writers(bucket, key):
                raise

    try:
        with ThreadPoolExecutor(PARTS_AT_ONCE) as threads:
            parts = list(threads.map(put_part, range(1, -(-len(data) // PART_BYTES) + 1)))
        _insist("write", uri, complete)
    except BaseException:
        _abort(uri, upload)
        raise


def _abort(uri: str, upload: dict[str, Any]) -> None:
    try:
        _insist("abort the upload of", uri, lambda: _call("abort_multipart_upload", **upload))
    except NotFoundError:
        return
    except StoreError as error:
        logger.warning("its parts stay until a lifecycle rule (AbortIncompleteMultipartUpload) removes them: %s", error)


def _writers(bucket: str, key: str) -> list[str]:
    try:
        metadata = _call("head_object", Bucket=bucket, Key=key)["Metadata"]
    except FileNotFoundError:
        return []
    return str(metadata.get(_WRITERS, "")).split()


def _connect() -> s3fs.S3FileSystem:
    import s3fs

    s3 = s3fs.S3FileSystem(
        use_listings_cache=False,
        skip_instance_cache=True,
        config_kwargs={
            "connect_timeout": CONNECT_S,
            "read_timeout": STALL_S,
            "retries": {"total_max_attempts": 1},
            "max_pool_connections": 32,
        },
    )
    s3.retries = 1  # faults are retried in one place: `_insist`
    return s3


def _call(method: str, **request: Any) -> Any:
    """One request, cut when it takes too long: the socket's own timeouts do not see a stalled upload or a trickle."""
    return connection().call_s3(method, timeout=_allowed_s(len(request.get("Body", b""))), **request)


def _allowed_s(num_bytes: int) -> float:
    return STALL_S + num_bytes / SLOWEST_BYTES_PER_S


def _insist(verb: str, uri: str, attempt: Callable[[], T]) -> T:
    from aiohttp import ClientError as HttpError
    from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]

    passing = (HTTPClientError, BotoConnectionError, ResponseParserError, HttpError, TimeoutError, ConnectionError)
    refusals = itertools.count(1)

    def passes(error: BaseException) -> bool:
        if isinstance(error, PermissionError):
            return _code(error) not in _REFUSED_FOR_GOOD and next(refusals) < REFUSED_ATTEMPTS
        return isinstance(error, passing) or _code(error) in _PASSING_CODES

    retrying = Retrying(
        retry=retry_if_exception(passes),
        wait=wait_random_exponential(multiplier=0.4, max=6.0),
        stop=stop_after_attempt(ATTEMPTS),
        before_sleep=lambda state: logger.info("%s %s: attempt %d failed, again", verb, uri, state.attempt_number),
        reraise=True,
    )
    try:
        return retrying(attempt)
    except FileNotFoundError as error:
        raise NotFoundError(f"{uri}: cannot {verb}: there is no such object or bucket ({error})") from error
    except PermissionError as error:
        raise StoreError(f"{uri}: cannot {verb}: refused ({_code(error)}: {error}). {_ADVICE}") from error
    except (OSError, BotoCoreError, HttpError, ValueError) as error:
        raise StoreError(
            f"{uri}: cannot {verb}: {type(error).__name__}: {str(error) or 'no answer in time'} (endpoint "
            f"{os.environ.get('AWS_ENDPOINT_URL_S3') or os.environ.get('AWS_ENDPOINT_URL') or 'of AWS'}). {_ADVICE}"
        ) from error


_ADVICE = (
    "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN (expired?), AWS_DEFAULT_REGION and "
    "AWS_ENDPOINT_URL, then run again"
)


def _code(error: BaseException) -> str:
    """The S3 error code behind an error that s3fs translated; empty if there is none."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ClientError):
        cause = cause.__cause__
    return str(cause.response.get("Error", {}).get("Code", "")) if isinstance(cause, ClientError) else ""
