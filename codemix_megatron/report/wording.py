"""Numbers as a reader wants them."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

__all__ = [
    "count",
    "distinct_percents",
    "duration",
    "flops_per_second",
    "join_words",
    "moment",
    "percent",
    "plural",
    "relative",
    "short_count",
    "signed",
    "size",
]

MINUS = "\u2212"
THIN = "\u202f"  # narrow no-break space, before a unit
ABSENT = "\u2013"


def count(value) -> str:
    """Return a whole number with thousands separated: 960,000."""
    return ABSENT if value is None else f"{round(value):,}"


def short_count(value, unit: str = "") -> str:
    """Return about three digits and a suffix: 2.87M."""
    if value is None:
        return ABSENT
    for suffix, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if value >= 0.9995 * scale:
            return f"{value / scale:.3g}{suffix}{unit}" if value < 999.5 * scale else f"{value / scale:.0f}{suffix}{unit}"
    return f"{value:.3g}{unit}"


def signed(value: float, digits: int = 3) -> str:
    """Return a number with its sign; a true minus."""
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else MINUS) + text


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share as percent: 0.5 -> 50.0 %."""
    return ABSENT if share is None else f"{100 * share:.{digits}f}{THIN}%"


def distinct_percents(shares: Sequence[float], most_digits: int = 3) -> tuple[str, ...]:
    """Return shares as percents, with as many digits as keep them apart, and from reading as none.

    >>> distinct_percents([0.0, 0.004, 0.25]) == ("0.0\u202f%", "0.4\u202f%", "25.0\u202f%")
    True
    """
    told: tuple[str, ...] = ()
    for digits in range(most_digits + 1):
        told = tuple(percent(share, digits) for share in shares)
        if len(set(told)) == len(set(shares)) and all(share == 0 or round(100 * share, digits) > 0 for share in shares):
            break
    return told


def relative(value: float, reference: float, digits: int = 1) -> str:
    """Return the relative difference: +8.2 %; a factor from threefold on, nothing where there is no base."""
    if not reference or not math.isfinite(value) or not math.isfinite(reference):
        return ABSENT
    ratio = value / reference
    if ratio >= 3:
        return f"\u00d7{THIN}{ratio:.3g}"
    return f"{signed(100 * (ratio - 1), digits)}{THIN}%"


def duration(seconds: float | None) -> str:
    """Return the two largest units of a time: 1 h 12 min."""
    if seconds is None:
        return ABSENT
    if seconds < 60:
        return f"{seconds:.1f}{THIN}s" if seconds < 10 else f"{seconds:.0f}{THIN}s"
    whole = round(seconds)
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    for (name, length), (lesser, part) in pairwise(units):
        if whole >= length:
            rest = whole % length // part
            return f"{whole // length}{THIN}{name}" + (f" {rest}{THIN}{lesser}" if rest else "")
    return f"{whole}{THIN}s"


def size(num_bytes: float | None) -> str:
    """Return a size in binary units: 34.5 MiB."""
    if num_bytes is None:
        return ABSENT
    for unit, scale in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.3g}{THIN}{unit}" if num_bytes < 1000 * scale else f"{num_bytes / scale:.0f}{THIN}{unit}"
    return f"{num_bytes:.0f}{THIN}B"


def flops_per_second(value: float | None) -> str:
    """Return model FLOPs per second with a prefix: 12.3 GFLOP/s."""
    if value is None:
        return ABSENT
    for prefix, scale in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if value >= scale:
            return f"{value / scale:.3g}{THIN}{prefix}FLOP/s"
    return f"{value:.3g}{THIN}FLOP/s"


def moment(value) -> str:
    """Return an ISO time or seconds since the epoch as `2026-03-01 14:05`, with the zone where it is known."""
    if value in (None, ""):
        return ""
    try:
        when = datetime.fromtimestamp(value, UTC) if isinstance(value, (int, float)) else datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError):
        return str(value)
    zone = when.tzname() or ""
    return f"{when:%Y-%m-%d %H:%M}" + (f" {zone}" if zone else "")


def plural(number: int, noun: str) -> str:
    """Return `1 step`, `2 steps`."""
    return f"{count(number)} {noun}" + ("" if number == 1 else "s")


def join_words(words) -> str:
    """Return `a, b and c`."""
    words = list(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
