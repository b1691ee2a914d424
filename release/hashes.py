"""Every package of a release with the SHA-256 of the file it is installed from, for `pip install --require-hashes`.

    python -m pip install --dry-run --ignore-installed --quiet --report report.json "dist/codemix_megatron-VERSION-py3-none-any.whl[all]" -c constraints.txt
    python release/hashes.py report.json > requirements.txt

pip's report names the files for this platform and this Python; another one needs a file of its own.
"""

import json
import sys
from pathlib import Path


def hashed_lines(report: dict) -> list[str]:
    """Return a line for each package; raises SystemExit for one that pip would not check."""
    lines = []
    for entry in report["install"]:
        stated = entry["metadata"]
        digest = entry["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")
        if digest is None:
            raise SystemExit(f"{stated['name']} {stated['version']}: pip's report has no SHA-256 of it; install it from an archive")
        lines.append(f"{stated['name'].lower()}=={stated['version']} --hash=sha256:{digest}")
    return sorted(lines)


def main(words: list[str]) -> None:
    """Print the lines."""
    print("\n".join(hashed_lines(json.loads(Path(words[0]).read_text(encoding="utf-8")))))


if __name__ == "__main__":
    main(sys.argv[1:])
