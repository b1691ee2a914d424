"""codemix launch: a recipe, its corpora or a run's scores become Slurm jobs."""

import sys
import time
from dataclasses import replace
from pathlib import Path

from codemix_megatron.cli.asked_run import asked_run
from codemix_megatron.errors import LaunchError
from codemix_megatron.launch.slurm.command_job import render_preparation, render_scoring, submit_preparation, submit_scoring
from codemix_megatron.launch.slurm.site import Site, read_site
from codemix_megatron.launch.slurm.staging import Environment, find_environment, pack
from codemix_megatron.launch.slurm.training_job import (
    SubmittedJob,
    counted,
    nodes_for,
    ranks_for,
    refuse_second,
    render_training,
    submit_training,
)
from codemix_megatron.plan.branch import recorded_branch_point
from codemix_megatron.plan.plan import Plan, make_plan, read_manifests
from codemix_megatron.recipe.reading import write_recipe
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.records.atomic import replace_text
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.train.folder import check_run, is_finished, reopen
from codemix_megatron.trust import PROGRAMS, TASK_CODE, add_trust_option

__all__ = ["add_arguments", "run"]

SUBMITTED_BY = {"kubernetes": "kubectl apply -f -", "skypilot": "sky launch"}
EPILOG = """examples:
  codemix launch recipe.yaml --site site.yaml --dry-run           the script, and nothing else
  codemix launch recipe.yaml --site site.yaml --nodes 4           train into runs/NAME; the same command resumes from there
  codemix launch recipe.yaml --site site.yaml --folder runs/two seed=2
  codemix launch --prepare recipe.yaml --site site.yaml --tasks 16
  codemix launch --evaluate runs/mine --site site.yaml --suite small --data /data/eval

A site file says what one cluster wants: partition, GPUs per node, container, modules, environment; slurm/sites has examples,
and --site-keys prints every key. Script, recipe, environment and log of a job are in RUN/launch. A training job saves and is
queued again before its time limit, when it is preempted and when a node is lost, and goes on at the checkpoint it has; after
some starts in a row without a new checkpoint it is given up. docs/slurm.md says how."""


def add_arguments(parser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="YAML recipe; with --evaluate the run folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the recipe, as a.b=c")
    parser.add_argument("--site", metavar="FILE", help="YAML file that says what this cluster wants")
    parser.add_argument("--folder", help="run folder (default: runs/NAME beside the recipe)")
    parser.add_argument(
        "--nodes", type=int, metavar="N", help="nodes to train on (default: the site's, else the fewest that hold the layout)"
    )
    parser.add_argument(
        "--spares",
        type=int,
        metavar="N",
        help="nodes to have in addition, on which a failed attempt is restarted (default: the site's spare_nodes)",
    )
    parser.add_argument(
        "--on",
        choices=("slurm", "kubernetes", "skypilot"),
        default="slurm",
        help="kubernetes and skypilot: print a manifest or a task file, with --dry-run; --site is a file of theirs (docs/elsewhere.md)",
    )
    parser.add_argument(
        "--stage",
        action="store_true",
        help="pack the ranks' environment once and unpack it on each node's own disk before they start, which many nodes would else read at once",
    )
    parser.add_argument("--dry-run", action="store_true", help="check everything, print the script, submit and write nothing")
    parser.add_argument("--site-keys", action="store_true", help="print every key a site file may have")
    other = parser.add_argument_group("instead of training")
    other.add_argument("--prepare", action="store_true", help="prepare the recipe's corpora: an array of tasks, then a merge")
    other.add_argument("--tasks", type=int, metavar="N", help="with --prepare: tasks of the array (default: 4)")
    other.add_argument("--evaluate", action="store_true", help="export the run's newest checkpoint and score it")
    other.add_argument("--suite", action="append", metavar="NAME", help="with --evaluate: as for codemix evaluate; repeatable")
    other.add_argument("--data", metavar="DIR", help="with --evaluate: as for codemix evaluate")
    add_trust_option(other, PROGRAMS, TASK_CODE)


def run(arguments) -> int:
    """Check, render, and submit unless only asked to show."""
    if arguments.site_keys:
        print_site_keys()
        return 0
    check_arguments(arguments)
    if arguments.on != "slurm":
        print_elsewhere(arguments)
        return 0
    site = read_site(arguments.site)
    if arguments.spares is not None:
        site = replace(site, spare_nodes=arguments.spares)
    kind = launch_scoring if arguments.evaluate else launch_preparation if arguments.prepare else launch_training
    kind(arguments, site)
    return 0


