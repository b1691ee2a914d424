"""Do the tests notice when the code is changed? Small changes to the pure subpackages, each run against its unit tests, by mutmut.

Of the thousands of mutants every tenth is taken: those whose number ends in 7 (`--sample 37`: every hundredth, `--all`: all, which takes hours).
A mutant counts as noticed when a test fails or hangs. Survivors are listed by name; EQUIVALENT names those that were looked at and cannot
be noticed, since the changed code does the same, and they do not count. mutmut changes functions only, so constants and single lines that decide much are
changed by hand (`by hand`): each of those has to be noticed. Works in scratch copies of the tracked files; ends with one line of JSON,
whose `met` is false, with exit code 1, when a subpackage is below its floor, the share that was there when it was last measured.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
AIM = 0.85
BY_HAND = "by hand"
ROOMS = {  # what is changed, and the tests that should notice
    "mixture": (["mixture/*"], ["tests/unit/mixture"]),
    "recipe": (
        ["recipe/*checks.py", "recipe/reading*.py", "recipe/yaml_text.py", "recipe/schedule.py", "recipe/quantity.py"],
        ["tests/unit/recipe"],
    ),
    "plan": (
        ["plan/plan.py", "plan/sources.py", "plan/branch.py", "plan/cost.py", "plan/difference.py"],
        ["tests/unit/plan", "tests/unit/plan_extras", "tests/unit/mixture/test_buckets.py", "tests/unit/mixture/test_data_seeds.py"],
    ),
    "analysis": (["analysis/estimates.py", "analysis/comparing.py", "analysis/aggregates.py"], ["tests/unit/analysis"]),
    "study": (["study/segments.py", "study/combining.py", "study/lanes.py", "study/planning.py"], ["tests/unit/study"]),
    "launch": (
        ["launch/slurm/restart_policy.py", "launch/slurm/bad_nodes.py", "launch/slurm/failed_rank.py", "launch/slurm/attempts.py"],
        ["tests/unit/launch", "tests/unit/watch"],
    ),
}
FLOORS: dict[str, float] = {
    BY_HAND: 1.0,
    "mixture": 0.90,
    "recipe": 0.95,
    "plan": 0.90,
    "analysis": 0.95,
    "study": 0.90,
    "launch": 0.90,
}  # what was there when it was last measured, rounded down
EQUIVALENT: dict[str, str] = {  # mutant -> why no test can see it
    "codemix_megatron.analysis.comparing.x_compare_paired__mutmut_7": "the difference with what is float64 is float64, whatever the other is",
    "codemix_megatron.analysis.estimates.x_draw_items__mutmut_7": "how many draws are made at once changes none of them",
    "codemix_megatron.recipe.quantity.x_parse_tokens__mutmut_17": "Decimal reads infinity in either case",
    "codemix_megatron.recipe.reading_blocks.x_read_tuple__mutmut_37": "strict=None is strict=False, and both lists are as long",
    "codemix_megatron.recipe.yaml_text.xǁStrictLoaderǁconstruct_mapping__mutmut_27": "deep is for keys that are mappings, which are refused",
    "codemix_megatron.mixture.audit.x_audit__mutmut_7": "float64 counts tokens as exactly, up to 2^53 of them",
    "codemix_megatron.mixture.audit.x_named_counts__mutmut_7": "both are as long",
    "codemix_megatron.mixture.buckets.x_quantile_borders__mutmut_7": "numpy reads the kind of a sort in either case",
    "codemix_megatron.mixture.buckets.x_quantile_borders__mutmut_17": "left is the side that searchsorted takes by itself",
    "codemix_megatron.mixture.fill_in_the_middle.x_documents_of__mutmut_27": "both are as long",
    "codemix_megatron.mixture.fill_in_the_middle.xǁMiddleFillerǁ__init____mutmut_17": "both are as long",
    "codemix_megatron.mixture.fill_in_the_middle.xǁMiddleFillerǁrewrite__mutmut_37": "both are as long",
    "codemix_megatron.study.segments.x_name_segments__mutmut_7": "strict=None is strict=False, and both are as long",
    "codemix_megatron.study.combining.x_combine__mutmut_13": "both are as long",
    "codemix_megatron.study.segments.x_key_of__mutmut_13": "what is the same in every key tells none apart",
    "codemix_megatron.study.segments.x_key_of__mutmut_23": "what is the same in every key tells none apart",
    "codemix_megatron.recipe.yaml_text.x_set_at__mutmut_3": "both are as long",
    "codemix_megatron.recipe.block_checks.x_rope_scaling_faults__mutmut_33": "a number that is not finite was refused when it was read",
    "codemix_megatron.recipe.expert_checks.x_expert_faults__mutmut_23": "a number that is not finite was refused when it was read",
    "codemix_megatron.recipe.phase_checks.x_phase_length_faults__mutmut_33": "a length that is the whole one was let through before",
    "codemix_megatron.recipe.phase_checks.x_phase_length_faults__mutmut_43": "every length divides by one",
    "codemix_megatron.analysis.comparing.x_compare_paired__mutmut_3": "the difference with what is float64 is float64, whatever the other is",
    "codemix_megatron.launch.slurm.failed_rank.x_first_failed_rank__mutmut_13": "srun complains in neither",
}
SAMPLE = "7"
SURVIVED, UNSEEN = 0, (33, 34)  # exit codes of mutmut's records: a pass; no test reaches it, or it was skipped


@dataclass(frozen=True)
class ByHand:
    """A change that mutmut does not make, and the tests that should notice it."""

    file: str
    text: str
    changed: str
    tests: str


CHANGES = [
    ByHand("redaction.py", "return KEYS.sub(LEFT_OUT, text)", "return text", "tests/attacks/test_secrets_and_names.py"),
    ByHand("redaction.py", "text = USER_OF_URL.sub(", "_ = USER_OF_URL.sub(", "tests/attacks/test_secrets_and_names.py"),
    ByHand("records/journal.py", "redact(json.dumps(line))", "json.dumps(line)", "tests/attacks/test_secrets_and_names.py"),
    ByHand("records/atomic.py", "handle.write(redact(text))", "handle.write(text)", "tests/attacks/test_secrets_and_names.py"),
    ByHand("train/folder.py", "redact_words(sys.argv)", "sys.argv", "tests/unit/train/test_recipe_changes.py"),
    ByHand("launch/slurm/bad_nodes.py", "failed and failed.evidence", "failed and not failed.evidence", "tests/unit/launch/test_attempts.py"),
    ByHand("launch/slurm/bad_nodes.py", "return lost or (failed.node", "return (failed.node", "tests/unit/launch/test_attempts.py"),
    ByHand("study/segments.py", '"overlap": bool(recipe.parallel.overlap)', '"overlap": False', "tests/unit/study/test_study_graph.py"),
    ByHand("study/segments.py", '"distributed_optimizer", ', "", "tests/unit/study/test_study_graph.py"),
    ByHand("study/segments.py", '"recompute")', ")", "tests/unit/study/test_study_graph.py"),
    ByHand("evaluate/overlap.py", "NGRAM_WORDS = 13", "NGRAM_WORDS = 12", "tests/unit/evaluate/test_ngram_words.py"),
    ByHand("evaluate/overlap.py", "NGRAM_WORDS = 13", "NGRAM_WORDS = 14", "tests/unit/evaluate/test_ngram_words.py"),
    ByHand("mixture/permutation.py", "0x9E3779B97F4A7C15, 0xD6", "0x9E3779B97F4A7C17, 0xD6", "tests/unit/mixture/test_golden_positions.py"),
    ByHand("mixture/permutation.py", ", 0xE7037ED1A0B428DB", "", "tests/unit/mixture/test_golden_positions.py"),
    ByHand("mixture/permutation.py", "digest_size=8).digest(), \"little\"", "digest_size=8).digest(), \"big\"", "tests/unit/mixture/test_golden_positions.py"),
]  # fmt: skip


@dataclass
class Found:
    """What came of one subpackage's mutants."""

    noticed: int = 0
    survivors: list[str] = field(default_factory=list)

    @property
    def share(self) -> float | None:
        """Noticed ones among those that can be noticed."""
        total = self.noticed + len(self.survivors)
        return round(self.noticed / total, 3) if total else None


