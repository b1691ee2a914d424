"""Licences of documents: SPDX expressions, as data sets write them, against a list of those allowed."""

import functools
import re

__all__ = ["PERMISSIVE", "UNKNOWN_LICENCE", "all_of", "licence_allowed"]

# What a licence text that is not known is called in an expression; the form is SPDX's, for names it does not list.
UNKNOWN_LICENCE = "LicenseRef-unknown"
# The Blue Oak Council's permissive licences in wide use, public domain dedications, and CC BY.
PERMISSIVE_NAMES = (
    "0bsd afl-3.0 apache-1.1 apache-2.0 artistic-2.0 blueoak-1.0.0 bsd-1-clause bsd-2-clause bsd-2-clause-patent bsd-3-clause "
    "bsd-3-clause-clear bsd-4-clause bsl-1.0 bzip2-1.0.6 cc-by-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc0-1.0 curl ecl-2.0 fsfap "
    "hpnd icu isc mit mit-0 mit-cmu mulanpsl-2.0 ncsa ofl-1.1 openssl pddl-1.0 postgresql psf-2.0 public-domain python-2.0 python-2.0.1 "
    "unicode-3.0 unicode-dfs-2016 unlicense upl-1.0 w3c wtfpl x11 zlib zpl-2.1"
)
PERMISSIVE = frozenset(PERMISSIVE_NAMES.split())
WORD = re.compile(r"[()/,;]|[^\s()/,;]+")
ALL_WORDS, CHOICE_WORD, EXCEPTION_WORD = ("and", "/", ",", ";"), "or", "with"
NOTES = ("docs",)  # words that narrow a name down to what is in it anyway
# What may stand in parentheses behind a name; any other note may take back what the licence grants: `MIT (non-commercial use)`.
HARMLESS_NOTE_WORDS = frozenset(["expat", "federal", "government", "us", "work", "works"])
MOST_GROUPS = 50  # parentheses inside parentheses; an expression of more is nobody's


def all_of(licences: list[str]) -> str | None:
    """Return the expression of several licences that all hold; None for none.

    >>> all_of(["MIT", "GPL-2.0 OR MIT"])
    'MIT AND (GPL-2.0 OR MIT)'
    """
    several = list(dict.fromkeys(licences))
    grouped = [f"({licence})" if len(several) > 1 and " or " in licence.lower() else licence for licence in several]
    return " AND ".join(grouped) or None


@functools.lru_cache(maxsize=4096)
def licence_allowed(licence: str, allowed: tuple[str, ...]) -> bool:
    """Say whether an SPDX expression is allowed by a list of SPDX names and `permissive`; what cannot be read is not.

    Of `A OR B` one must be on the list, of `A AND B` and `A/B` all. `X-only` and `X` are the same; of `X WITH E` X must be
    on the list and E one of SPDX's exceptions, which only ever grant more.

    >>> licence_allowed("MIT OR GPL-3.0", ("permissive",)), licence_allowed("MIT AND GPL-3.0", ("permissive",))
    (True, False)
    """
    names = {plain_name(name) for name in allowed} | (PERMISSIVE if "permissive" in allowed else set())
    reading = Expression(WORD.findall(licence.lower()), names)
    try:
        return reading.choice() and reading.at_end
    except ValueError:
        return False


class Expression:
    """An expression being read, from its first word to its last."""

    def __init__(self, words: list[str], names: set[str]):
        self.words, self.names, self.at, self.depth = words, names, 0, 0

    @property
    def at_end(self) -> bool:
        """Say whether every word was read."""
        return self.at == len(self.words)

    def next_is(self, *wanted: str) -> bool:
        """Pass over the next word if it is one of those wanted, and say so."""
        found = not self.at_end and self.words[self.at] in wanted
        self.at += found
        return found

    def choice(self) -> bool:
        """Read `A OR B ...`."""
        allowed = self.together()
        while self.next_is(CHOICE_WORD):
            allowed = self.together() or allowed
        return allowed

    def together(self) -> bool:
        """Read `A AND B ...`."""
        allowed = self.one()
        while self.next_is(*ALL_WORDS):
            allowed = self.one() and allowed
        return allowed

    def one(self) -> bool:
        """Read a name with its notes and exception, or a group in parentheses."""
        if self.next_is("("):
            return self.group()
        name = " ".join(word for word in self.plain_words() if word not in NOTES)
        if not name:
            raise ValueError("a name is missing")
        if self.next_is("("):
            self.pass_note()
        allowed = plain_name(name) in self.names
        return allowed and is_exception(" ".join(self.plain_words())) if self.next_is(EXCEPTION_WORD) else allowed

    def group(self) -> bool:
        """Read what stands behind an opening parenthesis, and the closing one."""
        self.depth += 1
        if self.depth > MOST_GROUPS:
            raise ValueError("too many parentheses")
        allowed = self.choice()
        if not self.next_is(")"):
            raise ValueError("a parenthesis is missing")
        self.depth -= 1
        return allowed

    def plain_words(self) -> list[str]:
        """Read the words up to an operator or a parenthesis."""
        begin = self.at
        while not self.at_end and self.words[self.at] not in (CHOICE_WORD, EXCEPTION_WORD, "(", ")", *ALL_WORDS):
            self.at += 1
        return self.words[begin : self.at]

    def pass_note(self) -> None:
        """Pass over what stands in parentheses behind a name, such as `(US federal)`; ValueError for a note that may limit it."""
        while not self.next_is(")"):
            if self.at_end or self.words[self.at] not in HARMLESS_NOTE_WORDS:
                raise ValueError("a note of unknown words, or a parenthesis is missing")
            self.at += 1


def plain_name(name: str) -> str:
    """Return a name in lower case, without what SPDX's newer names say of later versions of the licence."""
    return name.lower().removesuffix("-only")


def is_exception(name: str) -> bool:
    """Say whether SPDX lists an exception of that name."""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    try:
        return bool(canonicalize_license_expression(f"MIT WITH {name}"))
    except InvalidLicenseExpression:
        return False
