"""Licences of documents: SPDX names, as data sets write them, against a list of those allowed."""

import functools
import re

__all__ = ["PERMISSIVE", "licence_allowed", "licence_of_text"]

# The Blue Oak Council's permissive licences in wide use, public domain dedications, and CC BY.
PERMISSIVE_NAMES = (
    "0bsd afl-3.0 apache-1.1 apache-2.0 artistic-2.0 blueoak-1.0.0 bsd-1-clause bsd-2-clause bsd-2-clause-patent bsd-3-clause "
    "bsd-3-clause-clear bsd-4-clause bsl-1.0 cc-by-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc0-1.0 curl ecl-2.0 fsfap isc "
    "mit mit-0 mulanpsl-2.0 ncsa ofl-1.1 openssl pddl-1.0 postgresql psf-2.0 public-domain python-2.0 unicode-3.0 unlicense "
    "upl-1.0 w3c wtfpl x11 zlib zpl-2.1"
)
PERMISSIVE = frozenset(PERMISSIVE_NAMES.split())
CHOICE, ALL = re.compile(r"\s+or\s+", re.IGNORECASE), re.compile(r"\s+and\s+|[/,;]", re.IGNORECASE)
GROUP, NOT_ALLOWED = re.compile(r"\(([^()]*\s(?:OR|AND)\s[^()]*)\)", re.IGNORECASE), "not-allowed"
NOTE = re.compile(r"(?<=\S)\s*\(.*?\)|\s+docs$|\s+with\s.*$", re.IGNORECASE)
# The first words of licences as they stand in LICENSE files; the more particular before the general.
TEXTS = (
    ("AGPL-3.0", "gnu affero general public license"), ("LGPL-2.1", "gnu lesser general public license version 2.1"),
    ("LGPL-3.0", "gnu lesser general public license"), ("GPL-2.0", "gnu general public license version 2"),
    ("GPL-3.0", "gnu general public license"), ("Apache-2.0", "apache license version 2.0"), ("MPL-2.0", "mozilla public license version 2.0"),
    ("MPL-2.0", "mozilla public license, version 2.0"), ("EPL-2.0", "eclipse public license - v 2.0"),
    ("Unlicense", "this is free and unencumbered software released into the public domain"), ("CC0-1.0", "cc0 1.0 universal"),
    ("BSL-1.0", "boost software license - version 1.0"), ("PSF-2.0", "python software foundation license version 2"),
    ("ISC", "permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted"),
    ("MIT", "permission is hereby granted, free of charge, to any person obtaining a copy"),
    ("BSD-3-Clause", "neither the name of"), ("BSD-2-Clause", "redistribution and use in source and binary forms"),
    ("Zlib", "this software is provided 'as-is', without any express or implied warranty"),
    ("CC-BY-4.0", "creative commons attribution 4.0 international"),
)  # fmt: skip


@functools.lru_cache(maxsize=4096)
def licence_allowed(licence: str, allowed: tuple[str, ...]) -> bool:
    """Say whether a licence is on a list of SPDX names and `permissive`.

    Of `A OR B` one must be, of `A AND B` and `A/B` all.

    >>> licence_allowed("MIT OR GPL-3.0", ("permissive",)), licence_allowed("MIT AND GPL-3.0", ("permissive",))
    (True, False)
    """
    names = {name.lower() for name in allowed} | (PERMISSIVE if "permissive" in allowed else set())
    while group := GROUP.search(licence):
        licence = licence.replace(group[0], allowed[0] if licence_allowed(group[1], allowed) else NOT_ALLOWED)
    choices = (ALL.split(NOTE.sub("", choice)) for choice in CHOICE.split(licence))
    return any(all(name.strip(" ()").lower() in names for name in choice) for choice in choices)


def licence_of_text(text: str) -> str | None:
    """Return the SPDX name of a LICENSE file's text, judged by its words; None for one that is not known."""
    words = " ".join(text[:20_000].lower().split())
    return next((name for name, beginning in TEXTS if beginning in words), None)