def main() -> None:
    """Mutate what is asked for, print how many mutants were noticed, and compare with the floors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rooms", nargs="*", default=[], help=f"of {', '.join([*ROOMS, BY_HAND])} (default: all)")
    parser.add_argument("--all", action="store_true", help="every mutant, not every tenth: hours")
    parser.add_argument("--sample", default=SAMPLE, metavar="DIGITS", help="mutants whose number ends so (default: 7)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="how many at a time (default: a core each)")
    arguments = parser.parse_args()
    if unknown := [room for room in arguments.rooms if room not in (*ROOMS, BY_HAND)]:
        parser.error(f"no subpackage {unknown[0]}; there are {', '.join([*ROOMS, BY_HAND])}")
    shares: dict[str, float | None] = {}
    for room in arguments.rooms or [BY_HAND, *ROOMS]:
        pattern = "*" if arguments.all else f"*mutmut_*{arguments.sample}"
        found = change_by_hand() if room == BY_HAND else mutate(room, pattern, arguments.processes)
        shares[room] = found.share
        total = found.noticed + len(found.survivors)
        print(
            f"{room}: {found.noticed} of {total} mutants noticed" + "".join(f"\n  survived: {name}" for name in found.survivors), flush=True
        )
    print(json.dumps(verdict(shares)))
    sys.exit(0 if verdict(shares)["met"] else 1)


def verdict(shares: dict[str, float | None], floors: dict[str, float] | None = None) -> dict:
    """Return the line of JSON: shares, those below their floor (or the aim, where there is none), and whether there are none."""
    floors = FLOORS if floors is None else floors
    fallen = {room: share for room, share in shares.items() if share is None or share < floors.get(room, AIM)}
    return {"check": "mutation", "noticed": shares, "floors": floors, "aim": AIM, "fallen": fallen, "met": not fallen}


def change_by_hand() -> Found:
    """Make each change of CHANGES in a copy of its own and run its tests; a change that fits nowhere is an error."""
    found = Found()
    with tempfile.TemporaryDirectory(prefix="codemix-mutation-") as scratch:
        folder = Path(scratch) / "codemix"
        copy_tracked(folder)
        for change in CHANGES:
            path = folder / "codemix_megatron" / change.file
            before = path.read_text(encoding="utf-8")
            if before.count(change.text) != 1:
                sys.exit(f"{change.file}: {change.text!r} is there {before.count(change.text)} times; write benchmarks/mutation.py again")
            path.write_text(before.replace(change.text, change.changed), encoding="utf-8")
            passes = run_tests(folder, change.tests)
            path.write_text(before, encoding="utf-8")
            if passes:
                found.survivors.append(f"{change.file}: {change.text!r} -> {change.changed!r}")
            else:
                found.noticed += 1
        if not all(run_tests(folder, tests) for tests in sorted({change.tests for change in CHANGES})):
            sys.exit("the tests fail without any change, so that they prove nothing")
    return found


def run_tests(folder: Path, tests: str) -> bool:
    """Say whether tests of a copy pass."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", tests]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True).returncode == 0


