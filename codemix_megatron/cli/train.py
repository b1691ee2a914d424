"""codemix train: a recipe becomes a run folder; one that is there is resumed."""

import os
import re
import sys
import time
from collections.abc import Callable

from codemix_megatron.cli.asked_run import asked_run
from codemix_megatron.errors import STOPPED_EARLY, LaunchError, RankCrashed
from codemix_megatron.extras import require
from codemix_megatron.launch.local import follow_ranks, start_ranks
from codemix_megatron.placement import find_placement
from codemix_megatron.plan.branch import recorded_branch_point
from codemix_megatron.plan.plan import make_plan, read_manifests
from codemix_megatron.recipe.layout_checks import ranks_fault
from codemix_megatron.recipe.pretrained import PREFIX
from codemix_megatron.records.events import StopEvent
from codemix_megatron.records.journal import read_events
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.watch.lease import wait_until_free
from codemix_megatron.watch.rank import as_rank

__all__ = ["add_arguments", "run", "train_here"]

STEPS = re.compile(r"(\d+)(?:-(\d+))?")

EPILOG = """examples:
  codemix train recipe.yaml --nproc 4
  codemix train recipe.yaml --folder runs/again parallel.tensor=1 seed=2
  codemix train recipe.yaml --profile 10-12       (a trace of each rank in the run folder, for ui.perfetto.dev)
  torchrun --nproc-per-node 8 -m codemix_megatron train recipe.yaml     (joins the ranks torchrun made)
  srun codemix train recipe.yaml                                         (joins Slurm's; MASTER_ADDR and MASTER_PORT exported)

Ctrl-C, SIGTERM and SIGUSR1 finish the step, save and leave with exit code 75; the same command goes on from there."""


