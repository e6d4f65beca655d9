"""Objects in S3 buckets: s3fs calls with one bounded layer of retries, and conditional puts.

Owns: the connection (endpoint and credentials come only from the environment, `AWS_*`), what counts as a passing
fault, and how long to insist. Speaks `s3://bucket/key` URIs; raises our errors, each with the URI. Keeps one s3fs
instance per process and environment, so that it works in any thread, after a fork, and when a test changes the
environment; nothing of it is ever pickled.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import s3fs
from aiohttp import ClientError as HttpError
from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
    HTTPClientError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]
from fsspec.asyn import sync
from tenacity import RetryCallState, Retrying, stop_after_attempt, stop_after_delay, wait_random_exponential

from fct_ray.errors import NotFoundError, StoreError

T = TypeVar("T")
logger = logging.getLogger(__name__)

ATTEMPTS = 7
"""Tries of a request that meets passing faults, after random waits of up to 0.4, 0.8, ... 6 s, 18 s in all."""
PATIENCE_S = 60.0
REFUSED_ATTEMPTS = 3
"""Tries of a refused request: some servers answer "access denied" under load, but a wrong key must fail in seconds."""
MULTIPART_BYTES = 64 * 1024 * 1024
"""Objects of twice this size and more go up in parts of this size."""

_PASSING_CODES = {
    *("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "RequestTimeTooSkewed", "Throttling"),
    *("ThrottlingException", "TooManyRequests", "OperationAborted", "ConditionalRequestConflict", "IncompleteBody"),
    *("BadDigest", "500", "502", "503", "504", "429", "409"),
}
_PASSING_ERRORS = (HTTPClientError, BotoConnectionError, ResponseParserError, HttpError, TimeoutError, ConnectionError)
_WRITER = "fct-ray-writer"
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


def get(uri: str) -> tuple[bytes, str]:
    """(content, etag) of an object. Raises NotFoundError, StoreError."""
    bucket, key = split(uri)

    def attempt() -> tuple[bytes, str]:
        s3 = connection()
        answer = s3.call_s3("get_object", Bucket=bucket, Key=key)
        data: bytes = sync(s3.loop, answer["Body"].read)
        if len(data) != answer["ContentLength"]:
            raise ConnectionError(f"got {len(data)} of {answer['ContentLength']} bytes")
        return data, answer["ETag"]

    return _insist("read", uri, attempt)


def put(uri: str, data: bytes) -> None:
    """Write an object, in parts if it is large; it appears whole or not at all."""
    bucket, key = split(uri)
    _insist("write", uri, lambda: connection().pipe_file(f"{bucket}/{key}", data, chunksize=MULTIPART_BYTES))


def put_if(uri: str, data: bytes, *, etag: str | None) -> bool:
    """Write an object if its etag is still `etag` (None: if it does not exist); False if the condition failed.

    The object carries a token of this call: when an answer was lost and the request repeated (aiohttp does so too,
    silently), the repetition meets our own object and fails, and only the token tells that we had won.
    """
    bucket, key = split(uri)
    condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
    token = uuid.uuid4().hex

    def attempt() -> bool:
        s3 = connection()
        try:
            s3.call_s3("put_object", Bucket=bucket, Key=key, Body=data, Metadata={_WRITER: token}, **condition)
        except FileNotFoundError:
            if etag is None:
                raise
            return False
        except OSError as error:
            if not (isinstance(error, FileExistsError) or _code(error) in {"PreconditionFailed", "412"}):
                raise
            try:
                there = s3.call_s3("head_object", Bucket=bucket, Key=key)
            except FileNotFoundError:
                return False
            return bool(there["Metadata"].get(_WRITER) == token)
        return True

    return _insist("write", uri, attempt)


def size_bytes(uri: str) -> int | None:
    """Size of an object, None if there is none."""
    bucket, key = split(uri)
    try:
        answer = _insist("look up", uri, lambda: connection().call_s3("head_object", Bucket=bucket, Key=key))
    except NotFoundError:
        return None
    return int(answer["ContentLength"])


def pages(prefix_uri: str, delimiter: str = "") -> Iterator[tuple[list[str], list[str]]]:
    """(keys, common prefixes) of each page of a listing, as S3 sorts them."""
    bucket, prefix = split(prefix_uri)
    request: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix} | ({"Delimiter": delimiter} if delimiter else {})
    while True:
        page = _insist("list", prefix_uri, lambda: connection().call_s3("list_objects_v2", **request))
        yield (
            [entry["Key"] for entry in page.get("Contents", ())],
            [entry["Prefix"] for entry in page.get("CommonPrefixes", ())],
        )
        if not page.get("IsTruncated"):
            return
        request["ContinuationToken"] = page["NextContinuationToken"]


def delete(prefix_uri: str, keys: list[str]) -> None:
    """Delete `keys` (at most 1,000) of the bucket of `prefix_uri`."""
    bucket, _ = split(prefix_uri)
    objects = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
    answer = _insist(
        "delete", prefix_uri, lambda: connection().call_s3("delete_objects", Bucket=bucket, Delete=objects)
    )
    if answer.get("Errors"):
        first = answer["Errors"][0]
        raise StoreError(f"s3://{bucket}/{first['Key']}: not deleted: {first.get('Code')} {first.get('Message')}")


def _connect() -> s3fs.S3FileSystem:
    s3 = s3fs.S3FileSystem(
        use_listings_cache=False,
        skip_instance_cache=True,
        config_kwargs={"retries": {"total_max_attempts": 1}, "max_pool_connections": 32},
    )
    s3.retries = 1  # faults are retried in one place: `_insist`
    return s3


def _insist(verb: str, uri: str, attempt: Callable[[], T]) -> T:
    retrying = Retrying(
        retry=_passes,
        wait=wait_random_exponential(multiplier=0.4, max=6.0),
        stop=stop_after_attempt(ATTEMPTS) | stop_after_delay(PATIENCE_S),
        before_sleep=lambda state: logger.info("%s %s: attempt %d failed, again", verb, uri, state.attempt_number),
        reraise=True,
    )
    try:
        return retrying(attempt)
    except FileNotFoundError as error:
        raise NotFoundError(f"{uri}: cannot {verb}: there is no such object or bucket ({error})") from error
    except PermissionError as error:
        raise StoreError(f"{uri}: cannot {verb}: refused ({_code(error)}: {error}). {_ADVICE}") from error
    except (OSError, BotoCoreError, HttpError) as error:
        raise StoreError(
            f"{uri}: cannot {verb}: {type(error).__name__}: {error} (endpoint "
            f"{os.environ.get('AWS_ENDPOINT_URL_S3') or os.environ.get('AWS_ENDPOINT_URL') or 'of AWS'}). {_ADVICE}"
        ) from error


_ADVICE = "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION and AWS_ENDPOINT_URL, then run again"


def _passes(state: RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome else None
    if error is None:
        return False
    if isinstance(error, PermissionError):
        return _code(error) not in _REFUSED_FOR_GOOD and state.attempt_number < REFUSED_ATTEMPTS
    return isinstance(error, _PASSING_ERRORS) or _code(error) in _PASSING_CODES


def _code(error: BaseException) -> str:
    """The S3 error code behind an error that s3fs translated; empty if there is none."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ClientError):
        cause = cause.__cause__
    return str(cause.response.get("Error", {}).get("Code", "")) if isinstance(cause, ClientError) else ""