def mutate(room: str, pattern: str, processes: int) -> Found:
    """Return how many mutants of a subpackage were noticed, and the names of those that were not."""
    files, tests = ROOMS[room]
    with tempfile.TemporaryDirectory(prefix="codemix-mutation-") as scratch:
        folder = Path(scratch) / "codemix"
        copy_tracked(folder)
        if (REPOSITORY.parent / "shared").exists():
            (Path(scratch) / "shared").symlink_to(REPOSITORY.parent / "shared")
        chosen = "".join(f"\n    codemix_megatron/{name}" for name in files)
        copied = "".join(f"\n    {path.name}" for path in sorted(folder.iterdir()) if path.name not in ("codemix_megatron", ".git"))
        settings = f"[mutmut]\nsource_paths=codemix_megatron\nonly_mutate={chosen}\nalso_copy={copied}\n"
        (folder / "setup.cfg").write_text(
            settings + "pytest_add_cli_args_test_selection=" + "".join(f"\n    {path}" for path in tests) + "\n"
        )
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
        words = [sys.executable, "-m", "mutmut", "run", "--max-children", str(processes), pattern]
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
        codes = {name: code for name, code in recorded(folder / "mutants").items() if name not in EQUIVALENT}
        if not codes:
            sys.exit(f"{room}: mutmut checked nothing\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    survivors = sorted(name for name, code in codes.items() if code == SURVIVED or code in UNSEEN)
    return Found(len(codes) - len(survivors), survivors)


def copy_tracked(folder: Path) -> None:
    """Copy the tracked files of the checkout."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name)


def recorded(folder: Path) -> dict[str, int]:
    """Return mutant -> exit code of its tests, of those that were run."""
    found: dict[str, int] = {}
    for path in folder.rglob("*.meta"):
        entries = json.loads(path.read_text())["exit_code_by_key"]
        found |= {name: code for name, code in entries.items() if code is not None}
    return found


if __name__ == "__main__":
    main()
