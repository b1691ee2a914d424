"""What two plans do differently: realised tokens per source and phase first, all else after."""

from pathlib import Path

from codemix_megatron.errors import RecipeError
from codemix_megatron.records.atomic import read_json

__all__ = ["WHOLE_RUN", "compare_plans", "read_plan"]

WHOLE_RUN = "whole run"
RUN_KEYS = ("steps", "tokens", "seed", "sequence_length", "global_sequences", "vocab_size", "initial_weights")
RATE_KEYS = ("schedule", "peak", "final", "warmup_tokens", "start", "decay_share", "decay")


def read_plan(path) -> dict | None:
    """Return the plan that a plan.json or a run folder holds, or None when `path` is neither (a recipe, say)."""
    path = Path(path)
    path = path / "plan.json" if path.is_dir() else path
    if path.suffix != ".json":
        return None
    try:
        plan = read_json(path)
    except FileNotFoundError:
        raise RecipeError("nothing is there; give a recipe, a plan.json or a run folder", where=str(path)) from None
    except (OSError, ValueError) as fault:
        raise RecipeError(f"not a readable plan ({fault}); write it again with `codemix plan`", where=str(path)) from None
    if not isinstance(plan, dict) or not {"phases", "sources", "steps"} <= set(plan):
        raise RecipeError("not a plan (phases, sources and steps are expected); give one that `codemix plan` wrote", where=str(path))
    return plan


def compare_plans(a: dict, b: dict) -> dict:
    """Return the differences of two plans (the content of plan.json).

    `rows`: one for each source of each phase and of the whole run, with tokens and shares on both sides.
    `only_in_a`, `only_in_b`: sources with tokens on one side alone. `other_data`: one name, two files. `settings`: the rest.
    """
    rows = [row for phase in phase_names(a, b) for row in compare_phase(a, b, phase)]
    totals = compare_tokens(WHOLE_RUN, total_tokens(a), total_tokens(b))
    return {
        "a": a["name"],
        "b": b["name"],
        "assumed": bool(a.get("assumed") or b.get("assumed")),
        "only_in_a": [row["source"] for row in totals if row["tokens_a"] and not row["tokens_b"]],
        "only_in_b": [row["source"] for row in totals if row["tokens_b"] and not row["tokens_a"]],
        "other_data": [name for name in total_tokens(a) if is_other_data(a["sources"].get(name), b["sources"].get(name))],
        "rows": [*rows, *totals],
        "settings": compare_settings(a, b),
    }


def phase_names(a: dict, b: dict) -> list[str]:
    """Return the phases of both, in A's order, those only in B after."""
    return list(dict.fromkeys(phase["name"] for plan in (a, b) for phase in plan["phases"]))


def phase_tokens(plan: dict, phase_name: str) -> dict[str, int]:
    """Return source -> tokens of one phase; nothing when the plan has no such phase."""
    return {name: s["tokens"] for phase in plan["phases"] if phase["name"] == phase_name for name, s in phase["sources"].items()}


def total_tokens(plan: dict) -> dict[str, int]:
    """Return source -> tokens of the whole run."""
    return {name: source["tokens"] for name, source in plan["sources"].items()}


def compare_phase(a: dict, b: dict, name: str) -> list[dict]:
    """Return the rows of one phase."""
    return compare_tokens(name, phase_tokens(a, name), phase_tokens(b, name))


def compare_tokens(phase: str, a: dict[str, int], b: dict[str, int]) -> list[dict]:
    """Return one row for each source that has tokens on either side."""
    whole_a, whole_b = sum(a.values()), sum(b.values())
    return [
        {
            "phase": phase,
            "source": name,
            "tokens_a": a.get(name, 0),
            "tokens_b": b.get(name, 0),
            "difference": b.get(name, 0) - a.get(name, 0),
            "share_a": a.get(name, 0) / whole_a if whole_a else 0.0,
            "share_b": b.get(name, 0) / whole_b if whole_b else 0.0,
        }
        for name in dict.fromkeys([*a, *b])
        if a.get(name) or b.get(name)
    ]


def is_other_data(a: dict | None, b: dict | None) -> bool:
    """Say whether one name stands for two corpora, by their checksums and sizes."""
    if not a or not b:
        return False
    if a.get("bin_sha256") and b.get("bin_sha256"):
        return a["bin_sha256"] != b["bin_sha256"]
    return a.get("train_tokens") != b.get("train_tokens")


def compare_settings(a: dict, b: dict) -> list[dict]:
    """Return {setting, a, b} for everything but the mixture that differs and decides a result."""
    left, right = settings(a), settings(b)
    keys = list(dict.fromkeys([*left, *right]))
    # A key that one plan was written without (by an older version) says nothing.
    comparable = [key for key in keys if key.startswith("phases.") or (key in left and key in right)]
    return [{"setting": key, "a": left.get(key), "b": right.get(key)} for key in comparable if left.get(key) != right.get(key)]


def settings(plan: dict) -> dict:
    """Return the plan's settings as one flat mapping."""
    flat = {key: plan[key] for key in RUN_KEYS if key in plan}
    flat |= {f"model.{key}": value for key, value in plan.get("model", {}).items() if key != "sequence_length"}
    branch = plan.get("branch")
    flat["branch"] = f"{branch['run']}@{branch['step']}" if branch else None
    flat["parameters"] = plan["parameters"]["total"]
    for phase in plan["phases"]:
        flat[f"phases.{phase['name']}.steps"] = phase["steps"]
        flat[f"phases.{phase['name']}.data_seed"] = phase.get("data_seed")
        flat[f"phases.{phase['name']}.sequence_length"] = phase.get("sequence_length", plan.get("sequence_length"))
        if len(phase.get("batches") or []) > 1:
            flat[f"phases.{phase['name']}.batches"] = ", ".join(f"{steps} x {size}" for steps, size in phase["batches"])
        for key in RATE_KEYS:
            flat[f"phases.{phase['name']}.learning_rate.{key}"] = phase["learning_rate"].get(key)
    return flat
