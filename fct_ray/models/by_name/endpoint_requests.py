"""One request to an embeddings endpoint, repeated while its faults pass; and an answer, checked.

    429, 500, 502, 503, 504, no connection, no answer in time   repeated, after `retry-after` where the answer has it
    401, 403, 400, 404 and others                               at once an error
    another number of vectors, another dimension                at once an error: repeating would not help

Owns: HTTP, waiting, what an answer must look like. The key never gets into a message: an answer that repeats a part of it is
not quoted. Shapes: N texts, D dimensions of embeddings.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from fct_ray.errors import ModelError, SettingsError
from fct_ray.models.by_name.registry import missing_extra

logger = logging.getLogger(__name__)
ATTEMPTS, PROBE_ATTEMPTS = 7, 2
"""Tries of a request; fewer for the first question, which must fail soon where nobody answers."""
LONGEST_WAIT_S = 120.0
"""An endpoint that asks for a longer pause is not waited for."""
CONNECT_S = 10.0
_QUOTED_CHARS, _TELLING_CHARS = 300, 8
_PASSING = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529))
_wait = wait_random_exponential(multiplier=0.5, max=20.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointSettings:
    """An endpoint, and how it is asked. No key: only the name of the variable that has it."""

    model: str
    url: str
    """Without a trailing slash; requests go to `url`/embeddings."""
    key_variable: str
    dimensions: int | None
    """Asked for; None: as many as the model has."""
    batch: int
    """Texts per request."""
    concurrency: int
    """Requests under way at once, of each worker."""
    timeout_s: int
    encoding: str | None
    """`encoding_format` of requests. None: it is left out. Answers of both forms are read in any case."""
    normalize: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """The vectors of some texts, in order, and the tokens that the endpoint counted."""

    vectors_ND: NDArray[np.float32]
    tokens: int


class _PassingFaultError(Exception):
    """A fault that may be over the next time; `wait_s` is what the endpoint asked for, if it did."""

    def __init__(self, said: str, wait_s: float | None = None) -> None:
        super().__init__(said)
        self.wait_s = wait_s


class Requests:
    """Sends texts to one endpoint; safe to use from several threads."""

    def __init__(self, name: str, settings: EndpointSettings) -> None:
        """Read the key; nothing is sent yet. Raises SettingsError if httpx is not installed, or the key is none."""
        try:
            import httpx
        except ImportError as error:
            raise missing_extra(name, "openai", error) from error
        for library in ("httpx", "httpcore"):  # a line for each request, and headers of answers
            logging.getLogger(library).setLevel(logging.WARNING)
        self.name, self.settings = name, settings
        self._key = os.environ.get(settings.key_variable, "").strip()
        if not (self._key.isascii() and self._key.isprintable()):
            raise SettingsError(
                f"encoder {name!r}: {settings.key_variable} has characters that no key has; set it anew"
            )
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx.Timeout(settings.timeout_s, connect=min(CONNECT_S, settings.timeout_s)),
            limits=httpx.Limits(max_connections=settings.concurrency),
        )

    def embed(self, texts: Sequence[str], dimension: int | None, *, attempts: int = ATTEMPTS) -> Answer:
        """The vectors of these texts; `dimension` is what they must have, None where it is not known yet.

        Raises:
            ModelError: refused, no answer after all attempts, or an answer that does not fit.
        """
        retrying = Retrying(
            retry=retry_if_exception_type(_PassingFaultError),
            wait=_wait_as_asked,
            stop=stop_after_attempt(attempts),
            before_sleep=self._tell,
            reraise=True,
        )
        body: dict[str, Any] = {"model": self.settings.model, "input": list(texts)}
        body |= {} if self.settings.encoding is None else {"encoding_format": self.settings.encoding}
        body |= {} if self.settings.dimensions is None else {"dimensions": self.settings.dimensions}
        try:
            content = retrying(self._send, body)
        except _PassingFaultError as fault:
            raise ModelError(
                f"encoder {self.name!r}: {fault}, after {attempts} attempts; check the address and its limits, lower "
                "?concurrency= or ?batch=, and run again: finished shards are kept"
            ) from None
        return self._checked(content, len(texts), dimension)

    def _send(self, body: Mapping[str, Any]) -> Any:
        import httpx

        try:
            answer = self._client.post(f"{self.settings.url}/embeddings", json=body)
        except httpx.TimeoutException:
            raise _PassingFaultError(f"no answer within {self.settings.timeout_s} s") from None
        except httpx.TransportError as error:
            raise _PassingFaultError(f"cannot be reached ({self._quoted(str(error))})") from None
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise ModelError(f"encoder {self.name!r}: {self._quoted(str(error)) or type(error).__name__}") from None
        if answer.status_code in _PASSING:
            wait_s = _retry_after_s(answer.headers)
            said = f"answered {answer.status_code} {self._quoted(answer.text)}"
            if wait_s is not None and wait_s > LONGEST_WAIT_S:
                raise ModelError(
                    f"encoder {self.name!r}: {said}, and asks to wait {wait_s:,.0f} s; run again then"
                ) from None
            raise _PassingFaultError(said, wait_s)
        if answer.status_code != httpx.codes.OK:
            raise ModelError(f"encoder {self.name!r}: {self._refusal(answer)}")
        try:
            return answer.json()
        except ValueError:
            raise _PassingFaultError(f"answered with what is no JSON: {self._quoted(answer.text)}") from None

    def _refusal(self, answer: Any) -> str:
        variable, has_key = self.settings.key_variable, "is set" if self._key else "is not set"
        if answer.status_code in (401, 403):
            return (
                f"refused ({answer.status_code}): {variable} {has_key}; set it to a key of this endpoint, on every node"
            )
        said = f"answered {answer.status_code} {self._quoted(answer.text)}"
        return f"{said}; check model and address, and that no text is empty or too long"

    def _quoted(self, text: str) -> str:
        """The beginning of an answer; nothing of one that repeats a part of the key."""
        parts = {
            self._key[start : start + _TELLING_CHARS] for start in range(max(0, len(self._key) - _TELLING_CHARS + 1))
        }
        if self._key and (self._key in text or any(part in text for part in parts)):
            return "(the answer repeats a part of the key, so it is not shown)"
        return " ".join(text.split())[:_QUOTED_CHARS]

    def _tell(self, state: RetryCallState) -> None:
        fault = None if state.outcome is None else state.outcome.exception()
        logger.info("%s: attempt %d: %s; again", self.name, state.attempt_number, fault)

    def _checked(self, content: Any, num_texts: int, dimension: int | None) -> Answer:
        """The vectors by their `index`, as many as texts, all of one dimension. NaN in them stays: rows are judged later."""
        try:
            items = sorted(enumerate(content["data"]), key=lambda pair: pair[1].get("index", pair[0]))
            places = [item.get("index", number) for number, item in items]
            vectors = [_vector(item["embedding"]) for _, item in items]
            tokens = _tokens(content.get("usage"))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._unfit(
                f"an answer of another form ({type(error).__name__}: {self._quoted(str(error))})"
            ) from None
        if places != list(range(num_texts)):
            raise self._unfit(f"{len(vectors)} vectors for {num_texts} texts")
        lengths = {len(vector) for vector in vectors}
        wanted = dimension or max(lengths, default=0)
        if lengths - {wanted}:
            raise self._unfit(f"vectors of dimension {', '.join(map(str, sorted(lengths)))}; want {wanted}")
        return Answer(vectors_ND=np.array(vectors, dtype=np.float32).reshape(num_texts, wanted), tokens=tokens)

    def _unfit(self, seen: str) -> ModelError:
        return ModelError(
            f"encoder {self.name!r}: the endpoint gave {seen}; is it an embeddings endpoint, of this model?"
        )


def _wait_as_asked(state: RetryCallState) -> float:
    """What the endpoint asked for, else a random time that grows."""
    fault = None if state.outcome is None else state.outcome.exception()
    asked_s = fault.wait_s if isinstance(fault, _PassingFaultError) else None
    return _wait(state) if asked_s is None else asked_s


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by an answer's headers; None where they say nothing that can be read."""
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        if text.replace(".", "", 1).isdigit():
            return float(text) / scale
    try:
        at = parsedate_to_datetime(headers.get("retry-after", ""))
    except (TypeError, ValueError):
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.fromtimestamp(time.time(), UTC)).total_seconds())


def _vector(embedding: Any) -> NDArray[np.float32]:
    """Numbers, or base64 of little-endian float32. Raises TypeError, ValueError."""
    if isinstance(embedding, str):
        try:
            return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
        except binascii.Error as error:
            raise ValueError(f"no base64: {error}") from error
    vector = np.array(embedding, dtype=np.float32)
    if vector.ndim != 1:
        raise ValueError(f"an embedding of shape {vector.shape}")
    return vector


def _tokens(usage: Any) -> int:
    """The tokens that an answer says it took; 0 where it says nothing."""
    counts = usage if isinstance(usage, dict) else {}
    seen = counts.get("total_tokens") or counts.get("prompt_tokens") or 0
    return seen if isinstance(seen, int) else 0
