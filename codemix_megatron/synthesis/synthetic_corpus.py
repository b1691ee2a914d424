"""`codemix synthesize`: problems -> believed solutions as documents, with a manifest and a page of what every reply became.

DIR/documents.jsonl   what is kept: text, problem, topic, teacher, prompt digest, seed, tests passed, yield of its problem
DIR/manifest.json     settings, counts by reason and topic, tokens, checksum of the documents
DIR/yields.md         the same as a page
DIR/corpus.yaml       the block of a recipe that prepares the documents as a corpus of kind synthetic
DIR/replies.jsonl, DIR/outcomes.jsonl   every reply and every run as it came: the same command goes on from there
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from codemix_megatron.errors import CorpusError
from codemix_megatron.filters.contamination import ContaminationIndex, build_contamination_index
from codemix_megatron.filters.near_duplicates import NEAR_DUPLICATE, document_signature, find_near_duplicates
from codemix_megatron.recipe.filtering import NearDuplicates
from codemix_megatron.records.atomic import json_line, read_json, replace_text, without_surrogates, write_json, writing
from codemix_megatron.sandbox.running import Sandbox
from codemix_megatron.synthesis.problem_statements import Problem
from codemix_megatron.synthesis.problem_work import Asking, OutcomeLog, Solved, solve
from codemix_megatron.synthesis.reply_log import BudgetSpentError, ReplyLog
from codemix_megatron.synthesis.teacher_prompts import prompt_digest
from codemix_megatron.synthesis.teachers import Teacher
from codemix_megatron.synthesis.yields import yields_page

__all__ = ["Synthesis", "synthesize"]

CONTAMINATED, NEAR, BEYOND, KEPT = "contaminated", NEAR_DUPLICATE, "more than is kept of a problem", "kept"
VERSION = 1  # of what a verdict means
Progress = Callable[[int, int, int, int], None]  # problems done, solutions kept, solutions asked for, tokens


@dataclass(frozen=True, kw_only=True)
class Synthesis:
    """What is asked, of which problems, and where it goes."""

    problems: list[Problem]
    output: Path
    asking: Asking = field(default_factory=Asking)
    against: tuple[str, ...] = ()  # evaluation sets that nothing may overlap with
    keep: int = 2  # most solutions of a problem
    with_tests: bool = False
    near_duplicates: NearDuplicates = field(default_factory=NearDuplicates)
    budget_tokens: int | None = None
    threads: int = 4
    workers: int = 1

    def settings(self, teacher: Teacher, sandbox: Sandbox) -> dict:
        """Return all that decides the documents."""
        digest = hashlib.sha256("".join(json.dumps(problem.as_plain()) for problem in self.problems).encode())
        against = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in self.against]
        return {
            "version": VERSION,
            "teacher": teacher.name,
            "prompts": prompt_digest(),
            "problems": len(self.problems),
            "problems_sha256": digest.hexdigest(),
            "asking": json.loads(json.dumps(asdict(self.asking))),
            "against": dict(zip([Path(path).name for path in self.against], against, strict=True)),
            "keep": self.keep,
            "with_tests": self.with_tests,
            "near_duplicates": asdict(self.near_duplicates),
            "sandbox": sandbox.description,
        }


def synthesize(synthesis: Synthesis, teacher: Teacher, sandbox: Sandbox, progress: Progress = lambda *counts: None) -> dict:
    """Ask, check and write; return the manifest. Goes on where an earlier run was cut off. Raises CorpusError for other settings."""
    settings = synthesis.settings(teacher, sandbox)
    begin(synthesis.output, settings)
    index = build_contamination_index(synthesis.against) if synthesis.against else None
    log = ReplyLog(synthesis.output / "replies.jsonl", teacher, synthesis.budget_tokens)
    outcomes = OutcomeLog(synthesis.output / "outcomes.jsonl", sandbox, synthesis.asking.limits, synthesis.workers)
    try:
        solved = solve_all(synthesis, index, log, outcomes, progress)
    finally:
        log.close()
        outcomes.close()
    documents = write_documents(synthesis, solved, index, settings)
    return finish(synthesis, solved, documents, settings)


def begin(folder: Path, settings: dict) -> None:
    """Write down what is asked for; raises CorpusError naming what differs from what is there."""
    path = folder / "settings.json"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, settings)
        return
    found = read_json(path)
    changed = [key for key in settings if found.get(key) != settings[key]]
    if changed:
        told = "; ".join(f"{key} was {str(found.get(key))[:120]}, is {str(settings[key])[:120]}" for key in changed)
        raise CorpusError(f"{folder}: begun with other settings ({told}); give another --output")


def solve_all(
    synthesis: Synthesis, index: ContaminationIndex | None, log: ReplyLog, outcomes: OutcomeLog, progress: Progress
) -> dict[int, Solved]:
    """Return what came of each problem by its number, without those the budget does not reach. What a thread raises ends all."""
    found: dict[int, Solved] = {}
    waiting = {}
    with ThreadPoolExecutor(synthesis.threads) as pool:
        try:
            for number, problem in enumerate(synthesis.problems):
                if index is not None and len(index.shared_runs(problem.statement)):
                    found[number] = Solved(problem, statement=problem.statement, replies=Counter({CONTAMINATED: 0}))
                else:
                    waiting[pool.submit(solve, problem, synthesis.asking, log, outcomes)] = number
            for future in as_completed(waiting):
                try:
                    found[waiting[future]] = future.result()
                except BudgetSpentError:
                    continue
                kept = sum(len(solved.programs) for solved in found.values())
                progress(len(found), kept, len(found) * synthesis.asking.solutions, log.tokens)
        finally:
            pool.shutdown(cancel_futures=True)
    return dict(sorted(found.items()))


def write_documents(synthesis: Synthesis, solved: dict[int, Solved], index: ContaminationIndex | None, settings: dict) -> int:
    """Write what is kept, in the order of the problems; count in each problem what becomes of its believed programs. Returns the documents."""
    candidates = []
    for one in solved.values():
        for number, (program, seed) in enumerate(one.programs):
            text = document_text(one, program, synthesis.with_tests)
            if number >= synthesis.keep:
                one.replies[BEYOND] += 1
            elif index is not None and len(index.shared_runs(text)):
                one.replies[CONTAMINATED] += 1
            else:
                candidates.append((one, program, seed, text))
    signatures = b"".join(document_signature(program, synthesis.near_duplicates) for _, program, _, _ in candidates)
    originals = find_near_duplicates(np.frombuffer(signatures, dtype=np.uint8), synthesis.near_duplicates)
    kept = []
    for candidate, original in zip(candidates, originals, strict=True):
        candidate[0].replies[KEPT if original < 0 else NEAR] += 1
        if original < 0:
            kept.append(candidate)
    with writing(synthesis.output / "documents.jsonl") as handle:
        for one, _, seed, text in kept:
            handle.write(without_surrogates(json_line(document(one, seed, text, settings))))
    return len(kept)


def document_text(one: Solved, program: str, with_tests: bool) -> str:
    """Return what a model reads: the statement as comment, the program, its tests where asked for."""
    comment = "".join(f"# {line}".rstrip() + "\n" for line in one.statement.splitlines())
    return f"{comment}\n{program}" + (f"\n\n{''.join(dict.fromkeys(''.join(one.tests).splitlines(True)))}" if with_tests else "")


def document(one: Solved, seed: int, text: str, settings: dict) -> dict:
    """Return the record of one kept solution."""
    asked = sum(one.replies.values())
    return {
        "text": text,
        "lang": "python",
        "kind": "synthetic",
        "problem": one.problem.name,
        "topic": one.problem.topic,
        "source": f"synthetic:{settings['teacher']}",
        "teacher": settings["teacher"],
        "prompts": settings["prompts"],
        "seed": seed,
        "tests_passed": len(one.tests),
        "yield": round(one.replies[KEPT] / max(1, asked), 4),
    }


def finish(synthesis: Synthesis, solved: dict[int, Solved], documents: int, settings: dict) -> dict:
    """Write manifest, page and the block for a recipe; return the manifest."""
    reasons, dropped = Counter[str](), Counter[str]()
    topics: dict[str, Counter[str]] = {}
    for one in solved.values():
        reasons.update(one.replies)
        dropped.update(one.tests_dropped)
        counts = topics.setdefault(one.problem.topic or "(none)", Counter())
        counts.update(problems=1, solutions=sum(one.replies.values()), kept=one.replies[KEPT], solved=bool(one.replies[KEPT]))
    path = synthesis.output / "documents.jsonl"
    manifest = {
        **settings,
        "problems_done": len(solved),
        "problems_contaminated": sum(CONTAMINATED in one.replies and not sum(one.replies.values()) for one in solved.values()),
        "documents": documents,
        "solutions_asked": sum(reasons.values()),
        "solutions": dict(sorted((+reasons).items())),
        "tests_dropped": dict(sorted((+dropped).items())),
        "topics": {topic: dict(counts) for topic, counts in sorted(topics.items())},
        "prompt_tokens": sum(one.prompt_tokens for one in solved.values()),
        "completion_tokens": sum(one.completion_tokens for one in solved.values()),
        "documents_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    write_json(synthesis.output / "manifest.json", manifest)
    replace_text(synthesis.output / "yields.md", yields_page(manifest))
    name = "synthetic" if synthesis.output.name in ("", ".") else synthesis.output.name
    block = f"corpora:\n  {name}:\n    kind: synthetic\n    documents: [{json.dumps(str(path.absolute()))}]\n"
    replace_text(synthesis.output / "corpus.yaml", block)
    return manifest
