"""Keys, passwords and webhooks in texts and programs: forms their issuers document, and values given to names such as `api_token`.

What every key of a form holds is looked for first, all forms in one pass; only where it is found is an expression tried. Every
repetition is bounded or stands before nothing that could take its characters, so that time goes with the length of a text.
"""

import functools
import re
from collections.abc import Callable, Iterator

__all__ = ["find_secret_keys"]

# what such a key always holds -> its form; the group is what is masked.
ISSUED = (
    (
        "-----BEGIN",
        r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,4}PRIVATE KEY(?: BLOCK)?-----\s{0,9}([^\s-][^-]{10,20000}+(?:-[^-]{1,200}+){0,9})-----END",
    ),
    ("AKIA", r"\b(AKIA[0-9A-Z]{16})\b"),
    ("ASIA", r"\b(ASIA[0-9A-Z]{16})\b"),
    ("AIza", r"(?<![\w-])(AIza[\w-]{35})(?![\w-])"),
    ("GOCSPX-", r"(?<![\w-])(GOCSPX-[\w-]{28})(?![\w-])"),
    ("ya29.", r"(?<![\w-])(ya29\.[\w-]{20,400})"),
    *((f"gh{letter}_", rf"\b(gh{letter}_[A-Za-z0-9]{{36,255}})\b") for letter in "pousr"),
    ("github_pat_", r"\b(github_pat_\w{60,255})\b"),
    *((f"{name}-", rf"(?<![\w-])({name}-[\w-]{{20,255}})") for name in ("glpat", "gldt", "glrt", "glcbt")),
    *((f"xox{letter}-", rf"(?<![\w-])(xox{letter}-[\w-]{{10,255}})") for letter in "abeoprs"),
    ("xapp-", r"(?<![\w-])(xapp-\d-[\w-]{20,255})"),
    *((f"{letter}k_{mode}_", rf"\b({letter}k_{mode}_[A-Za-z0-9]{{16,255}})\b") for letter in "spr" for mode in ("live", "test")),
    ("hf_", r"\b(hf_[A-Za-z0-9]{30,64})\b"),
    (
        "sk-",
        r"(?<![\w-])(sk-(?:(?:proj|svcacct|admin)-[\w-]{40,255}|ant-[a-z]{3,8}\d\d-[\w-]{60,255}|or-v1-[0-9a-f]{64}|[A-Za-z0-9]{32,64}))(?![\w-])",
    ),
    ("npm_", r"\b(npm_[A-Za-z0-9]{36})\b"),
    ("pypi-", r"(?<![\w-])(pypi-[\w-]{50,500})"),
    ("rubygems_", r"\b(rubygems_[0-9a-f]{48})\b"),
    ("SG.", r"(?<![\w-])(SG\.[\w-]{16,64}\.[\w-]{16,64})(?![\w-])"),
    ("eyJ", r"(?<![\w-])(eyJ[\w-]{10,4000}\.eyJ[\w-]{10,8000}\.[\w-]{10,2000})"),
    ("dop_v1_", r"\b(dop_v1_[0-9a-f]{64})\b"),
    ("dckr_pat_", r"(?<![\w-])(dckr_pat_[\w-]{20,64})"),
    ("shp", r"\b(shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32})\b"),
    ("hvs.", r"(?<![\w-])(hvs\.[\w-]{24,255})"),
    ("glsa_", r"\b(glsa_[A-Za-z0-9]{32}_[0-9a-f]{8})\b"),
    ("gsk_", r"\b(gsk_[A-Za-z0-9]{48,64})\b"),
    ("r8_", r"\b(r8_[A-Za-z0-9]{37})\b"),
    ("lin_api_", r"\b(lin_api_[A-Za-z0-9]{40})\b"),
    ("AGE-SECRET-KEY-1", r"\b(AGE-SECRET-KEY-1[0-9A-Z]{58})\b"),
    ("AccountKey=", r"AccountKey=([A-Za-z0-9+/]{86}==)"),
    ("-us", r"(-us\d{1,2})\b(?<=[0-9a-f]{32}-us\d)(?<![0-9a-f]{33}-us\d)|(-us\d\d)\b(?<=[0-9a-f]{32}-us\d\d)"),
    (":AA", r"(:AA[\w-]{33})(?![\w-])(?<=\d{8}:AA[\w-]{33})"),
    ("hooks.slack.com/", r"hooks\.slack\.com/(?:services|workflows|triggers)/([A-Za-z0-9+/_-]{20,255})"),
    ("/api/webhooks/", r"/api/webhooks/(\d{10,22}/[\w-]{30,100})"),
    (".webhook.office.com/", r"\.webhook\.office\.com/webhookb2/([\w@-]{36,100}/[\w/-]{32,200})"),
)
# Names whose value is a secret: words for keys, and for passwords, which may be short.
KEY_NAMES = ("api_key", "secret_key", "access_key", "account_key", "private_key", "encryption_key", "signing_key", "api_token",
             "auth_token", "access_token", "refresh_token", "bot_token", "secret_token", "client_secret", "app_secret",
             "api_secret", "shared_secret", "webhook_secret", "jwt_secret", "oauth_token")  # fmt: skip
