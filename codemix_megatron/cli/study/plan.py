"""codemix study plan: what a study will do before it does it."""

from pathlib import Path

from codemix_megatron.cli.json_output import add_json_option, print_json
from codemix_megatron.cli.plan import assumed_vocab
from codemix_megatron.cli.study.tables import print_study_plan
from codemix_megatron.errors import CorpusError
from codemix_megatron.plan.assumed import read_sizes
from codemix_megatron.plan.devices import DEVICES
from codemix_megatron.plan.plan import find_corpora
from codemix_megatron.study.planning import plan_study, remember_corpora
from codemix_megatron.study.segments import build_graph
from codemix_megatron.study.study_file import read_study

__all__ = ["add_plan_arguments", "add_size_arguments"]


def add_plan_arguments(parser) -> None:
    """Declare the action's arguments."""
    parser.add_argument("study", help="YAML study")
    add_size_arguments(parser)
    parser.add_argument("--figure", metavar="FILE", help="draw the tree of runs over tokens into a .png, .pdf or .svg")
    add_json_option(parser, "the plan")
    parser.set_defaults(act=run_plan)


def add_size_arguments(parser) -> None:
    """Declare what a plan is estimated with."""
    parser.add_argument("--device", metavar="NAME", help=f"accelerator to estimate with: {', '.join(DEVICES)}; default: the study's")
    parser.add_argument("--mfu", type=float, default=0.4, help="share of its peak that the models reach (default: 0.4)")
    words = "plan with corpora of these training tokens: NAME=200B[,NAME=...] or a YAML file of such lines; may be repeated"
    parser.add_argument("--assume-tokens", action="append", default=[], metavar="SIZES", help=words)
    parser.add_argument("--assume-vocab", metavar="N", help="with this vocabulary (default: tokenizer.train_vocab_size)")


def run_plan(arguments) -> None:
    """Plan all runs, print them, draw them."""
    study = read_study(arguments.study)
    graph = build_graph(study)
    sizes, vocab = read_sizes(arguments.assume_tokens, study.corpora), assumed_vocab(arguments)

    def find(recipe):
        return find_corpora(recipe, {name: tokens for name, tokens in sizes.items() if name in recipe.corpora}, vocab)

    try:
        plan = plan_study(
            graph, remember_corpora(find), Path("runs") / study.name / "runs", arguments.device or study.device, arguments.mfu
        )
    except CorpusError as fault:
        raise CorpusError(f"{fault}\n`codemix study run` prepares what is missing; --assume-tokens plans before") from None
    if arguments.figure:
        from codemix_megatron.study.figure import draw_study

        draw_study(study.name, plan, arguments.figure)
    if arguments.json:
        print_json({"name": study.name, **plan.as_json()})
        return
    print_study_plan(study.name, plan)
    if arguments.figure:
        print(f"drawn into {arguments.figure}")
