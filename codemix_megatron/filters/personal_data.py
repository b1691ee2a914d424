"""Masks of personal data and secrets: e-mail addresses, public IP addresses, keys and passwords of known forms.

Names of people are left as they are. Each mask is a word of its own, so that what a document is about stays legible.
"""

import functools
import ipaddress
import re

__all__ = ["MASKS", "mask_personal_data"]

MASKS = {"email": "<EMAIL>", "ip": "<IP_ADDRESS>", "key": "<KEY>"}
NAMES = {"email": "e-mail", "ip": "IP address", "key": "key"}

# What is rare in texts comes first, so that Python's regular expressions find it by memory search; what stands before
# it is looked at afterwards. Ten times as fast as reading addresses from left to right.
AT_DOMAIN = re.compile(r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,18}(?![\w-])")
USER = re.compile(r"(?<![\w.%+-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}\Z")
# Addresses that stand for nobody: documentation's domains, and the user of clone URLs.
NOBODY = re.compile(r"@(?:[\w.-]*\.)?example(?:\.\w+)?$|^git@", re.IGNORECASE)
THREE_OCTETS = re.compile(r"\.\d{1,3}\.\d{1,3}\.\d{1,3}(?![\w-]|\.\d)")
OCTET = re.compile(r"(?<![\w.-])\d{1,3}\Z")
COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]*[0-9A-Fa-f](?![\w:.])")
HEXTET = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{1,4})?\Z")
SHORTEST_IPV6 = 9
VERSION_BEFORE = re.compile(r"(?:[=<>~!]=|~>|\^|\b(?:version|release|section|sect?\.|ver|rev)|\bv)[\s:=\"']*\Z", re.IGNORECASE)

# (what such a key always holds, its form); the group is what is masked. Forms as their issuers document them.
KEYS = (
    ("-----BEGIN", r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----\s*(.+?)\s*-----END"),
    ("AKIA", r"\b(AKIA[0-9A-Z]{16})\b"),
    ("ASIA", r"\b(ASIA[0-9A-Z]{16})\b"),
    ("AIza", r"\b(AIza[\w-]{35})"),
    *((f"gh{letter}_", rf"\b(gh{letter}_[A-Za-z0-9]{{36,}})\b") for letter in "pousr"),
    ("github_pat_", r"\b(github_pat_\w{60,})\b"),
    ("glpat-", r"\b(glpat-[\w-]{20,})"),
    *((f"xox{letter}-", rf"\b(xox{letter}-[\w-]{{10,}})") for letter in "abeoprs"),
    ("k_live_", r"\b([spr]k_live_[A-Za-z0-9]{16,})\b"),
    ("hf_", r"\b(hf_[A-Za-z0-9]{30,})\b"),
    ("sk-", r"\b(sk-(?:[a-z]+-)*[A-Za-z0-9_-]{32,})"),
    ("npm_", r"\b(npm_[A-Za-z0-9]{36})\b"),
    ("pypi-", r"\b(pypi-[\w-]{50,})"),
    ("SG.", r"\b(SG\.[\w-]{16,}\.[\w-]{16,})"),
    ("eyJ", r"\b(eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,})"),
)
# Names whose value is a secret when it is a long random word.
SECRET_NAMES = (
    "api_key", "apikey", "secret_key", "secretkey", "access_key", "accesskey", "auth_token", "authtoken", "access_token", "accesstoken",
    "client_secret", "clientsecret", "private_key", "privatekey", "passwd", "password",
)  # fmt: skip
SPELLINGS = (str.lower, str.upper, lambda name: name.replace("key", "Key").replace("token", "Token").replace("secret", "Secret"), str.title)
ASSIGNED = r"""["']?\s{0,4}(?::|=|=>)\s{0,4}["']([A-Za-z0-9+/_=.-]{20,200})["']"""
PASSWORD_IN_URL = re.compile(r"://[^\s/:@'\"<>{}$%]{1,64}:([^\s/:@'\"<>{}$%]{3,64})@")


def mask_personal_data(text: str, what: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Return the text with email, ip or key masked, and what was masked: `e-mail masked` once per address.

    Addresses of example domains, of private networks and of versions are left; so are keys that look made up.
    """
    done: list[str] = []
    if "key" in what:
        text = mask_keys(text, done)
    if "email" in what and "@" in text:
        text = mask_found(text, AT_DOMAIN, USER, "email", lambda address, _: not NOBODY.search(address), done)
    if "ip" in what:
        text = mask_found(text, THREE_OCTETS, OCTET, "ip", is_public, done)
        text = mask_found(text, COLONS, HEXTET, "ip", is_public, done)
    return text, tuple(done)


def mask_found(text: str, right: re.Pattern, left: re.Pattern, kind: str, is_real, done: list[str]) -> str:
    """Mask what `right` finds together with what `left` finds before it, if `is_real(whole, what stands before)`."""
    kept, end = [], 0
    for match in right.finditer(text):
        before = left.search(text, max(end, match.start() - 65), match.start())
        if before and is_real(before[0] + match[0], text[max(0, before.start() - 12) : before.start()]):
            kept += [text[end : before.start()], MASKS[kind]]
            end = match.end()
            done.append(f"{NAMES[kind]} masked")
    return "".join([*kept, text[end:]]) if kept else text


def is_public(address: str, before: str) -> bool:
    """Say whether a match is an address outside private and documentation networks, and no version number."""
    if ":" in address and len(address) < SHORTEST_IPV6:
        return False  # a::b is C++
    try:
        return ipaddress.ip_address(address).is_global and not VERSION_BEFORE.search(before)
    except ValueError:
        return False


@functools.cache
def key_forms() -> tuple:
    """Return (automaton of what keys hold, form by place in it)."""
    import ahocorasick_rs

    spelled = sorted({spelling(name) for name in SECRET_NAMES for spelling in SPELLINGS})
    named = re.compile(f"(?:{'|'.join(spelled)}){ASSIGNED}")
    literals = [literal for literal, _ in KEYS] + spelled
    forms = [re.compile(form, re.DOTALL) for _, form in KEYS] + [named] * len(spelled)
    return ahocorasick_rs.BytesAhoCorasick([literal.encode() for literal in literals]), forms


def mask_keys(text: str, done: list[str]) -> str:
    """Mask keys of known issuers, passwords in URLs, and random words assigned to names such as api_key."""

    def mask_group(match) -> str:
        if not looks_random(match[1]):
            return match[0]
        done.append("key masked")
        begin, end = match.span(1)
        return match.string[match.start() : begin] + MASKS["key"] + match.string[end : match.end()]

    automaton, forms = key_forms()
    for form in dict.fromkeys(forms[place] for place, _, _ in automaton.find_matches_as_indexes(text.encode())):
        text = form.sub(mask_group, text)
    return PASSWORD_IN_URL.sub(mask_group, text)


def looks_random(word: str) -> bool:
    """Say whether a word can be a secret: not xxxx, a name, a number or a mask."""
    if len(word) < 16:
        return len(set(word)) > 2 and not word.startswith("<")
    kinds = sum(any(test(character) for character in word) for test in (str.isdigit, str.islower, str.isupper))
    return len(set(word)) >= 8 and kinds >= 2
