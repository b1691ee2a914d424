"""Pinned versions beside a list of known vulnerabilities, without a network.

    python release/advisories.py [--list FILE_OR_ZIP_OR_FOLDER ...] [--constraints constraints.txt]

A list is in the format of OSV (https://ossf.github.io/osv-schema): a JSON file of one advisory or of many, a folder of them, or the archive
that OSV publishes for PyPI (all.zip), copied to where the network is closed. Without --list that is advisories.json beside this file: what was known
when the pins were last changed, and no more. Exit code 1 when a pinned version is affected and nobody has written down why that is accepted.
"""

import argparse
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

HERE = Path(__file__).resolve().parent


def advisories_in(place: Path) -> Iterator[dict]:
    """Yield the advisories of a file, a folder or an archive."""
    if place.is_dir():
        for path in sorted(place.rglob("*.json")):
            yield from advisories_in(path)
    elif zipfile.is_zipfile(place):
        with zipfile.ZipFile(place) as archive:
            for name in archive.namelist():
                yield json.loads(archive.read(name))
    else:
        found = json.loads(place.read_text(encoding="utf-8"))
        yield from found if isinstance(found, list) else [found]


def is_affected(version: str, affected: dict) -> bool:
    """Say whether a version is in one of an advisory's lists or ranges of versions, as OSV evaluates them."""
    if version in affected.get("versions", []):
        return True
    return any(is_in_range(Version(version), r.get("events", [])) for r in affected.get("ranges", []) if r.get("type") == "ECOSYSTEM")


def is_in_range(version: Version, events: list[dict]) -> bool:
    """Say whether a version lies behind an introduction and before the fix that follows it."""
    inside = False
    for kind, at in sorted(((kind, at) for event in events for kind, at in event.items() if kind != "limit"), key=order_of):
        if kind == "introduced" and (at == "0" or version >= Version(at)):
            inside = True
        elif (kind == "fixed" and version >= Version(at)) or (kind == "last_affected" and version > Version(at)):
            inside = False
    return inside


def order_of(event: tuple[str, str]) -> tuple[Version, bool]:
    """Order events by version; an introduction comes after an end at the same version."""
    return Version(event[1]), event[0] == "introduced"


def pins_of(constraints: Path) -> dict[str, str]:
    """Return package -> pinned version."""
    lines = (line.partition("#")[0].strip() for line in constraints.read_text(encoding="utf-8").splitlines())
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines if line)}


def findings(pins: dict[str, str], advisories: Iterator[dict]) -> Iterator[tuple[str, str, list[str], str]]:
    """Yield (package, version, the advisory's names, its summary) for every pinned version that is affected."""
    for advisory in advisories:
        for affected in advisory.get("affected", []):
            package = affected.get("package", {})
            name = canonicalize_name(package.get("name", ""))
            if package.get("ecosystem") != "PyPI" or name not in pins or advisory.get("withdrawn"):
                continue
            try:
                if is_affected(pins[name], affected):
                    yield name, pins[name], [advisory["id"], *advisory.get("aliases", [])], advisory.get("summary", "")
            except InvalidVersion as fault:
                raise SystemExit(f"{advisory['id']}: {fault}; correct the list") from None


def main(words: list[str] | None = None) -> int:
    """Print what is affected, and why it is accepted where it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", type=Path, nargs="+", default=[HERE / "advisories.json"], metavar="PLACE")
    parser.add_argument("--constraints", type=Path, default=HERE.parent / "constraints.txt")
    parser.add_argument("--accepted", type=Path, default=HERE / "accepted.json")
    arguments = parser.parse_args(words)
    accepted, pins, refused, number = json.loads(arguments.accepted.read_text(encoding="utf-8")), pins_of(arguments.constraints), 0, 0
    for place in arguments.list:
        advisories = list(advisories_in(place))
        number += len(advisories)
        for package, version, names, summary in findings(pins, iter(advisories)):
            reason = next((accepted[name] for name in names if name in accepted), None)
            refused += reason is None
            print(f"{package} {version}: {', '.join(names)}: {summary}\n  {f'accepted: {reason}' if reason else 'NOT ACCEPTED'}")
    print(f"{len(pins)} pinned packages beside {number} advisories of {', '.join(map(str, arguments.list))}: {refused} not accepted")
    return 1 if refused else 0


if __name__ == "__main__":
    raise SystemExit(main())
