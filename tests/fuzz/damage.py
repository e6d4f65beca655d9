"""How real bytes are damaged: edits of bytes, edits of JSON documents, and the budget of a property.

Owns: the strategies, and how many examples there are: a fixed few by default, so that every change is judged by the
same ones; `FCT_RAY_FUZZ` times as many random ones where it is set (`make fuzz`).
"""

from __future__ import annotations

import json
import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

TIMES = int(os.environ.get("FCT_RAY_FUZZ", "0"))
HUGE = (b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7, (2**31).to_bytes(8, "little"), (2**60).to_bytes(8, "little"))
VARINTS = (
    b"\x00",
    b"\x01",
    b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x80\x80\x80\x80\x10",
    b"\x80" * 8 + b"\x20",
)
STRANGE: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 2**31 - 1, 2**31, 2**53 + 1, 2**60, 2**63 - 1, 2**63, -(2**63) - 1, 10**400),
    *(
        0.5,
        1e308,
        float("nan"),
        float("inf"),
        "",
        "ip",
        "x" * 5000,
        "a\0b",
        "\ud800",
        "\u202e",
        "../../../../etc/passwd",
    ),
    *(
        "/etc/passwd",
        "file:///etc/passwd",
        "s3://another-bucket/x.parquet",
        "versions/000002/shards/../../../CURRENT.json",
    ),
    *("os:system", "NaN", [], {}, [[]], {"": None}, {"version": 1}),
)
DEEP = '{"a":' * 500 + "[" * 500 + "]" * 500 + "}" * 500


def budget(examples: int) -> settings:
    """Settings of a property: `examples` fixed ones, or the longer, random budget of `make fuzz`."""
    return settings(
        max_examples=examples * max(TIMES, 1),
        derandomize=TIMES == 0,
        database=None,
        deadline=None,  # every step has a time limit of its own, see `outcome`
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def damaged(draw: st.DrawFn, data: bytes, *, tail: int = 0) -> bytes:
    """`data` after one to three edits; half of them in the last `tail` bytes, where a footer lies."""
    result = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        start = max(len(result) - tail, 0) if tail and draw(st.booleans()) else 0
        at = draw(st.integers(start, max(len(result) - 1, start)))
        length = draw(st.integers(1, 16))
        match draw(st.sampled_from(("flip", "flip", "cut", "remove", "insert", "huge", "varint", "swap"))):
            case "flip" if at < len(result):
                result[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del result[at:]
            case "remove":
                del result[at : at + length]
            case "insert":
                result[at:at] = draw(st.binary(min_size=1, max_size=16))
            case "huge":
                result[at : at + 8] = draw(st.sampled_from(HUGE))
            case "varint":
                value = draw(st.sampled_from(VARINTS))
                result[at : at + len(value)] = value
            case _:
                other = draw(st.integers(0, max(len(result) - 1, 0)))
                result[at : at + length] = result[other : other + length]
    return bytes(result)


@st.composite
def altered(draw: st.DrawFn, document: bytes) -> bytes:
    """A JSON document with one or two fields replaced, removed, added or doubled; still JSON, mostly."""
    content = json.loads(document)
    for _ in range(draw(st.integers(1, 2))):
        places = list(_places(content))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        value = draw(st.sampled_from(STRANGE))
        match draw(st.sampled_from(("replace", "replace", "replace", "remove", "add", "repeat"))):
            case "replace":
                holder[key] = value
            case "remove":
                del holder[key]
            case "add" if isinstance(holder, dict):
                holder[draw(st.sampled_from(("extra", "", "__class__", "version")))] = value
            case _:
                holder[key] = [holder[key]] * 3
    text = json.dumps(content)
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, text.count(": ")))
        parts = text.split(": ")
        text = ": ".join([*parts[:at], DEEP, *parts[at + 1 :]])
    if draw(st.integers(0, 9)) == 0:
        text = text.replace("{", '{"version": 7, "sha256": "0", ', 1)
    return text.encode()


def _places(content: Any) -> Any:
    if isinstance(content, dict):
        keys: Any = list(content)
    elif isinstance(content, list):
        keys = range(len(content))
    else:
        return
    for key in keys:
        yield content, key
        yield from _places(content[key])
