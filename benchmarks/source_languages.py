"""Languages of installed sources beside what Magika, Google's model, reads in their content: a confusion table.

    python benchmarks/source_languages.py [FOLDER ...] [--per-language 60]

Looked at are files whose language this package names, up to so many of each suffix, drawn by the hash of their path and larger than
256 bytes; by default those of installed packages, of Python's library and of /usr/include, /usr/share and /usr/lib/git-core. Magika
reads content alone and knows no names, so that it errs on files that look like another language; what it does not know is not compared.
Printed are all pairs that differ, the most frequent first. The last line is JSON.
"""

import argparse
import hashlib
import json
import sys
import sysconfig
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from codemix_megatron.readers.encodings import decode_text
from codemix_megatron.readers.source_languages import BY_CONTENT, LANGUAGES, language_of
from codemix_megatron.recipe.languages import FILE_NAMES

FOLDERS = (sysconfig.get_path("purelib"), sysconfig.get_path("stdlib"), "/usr/include", "/usr/share", "/usr/lib/git-core")
LEAST_BYTES, LARGEST_BYTES = 256, 1 << 20
# Ours -> Magika's, where they differ; dialects that Magika does not tell apart are one.
THEIRS = {
    "c++": "cpp", "c#": "cs", "assembly": "asm", "starlark": "bazel", "common lisp": "lisp", "emacs lisp": "lisp", "scheme": "lisp",
    "racket": "lisp", "objective-c": "objectivec", "objective-c++": "objectivec", "jsx": "javascript", "cuda": "cpp", "make": "makefile",
    "protobuf": "proto", "notebook": "ipynb", "terraform": "hcl", "text": "txt", "less": "css", "sass": "scss", "visual basic": "vba",
    "rmarkdown": "markdown",
}  # fmt: skip


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", default=FOLDERS, metavar="FOLDER")
    parser.add_argument("--per-language", type=int, default=60, metavar="N", help="most files of each suffix (default %(default)s)")
    arguments = parser.parse_args()
    try:
        from magika import Magika
    except ImportError:
        raise SystemExit("magika is not installed: pip install magika==1.0.3") from None
    model = Magika()
    known = {str(label) for label in model.get_output_content_types()}
    pairs: Counter[tuple[str, str]] = Counter()
    shared: Counter[bool] = Counter()
    for path, text in drawn(arguments.folders, arguments.per_language):
        ours = language_of(path, text)
        if ours is None or THEIRS.get(ours, ours) not in known:
            continue
        theirs = str(model.identify_bytes(text.encode()).output.label)
        pairs[ours, theirs] += 1
        if path.suffix.lower() in BY_CONTENT:
            shared[theirs == THEIRS.get(ours, ours)] += 1
    print_table(pairs)
    agreed = sum(count for (ours, theirs), count in pairs.items() if theirs == THEIRS.get(ours, ours))
    print(json.dumps({
        "benchmark": "source languages", "files": pairs.total(), "languages": len({ours for ours, _ in pairs}),
        "agreed": round(agreed / max(1, pairs.total()), 4), "suffixes_shared_by_languages": {"files": shared.total(), "agreed": shared[True]},
        "differing": {f"{ours} / {theirs}": count for (ours, theirs), count in differing(pairs)},
    }))  # fmt: skip


def drawn(folders, most: int) -> Iterator[tuple[Path, str]]:
    """Yield files of known suffixes and their texts, up to so many of each suffix, whatever order the folders have."""
    by_suffix: dict[str, list[tuple[bytes, Path]]] = defaultdict(list)
    for folder in folders:
        for path in Path(folder).rglob("*"):
            suffix, name = path.suffix.lower(), path.name.lower()
            if (suffix in LANGUAGES["code_adjacent"] or name in FILE_NAMES) and path.is_file() and not path.is_symlink():
                by_suffix[suffix or name].append((hashlib.sha256(str(path).encode()).digest(), path))
    for _, found in sorted(by_suffix.items()):
        taken = 0
        for _, path in sorted(found):
            if taken < most and LEAST_BYTES < path.stat().st_size < LARGEST_BYTES and (decoded := decode_text(path.read_bytes())):
                taken += 1
                yield path, decoded[0]


def differing(pairs: Counter[tuple[str, str]]) -> list[tuple[tuple[str, str], int]]:
    """Return the pairs that differ, the most frequent first."""
    return [(pair, count) for pair, count in pairs.most_common() if pair[1] != THEIRS.get(pair[0], pair[0])]


def print_table(pairs: Counter[tuple[str, str]]) -> None:
    """Print a row for each language of ours: files, how many Magika calls the same, and what it calls the others."""
    print(f"{'ours':16} {'files':>6} {'same':>6}  what Magika calls the others")
    for ours in sorted({ours for ours, _ in pairs}):
        of_ours = {theirs: count for (name, theirs), count in pairs.most_common() if name == ours}
        same = of_ours.pop(THEIRS.get(ours, ours), 0)
        print(f"{ours:16} {same + sum(of_ours.values()):6} {same:6}  {', '.join(f'{theirs} {count}' for theirs, count in of_ours.items())}")


if __name__ == "__main__":
    sys.exit(main())
