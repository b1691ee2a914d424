"""What ruff finds in Python: lines that do not parse, names that are not there, and how many ways there are through each function.

A chunk of documents is written into a folder of memory and read by one process of one thread; nothing of them is run.
"""

import os
import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from codemix_megatron.errors import MACHINE_FAULT, CorpusError
from codemix_megatron.extras import require
from codemix_megatron.recipe.languages import canonical_language
from codemix_megatron.scoring.scorer import Columns, Documents, empty_column

__all__ = ["PythonLint", "find_ruff"]

RULES = ("C901", "E7", "E9", "F")  # complexity, statements, run-time faults, pyflakes
COMPLEXITY = b"C901"
SYNTAX = b"invalid-syntax"
FINDING = re.compile(rb"(?m)^(?:[^\n]*?[/\\])?(\d+)\.py:\d+:\d+: (\S+)[^\n]*?(?:\((\d+) > 0\))?$")
LONGEST_SECONDS = 600
MEMORY_FOLDER = Path("/dev/shm")


def find_ruff() -> str:
    """Return the path of ruff; raises CodemixError where it is not installed."""
    require("ruff", "--scores lint")
    from ruff import find_ruff_bin

    return os.fspath(find_ruff_bin())


class PythonLint:
    """Whether Python parses, findings per 100 lines, and McCabe's complexity of its functions: the mean and the largest."""

    columns = ("ruff_parses", "lint", "complexity", "most_complex")
    is_model = False

    def __init__(self) -> None:
        self.ruff = find_ruff()
        version = subprocess.run([self.ruff, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        self.settings = {"by": version, "rules": list(RULES)}

    def score(self, documents: Documents) -> Columns:
        """Return the columns; documents of other languages have none."""
        columns = {name: empty_column(documents) for name in self.columns}
        chosen = [i for i, language in enumerate(documents.languages) if language and canonical_language(language) == "python"]
        findings, complexities, broken = self.findings([documents.texts[i] for i in chosen])
        for index, document in enumerate(chosen):
            is_broken, of_functions = index in broken, complexities.get(index, [])
            lines = documents.texts[document].count(b"\n") + 1
            columns["ruff_parses"][document] = not is_broken
            columns["lint"][document] = np.nan if is_broken else 100 * findings.get(index, 0) / lines
            columns["complexity"][document] = np.mean(of_functions) if of_functions and not is_broken else np.nan
            columns["most_complex"][document] = max(of_functions) if of_functions and not is_broken else np.nan
        return columns

    def findings(self, texts: list[bytes]) -> tuple[dict[int, int], dict[int, list[int]], set[int]]:
        """Return document -> findings, document -> complexity of each function, and the documents that do not parse."""
        counts: dict[int, int] = {}
        complexities: dict[int, list[int]] = {}
        broken: set[int] = set()
        for number, rule, ways in FINDING.findall(self.output(texts) if texts else b""):
            document = int(number)
            if rule.startswith(SYNTAX):
                broken.add(document)
            elif rule == COMPLEXITY:
                complexities.setdefault(document, []).append(int(ways))
            else:
                counts[document] = counts.get(document, 0) + 1
        return counts, complexities, broken

    def output(self, texts: list[bytes]) -> bytes:
        """Return what ruff prints of the documents, a line for each finding."""
        with tempfile.TemporaryDirectory(
            prefix="codemix-score-", dir=MEMORY_FOLDER if os.access(MEMORY_FOLDER, os.W_OK) else None
        ) as folder:
            for number, text in enumerate(texts):
                Path(folder, f"{number}.py").write_bytes(text)
            try:
                done = subprocess.run(
                    [
                        self.ruff, "check", "--isolated", "--no-cache", "--ignore-noqa", "--no-respect-gitignore", "--exit-zero", "--quiet",
                        "--output-format", "concise", "--select", ",".join(RULES), "--config", "lint.mccabe.max-complexity=0", ".",
                    ],
                    cwd=folder, capture_output=True, timeout=LONGEST_SECONDS, env={**os.environ, "RAYON_NUM_THREADS": "1", "NO_COLOR": "1"},
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                raise CorpusError(
                    f"{self.ruff}: not done with {len(texts)} documents in {LONGEST_SECONDS} s; leave lint out", exit_code=MACHINE_FAULT
                ) from None
        if done.returncode:
            fault = done.stderr.decode(errors="replace").strip()[:500]
            raise CorpusError(f"{self.ruff}: ended with {done.returncode}: {fault}", exit_code=MACHINE_FAULT)
        return done.stdout
