"""`openai:MODEL@URL[?key=...&dimensions=N&batch=N&concurrency=N&timeout=S&encoding=base64&normalize=no]`.

Any endpoint that speaks OpenAI's embeddings API: `openai:text-embedding-3-small@https://api.openai.com/v1`, or a server of
one's own. `key` names the environment variable that holds the API key (OPENAI_API_KEY by default; without one no key is
sent). Vectors are scaled to unit length unless `normalize=no`.

Owns: what these options mean, batches, how many requests are under way, and what is counted. One request is
`endpoint_requests`. The fingerprint is a hash of model, URL and what changes vectors: an endpoint shows no weights.
Shapes: N texts, D dimensions of embeddings.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from fct_ray.errors import DataError, ModelError, SettingsError
from fct_ray.kinds import Metric
from fct_ray.models.by_name.endpoint_requests import PROBE_ATTEMPTS, Answer, EndpointSettings, Requests
from fct_ray.models.by_name.registry import count_option
from fct_ray.models.by_name.registry import open_named as open_by_name
from fct_ray.values import Usage

OPTIONS = ("key", "dimensions", "batch", "concurrency", "timeout", "encoding", "normalize")
BATCH, CONCURRENCY, TIMEOUT_S = 64, 4, 60
DEFAULT_KEY = "OPENAI_API_KEY"
_LOCATION = re.compile(r"(?P<model>.+?)@(?P<url>https?://.+)")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def open_named(spec: str, location: str, options: Mapping[str, str]) -> EndpointEncoder:
    """The endpoint's encoder; nothing is asked of it yet.

    Raises:
        SettingsError: no model or URL, credentials in the URL, an option of another form, or httpx is not installed.
    """
    found = _LOCATION.fullmatch(location)
    if found is None:
        raise SettingsError(f"encoder {spec!r}: want openai:MODEL@URL, as in openai:MODEL@https://api.openai.com/v1")
    url = urlsplit(found["url"])
    if "@" in url.netloc:
        raise SettingsError(
            f"encoder openai:{found['model']}: credentials in the URL; want a URL without, and the key in the environment "
            f"({DEFAULT_KEY}, or ?key=NAME_OF_A_VARIABLE)"
        )
    if url.fragment or not url.hostname:
        raise SettingsError(f"encoder {spec!r}: {found['url']!r} is no address of a server; want https://HOST/v1")
    return EndpointEncoder(spec, _settings(spec, found["model"], found["url"].rstrip("/"), options))


def _settings(spec: str, model: str, url: str, options: Mapping[str, str]) -> EndpointSettings:
    variable, dimensions = options.get("key", DEFAULT_KEY), options.get("dimensions")
    if not _VARIABLE.fullmatch(variable):  # not repeated: it may be the key itself
        raise SettingsError(
            f"encoder openai:{model}@{url}: option key names an environment variable, such as {DEFAULT_KEY}; what was given "
            "is no name of one"
        )
    for name, allowed in (("encoding", ("float", "base64")), ("normalize", ("yes", "no"))):
        if options.get(name, allowed[0]) not in allowed:
            raise SettingsError(f"encoder {spec!r}: option {name} is {options[name]!r}; want {' or '.join(allowed)}")
    return EndpointSettings(
        model=model,
        url=url,
        key_variable=variable,
        dimensions=None if dimensions is None else count_option(spec, options, "dimensions", 1),
        batch=count_option(spec, options, "batch", BATCH),
        concurrency=count_option(spec, options, "concurrency", CONCURRENCY),
        timeout_s=count_option(spec, options, "timeout", TIMEOUT_S),
        encoding=options.get("encoding"),
        normalize=options.get("normalize", "yes") == "yes",
    )


class EndpointEncoder:
    """A `BatchEncoder` of texts by an embeddings endpoint."""

    metric = Metric.IP
    flops_per_item = 0.0
    """Not known: they are the provider's."""
    device = "cpu"
    """No GPU of this machine."""

    def __init__(self, name: str, settings: EndpointSettings) -> None:
        """Nothing is sent before the first use."""
        self.name, self.settings, self.normalized = name, settings, settings.normalize
        decisive = [settings.model, settings.url, settings.dimensions, settings.normalize]
        self.fingerprint = hashlib.sha256(json.dumps(["openai", *decisive]).encode()).hexdigest()
        self._tokens, self._lock = 0, threading.Lock()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        """As its name: the key is read from the environment where it is needed, and travels nowhere."""
        return open_by_name, (self.name,)

    @cached_property
    def dimension(self) -> int:
        """How many numbers an embedding has, as one short text shows, unless `dimensions` says it. Raises ModelError."""
        if self.settings.dimensions is not None:
            return self.settings.dimensions
        return len(self._counted(self._requests.embed(["dimension"], None, attempts=PROBE_ATTEMPTS))[0])

    @cached_property
    def _requests(self) -> Requests:
        return Requests(self.name.partition("?")[0], self.settings)

    def encode(self, columns: Mapping[str, Any]) -> NDArray[np.float32]:
        """embeddings_ND of columns["text"]; a few batches are under way at once.

        Raises:
            DataError: there is no such column.
            ModelError: the endpoint refuses, cannot be reached, or answers with other than the vectors asked for.
        """
        if "text" not in columns:
            raise DataError(f"items have the columns {sorted(columns)}; encoder {self.name!r} wants 'text'")
        texts, size, width = list(columns["text"]), self.settings.batch, self.dimension
        embeddings_ND = np.empty((len(texts), width), dtype=np.float32)
        starts = range(0, len(texts), size)
        with ThreadPoolExecutor(self.settings.concurrency, thread_name_prefix="embeddings") as threads:
            answers = [threads.submit(self._requests.embed, texts[start : start + size], width) for start in starts]
            try:
                for start, answer in zip(starts, answers, strict=True):
                    embeddings_ND[start : start + size] = self._counted(answer.result())
            except ModelError:
                threads.shutdown(wait=False, cancel_futures=True)
                raise
        return embeddings_ND

    def take_usage(self) -> Usage:
        """The tokens that the endpoint has counted since this was last asked."""
        with self._lock:
            tokens, self._tokens = self._tokens, 0
        return Usage(tokens=tokens)

    def _counted(self, answer: Answer) -> NDArray[np.float32]:
        """The vectors of an answer, in unit length where that is wanted; a row that is not finite stays so."""
        with self._lock:
            self._tokens += answer.tokens
        if not self.settings.normalize:
            return answer.vectors_ND
        lengths_N = np.linalg.norm(answer.vectors_ND, axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):
            return np.asarray(answer.vectors_ND / np.where(lengths_N == 0, 1, lengths_N), dtype=np.float32)
