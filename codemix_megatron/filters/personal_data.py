"""Masks of personal data and secrets: e-mail and IP addresses, keys and passwords, telephone numbers, accounts, patterns of one's own.

Names of people are left as they are, unless a plugin recognises them. Each mask is a word of its own, so that what a document is about stays legible.
"""

import functools
from collections.abc import Callable, Iterable, Iterator

from codemix_megatron.filters.account_numbers import find_account_numbers, find_telephone_numbers
from codemix_megatron.filters.email_addresses import find_email_addresses
from codemix_megatron.filters.ip_addresses import find_ip_addresses
from codemix_megatron.filters.plugin_filters import find_by_recogniser
from codemix_megatron.filters.secret_keys import find_secret_keys
from codemix_megatron.recipe.filtering import PERSONAL_DATA, PersonalPattern, PersonalRecogniser

__all__ = ["find_personal_data", "is_mask", "mask_personal_data", "sample_of_mask"]

Spans = Iterable[tuple[int, int]]
# kind -> (mask, what is counted, where it stands); keys come first, for they may hold what looks like the others.
FORMS: dict[str, tuple[str, str, Callable[[str], Spans]]] = {
    "key": ("<KEY>", "key", find_secret_keys),
    "email": ("<EMAIL>", "e-mail", find_email_addresses),
    "ip": ("<IP_ADDRESS>", "IP address", find_ip_addresses),
    "phone": ("<PHONE>", "phone number", find_telephone_numbers),
    "iban": ("<IBAN>", "IBAN", find_account_numbers),
}
MASKED = " masked"
LOOKED_AT, SHOWN = 400, 40  # characters on each side of a mask: enough that none shown is the end of something that was cut


def mask_personal_data(text: str, what: tuple[str | PersonalPattern | PersonalRecogniser, ...]) -> tuple[str, tuple[str, ...]]:
    """Return the text with what was asked for masked, and what was masked: `e-mail masked` once per address.

    Addresses of example domains, of private networks and of versions are left; so are keys that look made up.
    """
    done: list[str] = []
    for kind, (mask, name, find) in FORMS.items():
        if kind in what:
            text = masked(text, find(text), mask, name, done)
    for own in what:
        if not isinstance(own, str):
            text = masked(text, find_own(own, text), f"<{own.name.upper()}>", own.name, done)
    return text, tuple(done)


def masked(text: str, spans: Spans, mask: str, name: str, done: list[str]) -> str:
    """Return the text with spans replaced by a mask; those that overlap are one, so that the end of none is left."""
    kept, end = [], 0
    for begin, stop in sorted(spans):
        if begin >= end:
            kept += [text[end:begin], mask]
            done.append(f"{name}{MASKED}")
        end = max(end, stop)
    return "".join([*kept, text[end:]]) if kept else text


def is_mask(what: str) -> bool:
    """Say whether something done to a document was a mask."""
    return what.endswith(MASKED)


def sample_of_mask(text: str, what: str) -> str:
    """Return the first mask of one form in a masked text, with what stands beside it, masked for every form whatever was asked."""
    name = what.removesuffix(MASKED)
    mask = next((mask for mask, known, _ in FORMS.values() if known == name), f"<{name.upper()}>")
    before, found, behind = text.partition(mask)
    sides = [mask_personal_data(side, PERSONAL_DATA)[0] for side in (before[-LOOKED_AT:], behind[:LOOKED_AT])]
    return " ".join(f"{sides[0][-SHOWN:]}{found}{sides[1][:SHOWN]}".split())


def find_personal_data(text: str, kind: str) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of what is found of one kind: key, email, ip, phone, iban."""
    yield from sorted(FORMS[kind][2](text))


def find_own(form: PersonalPattern | PersonalRecogniser, text: str) -> Spans:
    """Return where a form of the recipe's own is found."""
    return find_pattern(form.pattern, text) if isinstance(form, PersonalPattern) else find_by_recogniser(form.recogniser, text)


def find_pattern(pattern: str, text: str) -> Iterator[tuple[int, int]]:
    """Yield where a pattern of the recipe's own is found; an empty match is nothing found."""
    for match in compiled(pattern).finditer(text):
        if match.end() > match.start():
            yield match.span()


@functools.lru_cache(maxsize=64)
def compiled(pattern: str):
    """Return an expression in RE2, whose time goes with the length of the text whatever the pattern says."""
    import re2

    return re2.compile(pattern)
