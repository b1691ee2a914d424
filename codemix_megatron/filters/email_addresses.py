"""E-mail addresses in texts and programs: where they are, as opposed to matrix products, labels, versions and file names.

What follows the sign @ is an address only where its end is a public suffix under which names are given out (the Public Suffix
List, through publicsuffixlist); in programs that leaves words such as `.data` and `.py`, which need a sign of mail beside them.
"""

import functools
import re
from collections.abc import Iterator

__all__ = ["find_email_addresses"]

# Letters of addresses beyond ASCII: Latin, Greek, Cyrillic and what follows them, kana, Chinese characters, Hangul.
WIDE = "A-Za-z0-9\u00c0-\u024f\u0370-\u1fff\u3040-\u9fff\uac00-\ud7af"
DOMAIN = re.compile(
    r"@((?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}(?:xn--[A-Za-z0-9-]{2,58}|[A-Za-z]{2,18}))(?![A-Za-z0-9_-])"
)
WIDE_DOMAIN = re.compile(rf"@((?:[{WIDE}](?:[{WIDE}-]{{0,61}}[{WIDE}])?\.){{1,8}}[{WIDE}]{{2,24}})(?![\w-])")
LONGEST_USER = 64
# Of letters, those that stand for themselves between spaces; Chinese and the like run on into the words before.
ALPHABETS = "".join(map(chr, [*range(0xC0, 0x250), *range(0x370, 0x530)]))
USER_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._%+-" + ALPHABETS
WIDE_USER = re.compile(rf"[{WIDE}._%+-]{{1,24}}\Z")
# Addresses that stand for nobody: documentation's domains, and the user of clone URLs.
NOBODY = re.compile(r"@(?:[^@]{0,250}\.)?example(?:\.[^.@]{1,63})?$|^git@", re.IGNORECASE)
USER_OF_URL = re.compile(r"://[^\s/?#\"'<>]{0,200}\Z")  # of https://user@host and https://user:password@host
LABELS = ("this", "super", "return", "break", "continue")  # Kotlin's: this@MainActivity
FILE_SCALE = re.compile(r"\d{1,3}x\.", re.IGNORECASE)  # logo@2x.png
VERSION = re.compile(r"\d{1,6}\.\d|v\d{1,6}\.", re.IGNORECASE)  # package@1.2.0-beta.dev
EVERYWHERE = ("com", "org", "net", "edu", "gov", "mil")  # no attribute of a program is called so
# Suffixes that programs use for other things: attributes and methods, suffixes of files.
WORD_SUFFIXES = (
    "at bar call case center channel click cloud cc codes cool data date design direct docs dot email exchange expert express file fit fm "
    "foo fun gallery game global group id in info is link live map media md moe mov ms name network new now off one open page parts ph pl "
    "place play pm prof ps px py py rest rs run save school search security select services sh shop show so soft sort space st storage "
    "stream style sync system systems tab target tc team test text to tools top total training type vi video view watch web wiki win "
    "work works world zip zone build box app mo mt bs ie im ai as do am an by be mm ml cd pa qa sc sl"
)
WORDS = frozenset(WORD_SUFFIXES.split())
SIGN_OF_MAIL = re.compile(
    r"mail|author|maintain|contact|copyright|signed|sender|recipient|@[\w.-]{1,60}\.(?:com|org|net|edu)", re.IGNORECASE
)
WINDOW = 60


def find_email_addresses(text: str) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of each address of somebody."""
    is_ascii, behind = text.isascii(), 0
    at = text.find("@")
    while at >= 0:
        match = DOMAIN.match(text, at) or (None if is_ascii else WIDE_DOMAIN.match(text, at))
        if match:
            user = user_before(text, max(behind, at - LONGEST_USER - 1), at)
            if user and is_address(user, match[1], text, at - len(user), match.end()):
                behind = match.end()
                yield at - len(user), behind
        at = text.find("@", at + 1)


def user_before(text: str, begin: int, at: int) -> str:
    """Return the name that ends before the sign @; nothing where none does."""
    window = text[begin:at]
    user = window[len(window.rstrip(USER_CHARACTERS)) :]
    if not user and (wide := WIDE_USER.search(window[-24:])):
        user = wide[0]
    user = user.lstrip("._%+-")
    return user if len(user) <= LONGEST_USER and not user.endswith(".") else ""


def is_address(user: str, domain: str, text: str, begin: int, end: int) -> bool:
    """Say whether user and domain, from `begin` to `end` of the text, are an address of somebody."""
    suffix = domain.rpartition(".")[2]
    if NOBODY.search(f"{user}@{domain}") or user in LABELS or FILE_SCALE.match(domain) or VERSION.match(domain):
        return False
    if not (suffix.islower() or suffix.isupper() or suffix.lower() in EVERYWHERE or not suffix.isascii()):
        return False  # bar.T, bar.mT
    if not is_registrable(domain.lower()) or stands_in_path(text, begin):
        return False
    if suffix.lower() in EVERYWHERE:
        return True
    if text[end : end + 1] in ("(", "["):
        return False  # a method: X@beta.dot(y)
    is_plain = len(suffix) > 2 or domain.count(".") == 1
    return suffix.lower() not in WORDS or not is_plain or has_sign_of_mail(text, begin, end)


def has_sign_of_mail(text: str, begin: int, end: int) -> bool:
    """Say whether what surrounds an address speaks of mail: <address>, mailto:, `Author`, another address."""
    before, after = text[max(0, begin - WINDOW) : begin], text[end : end + WINDOW]
    return (before.endswith("<") and after.startswith(">")) or bool(SIGN_OF_MAIL.search(before) or SIGN_OF_MAIL.search(after))


def stands_in_path(text: str, begin: int) -> bool:
    """Say whether a name is one of a path or of the user of a URL: org/checkout@v1.io, https://user@host."""
    before = text[max(0, begin - 200) : begin]
    return (before.endswith("/") and before[-2:-1].isalnum()) or bool(USER_OF_URL.search(before)) or before.endswith("@")


@functools.lru_cache(maxsize=65536)
def is_registrable(domain: str) -> bool:
    """Say whether somebody can own a domain: it has a known public suffix and a name before it."""
    if not domain.isascii():
        try:
            domain = domain.encode("idna").decode()
        except UnicodeError:
            return False
    return suffix_list().privatesuffix(domain) is not None


@functools.cache
def suffix_list():
    """Return the Public Suffix List."""
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList(accept_unknown=False, only_icann=True)
