"""codemix study run, resume, status, cancel: a study's tasks done here or handed to Slurm."""

import os
import signal
import sys
import time
from pathlib import Path

from codemix_megatron.cli.json_output import add_json_option, print_json
from codemix_megatron.cli.report import add_choices, choices_of
from codemix_megatron.cli.study.progress import LiveTable, failed_bases, say, standing_table, told_in_short
from codemix_megatron.cli.study.submit import submit_study
from codemix_megatron.errors import STOPPED_EARLY, CodemixError, CorpusError, RecipeError
from codemix_megatron.plan.plan import read_manifests
from codemix_megatron.study.changes import graph_in
from codemix_megatron.study.folder import StudyFolder, open_study
from codemix_megatron.study.planning import plan_study, remember_corpora
from codemix_megatron.study.schema import Study
from codemix_megatron.study.segments import Graph
from codemix_megatron.study.slurm import cancel_jobs, is_on_slurm, tasks_on_slurm
from codemix_megatron.study.status import Standing, find_standings
from codemix_megatron.study.study_file import read_study
from codemix_megatron.study.tasks import list_tasks

__all__ = ["add_cancel_arguments", "add_report_arguments", "add_resume_arguments", "add_run_arguments", "add_status_arguments"]

REFRESH_SECONDS = 1.0
CANCEL_SECONDS = 900


def add_run_arguments(parser) -> None:
    """Declare the action's arguments."""
    parser.add_argument("study", help="YAML study; corpora that are missing are prepared first")
    parser.add_argument("--directory", metavar="DIR", help="the study's folder (default: runs/NAME)")
    add_where_arguments(parser)
    parser.set_defaults(act=run_study)


def add_resume_arguments(parser) -> None:
    """Declare the action's arguments."""
    parser.add_argument("directory", metavar="DIR", help="folder of a begun study")
    add_where_arguments(parser)
    parser.set_defaults(act=resume_study)


def add_where_arguments(parser) -> None:
    """Declare where a study's tasks are done."""
    parser.add_argument("--on", choices=("local", "slurm"), help="here, or as Slurm's jobs (default: as before, else local)")
    parser.add_argument("--site", metavar="FILE", help="with --on slurm: YAML file that says what the cluster wants (default: as before)")
    parser.add_argument("--dry-run", action="store_true", help="with --on slurm: print the scripts of all jobs, submit and write nothing")
    parser.add_argument("--jobs", type=int, metavar="N", help="most runs at a time (default: the study's limit, else as many as fit)")


def add_status_arguments(parser) -> None:
    """Declare the action's arguments."""
    parser.add_argument("directory", metavar="DIR", help="folder of a begun study")
    parser.add_argument("--watch", action="store_true", help="go on showing until nothing is under way")
    add_json_option(parser, "where every run is")
    parser.set_defaults(act=show_status)


def add_cancel_arguments(parser) -> None:
    """Declare the action's arguments."""
    parser.add_argument("directory", metavar="DIR", help="folder of a begun study")
    parser.set_defaults(act=cancel_study)


def resume_study(arguments) -> int:
    """Do what is missing of a begun study, as its file asks for it now."""
    folder = StudyFolder.existing(arguments.directory)
    arguments.study = folder.read()["study"]
    return run_study(arguments)


def run_study(arguments) -> int:
    """Prepare, plan, and do every task that is not done."""
    if arguments.jobs is not None and arguments.jobs < 1:
        raise RecipeError(f"found {arguments.jobs}, must be at least 1", where="--jobs")
    study = read_study(arguments.study)
    folder = StudyFolder(arguments.directory or Path("runs") / study.name)
    if arguments.dry_run:
        if (arguments.on or (folder.read() if folder.state.is_file() else {}).get("on")) != "slurm":
            raise RecipeError("shows Slurm's scripts; add --on slurm --site FILE (codemix study plan shows the runs)", where="--dry-run")
        return submit_study(study, graph_in(folder, study), folder, arguments)
    with folder.held():
        graph = graph_in(folder, study)
        before = open_study(folder, study, graph)
        if (arguments.on or before.get("on")) == "slurm":
            return submit_study(study, graph, folder, arguments)
        refuse_both(folder)
        prepare_missing(graph, folder)
        plan_study(graph, remember_corpora(read_manifests), folder.runs)  # refuses a corpus that is too small before anything trains
        return run_here(study, graph, folder, arguments.jobs or study.limit)


def refuse_both(folder: StudyFolder) -> None:
    """Raise CodemixError when Slurm works on the study; from here on it is run on this machine."""
    state = folder.read()
    if is_on_slurm(state["tasks"]) and is_on_slurm(tasks_on_slurm(state["tasks"], folder)):
        raise CodemixError(f"{folder}: Slurm works on this study; wait for it, or codemix study cancel {folder}")
    folder.write({**state, "on": "local"})


def prepare_missing(graph: Graph, folder: StudyFolder) -> None:
    """Run `codemix prepare` for every recipe whose corpora are not all there."""
    from codemix_megatron.cli.main import dispatch

    look = remember_corpora(read_manifests)
    for segment in graph.children(None):
        try:
            look(segment.recipe)
        except CorpusError:
            words = ["prepare", str(folder.recipe(segment.name))]
            say(f"codemix {' '.join(words)}")
            dispatch(words)
            look = remember_corpora(read_manifests)


