"""Numbers that must be at least 1."""

__all__ = ["not_positive"]


def not_positive(block, prefix: str, names) -> list[str]:
    """Return a fault for each named field below 1."""
    values = ((name, getattr(block, name)) for name in names)
    return [f"{prefix}.{name}: found {value}, must be at least 1" for name, value in values if value is not None and value < 1]