PASSWORD_NAMES = ("passwd", "password", "passphrase", "passwort")
SPELLINGS = (str.lower, str.upper, str.title, lambda name: name[:1] + name.title()[1:])
SEPARATORS = ("_", "-", "")
GIVEN = r"""["']?\s{0,4}(?::=|=>|=|:)\s{0,4}"""
QUOTED_KEY = r"""["']([^\s"'<>{}\\,;]{16,200})["']"""
BARE_KEY = r"""([A-Za-z0-9+/_=-]{20,200})(?=\s|$|;|,|&)"""
QUOTED_PASSWORD = r"""["']([^\s"'<>{}$%()|\\,;*]{6,64})["'](?!\s{0,4}(?::|\]|in\b))"""
PASSWORD_IN_URL = re.compile(r"://[^\s/:@'\"<>{}$%()\[\]]{1,64}:([^\s/:@'\"<>{}$%()\[\]]{3,64})@")
PLACEHOLDER_WORDS = "pass passwd password pwd passphrase passwort secret token key user username repo xxx redacted credentials port"
PLACEHOLDERS = frozenset(PLACEHOLDER_WORDS.split())
MADE_UP = re.compile(
    r"(?:your|my|the|some|dummy|fake|example|sample|test|placeholder|change|insert|replace|enter|todo|xxx|secret[_-]?key|redacted|null|none|undefined"
    r"|true|false)(?![a-z]{0,20}\d{3})", re.IGNORECASE,
)  # fmt: skip
ORDERED = "abcdefghijklmnopqrstuvwxyz0123456789abcdef"
WORD_ENDS, LEAST_TOGETHER = re.compile(r"[_.~:-]"), 16  # letters and digits that stand together in a key, and in no name
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
WORDS_ONLY = re.compile(r"[A-Za-z]{0,40}(?:[_./:=@+~?!-][A-Za-z]{0,40}){0,40}")


