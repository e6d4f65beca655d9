"""Numbers as people read them: shares, bytes, time, money, factors, counts.

Owns: rounding and units in text. Unknown figures are "n/a"; money that is unknown says the hours instead and is
never zero.
"""

from __future__ import annotations

import math

from pydantic import ByteSize

UNKNOWN = "n/a"

_SI_PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def percent(share: float) -> str:
    """A share of 1 with one decimal: 0.9567 is "95.7 %"."""
    return f"{share * 100:.1f} %" if math.isfinite(share) else UNKNOWN


def bytes_text(num_bytes: int) -> str:
    """Bytes in binary units: 1536 is "1.5 KiB"."""
    return ByteSize(num_bytes).human_readable(separator=" ")


def duration(seconds: float | None) -> str:
    """Seconds as "0.42 s", "8.1 s", "3 min 05 s" or "2 h 07 min"."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    if seconds < 59.95:
        return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds:.2f} s"
    minutes, rest_s = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest_s:02d} s"
    hours, rest_min = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {rest_min:02d} min"


def money(usd: float | None, node_s: float | None) -> str:
    """US dollars, with more digits where they are few; without a price the node-hours: "n/a (hours: 0.25)"."""
    if usd is None or not math.isfinite(usd):
        return UNKNOWN if node_s is None else f"{UNKNOWN} (hours: {_hours(node_s / 3600)})"
    if usd >= 1:
        return f"${usd:,.2f}"
    if usd >= 0.01:
        return f"${usd:#.2g}"
    return "$0" if usd == 0 else f"${usd:.2g}" if usd >= 0.0001 else f"${usd:.1e}"


def _hours(hours: float) -> str:
    return f"{hours:,.3f}" if hours >= 0.001 or hours == 0 else "< 0.001"


def factor(value: float | None) -> str:
    """A saving: 12.34 is "12.3x", below 1 "0.80x" (dearer), unknown "n/a"."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"{value:,.1f}x" if value >= 1 else f"{value:.2f}x"


def ratio(value: float) -> str:
    """One rate over another: 1.384 is "1.38", 0.984 "0.98", 0.000774 "0.00077"."""
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def count(value: int | None) -> str:
    """An integer with thousands separated: 1000000 is "1,000,000"."""
    return UNKNOWN if value is None else f"{value:,}"


def store_name(uri: str) -> str:
    """What a store is called in titles: the last two parts of its location; "s3://bucket/prod/gallery" is "prod/gallery"."""
    parts = [part for part in uri.partition("://")[2].split("/") if part] if "://" in uri else uri.strip("/").split("/")
    return "/".join(parts[-2:])


def flops_text(flops: float) -> str:
    """Floating-point operations, two per multiply-add: 5.7e12 is "5.7 TFLOP"; an encoder may not say."""
    if flops <= 0:
        return "not counted"
    step = min(max(int(math.log10(flops) // 3), 0), len(_SI_PREFIXES) - 1)
    scaled = flops / 1000**step
    if scaled >= 999.5 and step < len(_SI_PREFIXES) - 1:
        step, scaled = step + 1, scaled / 1000
    return f"{scaled:.3g} {_SI_PREFIXES[step]}FLOP"
