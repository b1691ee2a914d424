"""Keeping the solutions that pass their tests: run side by side in the sandbox, resumable, in the order of the input.

OUTPUT.jsonl                what passed, as documents
OUTPUT.failed.jsonl         what did not, with its status and why
OUTPUT.verification.json    counts by status, limits, sandbox, checksum of the input
OUTPUT.outcomes.jsonl       while it runs: one line per program, so that the same command goes on after a kill
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

from codemix_megatron.corpus.problems import Candidate, Keys, read_candidates
from codemix_megatron.errors import CorpusError
from codemix_megatron.records.atomic import json_line, read_json, without_surrogates, write_json, writing
from codemix_megatron.records.checksum import file_sha256
from codemix_megatron.sandbox.outcome import Limits
from codemix_megatron.sandbox.running import Sandbox

__all__ = ["UNREADABLE", "Verification", "count_candidates", "verify"]

UNREADABLE = "unreadable"
VERSION = 2  # of what a verdict means
Progress = Callable[[Counter], None]


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What is verified, how, and where it goes."""

    paths: list[Path]
    output: Path
    limits: Limits = field(default_factory=Limits)
    keys: Keys = field(default_factory=Keys)
    workers: int = 1
    with_tests: bool = False  # the tests become part of the kept text

    def beside(self, ending: str) -> Path:
        """Return the path of a file that belongs to the output."""
        return self.output.with_name(self.output.name.removesuffix(".jsonl") + ending)

    def settings(self, sandbox: Sandbox) -> dict:
        """Return all that decides the outcomes."""
        digest = hashlib.sha256()
        for path in self.paths:
            digest.update(bytes.fromhex(file_sha256(path)))
        return {
            "version": VERSION,
            "problems": [str(path) for path in self.paths],
            "problems_sha256": digest.hexdigest(),
            "sandbox": sandbox.description,
            "limits": asdict(self.limits),
            "keys": asdict(self.keys),
            "with_tests": self.with_tests,
        }


def count_candidates(verification: Verification) -> int:
    """Return how many solutions there are."""
    return sum(1 for _ in read_candidates(verification.paths, verification.keys))


def verify(verification: Verification, sandbox: Sandbox, *, force: bool = False, progress: Progress = lambda counts: None) -> dict:
    """Run every solution with its tests, write the files, return the summary; resumes where an earlier run was cut off."""
    settings = verification.settings(sandbox)
    finished, outcomes = verification.beside(".verification.json"), verification.beside(".outcomes.jsonl")
    if force:
        for path in (finished, outcomes, verification.output):
            path.unlink(missing_ok=True)
    if finished.is_file() and verification.output.is_file():
        done = read_json(finished)
        check_same(done, settings, finished)
        return done
    if verification.output.exists():
        raise CorpusError(f"{verification.output}: already there; give another --output, or --force to write it again")
    results = resume(outcomes, settings)
    counts = Counter(status for status, *_ in results.values())
    progress(counts)
    with open(outcomes, "a", encoding="utf-8") as journal:
        for index, result in run_all(verification, sandbox, results):
            journal.write(json.dumps([index, *result]) + "\n")
            journal.flush()
            results[index] = result
            counts[result[0]] += 1
            progress(counts)
    if not results:
        outcomes.unlink()
        raise CorpusError(f"{', '.join(map(str, verification.paths))}: no problems in there; give JSON lines, one problem each")
    summary = {**settings, "counts": dict(sorted(counts.items())), "kept": counts["passed"], "programs": sum(counts.values())}
    write_files(verification, results, sandbox.description)
    write_json(finished, summary)
    outcomes.unlink()
    return summary


def check_same(found: dict, wanted: dict, path: Path) -> None:
    """Raise CorpusError naming what differs between the settings of an earlier run and this one's."""
    changed = [key for key in wanted if found.get(key) != wanted[key]]
    if changed:
        told = "; ".join(f"{key} was {found.get(key)!r}, is {wanted[key]!r}" for key in changed)
        raise CorpusError(f"{path}: made with other settings ({told}); give another --output, or --force to start again")


def resume(path: Path, settings: dict) -> dict[int, tuple]:
    """Return the outcomes of an interrupted run, by number of the program; begins the file where there is none."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []  # what follows the last line end is torn
    if not lines:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings) + "\n", encoding="utf-8")
        return {}
    try:
        head, *rows = [json.loads(line) for line in lines]
        results = {index: tuple(result) for index, *result in rows}
    except (ValueError, TypeError) as fault:
        raise CorpusError(f"{path}: not a list of outcomes ({fault}); use --force to start again") from None
    check_same(head, settings, path)
    os.truncate(path, sum(len(line) + 1 for line in lines))
    return results


def run_all(verification: Verification, sandbox: Sandbox, results: dict[int, tuple]) -> Iterator[tuple[int, tuple]]:
    """Yield (number of the program, (status, message, seconds)) as programs end; those with results are not run again."""
    waiting = ((i, c) for i, c in enumerate(read_candidates(verification.paths, verification.keys)) if i not in results)
    with ThreadPoolExecutor(verification.workers) as pool:
        try:
            running: dict[Future, int] = {}
            while True:
                for index, candidate in islice(waiting, 2 * verification.workers - len(running)):
                    running[pool.submit(run_one, candidate, sandbox, verification.limits)] = index
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def run_one(candidate: Candidate, sandbox: Sandbox, limits: Limits) -> tuple[str, str, float]:
    """Return status, reason and seconds of one solution."""
    if candidate.fault:
        return UNREADABLE, candidate.fault, 0.0
    outcome = sandbox.examine(candidate.solution, candidate.tests or None, limits, entry=candidate.entry)
    message = f"{outcome.assertions} assertions" if outcome.passed else outcome.message
    return str(outcome.status), message, round(outcome.seconds, 3)


def write_files(verification: Verification, results: dict[int, tuple], sandbox: str) -> None:
    """Write what passed and what did not, each complete or absent."""
    failed = verification.beside(".failed.jsonl")
    with writing(failed) as rest, writing(verification.output) as kept:
        for index, candidate in enumerate(read_candidates(verification.paths, verification.keys)):
            status, message, seconds = results[index]
            if status == "passed":
                how = f"{message} executed, {sandbox}"
                kept.write(without_surrogates(json_line(document(candidate, verification.with_tests, how))))
            else:
                line = {"place": candidate.location, "id": candidate.name, "status": status, "message": message, "seconds": seconds}
                rest.write(json_line(line))


def document(candidate: Candidate, with_tests: bool, how: str) -> dict:
    """Return the kept record: its text is the solution, its other keys stay."""
    text = candidate.program if with_tests else candidate.solution
    rest = {key: value for key, value in candidate.record.items() if key not in ("text", "verified", "solutions")}
    if candidate.tests and isinstance(candidate.record.get("text"), str):
        rest = {"problem": candidate.record["text"], **rest}  # in MBPP, `text` is the question
    return {"text": text.replace("\r\n", "\n"), "lang": "python", **rest, "verified": f"passed its tests ({how})"}