def find_secret_keys(text: str) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of each key, in order and apart from one another."""
    forms, found = key_forms()[1], []
    for index, at in signs_in(text):
        form, is_secret = forms[index]
        if match := form.match(text, at):
            found += secret_span(match, is_secret)
    for match in PASSWORD_IN_URL.finditer(text):
        found += secret_span(match, is_password_of_url)
    end = 0
    for begin, stop in sorted(found):
        if begin >= end:
            end = stop
            yield begin, stop


def secret_span(match: re.Match, is_secret: Callable[[str], bool]) -> list[tuple[int, int]]:
    """Return where the group that took part in a match stands, if it passes the test."""
    group = match.lastindex or 0
    begin, word = match.start(group), match[group].rstrip()
    return [(begin, begin + len(word))] if is_secret(word) else []


def signs_in(text: str) -> Iterator[tuple[int, int]]:
    """Yield (index of the sign, where it begins in the text) of every sign of a key, in order."""
    data = text.encode()
    characters, read = 0, 0
    for index, begin, _ in key_forms()[0].find_matches_as_indexes(data):
        characters += begin - read if len(data) == len(text) else len(data[read:begin].decode())
        read = begin
        yield index, characters


@functools.cache
def key_forms() -> tuple:
    """Return (automaton of the signs of keys, (form, test) by index of the sign)."""
    import ahocorasick_rs

    keys, passwords = spellings(KEY_NAMES), spellings(PASSWORD_NAMES)
    named = re.compile(rf"(?:{'|'.join(keys)})\w{{0,12}}{GIVEN}(?:{QUOTED_KEY}|{BARE_KEY})")
    secret = re.compile(rf"(?:{'|'.join(passwords)}){GIVEN}{QUOTED_PASSWORD}")
    shared = re.compile(rf"(?:{'|'.join(keys)})\w{{0,12}}{GIVEN}(?:{QUOTED_KEY}|{BARE_KEY}|{QUOTED_PASSWORD})")
    forms = [(re.compile(form), is_random) for _, form in ISSUED]
    forms += [(shared, is_shared_secret) if "secret" in name.lower() else (named, is_random_value) for name in keys]
    forms += [(secret, is_password)] * len(passwords)
    literals = [sign for sign, _ in ISSUED] + keys + passwords
    # Above a hundred words the library takes a slower automaton by itself.
    implementation = ahocorasick_rs.Implementation.DFA
    return ahocorasick_rs.BytesAhoCorasick([literal.encode() for literal in literals], implementation=implementation), forms


def spellings(names: tuple[str, ...]) -> list[str]:
    """Return names as programs spell them: api_key, API_KEY, api-key, apikey, apiKey, ApiKey."""
    spelled = {spelling(name).replace("_", separator) for name in names for spelling in SPELLINGS for separator in SEPARATORS}
    return sorted(spelled, key=lambda name: (-len(name), name))


def is_random(word: str) -> bool:
    """Say whether a word of an issuer's form can be a key: not xxxx, a name or a row of the alphabet."""
    kinds = sum(any(test(character) for character in word) for test in (str.isdigit, str.islower, str.isupper))
    return len(set(word)) >= 8 and kinds >= 2 and ORDERED[:10] not in word.lower() and "1234567890" not in word


def is_random_value(word: str) -> bool:
    """Say the same of the value of a name, which may as well be a name itself: digits must stand among its letters."""
    digits = sum(map(str.isdigit, word))
    if not is_random(word) or MADE_UP.match(word) or digits in (0, len(word)) or "://" in word or len(set(word)) < min(12, len(word) // 2):
        return False
    is_mixed = word not in (word.lower(), word.upper())
    longest = max(map(len, WORD_ENDS.split(word)))
    return bool(UUID.fullmatch(word)) or (longest >= LEAST_TOGETHER and (digits >= 2 or is_mixed) and (is_mixed or "/" not in word))


def is_shared_secret(word: str) -> bool:
    """Say whether the value of a name with `secret` in it is one: people choose these as they choose passwords."""
    return is_random_value(word) or (len(word) < LEAST_TOGETHER and is_password(word))


def is_password(word: str) -> bool:
    """Say whether a value of `password` is one: not words, a placeholder or a call, and it holds a digit."""
    has_digit = any(map(str.isdigit, word))
    return has_digit and len(set(word)) > 3 and not word.isdigit() and not MADE_UP.match(word) and not WORDS_ONLY.fullmatch(word)


def is_password_of_url(word: str) -> bool:
    """Say whether the word before @ in a URL is a password: any but a mask, a number or a placeholder."""
    return len(set(word)) > 2 and not word.isdigit() and word.lower() not in PLACEHOLDERS and not MADE_UP.match(word)
