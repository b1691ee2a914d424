"""What a teacher is asked, word for word; the digest of these words stands with every document."""

import hashlib

__all__ = ["SEEDS", "prompt_digest", "prompt_for"]

PROMPTS = {
    "statement": (
        "Write a programming problem for Python.\n\n{seed}\n\nSay in two to five sentences what a single function gets and returns, so that"
        " anybody can test it. Give no solution. Answer with the problem alone."
    ),
    "signature": ("Name the function that solves this problem in Python.\n\n{statement}\n\nAnswer with one line: def name(parameters):"),
    "solution": (
        "Solve this problem in Python.\n\n{statement}\n\nWrite the function `{signature}` with the standard library alone; it prints nothing and"
        " reads nothing. Answer with one ```python block that holds the whole program."
    ),
    "tests": (
        "Write tests for a Python function that solves this problem.\n\n{statement}\n\nThe function is `{signature}`. Do not write it. Answer with"
        " one ```python block of {num_tests} assert statements that call it with different literal arguments, each on one line."
    ),
}
SEEDS = tuple(PROMPTS)


def prompt_for(kind: str, **words) -> str:
    """Return one prompt with its placeholders filled, in one pass: braces in a statement are the statement's own."""
    parts = PROMPTS[kind].split("{")
    filled = [parts[0]]
    for part in parts[1:]:
        name, _, rest = part.partition("}")
        filled.append(f"{words[name]}{rest}")
    return "".join(filled)


def prompt_digest() -> str:
    """Return what tells these prompts from others."""
    return hashlib.sha256("\0".join(f"{kind}\0{text}" for kind, text in PROMPTS.items()).encode()).hexdigest()[:16]
