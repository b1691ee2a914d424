"""codemix study: many runs that share parents, described once."""

from codemix_megatron.cli.study.ladder import add_ladder_arguments
from codemix_megatron.cli.study.plan import add_plan_arguments
from codemix_megatron.cli.study.power import add_power_arguments
from codemix_megatron.cli.study.run import (
    add_cancel_arguments,
    add_report_arguments,
    add_resume_arguments,
    add_run_arguments,
    add_status_arguments,
)

__all__ = ["add_arguments", "run"]

EPILOG = """examples:
  codemix study plan examples/studies/paper.yaml --assume-tokens examples/paper/sizes.yaml --figure grid.png
  codemix study power examples/studies/paper.yaml --assume-tokens examples/paper/sizes.yaml --device h100 --detect 1.0
  codemix study run examples/studies/mini.yaml
  codemix study status runs/mini --watch
  codemix study ladder base.yaml --sizes 20M,60M,180M --tokens-per-parameter 20,80 --mixtures laws/text/proposals.yaml
  codemix study resume runs/mini
  codemix study report runs/mini

Every run is a run folder in DIR/runs: codemix report, export, evaluate, audit and law work on them."""

ACTIONS = {
    "plan": ("the tree of runs, tokens, hours, storage, and what is shared", add_plan_arguments),
    "power": ("how many seeds see a difference of so many points, per measure", add_power_arguments),
    "run": ("prepare, train and score everything; finished parts are skipped", add_run_arguments),
    "status": ("where every run is", add_status_arguments),
    "resume": ("do what is missing: failed, stopped and never started runs", add_resume_arguments),
    "report": ("variants as whole runs beside each other, as one HTML page", add_report_arguments),
    "ladder": ("write a study of one recipe at several sizes and tokens, learning rate and batch by a rule", add_ladder_arguments),
    "cancel": ("ask running trainings to save and exit", add_cancel_arguments),
}


def add_arguments(parser) -> None:
    """Declare the actions and their arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, (summary, add) in ACTIONS.items():
        add(actions.add_parser(name, help=summary, description=summary))


def run(arguments) -> int:
    """Run one action."""
    return arguments.act(arguments) or 0
