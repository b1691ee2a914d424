"""A run that was trained in segments, each in a folder of its own, read as the one run it is."""

from dataclasses import replace
from pathlib import Path

from codemix_megatron.records.event_lines import of_kind
from codemix_megatron.records.events import EndEvent, RunEvent, StartEvent
from codemix_megatron.report.blocks import Paragraph, Section, Table
from codemix_megatron.report.run_data import RunData
from codemix_megatron.report.wording import join_words, short_count

__all__ = ["join_segments", "lineage_section"]


def join_segments(name: str, segments: list[RunData], is_whole: bool = True) -> RunData:
    """Return one run of segments that went on from each other, first the first.

    Its folder, scores and checkpoints are the last one's. With `is_whole` false the run has further segments that have not begun:
    it is not finished, whatever the last one here is, and has no scores.
    """
    first, last = segments[0], segments[-1]
    events = [event for segment in segments for event in own_events(segment, segment is first, segment is last and is_whole)]
    return replace(
        last,
        name=name,
        recipe=join_recipes(name, segments) if all(segment.recipe for segment in segments) else None,
        plan=join_plans(name, segments) if all(segment.plan for segment in segments) else None,
        environment={**(last.environment or {}), "started_at": (first.environment or {}).get("started_at")},
        events=events,
        steps=[event for segment in segments for event in segment.steps],
        # A branch measures where it begins what its parent measured at its end.
        validations=list({event.step: event for segment in segments for event in segment.validations}.values()),
        scores=last.scores if is_whole else [],
        ancestors=[segment.folder.path for segment in segments[-2::-1]],
    )


def own_events(segment: RunData, is_first: bool, is_last: bool) -> list[RunEvent]:
    """Return a segment's events, without those that begin and end it in mid-run."""
    events = segment.events if is_last else [event for event in segment.events if not isinstance(event, EndEvent)]
    first_start = next(iter(of_kind(events, StartEvent)), None)
    return events if is_first else [event for event in events if event is not first_start]


def join_recipes(name: str, segments: list[RunData]):
    """Return the recipe of the whole run."""
    recipes = [segment.recipe for segment in segments if segment.recipe]
    phases = tuple(phase for recipe in recipes for phase in recipe.phases)
    return replace(recipes[-1], name=name, phases=phases, branch=recipes[0].branch, initial_weights=recipes[0].initial_weights)


def join_plans(name: str, segments: list[RunData]) -> dict:
    """Return the plan of the whole run: phases and costs joined; epochs, which count what a parent read, are the last one's."""
    plans = [segment.plan for segment in segments if segment.plan]
    joined = {**plans[-1], "name": name, "branch": plans[0].get("branch")}
    joined["phases"] = [phase for plan in plans for phase in plan["phases"]]
    joined["tokens"] = sum(plan["tokens"] for plan in plans)
    joined["flops"] = {**plans[-1]["flops"], "total": sum(plan["flops"]["total"] for plan in plans)}
    joined["learning_rate_curve"] = [point for plan in plans for point in plan.get("learning_rate_curve", [])]
    joined["sources"] = {name: join_source(name, plans) for name in plans[-1]["sources"]}
    return joined


def join_source(name: str, plans: list[dict]) -> dict:
    """Return what a source gives over the whole run."""
    there = [plan["sources"][name] for plan in plans if name in plan["sources"]]
    sums = {key: sum(source[key] for source in there) for key in ("sequences", "tokens")}
    return {**there[-1], **sums, "tokens_before": there[0].get("tokens_before", 0)}


def lineage_section(runs: list[RunData], labels: list[str]) -> list[Section]:
    """Return a section on segments that several runs went through, when there are runs of segments."""
    if not any(run.ancestors for run in runs):
        return []
    tokens: dict[Path, int] = {}
    users: dict[Path, list[str]] = {}
    rows: list[list] = []
    for run, label in zip(runs, labels, strict=True):
        path = [*run.ancestors[::-1], run.folder.path]
        for folder, phase in zip(path, (run.plan or {}).get("phases", []), strict=False):
            tokens[folder] = phase["tokens"]
            users.setdefault(folder, []).append(label)
        rows.append([label, " → ".join(run.phase_names), " → ".join(folder.name for folder in path), path])
    for row in rows:
        shared = [label for label in dict.fromkeys(user for folder in row[3] for user in users.get(folder, [])) if label != row[0]]
        row[3] = join_words(shared) if shared else ""
    once, alone = sum(tokens.values()), sum(tokens[folder] * len(names) for folder, names in users.items())
    told = f"{short_count(once)} tokens were trained once for all runs; each alone, they would have been {short_count(alone)}."
    caption = "Phases in common were trained once: each run folder continues the one before, with Adam's state and data order."
    table = Table(headings=["run", "phases", "trained as", "shares parts with"], rows=rows, caption=caption, left=(0, 1, 2, 3))
    return [Section(title="Shared parents", anchor="parents", blocks=[Paragraph(told, "quiet"), table])]
