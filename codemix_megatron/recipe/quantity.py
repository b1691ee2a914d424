"""Token counts as people write them: 200B, 1.5M, 40_000."""

import re
from decimal import Decimal, DecimalException

__all__ = ["format_tokens", "parse_tokens"]

SUFFIXES = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
MOST = 10**18
PATTERN = re.compile(r"^\s*([0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][0-9]+)?)\s*([kKmMbBtT]?)\s*$")


def parse_tokens(value) -> int:
    """Read a positive count; raise ValueError with the allowed forms otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{value!r} is not a count; write 40000, 40_000, 1.5M or 200B")
    match = PATTERN.match(str(value))
    if match is None:
        raise ValueError(f"{value!r} is not a positive count; write 40000, 40_000, 1.5M or 200B")
    number, suffix = match.groups()
    try:
        count = Decimal(number) * SUFFIXES[suffix.upper()]
    except DecimalException:  # an exponent that Decimal cannot hold
        count = Decimal("inf")
    if count > MOST:
        raise ValueError(f"{str(value)[:40]!r} is more than {MOST:.0e} tokens, the most that is counted")
    if count != int(count) or count < 1:
        raise ValueError(f"{value!r} is {count:g} tokens; a whole number of at least 1 is needed")
    return int(count)


def format_tokens(count: float) -> str:
    """Return a short human form, three significant digits: 1.25M."""
    for suffix in ("T", "B", "M", "K"):
        if count >= SUFFIXES[suffix] * 0.9995:  # 999,999 has three digits as 1M, and as K would be 1e+03
            return f"{count / SUFFIXES[suffix]:.3g}{suffix}"
    return str(count)