def run_here(study: Study, graph: Graph, folder: StudyFolder, jobs: int | None) -> int:
    """Do the tasks on this machine, showing where they are."""
    from codemix_megatron.study.local import LocalStudy
    from codemix_megatron.study.machine import Machine

    began, shown_at = time.monotonic(), -REFRESH_SECONDS
    local = LocalStudy(list_tasks(graph, folder, study.is_scored), folder, Machine(jobs))
    say(
        f"{study.name} in {folder}: {len(local.tasks) - len(local.done)} of {len(local.tasks)} tasks to do; Ctrl-C saves, the same command resumes"
    )

    def standings():
        return find_standings(graph, folder, local.state["tasks"], study.is_scored, local.running.__contains__)

    with LiveTable(graph) as table:

        def tick(_) -> None:
            nonlocal shown_at
            if time.monotonic() - shown_at >= REFRESH_SECONDS:
                shown_at = time.monotonic()
                table.show(standings())

        code = local.run(tick)
        table.show(standings())
    minutes = (time.monotonic() - began) / 60
    what = "stopped, all saved," if code == STOPPED_EARLY else "done" if code == 0 else "done as far as possible"
    say(f"{what} after {minutes:.1f} minutes; {told_in_short(standings())}")
    for line in failed_bases(local.state["tasks"]):
        say(line)
    if code == 1:
        say(f"what a run said is in {folder.logs}; codemix study resume {folder} tries again what failed")
    elif code == 0:
        say(f"next: codemix study report {folder}")
    return code


def show_status(arguments) -> int:
    """Print where every run is, once or until nothing is under way; 1 when something failed."""
    folder = StudyFolder.existing(arguments.directory)
    study = read_study(folder.read()["study"])
    graph = graph_in(folder, study)
    if arguments.json and arguments.watch:
        raise CodemixError("--json prints once and --watch goes on; give one of them")
    with LiveTable(graph) as table:
        while True:
            standings, is_under_way = look_around(study, graph, folder)
            if not arguments.watch:
                break
            table.show(standings)
            if not is_under_way:
                break
            time.sleep(REFRESH_SECONDS)
    unscored = failed_bases(folder.read()["tasks"])
    if arguments.json:
        print_json({"runs": list(standings.values()), "is_under_way": is_under_way, "not_scored": unscored})
    else:
        print_standings(table, graph, standings, arguments.watch, unscored)
    return 1 if unscored or any("failed" in (s.state, s.score) for s in standings.values()) else 0


def print_standings(table: LiveTable, graph: Graph, standings: dict[str, Standing], is_shown: bool, unscored: list[str]) -> None:
    """Print a row for every run, unless they are on the screen already, and the sums."""
    if not is_shown:
        table.console.print(standing_table(graph, standings))
    for line in (told_in_short(standings), *unscored):
        say(line)


def add_report_arguments(parser) -> None:
    """Declare the action's arguments."""
    parser.add_argument("directory", metavar="DIR", help="folder of a begun study")
    parser.add_argument("--output", help="folder to write into (default: DIR/report)")
    add_choices(parser)
    parser.set_defaults(act=report_study)


def report_study(arguments) -> None:
    """Write the report over all variants and print where it is."""
    from codemix_megatron.study.reporting import write_study_report

    output = Path(arguments.output) if arguments.output else None
    path = write_study_report(StudyFolder.existing(arguments.directory), output, choices_of(arguments))
    sys.stdout.write(f"file://{path}\n")


def look_around(study: Study, graph: Graph, folder: StudyFolder):
    """Return the standings, and whether anybody works on the study."""
    state, holder = folder.read(), folder.holder()
    tasks = tasks_on_slurm(state["tasks"], folder)
    standings = find_standings(graph, folder, tasks, study.is_scored, lambda task: bool(tasks[task].get("job")) or holder is not None)
    return standings, holder is not None or is_on_slurm(tasks)


def cancel_study(arguments) -> None:
    """Have what is under way save and leave."""
    folder = StudyFolder.existing(arguments.directory)
    holder = folder.holder()
    if is_on_slurm(folder.read()["tasks"]):
        saving, ended = cancel_jobs(folder)
        say(f"jobs that save and leave: {', '.join(saving) or 'none'}; ended: {', '.join(ended) or 'none'}")
    elif holder is None:
        say("nothing is under way")
        return
    else:
        os.kill(holder, signal.SIGTERM)
        wait_for_end(folder, holder)
    say(f"codemix study resume {folder} resumes")


def wait_for_end(folder: StudyFolder, holder: int) -> None:
    """Wait until the process that works on a study has left."""
    deadline = time.monotonic() + CANCEL_SECONDS
    while folder.holder() is not None:
        if time.monotonic() > deadline:
            raise CodemixError(f"process {holder} has not left within {CANCEL_SECONDS} s; kill {holder} ends it at once", exit_code=1)
        time.sleep(0.2)
    say("stopped, all saved")
