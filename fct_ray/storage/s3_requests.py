"""Requests to S3: one connection per process, one bounded layer of retries around every request.

Owns: the connection (endpoint and credentials come only from the environment, `AWS_*`), which faults pass by themselves,
how long to wait and how often to repeat. Speaks `s3://bucket/key` URIs; raises our errors, each with the URI.
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

import itertools
import logging
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
    HTTPClientError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
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
_PASSING_CODES = {
    *("SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "RequestTimeTooSkewed", "Throttling"),
    *("ThrottlingException", "TooManyRequests", "OperationAborted", "ConditionalRequestConflict", "IncompleteBody"),
    *("BadDigest", "500", "502", "503", "504", "429", "409"),
}
_REFUSED_FOR_GOOD = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}

_ADVICE = (
    "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN (expired?), AWS_DEFAULT_REGION and "
    "AWS_ENDPOINT_URL, then run again"
)

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


def call(method: str, **request: Any) -> Any:
    """One request, cut when it takes too long: the socket's own timeouts do not see a stalled upload or a trickle."""
    return connection().call_s3(method, timeout=allowed_s(len(request.get("Body", b""))), **request)


def allowed_s(num_bytes: int) -> float:
    """How long a request or an answer of so many bytes may take, in seconds."""
    return STALL_S + num_bytes / SLOWEST_BYTES_PER_S


def with_retries(verb: str, uri: str, attempt: Callable[[], T]) -> T:
    """What `attempt` returns; it is called again after faults that pass, up to `ATTEMPTS` times.

    `verb` and `uri` name the request in errors and logs.

    Raises:
        NotFoundError: there is no such object or bucket.
        StoreError: refused, unreachable, or no answer in time; says what to check.
    """
    from aiohttp import ClientError as HttpError
    from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]

    passing = (HTTPClientError, BotoConnectionError, ResponseParserError, HttpError, TimeoutError, ConnectionError)
    refusals = itertools.count(1)

    def passes(error: BaseException) -> bool:
        if isinstance(error, PermissionError):
            return error_code(error) not in _REFUSED_FOR_GOOD and next(refusals) < REFUSED_ATTEMPTS
        return isinstance(error, passing) or error_code(error) in _PASSING_CODES

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
        raise StoreError(f"{uri}: cannot {verb}: refused ({error_code(error)}: {error}). {_ADVICE}") from error
    except (OSError, BotoCoreError, HttpError, ValueError) as error:
        raise StoreError(
            f"{uri}: cannot {verb}: {type(error).__name__}: {str(error) or 'no answer in time'} (endpoint "
            f"{os.environ.get('AWS_ENDPOINT_URL_S3') or os.environ.get('AWS_ENDPOINT_URL') or 'of AWS'}). {_ADVICE}"
        ) from error


def error_code(error: BaseException) -> str:
    """The S3 error code behind an error that s3fs translated; empty if there is none."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ClientError):
        cause = cause.__cause__
    return str(cause.response.get("Error", {}).get("Code", "")) if isinstance(cause, ClientError) else ""


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
    s3.retries = 1  # faults are retried in one place: `with_retries`
    return s3