def check_arguments(arguments) -> None:
    """Raise LaunchError for what does not go together."""
    faults = []
    if arguments.recipe is None:
        faults.append("missing: the recipe" + (" (with --evaluate: the run folder)" if arguments.evaluate else ""))
    if arguments.site is None:
        faults.append("missing: --site FILE, such as slurm/sites/cpu.yaml")
    if arguments.prepare and arguments.evaluate:
        faults.append("--prepare and --evaluate: give one of them")
    if arguments.tasks is not None and not arguments.prepare:
        faults.append("--tasks: belongs to --prepare")
    if (arguments.suite or arguments.data or arguments.trust) and not arguments.evaluate:
        faults.append("--suite, --data and --trust: belong to --evaluate")
    if (arguments.spares or 0) < 0:
        faults.append(f"--spares: found {arguments.spares}, must be at least 0")
    if arguments.nodes is not None and (arguments.prepare or arguments.evaluate):
        faults.append("--nodes: belongs to training; arrays have --tasks, an evaluation takes one node")
    if arguments.on != "slurm" and not arguments.dry_run:
        faults.append(f"--on {arguments.on}: only prints; add --dry-run and hand what it prints to {SUBMITTED_BY[arguments.on]}")
    if arguments.on != "slurm" and (arguments.prepare or arguments.evaluate or arguments.stage or arguments.spares is not None):
        faults.append(f"--on {arguments.on}: for training jobs; --prepare, --evaluate, --spares and --stage belong to Slurm")
    if arguments.stage and (arguments.prepare or arguments.evaluate):
        faults.append("--stage: belongs to training")
    if arguments.evaluate and arguments.overrides:
        faults.append(f"{arguments.overrides[0]}: an evaluation reads the run's own recipe")
    faults += [
        f"--{name}: found {n}, must be at least 1" for name in ("nodes", "tasks") if (n := getattr(arguments, name)) is not None and n < 1
    ]
    if faults:
        raise LaunchError("; ".join(faults), exit_code=2)


def launch_training(arguments, site: Site) -> None:
    """Submit a training job, or print its script."""
    recipe, folder = asked_run(arguments)
    num_ranks = ranks_for(recipe, site, arguments.nodes)
    plan = check_training(recipe, folder, num_ranks)
    if is_finished(folder, plan):
        print(f"{folder}: already trained to step {plan.steps}")
        return
    frozen = folder.launch / "recipe.yaml"  # what was checked is what every start reads
    environment = staged_environment(site, folder) if arguments.stage else None
    archive = environment.archive if environment else None
    if arguments.dry_run:
        sys.stdout.write(render_training(frozen, [], folder, site, num_ranks, archive=archive))
        return
    refuse_second(folder, "job")
    reopen(folder)
    replace_text(frozen, write_recipe(recipe))
    if environment:
        pack_environment(environment)
    job = submit_training(frozen, [], folder, site, num_ranks, archive=archive)
    nodes = nodes_for(site, num_ranks)
    print(
        f"job {job.id}: {plan.steps} steps of {recipe.name} on {counted(nodes, 'node')} x {counted(num_ranks // nodes, 'rank')} in {folder}"
    )
    print(f"log      {job.log}\n         {folder.logs}/rank-N.log")
    print(f"watch    squeue --job {job.id}; tail -F {job.log}")
    print(f"save     scancel --batch --signal=USR1 {job.id}      (save, leave, be queued again)")
    print(f"stop     touch {folder.stop}      (save and exit; codemix launch resumes)")
    print(f"cancel   scancel {job.id}      (at once; codemix launch resumes from the last checkpoint)")


def staged_environment(site: Site, folder: RunFolder) -> Environment:
    """Return the environment that the ranks of a job import; raises LaunchError where an image holds it."""
    if site.is_contained:
        raise LaunchError("--stage: ranks run inside an image, which is one file already; leave --stage out", exit_code=2)
    return find_environment(site.python or sys.executable, folder.path.parent / ".staged")


