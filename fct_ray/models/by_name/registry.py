"""From the name of a pretrained encoder, `kind:location[?key=value&key=value]`, to the encoder.

Owns: the grammar and the list of kinds. A new kind is one module and one line here. Imports no heavy library: each module
imports its own when a name needs it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

from fct_ray.errors import SettingsError
from fct_ray.models.batch_encoder import BatchEncoder

KINDS: Mapping[str, str] = {
    "sentence-transformers": "fct_ray.models.by_name.sentence_encoder",
    "open-clip": "fct_ray.models.by_name.clip_encoder",
    "timm": "fct_ray.models.by_name.timm_encoder",
    "torchvision": "fct_ray.models.by_name.torchvision_encoder",
    "openai": "fct_ray.models.by_name.endpoint",
}
"""Kind -> module with `open_named(spec, location, options)` and `OPTIONS`, the names of the options that it takes."""


def kind_of(spec: str) -> str | None:
    """Which kind of encoder a name means; None: it is no such name.

    `openai:MODEL` without an address is a name alone, as it was before there was such a kind.

    Examples:
        >>> kind_of("timm:resnet50.a1_in1k"), kind_of("my_encoders:photos"), kind_of("openai:text-embedding-3-small")
        ('timm', None, None)
    """
    kind, _, rest = spec.partition(":")
    if kind not in KINDS or not rest or (kind == "openai" and "@http" not in rest):
        return None
    return kind


@functools.lru_cache(maxsize=4)
def open_named(spec: str) -> BatchEncoder:
    """The encoder of this name, which stays in memory: whoever asks again gets the same one.

    Raises:
        SettingsError: an unknown kind, model or option, or a library that is not installed; says what to do.
        ModelError: its weights cannot be had: they are not on this machine, and it has no network, say.
    """
    kind, (head, _, query) = kind_of(spec), spec.partition("?")
    if kind is None:
        raise SettingsError(
            f"encoder {spec!r}: unknown kind; want one of {', '.join(KINDS)}, as in timm:resnet50.a1_in1k"
        )
    module = import_module(KINDS[kind])
    options = dict(parse_qsl(query, keep_blank_values=True))
    known: tuple[str, ...] = module.OPTIONS
    unknown = sorted(set(options) - set(known))
    if unknown:  # values are not repeated: one may be a key that belongs elsewhere
        raise SettingsError(
            f"encoder {head!r}: unknown option {unknown[0]!r}; {kind} knows {', '.join(known) or 'none'}"
        )
    opener: Callable[[str, str, Mapping[str, str]], BatchEncoder] = module.open_named
    return opener(spec, head.partition(":")[2], options)


def with_absolute_paths(spec: str) -> str:
    """The same name, its directory or file of weights as an absolute path: workers may have another working directory.

    Examples:
        >>> with_absolute_paths("timm:resnet50.a1_in1k?batch=8")
        'timm:resnet50.a1_in1k?batch=8'
    """
    head, mark, query = spec.partition("?")
    kind, _, location = head.partition(":")
    if kind == "sentence-transformers" and Path(location).is_dir():
        head = f"{kind}:{Path(location).absolute()}"
    options = [(name, value) for name, value in parse_qsl(query, keep_blank_values=True)]
    if any(name == "weights" and Path(value).is_file() for name, value in options):
        absolute = [(name, str(Path(value).absolute()) if name == "weights" else value) for name, value in options]
        query = urlencode(absolute, safe="/")
    return f"{head}{mark}{query}"


def missing_extra(spec: str, extra: str, error: ImportError) -> SettingsError:
    """What to say where a library is not installed."""
    return SettingsError(
        f"encoder {spec!r} needs a package that is not installed ({error}): pip install 'fct_ray[{extra}]'"
    )


def count_option(spec: str, options: Mapping[str, str], name: str, default: int) -> int:
    """An option as a whole number of at least 1. Raises SettingsError."""
    text = options.get(name)
    if text is None:
        return default
    if not text.isdigit() or int(text) == 0:
        raise SettingsError(f"encoder {spec!r}: option {name} is {text!r}; want a whole number of at least 1")
    return int(text)
