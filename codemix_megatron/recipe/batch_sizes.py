"""How large a global batch is: one number, or sizes that hold from so many tokens on."""

from itertools import pairwise

from codemix_megatron.recipe.quantity import parse_tokens

__all__ = ["MOST_IN_A_BATCH", "batch_size_faults", "read_batch_sizes"]

MOST_IN_A_BATCH = 2**31 - 1
FORMS = "a whole number, or a list of [tokens seen, sequences] such as [[0, 256], [10B, 512]]"


def read_batch_sizes(value, path: str, faults: list[str]):
    """Read a number of sequences, or a list of [tokens seen, sequences]; return an int or a tuple of pairs."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    is_list = isinstance(value, (list, tuple)) and len(value) > 0
    if not is_list or not all(isinstance(entry, (list, tuple)) and len(entry) == 2 for entry in value):
        faults.append(f"{path}: found {value!r}, needs {FORMS}")
        return None
    return tuple(read_stage(entry, f"{path}[{i}]", faults) for i, entry in enumerate(value))


def read_stage(entry, path: str, faults: list[str]) -> tuple[int, int]:
    """Read one [tokens seen, sequences]."""
    begin, size = entry
    try:
        tokens = 0 if begin == 0 and not isinstance(begin, bool) else parse_tokens(begin)
    except ValueError as fault:
        faults.append(f"{path}[0]: {fault}")
        tokens = 0
    if not isinstance(size, int) or isinstance(size, bool):
        faults.append(f"{path}[1]: found {size!r}, needs a whole number of sequences")
        size = 1
    return tokens, size


def batch_size_faults(stages: tuple[tuple[int, int], ...]) -> list[str]:
    """Return a fault for each size that is none, and for stages that do not begin at 0 and follow each other."""
    path, faults = "batch.global_sequences", []
    for _, size in stages:
        if not 1 <= size <= MOST_IN_A_BATCH:
            faults.append(f"{path}: found {size}, must be at least 1" + (f" and at most {MOST_IN_A_BATCH}" if size > 1 else ""))
    begins = [begin for begin, _ in stages]
    if begins[0] != 0:
        faults.append(f"{path}: the first size holds from {begins[0]} tokens on; write [0, {stages[0][1]}] before or in its place")
    if any(later <= earlier for earlier, later in pairwise(begins)):
        faults.append(f"{path}: sizes hold from {', '.join(map(str, begins))} tokens on; each has to begin after the one before")
    return faults
