"""Means over tasks, as a suite declares them; and their errors."""

import math

__all__ = ["aggregate"]


def aggregate(
    parts: dict[str, list[str]], known: dict[str, tuple[float, float | None]]
) -> dict[str, tuple[float, float | None, list[str], list[str]]]:
    """Return name -> (mean, standard error, parts found, parts missing) of each aggregate that has at least one part.

    `known` is task -> (value, standard error). A part may be an earlier aggregate, which then counts as one. Errors of
    tasks are taken as independent: they come from different items.
    """
    found: dict[str, tuple] = {}
    values = dict(known)
    for name, wanted in parts.items():
        there = [part for part in wanted if part in values]
        if not there:
            continue
        mean = math.fsum(values[part][0] for part in there) / len(there)
        errors = [values[part][1] for part in there]
        stated = [e for e in errors if e is not None]
        error = math.sqrt(math.fsum(e**2 for e in stated)) / len(there) if len(stated) == len(errors) else None
        values[name] = (mean, error)
        lacking = [part for part in wanted if part not in values]
        lacking += [missing for part in there if part in found for missing in found[part][3]]
        found[name] = (mean, error, there, lacking)
    return found
