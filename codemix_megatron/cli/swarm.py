"""codemix swarm: mixtures drawn, trained, scored, fitted, and the next ones proposed and trained, as one study in one folder."""

import sys
import time
from pathlib import Path
from typing import Any

from codemix_megatron.errors import STOPPED_EARLY, CodemixError, CorpusError
from codemix_megatron.study.swarm.settings import DESIGNS, PRIORS

__all__ = ["add_arguments", "run"]

EPILOG = """examples:
  codemix swarm base.yaml --runs 32 --objective "text bits_per_byte" --objective "code bits_per_byte"
  codemix swarm base.yaml --runs 48 --phases 1 --design d-optimal --objective "text bits_per_byte" --rounds 4 --until-interval 0.01
  codemix swarm base.yaml --runs 32 --trunks 8 --freeze code --objective "text bits_per_byte" --on slurm --site site.yaml

The mixtures of the last --phases phases of the base recipe (default: of all) are drawn around its own, or by D-optimal design, and written
as a study together with anchors: its own mixtures and their reverse order, with --seeds seeds each. The study is run as `codemix study
run` runs it. Laws are fitted to every objective, over phases and over whole runs; the best mixture, --explore others and controls are
the next round, and what is predicted of them stands in swarm.json before they are trained. It goes on for --rounds rounds, or until
--most-tokens are trained, or until every objective's 90 % interval at the best is narrower than --until-interval.

Stop it at any time; the same command goes on. On Slurm it submits a round and leaves with exit code 75; called again when the jobs are
done (or with --wait HOURS) it goes on. Objectives are those of `codemix law`; without --suite they are the held-out bits per byte that
training measures at its end."""

POLL_SECONDS = 5.0


