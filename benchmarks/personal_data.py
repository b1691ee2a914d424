"""Precision and recall of the masks of personal data, form by form: on code that people wrote, and on made strings.

    python benchmarks/personal_data.py [--documents ../shared/data/code/*.jsonl] [--packages FOLDER]

In real code, what is found and what a wide net of other expressions catches is compared with labels given by hand: each says by a hash
of the string whether it is personal data, so that none of it is kept here. Of keys, all that detect-secrets 1.5.0 finds there (each detector
but those of entropy) was labelled too, so that what the masks miss has a label. Strings without a label are counted, not judged. Made strings
are those of tests/made_personal_data.py, 2,000 of each form. The last line is JSON. Targets: precision and recall at least 0.95
for e-mail addresses, IP addresses and keys, on both; where fewer than ten strings are labelled as personal, what was
found is shown and not judged.
"""

import argparse
import glob
import json
import random
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import xxhash

from codemix_megatron.filters.personal_data import find_personal_data

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
from made_personal_data import LOOKALIKES, made_personal_data  # noqa: E402

LABELS = HERE / "personal_data_labels.json"
FORMS = ("email", "ip", "key", "phone", "iban")
TARGETS, LEAST = ("email", "ip", "key"), 0.95
MADE, LEAST_STRINGS = 2000, 10
LARGEST_FILE = 1 << 20
SUFFIX_LIST = ".py .pyi .h .cpp .js .c .txt .md .rst .yaml .toml .json .html .css .pyx .cu .cuh .hpp .xml .cfg .ini .sh"
SUFFIXES, NAMES = frozenset(SUFFIX_LIST.split()), ("METADATA", "LICENSE", "AUTHORS")
# What might be personal data, caught by other means than those that are judged.
NETS = {
    "email": re.compile(r"[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){0,4}\.[A-Za-z]{2,18}"),
    "ip": re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])"),
    "key": re.compile(
        r"(?i)(?:key|token|secret|passw[a-z]{1,4}|credential)s?[\"']?\s{0,3}(?:=|:)\s{0,3}[\"']([^\"'\s]{6,120})[\"']|://[^\s/:@]{1,64}:([^\s/:@]{3,64})@"
    ),
}


def main() -> None:
    """Judge each form on real code and on made strings, print a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", default=str(HERE.parents[1] / "shared/data/code/*.jsonl"), help="JSON lines, a glob")
    parser.add_argument("--packages", default=sysconfig.get_path("purelib"), help="a folder of installed packages")
    arguments = parser.parse_args()
    labels = read_labels()
    found, caught, num_bytes = real_strings([*json_lines(arguments.documents), *package_files(Path(arguments.packages))])
    real = {form: judge(form, found[form], caught[form], labels.get(form, {})) for form in FORMS}
    made = {form: judge_made(form) for form in FORMS}
    print(f"{num_bytes / 1e6:.0f} MB of code; made: {MADE} of each form and {len(LOOKALIKES)} that only look like one")
    for form in FORMS:
        print(f"{form:6} real {describe(real[form])}; made {describe(made[form])}")
    judged = [scores for form in TARGETS for scores in (real[form], made[form]) if scores["right"] + scores["missed"] >= LEAST_STRINGS]
    held = all(scores[name] >= LEAST for scores in judged for name in ("precision", "recall"))
    print(json.dumps({"real": real, "made": made, "targets": {"precision": LEAST, "recall": LEAST}, "met": held}))


def read_labels() -> dict[str, dict[str, bool]]:
    """Return form -> hash of a string -> whether it is personal data."""
    stored = json.loads(LABELS.read_text())
    return {form: {**dict.fromkeys(sides["personal"], True), **dict.fromkeys(sides["other"], False)} for form, sides in stored.items()}


def json_lines(pattern: str) -> Iterator[str]:
    """Yield the texts of JSON lines; nothing where there are none."""
    for path in sorted(glob.glob(pattern)):
        with open(path, encoding="utf-8") as stream:
            yield from (json.loads(line)["text"] for line in stream)


def package_files(folder: Path) -> Iterator[str]:
    """Yield the sources and descriptions of installed packages."""
    for path in sorted(folder.rglob("*")):
        if (path.suffix in SUFFIXES or path.name in NAMES) and path.is_file() and path.stat().st_size < LARGEST_FILE:
            try:
                yield path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


def real_strings(texts: list[str]) -> tuple[dict[str, set[str]], dict[str, set[str]], int]:
    """Return the strings each form finds, those its net catches, and the size of the texts."""
    found: dict[str, set[str]] = {form: set() for form in FORMS}
    caught: dict[str, set[str]] = {form: set() for form in FORMS}
    for text in texts:
        for form in FORMS:
            found[form] |= {text[begin:end] for begin, end in find_personal_data(text, form)}
        for form, net in NETS.items():
            caught[form] |= {match[match.lastindex or 0] for match in net.finditer(text)}
    return found, caught, sum(map(len, texts))


def judge(form: str, found: set[str], caught: set[str], labels: dict[str, bool]) -> dict:
    """Return precision and recall on the strings that have a label."""
    known = {value: labels.get(xxhash.xxh64_hexdigest(f"{form}\0{value}".encode())) for value in found | caught}
    right = sum(known[value] is True for value in found)
    wrong = sum(known[value] is False for value in found)
    missed = sum(label is True and value not in found for value, label in known.items())
    return scores(right, wrong, missed) | {"found": len(found), "without_label": sum(known[value] is None for value in found)}


def judge_made(form: str) -> dict:
    """Return precision and recall on made strings."""
    draw = random.Random(11)
    right = wrong = 0
    for _ in range(MADE):
        value, text = made_personal_data(form, draw)
        spans = [text[begin:end] for begin, end in find_personal_data(text, form)]
        right += value in spans
        wrong += sum(span != value for span in spans)
    wrong += sum(1 for text in LOOKALIKES for _ in find_personal_data(text, form))
    return scores(right, wrong, MADE - right)


def scores(right: int, wrong: int, missed: int) -> dict:
    """Return precision and recall, None where there is nothing to count."""
    return {
        "precision": round(right / (right + wrong), 4) if right + wrong else None,
        "recall": round(right / (right + missed), 4) if right + missed else None,
        "right": right, "wrong": wrong, "missed": missed,
    }  # fmt: skip


def describe(scored: dict) -> str:
    """Return one form's scores as text."""
    return ", ".join(f"{name} {value}" for name, value in scored.items())


if __name__ == "__main__":
    main()