def pack_environment(environment: Environment) -> None:
    """Pack an environment unless it is packed, and say so."""
    began = time.monotonic()
    was_written = pack(environment)
    size = environment.archive.stat().st_size / 1e9
    took = f"packed in {time.monotonic() - began:.1f} s" if was_written else "packed already"
    print(f"staged   {environment.prefix}: {size:.2f} GB in {environment.archive}, {took}")


def check_training(recipe: Recipe, folder: RunFolder, num_ranks: int) -> Plan:
    """Check everything that needs no ranks, as codemix train does before it starts them; return the plan."""
    from codemix_megatron.train.starting import check_start

    plan = make_plan(recipe, read_manifests(recipe), num_ranks, recorded_branch_point(folder))
    if not check_run(folder, recipe, plan):
        check_start(recipe, plan.branch)
    return plan


def print_elsewhere(arguments) -> None:
    """Check a training job and print what starts it on a cluster that is not Slurm's."""
    import yaml

    from codemix_megatron.launch.elsewhere import read_destination, render_elsewhere

    recipe, folder = asked_run(arguments)
    destination = read_destination(arguments.on, arguments.site)
    num_ranks = ranks_for(recipe, destination, arguments.nodes)
    check_training(recipe, folder, num_ranks)
    rendered = render_elsewhere(
        destination, recipe, Path(arguments.recipe).resolve(), folder, nodes_for(destination, num_ranks), arguments.overrides
    )
    sys.stdout.write(yaml.safe_dump(rendered, sort_keys=False, width=160))


def launch_preparation(arguments, site: Site) -> None:
    """Submit an array of tasks and the merge after it, or print the scripts."""
    recipe, folder = asked_run(arguments)
    num_tasks = arguments.tasks or 4
    frozen = folder.launch / "recipe.yaml"
    options = {"trains_tokenizer": bool(recipe.tokenizer.train_vocab_size) and not Path(recipe.tokenizer.path).exists()}
    if arguments.dry_run:
        print_scripts(render_preparation(frozen, [], folder, site, num_tasks, **options))
        return
    refuse_second(folder, "merge")
    replace_text(frozen, write_recipe(recipe))
    jobs = submit_preparation(frozen, [], folder, site, num_tasks, **options)
    told = {
        "tokenizer": "trains the tokenizer",
        "prepare": f"{counted(num_tasks, 'task')} of an array",
        "merge": "joins what they have done",
    }
    print_jobs(jobs, told)
    print(f"next     codemix launch {arguments.recipe} --site {arguments.site}      (when job {jobs['merge'].id} is done)")


def launch_scoring(arguments, site: Site) -> None:
    """Submit a job that exports a run and scores it, or print its script."""
    folder = RunFolder.existing(arguments.recipe)
    options = [word for suite in arguments.suite or () for word in ("--suite", suite)]
    options += ["--data", str(Path(arguments.data).absolute())] if arguments.data else []
    options += [word for name in arguments.trust for word in ("--trust", name)]
    if arguments.dry_run:
        print_scripts(render_scoring(folder, site, options))
        return
    what = f"scores the newest checkpoint of {folder}" + (", after its export" if site.export else ", which it exports first")
    print_jobs({"score": submit_scoring(folder, site, options)}, {"score": what})


def print_jobs(jobs: dict[str, SubmittedJob], told: dict[str, str]) -> None:
    """Say what was submitted and where it can be seen."""
    for name, job in jobs.items():
        print(f"job {job.id}: {told[name]}\nlog      {job.log}")
    ids = [job.id for job in jobs.values()]
    print(f"watch    squeue --job {','.join(ids)}\ncancel   scancel {' '.join(ids)}")


def print_scripts(scripts) -> None:
    """Print scripts one after the other, each under its name."""
    for name, (text, _) in scripts.items():
        sys.stdout.write(f"# ---- {name}.sbatch\n{text}" if len(scripts) > 1 else text)


def print_site_keys() -> None:
    """Print every key of a site file with its default and meaning."""
    from dataclasses import MISSING, fields

    from codemix_megatron.launch.slurm.site import Apptainer, Container, Resources

    for prefix, block in (("", Site), ("container.", Container), ("apptainer.", Apptainer), ("export.", Resources)):
        for declared in fields(block):
            default = "" if declared.default in (MISSING, None, ()) else f" [{declared.default}]"
            print(f"{prefix + declared.name:<30}{default} {declared.metadata['help']}")
