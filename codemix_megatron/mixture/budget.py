"""Shares -> whole numbers that add up exactly."""

import math

__all__ = ["apportion", "apportion_moving", "plan_batches", "whole_batches"]


def whole_batches(tokens: int, batch_tokens: int) -> int:
    """Return the number of global batches nearest to a token budget, at least one."""
    return max(1, (tokens + batch_tokens // 2) // batch_tokens)


def apportion(total: int, shares: dict[str, float]) -> dict[str, int]:
    """Split `total` sequences by share with the largest-remainder method; the counts sum to `total`.

    Every count is within one of total x share. Ties go to the earlier source.
    """
    whole = math.fsum(shares.values())
    exact = {name: total * share / whole for name, share in shares.items()}
    counts = {name: int(value) for name, value in exact.items()}
    missing = total - sum(counts.values())
    by_remainder = sorted(shares, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[:missing]:
        counts[name] += 1
    return counts


def apportion_moving(
    total: int, first: dict[str, float], last: dict[str, float], stretches: int, *, is_stepped: bool
) -> list[dict[str, int]]:
    """Split `total` sequences whose shares move from `first` to `last` over equal stretches; return the counts of each.

    Linear shares have in each stretch the mean of its part; stepped ones have `first` in the first stretch and `last` in the last.
    What rounding leaves over is carried on, so that up to the end of any stretch each count is within about one of its integral.
    """
    names = list(dict.fromkeys([*first, *last]))
    wanted, given, rows = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0), []
    for number in range(stretches):
        begin, end = total * number // stretches, total * (number + 1) // stretches
        fraction = number / (stretches - 1) if is_stepped and stretches > 1 else (begin + end) / (2 * total)
        for name in names:
            start = first.get(name, 0.0)
            wanted[name] += (end - begin) * (start + (last.get(name, 0.0) - start) * fraction)
        due = {name: max(0.0, wanted[name] - given[name]) for name in names}
        row = apportion(end - begin, due if any(due.values()) else dict.fromkeys(names, 1.0))
        for name, count in row.items():
            given[name] += count
        rows.append(row)
    return rows


def plan_batches(stages: tuple[tuple[int, int], ...], first: int, tokens: int, length: int) -> list[tuple[int, int]]:
    """Return (steps, sequences in each) of a phase that begins at position `first`: whole batches nearest to `tokens`, one at least.

    `stages` are (tokens seen, sequences) from which on a size holds; a batch has the size that holds where it begins.
    """
    runs: list[tuple[int, int]] = []
    position, left = first, tokens
    for number, (_, size) in enumerate(stages):
        ends = -(-stages[number + 1][0] // length) if number + 1 < len(stages) else None
        if ends is not None and ends <= position:
            continue
        nearest = whole_batches(left, size * length) if not runs else max(0, (left + size * length // 2) // (size * length))
        steps = nearest if ends is None else min(nearest, -(-(ends - position) // size))
        if steps:
            runs.append((steps, size))
            position, left = position + steps * size, left - steps * size * length
        if steps == nearest:
            break
    return runs
