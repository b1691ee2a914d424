"""Forms in which a text is copied: with numbers before its lines, with characters escaped for HTML. Each is undone where it occurs."""

import html
import itertools
import re

__all__ = ["forms_of"]

# A number before a line as listings have it: `12 `, ` 12: `, `[12] `, `12| `, `L12.`, and alone on an empty line.
LINE_NUMBER = re.compile(r"\n[ \t]*[\[(]?L?(\d{1,6})(?:[:.|)\]]+[ \t]?|[ \t]|(?=\n)|\Z)")
LEAST_COUNTED_LINES = 3  # that follow each other by one: fewer are a list of something
ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")


def forms_of(text: str) -> list[str]:
    """Return the text as it stands, and, where it looks like such a copy, without HTML's escapes, line numbers, or both.

    >>> forms_of("1 if a &lt; b:\\n2   c\\n3 d\\n4 e")[-1]
    'if a < b:\\n  c\\nd\\ne'
    """
    forms = [text]
    if "&" in text and ENTITY.search(text):
        forms.append(html.unescape(text))
    bare = without_line_numbers(forms[-1])
    if bare is not None:
        forms.append(bare)
    return forms


def without_line_numbers(text: str) -> str | None:
    """Return the text without the numbers of its lines, None where its lines are not counted."""
    lines = "\n" + text
    numbers = [int(match[1]) for match in LINE_NUMBER.finditer(lines)]
    counted = sum(later == earlier + 1 for earlier, later in itertools.pairwise(numbers))
    return LINE_NUMBER.sub("\n", lines)[1:] if counted >= LEAST_COUNTED_LINES else None
