"""Which licence a LICENSE file is: its whole text against SPDX's, and what else it says.

The texts of SPDX's list are found by licenseclassifier, a port of the matcher behind Go's package index. What stands
beside them decides whether they can be trusted: a rider (`Commons Clause`, `for non-commercial use only`) or other terms make
the licence unknown, a title, a copyright line or a word of thanks does not.
"""

import functools
import hashlib
import re
from pathlib import Path

from codemix_megatron.readers.licences import UNKNOWN_LICENCE, all_of
from codemix_megatron.recipe.languages import ADJACENT, MARKUP, PROGRAMMING, by_suffix

__all__ = ["LICENCE_FOLDERS", "is_licence_file", "licence_of_folder", "licence_of_text", "nearest_licence"]

FILE_NAME = re.compile(r"(?:licen[cs]es?|copying|unlicense)(?:[-_.].*)?", re.IGNORECASE)
PROSE_SUFFIXES = (".txt", ".md", ".markdown", ".rst", ".html", ".htm")
LICENCE_FOLDERS = ("LICENSES",)  # the REUSE specification's, a text per file
LARGEST_TEXT_BYTES = 1 << 18  # more is a collection of everything a program ships with
MOST_OTHER_WORDS = 40
# Of what stands beside a licence: lines that name owners, and signs that more is asked or less is given than the licence does.
NOTICE_LINE = re.compile(r"^[^\n]*(?:copyright|\(c\)|\u00a9|all rights reserved|@)[^\n]*$", re.IGNORECASE | re.MULTILINE)
OTHER_WORD = re.compile(r"[a-z]{2,}")
TERMS = re.compile(
    r"\b(?:not|only|unless|except|must|shall|may|commons|affero|gpl\w*|lgpl\w*|agpl\w*|general public|academi\w*|additional\w*|agree\w*"
    r"|commercial\w*|condition\w*|confidential|consent|educational|ethical|evaluation|exception\w*|fees?|forbid\w*|further|government"
    r"|grant\w*|harm\w*|internal|military|noncommercial|obligat\w*|patent\w*|permi\w*|personal|prohibit\w*|propriet\w*|provided"
    r"|provision\w*|purposes?|research|restrict\w*|royalt\w*|sell\w*|subject|terminat\w*|training|unauthori\w*|without|written)\b"
)
# What a line of owners, or the middle of a licence, may not say: no permissive licence's own text does.
RIDERS = re.compile(r"\b(?:non[ -]?commercial(?:ly)?|commons clause|academic use|research use)\b")
SPEAKING_OF_ALL_USES = ("Unlicense",)  # `commercial or non-commercial`
# Words that speak of the licence itself, in so many words.
HARMLESS = re.compile(r"\b(?:no attribution|terms and conditions|permissive|llvm exceptions to the apache)\b")
# exception -> (its first words, their number, sha256 of all of them): texts that grant more than the licence they stand behind.
EXCEPTIONS = {
    "LLVM-exception": (
        "as an exception if as result of your compiling", 128, "0ca67d319311844b8961ae154dbb3b6d9e57f6b2fc08da20d2a52bc332fa5c91",
    ),
}  # fmt: skip


def is_licence_file(path: Path) -> bool:
    """Say whether a file is named as licences are: LICENSE, COPYING.LESSER, licence.txt, not `licenses.py`."""
    if not FILE_NAME.fullmatch(path.name):
        return False
    suffix = path.suffix.lower()
    return suffix in PROSE_SUFFIXES or suffix not in source_suffixes()


@functools.cache
def source_suffixes() -> frozenset[str]:
    """Return the suffixes of programs and data."""
    return frozenset(by_suffix(PROGRAMMING, MARKUP, ADJACENT))


def licence_of_folder(folder: Path) -> str | None:
    """Return the SPDX expression of the licence files that lie in a folder: all of them hold.

    None where there is none; LicenseRef-unknown stands for a text that is not known or not trusted.
    """
    try:
        files = sorted(path for path in folder.iterdir() if is_licence_file(path) and path.is_file())
        for name in LICENCE_FOLDERS:
            files += sorted(path for path in (folder / name).iterdir() if path.is_file()) if (folder / name).is_dir() else []
        return all_of([licence for path in files if (licence := licence_of_file(path))])
    except OSError:
        return UNKNOWN_LICENCE if folder.is_dir() else None


def nearest_licence(folder: Path, top: Path, known: dict[Path, str | None]) -> str | None:
    """Return the licence a folder or one around it names, up to the folder that was named; `known` are those found before."""
    if folder not in known:
        own = licence_of_folder(folder)
        known[folder] = own or (nearest_licence(folder.parent, top, known) if folder != top else None)
    return known[folder]


def licence_of_file(path: Path) -> str | None:
    """Return the licence of one file; None for an empty one."""
    with open(path, "rb") as stream:
        data = stream.read(LARGEST_TEXT_BYTES + 1)
    return UNKNOWN_LICENCE if len(data) > LARGEST_TEXT_BYTES else licence_of_text(data.decode("utf-8", errors="replace"))


@functools.lru_cache(maxsize=1024)
def licence_of_text(text: str) -> str | None:
    """Return the SPDX expression of a licence file's text, several licences in it joined by AND; None for no words.

    What stands beside known licences and may change them adds LicenseRef-unknown.
    """
    from licenseclassifier import identify_license

    found = identify_license(text, coverage_threshold=0)
    edges = [0, *(edge for match in found for edge in (match.start, match.end)), len(text)]
    rest = "\n".join(text[begin:end] for begin, end in zip(edges[::2], edges[1::2], strict=True)).lower()
    names = list(dict.fromkeys(match.id for match in found))
    words, exceptions = without_exceptions(OTHER_WORD.findall(NOTICE_LINE.sub("", rest)))
    if not names:
        return UNKNOWN_LICENCE if OTHER_WORD.search(rest) else None
    names = [f"{name} WITH {exceptions[0]}" if exceptions and name == "Apache-2.0" else name for name in names]
    return all_of(names if is_harmless(words) and not has_rider(text, names) else [*names, UNKNOWN_LICENCE])


def has_rider(text: str, names: list[str]) -> bool:
    """Say whether a text limits, somewhere in it, what no permissive licence limits."""
    return bool(RIDERS.search(" ".join(text.lower().split()))) and not set(names) & set(SPEAKING_OF_ALL_USES)


def is_harmless(words: list[str]) -> bool:
    """Say whether words beside a licence leave it as it is: few, and none of them speaks of terms."""
    return len(words) <= MOST_OTHER_WORDS and not TERMS.search(HARMLESS.sub("", " ".join(words)))


def without_exceptions(words: list[str]) -> tuple[list[str], list[str]]:
    """Return words without the exceptions among them, and the names of those."""
    names = []
    for name, (beginning, count, sha256) in EXCEPTIONS.items():
        before, found, _ = f" {' '.join(words)} ".partition(f" {beginning} ")
        begin = len(before.split())
        if found and hashlib.sha256(" ".join(words[begin : begin + count]).encode()).hexdigest() == sha256:
            words = [*words[:begin], *words[begin + count :]]
            names.append(name)
    return words, names