def add_arguments(parser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("base", metavar="BASE.yaml", help="recipe whose mixtures vary; corpora that are missing are prepared first")
    parser.add_argument("--directory", metavar="DIR", help="the swarm's folder (default: runs/NAME-swarm)")
    several = "what to make small; repeatable: their mean, each in units of its spread"
    parser.add_argument("--objective", action="append", default=[], metavar="METRIC", help=several)
    parser.add_argument("--maximize", action="store_true", help="objectives are better when higher, as accuracies are")
    parser.add_argument("--suite", action="append", default=[], metavar="SUITE", help="score the runs with it too; repeatable")
    add_drawing_arguments(parser.add_argument_group("what is drawn"))
    add_ending_arguments(parser.add_argument_group("when it ends"))
    where = parser.add_argument_group("where it runs, as in codemix study run")
    where.add_argument("--on", choices=("local", "slurm"), help="here, or as Slurm's jobs (default: as before, else local)")
    where.add_argument("--site", metavar="FILE", help="with --on slurm: what the cluster wants")
    where.add_argument("--jobs", type=int, metavar="N", help="most runs at a time")
    where.add_argument("--wait", type=float, metavar="HOURS", help="with --on slurm: wait so long for each round")
    where.add_argument("--dry-run", action="store_true", help="print the first round and what it costs; write and train nothing")


def add_drawing_arguments(group) -> None:
    """Declare what decides which mixtures are trained first."""
    group.add_argument("--runs", type=int, default=32, metavar="N", help="runs drawn in the first round (default: 32)")
    group.add_argument("--phases", type=int, metavar="N", help="the last N phases vary, the others are trained once (default: all vary)")
    trunks = "drawn runs share N first phases, each trained once (default: none is shared)"
    group.add_argument("--trunks", type=int, metavar="N", help=trunks)
    design = "draws around the prior, or a D-optimal design (default: dirichlet)"
    group.add_argument("--design", choices=DESIGNS, default=DESIGNS[0], help=design)
    prior = "the recipe's mixtures, in proportion to size, or even (default: recipe)"
    group.add_argument("--prior", choices=PRIORS, default=PRIORS[0], help=prior)
    strength = "how closely draws keep to the prior, log-uniform between the two (default: 0.1,5)"
    group.add_argument("--strength", default="0.1,5", metavar="LOW,HIGH", help=strength)
    group.add_argument("--temperature", type=float, default=1.0, metavar="T", help="prior ** (1/T); 2 is RegMix's 0.5 (default: 1)")
    group.add_argument("--seed", type=int, metavar="N", help="of draws and anchors (default: the recipe's)")
    group.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds of each anchor and of the best mixture (default: 3)")
    freeze = "a group of the recipe's mixtures whose inside stays as it is; repeatable"
    group.add_argument("--freeze", action="append", default=[], metavar="GROUP", help=freeze)
    group.add_argument("--reuse", metavar="DIR", help="an earlier swarm: its corpora, mixed as its best has them, are one domain")


def add_ending_arguments(group) -> None:
    """Declare what decides how long it goes on."""
    group.add_argument("--rounds", type=int, default=2, metavar="N", help="most rounds (default: 2)")
    explore = "mixtures of a later round beside best and controls (default: 3)"
    group.add_argument("--explore", type=int, default=3, metavar="N", help=explore)
    group.add_argument("--most-tokens", metavar="N", help="no round that would train more tokens in all, such as 2B")
    interval = "end when the 90 %% interval at the best is narrower, for every objective"
    group.add_argument("--until-interval", type=float, metavar="W", help=interval)


def run(arguments) -> int:
    """Draw, train, fit and propose, round after round."""
    from codemix_megatron.cli.swarm_output import print_round, say
    from codemix_megatron.recipe.reading import read_recipe
    from codemix_megatron.study.swarm.folder import SwarmFolder, open_round
    from codemix_megatron.study.swarm.rounds import first_round

    recipe = read_recipe(arguments.base)
    settings = settings_of(arguments, recipe)
    folder = SwarmFolder(arguments.directory or Path("runs") / f"{recipe.name}-swarm")
    space = space_of(recipe, settings, arguments)
    if arguments.dry_run:
        print_round(space, first_round(space, settings))
        return 0
    with folder.held():
        state = folder.begin(settings)
        if not state["rounds"]:
            open_round(folder, state, space, first_round(space, settings))
            say(f"{len(state['rounds'][0]['runs'])} runs drawn: {folder.round_file(1)}")
        folder.write(state)
        return go_on(folder, state, space, arguments)


def go_on(folder, state: dict[str, Any], space, arguments) -> int:
    """Train the last round and learn from it, and so on, until there is a reason to end."""
    from codemix_megatron.cli.swarm_output import print_learned, say
    from codemix_megatron.study.swarm.folder import open_round
    from codemix_megatron.study.swarm.learning import learn, predict_runs
    from codemix_megatron.study.swarm.rounds import next_round
    from codemix_megatron.study.swarm.settings import SwarmSettings
    from codemix_megatron.study.swarm.stopping import reason_to_end

    settings = SwarmSettings.from_plain(state["settings"])
    state.pop("ended", None)  # more rounds may have been asked for since
    while True:
        if code := train_round(folder, len(state["rounds"]), arguments):
            return code
        learned = learn(folder, state, space)
        note_learned(folder, state, space, learned)
        print_learned(learned, state)
        runs = next_round(len(state["rounds"]) + 1, space, settings, learned.proposals) if learned.proposals else []
        if why := reason_to_end(state, space, settings, learned, runs):
            state["ended"] = why
            folder.write(state)
            say(f"ended: {why}")
            say(f"report: file://{write_page(folder, state, space, learned)}")
            return 0 if learned.proposals else 1
        open_round(folder, state, space, runs, predict_runs(learned, space, runs))
        say(f"{len(runs)} runs proposed: {folder.round_file(len(state['rounds']))}")


def settings_of(arguments, recipe):
    """Return what is asked for; raises CodemixError with all that is wrong."""
    from codemix_megatron.cli.law import quantity
    from codemix_megatron.study.swarm.settings import SwarmSettings

    try:
        low, high = (float(word) for word in arguments.strength.split(","))
    except ValueError:
        raise CodemixError(f"--strength {arguments.strength}: needs two numbers with a comma between them, such as 0.1,5") from None
    measured = [f"{name} bits_per_byte" for name in recipe.corpora]
    if not arguments.suite and (unknown := [name for name in arguments.objective if name not in measured]):
        raise CodemixError(f"--objective {unknown[0]!r}: training measures {', '.join(measured)}; add --suite for other scores")
    return SwarmSettings(
        base=str(Path(arguments.base).resolve()),
        objectives=tuple(arguments.objective),
        maximize=arguments.maximize,
        runs=arguments.runs,
        phases=arguments.phases,
        trunks=arguments.trunks,
        design=arguments.design,
        prior=arguments.prior,
        strength=(low, high),
        temperature=arguments.temperature,
        seed=arguments.seed,
        seeds=arguments.seeds,
        explore=arguments.explore,
        rounds=arguments.rounds,
        most_tokens=quantity("--most-tokens", arguments.most_tokens) if arguments.most_tokens else None,
        interval=arguments.until_interval,
        freeze=tuple(arguments.freeze),
        reuse=str(Path(arguments.reuse).resolve()) if arguments.reuse else None,
        suites=tuple(arguments.suite),
    )


def space_of(recipe, settings, arguments):
    """Return what may be mixed; corpora that are missing are prepared first."""
    from codemix_megatron.cli.main import dispatch
    from codemix_megatron.cli.swarm_output import say
    from codemix_megatron.plan.plan import read_manifests
    from codemix_megatron.study.swarm.reusing import best_of
    from codemix_megatron.study.swarm.space import make_space

    try:
        corpora = read_manifests(recipe)
    except CorpusError:
        if arguments.on == "slurm" or arguments.dry_run:
            raise
        say(f"codemix prepare {arguments.base}")
        dispatch(["prepare", arguments.base])
        corpora = read_manifests(recipe)
    return make_space(recipe, corpora, settings, best_of(settings.reuse, recipe, settings.phases) if settings.reuse else None)


def train_round(folder, number: int, arguments) -> int:
    """Run the study of a round; return 0 when all of it is trained, else the exit code to leave with."""
    from codemix_megatron.cli.main import dispatch

    words = ["study", "run", str(folder.round_file(number)), "--directory", str(folder.path)]
    for option in ("on", "site", "jobs"):
        if getattr(arguments, option) is not None:
            words += [f"--{option}", str(getattr(arguments, option))]
    deadline = time.monotonic() + 3600 * (arguments.wait or 0)
    code = dispatch(words)
    while not code and (missing := missing_tasks(folder, number)):
        if time.monotonic() >= deadline or not is_under_way(folder):
            sys.stderr.write(f"{len(missing)} of the round's tasks are not done ({', '.join(missing[:3])}); the same command goes on\n")
            return STOPPED_EARLY
        time.sleep(POLL_SECONDS)
    return code


def missing_tasks(folder, number: int) -> list[str]:
    """Return the tasks of a round's study that are not done."""
    from codemix_megatron.study.changes import graph_in
    from codemix_megatron.study.study_file import read_study
    from codemix_megatron.study.tasks import is_done, list_tasks

    study = read_study(folder.round_file(number))
    tasks = list_tasks(graph_in(folder.study, study), folder.study, study.is_scored)
    return [name for name, task in tasks.items() if not is_done(task, folder.study)]


def is_under_way(folder) -> bool:
    """Say whether Slurm works on the study."""
    from codemix_megatron.study.slurm import is_on_slurm, tasks_on_slurm

    return is_on_slurm(tasks_on_slurm(folder.study.read()["tasks"], folder.study))


def note_learned(folder, state: dict[str, Any], space, learned) -> None:
    """Keep what was learned, beside tables, law and proposals as codemix law writes them."""
    from codemix_megatron.cli.law_output import write
    from codemix_megatron.study.swarm.learning import compare_with_predictions, describe_learned, out_of_sample

    last = state["rounds"][-1]
    last["learned"] = describe_learned(learned, space)
    last["compared"] = compare_with_predictions(last, learned.table)
    last["out_of_sample"] = out_of_sample(last["compared"])
    folder.write(state)
    write(folder.law, learned.table, learned.fits, learned.proposals)


def write_page(folder, state: dict[str, Any], space, learned) -> Path:
    """Write the swarm's report."""
    from codemix_megatron.study.swarm.report import write_swarm_report

    return write_swarm_report(folder, state, space, learned)
