"""codemix average: the mean of a run's last checkpoints, as a run folder of its own."""

import sys
from dataclasses import replace
from pathlib import Path

from codemix_megatron.checkpoint.loading import list_checkpoints
from codemix_megatron.errors import CheckpointError, CodemixError
from codemix_megatron.plan.run_recipe import read_run_recipe
from codemix_megatron.recipe.reading import write_recipe
from codemix_megatron.records.atomic import read_json, replace_text, write_json
from codemix_megatron.records.events import AveragedEvent, EndEvent
from codemix_megatron.records.journal import Journal, read_lines
from codemix_megatron.records.run_folder import RunFolder, saved_step

__all__ = ["add_arguments", "run"]

EPILOG = """examples:
  codemix average runs/mine --last 5                     into runs/mine-average-5
  codemix average runs/mine --steps 600,800,1000 --output runs/mean
  codemix average runs/mine --moving                     the moving average that optimizer.average_decay keeps, of the newest checkpoint
  codemix average runs/mine --last 8 --decay 0.8         an exponential moving average over checkpoints
  then: codemix export runs/mine-average-5, codemix evaluate, `branch: {run: runs/mine-average-5}` or codemix train on it

checkpoint.keep_last of the recipe says how many checkpoints stay to be averaged; --steps takes any that are there. Weights are
averaged in double precision, a layer of a tensor at a time; Adam's state is that of the newest checkpoint."""


def add_arguments(parser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("run_folder", metavar="RUN", help="run folder, finished or not")
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--last", type=int, metavar="N", help="average the newest N checkpoints")
    chosen.add_argument("--steps", metavar="A,B,...", help="average the checkpoints of these steps")
    chosen.add_argument(
        "--moving", action="store_true", help="the moving average of the weights that the run keeps, as of its newest checkpoint"
    )
    parser.add_argument(
        "--decay", type=float, default=1.0, help="weight of a checkpoint relative to the next newer one (default: 1, all the same)"
    )
    parser.add_argument("--output", metavar="DIR", help="run folder to write (default: RUN-average-N)")


def run(arguments) -> int:
    """Average and say how to go on."""
    source = RunFolder.existing(arguments.run_folder)
    checkpoints = newest(source) if arguments.moving else chosen_checkpoints(source, arguments.last, arguments.steps)
    ending = "moving-average" if arguments.moving else f"average-{len(checkpoints)}"
    target = RunFolder(arguments.output or source.path.with_name(f"{source.path.name}-{ending}"))
    if target.path.exists() and any(target.path.iterdir()):
        raise CodemixError(f"{target}: there already; give an empty or new --output")
    from codemix_megatron.checkpoint.averaging import average_checkpoints, weights_of_decay  # torch: after what is cheap to check
    from codemix_megatron.cli.consoles import Console
    from codemix_megatron.cli.progress_bars import progress_bars

    weights, step = weights_of_decay(len(checkpoints), arguments.decay), saved_step(checkpoints[-1])
    target.checkpoints.mkdir(parents=True, exist_ok=True)
    with progress_bars(Console(file=sys.stderr)) as progress:
        metadata = average_checkpoints(checkpoints, weights, target.checkpoint(step), progress, arguments.moving)
    write_run(source, target, step, metadata["averaged"])
    listed = ", ".join(str(number) for number in metadata["averaged"]["steps"])
    what = "the moving average at step" if arguments.moving else "the mean of steps"
    sys.stdout.write(f"{what} {listed} is step {step} of {target}\nnext: codemix export {target}\n")
    return 0


def newest(run: RunFolder) -> list[Path]:
    """Return the newest checkpoint by itself; raises CheckpointError when there is none."""
    if not (there := list_checkpoints(run.checkpoints)):
        raise CheckpointError(f"{run}: has no checkpoint yet", exit_code=2)
    return there[-1:]


def chosen_checkpoints(run: RunFolder, last: int | None, steps: str | None) -> list[Path]:
    """Return the checkpoints that are asked for, oldest first; raises CheckpointError naming those that are there."""
    there = list_checkpoints(run.checkpoints)
    listed = f"there are steps {', '.join(str(saved_step(path)) for path in there) or 'none'}"
    if last is not None:
        if last < 2:
            raise CheckpointError(f"--last: found {last}, must be at least 2", exit_code=2)
        if last > len(there):
            raise CheckpointError(
                f"{run}: {last} checkpoints are to be averaged, {listed}; save more with checkpoint.every_steps and keep them with"
                f" checkpoint.keep_last: {last}",
                exit_code=2,
            )
        return there[-last:]
    wanted = [word.strip() for word in (steps or "").split(",")]
    known = {str(saved_step(path)): path for path in there}
    missing = [word for word in wanted if word not in known]
    if missing or len(set(wanted)) < 2:
        what = f"no checkpoint of step {', '.join(missing)}" if missing else "two different steps at least are needed"
        raise CheckpointError(f"--steps {steps}: {what}; {listed}", exit_code=2)
    return sorted({known[word] for word in wanted}, key=saved_step)


def write_run(source: RunFolder, target: RunFolder, step: int, averaged: dict) -> None:
    """Give the mean what belongs to a run: recipe, plan, environment, and the journal up to its step."""
    recipe = read_run_recipe(source)
    write_json(target.plan, {**read_json(source.plan), "folder": str(target)})
    journal = Journal(target.journal)
    for line in read_lines(source.journal):
        if line.get("step", 0) <= step and line["event"] != EndEvent.kind:
            journal.append_line(line)
    journal.append(
        AveragedEvent(
            step=step, steps=averaged["steps"], weights=averaged["weights"], from_=averaged["from"], moving=averaged["moving"] or None
        )
    )
    journal.close()
    replace_text(target.recipe, write_recipe(replace(recipe, name=target.path.name)))
    write_json(target.environment, {**read_json(source.environment), "averaged": averaged})  # last: with it, the folder is a run
