"""Public IP addresses in texts and programs, as opposed to versions, object identifiers, sections, fingerprints and times."""

import ipaddress
import re
from collections.abc import Iterator

__all__ = ["find_ip_addresses"]

# What is rare in texts comes first, so that Python's regular expressions find it by memory search; what stands before it is
# looked at afterwards. Every repetition is bounded, so that time goes with the length of a text whatever it holds.
THREE_OCTETS = re.compile(r"\.\d{1,3}\.\d{1,3}\.\d{1,3}(?![\w-]|\.\d)")
OCTET = re.compile(r"(?<![\w.-])\d{1,3}\Z")
# Addresses of the global internet begin with a group from 2000 to 3fff.
GROUPS = re.compile(r":(?<=[23][0-9A-Fa-f]{3}:)[0-9A-Fa-f:]{2,34}(?![\w:])")
BEFORE_GROUPS = re.compile(r"(?:^|[^\w:.])\Z")
WINDOW = 48
# What says that a number of four parts is none: versions, chapters of standards, comparisons of versions, names of files.
OTHER_BEFORE = re.compile(
    r"(?:version\w{0,20}|release\w{0,20}|revision\w{0,20}|section\w{0,20}|chapter|clause|algorithm|build|oid|identifier|\brfc ?\d{1,5}|\bsect?\.|\bver|\brev"
    r"|[\u00a7#\[%]|,v|\bv|\bec|\bos|[<>=~!]=|~>|\^|[A-Za-z][\w.+-]{0,20}/)[\s:=\"'`>(\[{,-]{0,6}\Z",
    re.IGNORECASE,
)
VERSION_NAME = re.compile(r"version|release id|section|requires-dist|assembly", re.IGNORECASE)
ADDRESS_BEFORE = re.compile(
    r"(?:\b|_)(?:ip|ips|ipv4|addr\w{0,20}|ip_\w{0,20}|hosts?|hostname|servers?|ping|dns|nameserver|gateway|clients?|remote\w{0,20}|inet\w{0,20}|listen\w{0,20}|bind"
    r"|connect(?:ed|ing|ions?)?|socket|proxy|peers?|allow|deny|subnet|cidr|rout\w{0,20}|ssh|curl|telnet|raddr|laddr)(?:\b|_)|://|ipv?4",
    re.IGNORECASE,
)
PORT_OR_MASK = re.compile(r":\d{2,5}(?![\d.])|/\d{1,2}(?![\w./])")
# Arcs of object identifiers: X.500's attributes and extensions, certificates' policies, ISO's identified organisations.
OBJECT_ARCS = ((2, 5), (2, 23), (1, 3))
NOBODY = ("1.2.3.4", "1.1.1.1")
# Ranges of IANA's registry of special purposes that count as global: anycast, relays, black holes of reverse names.
SPECIAL = tuple(
    map(
        ipaddress.ip_network,
        ("192.0.0.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.175.48.0/24", "2620:4f:8000::/48"),
    )
)
LEAST_LARGE, LEAST_FIRST = 64, 11  # an address without a word beside it holds a number that versions seldom reach


def find_ip_addresses(text: str) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of each address outside private and documentation networks, in order."""
    yield from sorted([*find_fourth_version(text), *find_sixth_version(text)])


def find_fourth_version(text: str) -> Iterator[tuple[int, int]]:
    """Yield the addresses of four octets."""
    for match in THREE_OCTETS.finditer(text):
        octet = OCTET.search(text, max(0, match.start() - 4), match.start())
        if octet and is_public(octet[0] + match[0]):
            begin, end = octet.start(), match.end()
            before = text[max(0, begin - WINDOW) : begin].rpartition("\n")[2]
            if is_meant(octet[0] + match[0], before, text[end : end + 8]):
                yield begin, end


def is_meant(address: str, before: str, after: str) -> bool:
    """Say whether four numbers are an address, by what stands beside them on their line and by how large they are."""
    octets = tuple(map(int, address.split(".")))
    if address in NOBODY or OTHER_BEFORE.search(before) or VERSION_NAME.search(before[-24:]):
        return False
    has_sign = bool(PORT_OR_MASK.match(after) or ADDRESS_BEFORE.search(before))
    if octets[:2] in OBJECT_ARCS:
        return has_sign and octets[:2] != (2, 5)
    return has_sign or (octets[0] >= LEAST_FIRST and max(octets) >= LEAST_LARGE)


def find_sixth_version(text: str) -> Iterator[tuple[int, int]]:
    """Yield the addresses of eight groups."""
    for match in GROUPS.finditer(text):
        begin = match.start() - 4
        if BEFORE_GROUPS.search(text, max(0, begin - 1), begin) and is_public(text[begin : match.end()]):
            yield begin, match.end()


def is_public(address: str) -> bool:
    """Say whether an address is one of somebody's on the internet."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return parsed.is_global and not parsed.is_multicast and not any(parsed in network for network in SPECIAL)