def add_arguments(parser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("recipe", help="YAML recipe; its corpora must be prepared. Or a run folder, to resume with its own")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the recipe, as a.b=c")
    parser.add_argument("--folder", help="run folder (default: runs/NAME beside the recipe)")
    parser.add_argument("--nproc", type=int, help="ranks to start on this machine (default: what the recipe's layout needs)")
    parser.add_argument("--restarts", type=int, default=2, help="starts after a rank crashed in native code (default: 2)")
    parser.add_argument("--profile", metavar="A-B", help="write a trace of these steps, such as 10-12, for each rank")
    parser.add_argument("--memory-snapshot", metavar="A-B", help="record CUDA's allocations in these steps, for each rank")
    parser.add_argument("--json", action="store_true", help="print events as JSON lines on stdout, everything else on stderr")
    parser.add_argument("--port", type=int, default=0, help="rendezvous port (default: any free one)")


def run(arguments) -> int:
    """Train as one of several ranks, or start the ranks and follow them."""
    if placement := find_placement():
        if arguments.nproc not in (None, placement.size):
            raise LaunchError(
                f"--nproc {arguments.nproc}: this is rank {placement.rank} of {placement.size} ({placement.launcher}); leave --nproc out"
                f" to join those, or start the command without {placement.launcher}",
                exit_code=2,
            )
        return as_rank(asked_run(arguments)[1], lambda: train_as_rank(arguments))
    recipe, folder = asked_run(arguments)
    pass_on_steps(arguments)
    for name, least in (("nproc", 1), ("restarts", 0)):
        if (found := getattr(arguments, name)) is not None and found < least:
            raise LaunchError(f"--{name}: found {found}, must be at least {least}", exit_code=2)
    num_ranks = arguments.nproc or recipe.parallel.model_ranks * (recipe.parallel.data or 1)
    if fault := ranks_fault(recipe.parallel, num_ranks):
        raise LaunchError(f"--nproc: {fault}", exit_code=2)
    return train_here(recipe, arguments, folder, num_ranks)


def pass_on_steps(arguments) -> None:
    """Leave what is to be recorded or printed where every rank finds it, its own or those it starts."""
    if arguments.json:
        os.environ["CODEMIX_JSON_EVENTS"] = "1"
    for option, name in (("profile", "CODEMIX_PROFILE"), ("memory_snapshot", "CODEMIX_MEMORY_SNAPSHOT")):
        steps = getattr(arguments, option)
        if steps is None:
            continue
        if not (match := STEPS.fullmatch(steps)) or not 1 <= int(match[1]) <= int(match[2] or match[1]):
            raise LaunchError(f"--{option.replace('_', '-')} {steps}: write the first and the last step, such as 10-12", exit_code=2)
        os.environ[name] = steps


def train_as_rank(arguments) -> int:
    """Run this rank's part."""
    from codemix_megatron.megatron.importing import import_megatron

    recipe, folder = asked_run(arguments)
    pass_on_steps(arguments)
    import_megatron()
    from codemix_megatron.train.run import train

    code = train(recipe, folder, live_scorer(recipe))
    # torchrun and srun read anything but 0 as a failure, for which they kill the other ranks; the journal tells who launched them
    # that the run stopped early.
    return 0 if "TORCHELASTIC_RUN_ID" in os.environ or "CODEMIX_BATCH" in os.environ else code


def live_scorer(recipe) -> Callable[..., dict] | None:
    """Return what scores a model while it is trained, None where nothing is to be scored then."""
    if recipe.evaluation.while_training is None:
        return None
    from codemix_megatron.evaluate.while_training import score_while_training

    return score_while_training


def train_here(recipe, arguments, folder: RunFolder, num_ranks: int) -> int:
    """Check everything that needs no ranks, start them, and draw their progress."""
    from codemix_megatron.train.corpus_files import check_corpus_files
    from codemix_megatron.train.folder import check_run, is_finished, reopen
    from codemix_megatron.train.starting import check_start

    require_extras(recipe)
    say = sys.stderr if arguments.json else sys.stdout
    manifests = read_manifests(recipe)
    plan = make_plan(recipe, manifests, num_ranks, recorded_branch_point(folder))
    resumed = check_run(folder, recipe, plan)
    for line in plan.warnings:
        sys.stderr.write(f"warning: {line}\n")
    check_corpus_files(folder, manifests, say.write)
    for steps in filter(None, (arguments.profile, arguments.memory_snapshot)):
        asked = STEPS.fullmatch(steps)
        if asked and int(asked[1]) > plan.steps:
            raise LaunchError(f"steps {steps} are to be recorded, the run has {plan.steps}", exit_code=2)
    if not resumed:
        check_start(recipe, plan.branch)
    if recipe.evaluation.while_training is not None:
        from codemix_megatron.evaluate.while_training import check_suites  # torch: only where it is asked for

        check_suites(recipe)
    if resumed and is_finished(folder, plan):
        say.write(f"{folder}: already trained to step {plan.steps} of {plan.steps}\n")
        return 0
    refuse_second(folder)
    reopen(folder)
    command = ["train", arguments.recipe, *arguments.overrides, "--folder", str(folder)]
    say.write(f"{'resuming' if resumed else 'training'} {recipe.name} on {num_ranks} ranks in {folder}\n")
    say.flush()
    if (recipe.initial_weights or "").startswith(PREFIX) and not resumed:
        convert_start(recipe, folder, say)
    for attempts_left in range(arguments.restarts, -1, -1):
        try:
            launch_once(recipe, plan, folder, command, num_ranks, arguments)
            break
        except RankCrashed as fault:
            if not attempts_left or folder.stop.exists():
                raise
            say.write(f"{fault}\nstarting the ranks again from the last checkpoint ({attempts_left} times more at most)\n")
            say.flush()
    ended = read_events(folder.journal)[-1]
    if isinstance(ended, StopEvent):
        say.write(f"stopped at step {ended.step} of {plan.steps} and saved; run the same command to resume\n")
        return STOPPED_EARLY
    say.write(f"trained {plan.steps} steps; next: codemix export {folder}\n")
    return 0


def require_extras(recipe) -> None:
    """Raise CodemixError when the recipe asks for what an extra brings that is not installed: before ranks start, each of which would fail."""
    if recipe.observers.tensorboard:
        require("tensorboard", "observers.tensorboard")
    if recipe.observers.wandb != "off":
        require("wandb", "observers.wandb")
    if recipe.evaluation.while_training is not None:
        require("lm_eval", "evaluation.while_training")


def refuse_second(folder: RunFolder) -> None:
    """Raise LaunchError when another start trains in the folder, or a Slurm job waits to: before ranks start, which would look too."""
    from codemix_megatron.launch.slurm.training_job import active_job

    try:
        job = active_job(folder)
    except LaunchError:  # Slurm is not here, or does not answer; the lease shows a job that runs
        job = None
    if job:
        raise LaunchError(f"{folder}: job {job} works on it already; wait for it, or end it with: scancel {job}", exit_code=2)
    wait_until_free(folder.path)


def convert_start(recipe, folder: RunFolder, say) -> None:
    """Convert the public model before the ranks start, so that none of them waits for it."""
    from codemix_megatron.checkpoint.metadata import read_metadata
    from codemix_megatron.cli.consoles import Console
    from codemix_megatron.cli.export import describe_parity
    from codemix_megatron.cli.progress_bars import progress_bars
    from codemix_megatron.conversion.importing import import_initial

    with progress_bars(Console(file=sys.stderr)) as progress:
        checkpoint = import_initial(recipe, folder, progress)
    say.write(f"imported {recipe.initial_weights}; {describe_parity(read_metadata(checkpoint).get('parity'))}\n")
    say.flush()


def launch_once(recipe, plan, folder: RunFolder, command: list[str], num_ranks: int, arguments) -> None:
    """Start the ranks and draw their progress until they end; raises what made them fail."""
    from codemix_megatron.cli.progress import JournalProgress

    launch = f"codemix-{os.getpid()}-{time.time_ns()}"
    ranks = start_ranks(folder, command, num_ranks, arguments.port, launch)
    with JournalProgress(folder, plan, recipe.observers.console_every_steps, launch, arguments.json) as progress:
        follow_ranks(folder, ranks, progress.update)
