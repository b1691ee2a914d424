"""codemix study: many runs that share parents, described once."""


from codemix_megatron.cli.study_plan import add_plan_arguments

__all__ = ["add_arguments", "run"]

EPILOG = """examples:
  codemix study plan examples/studies/paper.yaml --assume-tokens examples/paper/sizes.yaml --figure grid.png
  codemix study plan STUDY.yaml --device h100 --mfu 0.4 --json"""


def add_arguments(parser) -> None:
    """Declare the actions and their arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add_plan_arguments(actions.add_parser("plan", help="the tree of runs, tokens, hours, storage, and what is shared"))


def run(arguments) -> int:
    """Run one action."""
    return arguments.act(arguments) or 0
