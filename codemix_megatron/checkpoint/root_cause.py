"""What went wrong first, below what torch's distributed checkpoints wrap around it. No torch."""

__all__ = ["root_cause"]


def root_cause(fault: BaseException | None) -> str | None:
    """Return the first line of the innermost fault, if there is one; torch wraps one fault per rank."""
    if fault is None:
        return None
    inner = getattr(fault, "failures", None)
    if inner:
        fault = next(iter(inner.values()))[0]
    before = fault
    while before is not None and not isinstance(before, OSError):
        before = before.__cause__ or before.__context__  # torch.save hides a full disk behind a wrong position
    fault = before or fault
    return f"{type(fault).__name__}: {fault}".splitlines()[0]
