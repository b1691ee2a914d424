"""Telephone numbers and accounts: candidates of the right form, decided by numbering plans and check digits."""

import re
from collections.abc import Iterator

__all__ = ["find_account_numbers", "find_telephone_numbers"]

INTERNATIONAL = re.compile(r"\+(?<![\w+)\]]\+)[1-9](?:[ ().\u00a0/-]{0,2}\d){6,14}(?!\w|\.\d)")
# North American numbers as they are written at home, from the fourth sign on; others without a country are told by nothing.
AMERICAN = re.compile(r"\)(?<=\(\d{3}\)) ?\d{3}-\d{4}(?![\d-])|-(?<=[^\w.+-]\d{3}-)\d{3}-\d{4}(?![\d-])")
SIGN_OF_TELEPHONE = re.compile(r"phone|tel\b|tel[.:]|mobile|fax|call|cell|contact|whatsapp|sms", re.IGNORECASE)
FICTITIOUS = re.compile(r"555[ .-]?01\d\d$")  # kept free for films, and documentation
WINDOW = 40
IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])")


def find_telephone_numbers(text: str) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of each valid number with its country, and of American ones beside a word for telephones."""
    yield from (match.span() for match in INTERNATIONAL.finditer(text) if is_telephone(match[0], None))
    for match in AMERICAN.finditer(text):
        begin = match.start() - (4 if match[0].startswith(")") else 3)
        has_country = "+" in text[max(0, begin - 5) : begin]  # found above, as a whole
        sign = SIGN_OF_TELEPHONE.search(text, max(0, begin - WINDOW), begin)
        if sign and not has_country and is_telephone(text[begin : match.end()], "US"):
            yield begin, match.end()


def is_telephone(number: str, region: str | None) -> bool:
    """Say whether a numbering plan has a number, and not as one that stands for nobody."""
    import phonenumbers

    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number, region)) and not FICTITIOUS.search(number)
    except phonenumbers.NumberParseException:
        return False


def find_account_numbers(text: str) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of each IBAN whose country, length and check digits are right."""
    for match in IBAN.finditer(text):
        words = match[0].split(" ")  # a word in capitals may follow an account written in groups
        for count in range(len(words), 0, -1):
            account = " ".join(words[:count])
            if is_account(account):
                yield match.start(), match.start() + len(account)
                break


def is_account(account: str) -> bool:
    """Say whether a string is an IBAN; the check digits are looked at first, for they cost least."""
    signs = account.replace(" ", "")
    if int("".join(str(int(sign, 36)) for sign in signs[4:] + signs[:4])) % 97 != 1:
        return False
    from stdnum import iban

    return iban.is_valid(signs, check_country=False)
