"""codemix plan: show what a recipe will do before it does it."""

import json
import sys
from dataclasses import replace
from pathlib import Path

from codemix_megatron.cli.json_output import add_json_option, print_json
from codemix_megatron.cli.plan_tables import print_difference, print_plan
from codemix_megatron.errors import RecipeError
from codemix_megatron.plan.assumed import read_sizes
from codemix_megatron.plan.devices import DEVICES, on_device
from codemix_megatron.plan.difference import compare_plans, read_plan
from codemix_megatron.plan.plan import find_corpora, make_plan
from codemix_megatron.recipe.layout_checks import ranks_fault
from codemix_megatron.recipe.quantity import parse_tokens
from codemix_megatron.recipe.reading import read_recipe
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.records.atomic import write_json

__all__ = ["add_arguments", "assumed_vocab", "print_plan", "run"]

EPILOG = """examples:
  codemix plan recipe.yaml
  codemix plan recipe.yaml phases.1.tokens=2B parallel.tensor=4 --output plan.json
  codemix plan recipe.yaml --nproc 8 --device h100 --mfu 0.4 --figure plan.png
  codemix plan recipe.yaml --assume-tokens text=500B,code=139B --assume-vocab 256000
  codemix plan recipe.yaml --megatron-args --phase cooldown > pretrain.sh
  codemix plan small.yaml --simulate-tokens 400B         repeat corpora as often as a run of 400B tokens will
  codemix plan --diff recipe.yaml runs/before"""


def add_arguments(parser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("recipe", nargs="?", help="YAML recipe; its corpora must be prepared, or their sizes assumed")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the recipe, as a.b=c")
    parser.add_argument("--nproc", type=int, help="ranks to plan for; default: the smallest layout")
    parser.add_argument("--output", default="plan.json", help="where the plan is written (default: plan.json)")
    add_json_option(parser, "the plan, or the differences,")
    parser.add_argument("--figure", metavar="FILE", help="draw mixture and learning rate over tokens into a .png, .pdf or .svg")
    assumed = parser.add_argument_group("before anything is prepared")
    words = "plan with corpora of these training tokens: NAME=200B[,NAME=...] or a YAML file of such lines; may be repeated"
    assumed.add_argument("--assume-tokens", action="append", default=[], metavar="SIZES", help=words)
    assumed.add_argument("--assume-vocab", metavar="N", help="with this vocabulary (default: tokenizer.train_vocab_size)")
    words = "count each corpus as the share that this run is of one of N tokens: epochs are then those of that run (sequences.corpus_share)"
    assumed.add_argument("--simulate-tokens", metavar="N", help=words)
    hours = parser.add_argument_group("hours and memory")
    hours.add_argument("--device", metavar="NAME", help=f"accelerator to estimate with: {', '.join(DEVICES)}")
    hours.add_argument("--mfu", type=float, default=0.4, help="share of its peak that the model reaches (default: 0.4)")
    hours.add_argument("--suggest", action="store_true", help="with --device and --nproc: layouts that fit, fastest first, ready to paste")
    other = parser.add_argument_group("instead of planning alone")
    other.add_argument("--megatron-args", action="store_true", help="print the arguments of Megatron-LM's pretrain_gpt.py for one phase")
    other.add_argument("--phase", metavar="NAME", help="the phase for --megatron-args (default: the first)")
    other.add_argument("--diff", nargs=2, metavar=("A", "B"), help="compare two recipes, plan.json files or run folders")


def run(arguments) -> int:
    """Plan, print, write plan.json; or compare two plans."""
    if arguments.phase and not arguments.megatron_args:
        raise RecipeError(f"found {arguments.phase}, but it chooses the phase of --megatron-args; add that", where="--phase")
    return run_diff(arguments) if arguments.diff else run_plan(arguments)


def run_plan(arguments) -> int:
    """Plan one recipe and print it in the form asked for."""
    if arguments.recipe is None:
        raise RecipeError("missing; give the path of a YAML recipe, or --diff A B", where="recipe")
    recipe, corpora, plan = plan_recipe(arguments.recipe, arguments.overrides, arguments)
    if arguments.suggest:
        return show_suggestions(recipe, plan, arguments)
    if arguments.megatron_args:
        from codemix_megatron.plan.megatron_arguments import megatron_arguments

        sys.stdout.write(megatron_arguments(recipe, plan, corpora, arguments.phase).as_shell())
        return 0
    if arguments.figure:
        from codemix_megatron.plan.figure import draw_plan

        draw_plan(plan, arguments.figure)
    write_json(Path(arguments.output), plan.as_json())
    if arguments.json:
        print_json(plan.as_json())
        return 0
    print_plan(plan)
    figure = f" and {arguments.figure}" if arguments.figure else ""
    print(f"\nwritten to {arguments.output}{figure}")
    return 0


def show_suggestions(recipe: Recipe, plan, arguments) -> int:
    """Print layouts that fit the device."""
    from codemix_megatron.cli.plan_tables import print_suggestions
    from codemix_megatron.plan.suggest import suggest_layouts

    if not arguments.device:
        raise RecipeError("needs --device NAME, to know its memory and speed", where="--suggest")
    ranks = arguments.nproc or plan.layout["ranks"]
    print_suggestions(suggest_layouts(recipe, plan.vocab_size, ranks, arguments.device, arguments.mfu), arguments.device, ranks)
    return 0


def plan_recipe(path, overrides, arguments, names=None):
    """Return (recipe, corpora, plan) of one recipe; `names` are the corpora that --assume-tokens may speak of."""
    recipe = read_recipe(path, overrides)
    if arguments.nproc is not None and (fault := ranks_fault(recipe.parallel, arguments.nproc)):
        raise RecipeError(fault, where="--nproc")
    sizes = read_sizes(arguments.assume_tokens, names or recipe.corpora)
    own_sizes = {name: tokens for name, tokens in sizes.items() if name in recipe.corpora}
    corpora = find_corpora(recipe, own_sizes, assumed_vocab(arguments))
    if arguments.simulate_tokens is not None:
        recipe = simulating(recipe, arguments.simulate_tokens)
    plan = make_plan(recipe, corpora, arguments.nproc)
    return recipe, corpora, on_device(plan, arguments.device, arguments.mfu) if arguments.device else plan


def simulating(recipe: Recipe, text: str) -> Recipe:
    """Return the recipe with corpora cut to what its run is of one of so many tokens; print the key that says so."""
    try:
        tokens = parse_tokens(text)
    except ValueError as fault:
        raise RecipeError(str(fault), where="--simulate-tokens") from None
    own = sum(phase.tokens for phase in recipe.phases)
    if tokens < own:
        raise RecipeError(
            f"{text} is less than the recipe's own {own} tokens; give those of the run it stands for", where="--simulate-tokens"
        )
    share = float(f"{own / tokens:.6g}")
    sys.stderr.write(f"as a part of {text} tokens: train it with sequences.corpus_share={share:g}\n")
    return replace(recipe, sequences=replace(recipe.sequences, corpus_share=share))


def assumed_vocab(arguments) -> int | None:
    """Return --assume-vocab as a number; 256K is one."""
    if arguments.assume_vocab is None:
        return None
    try:
        return parse_tokens(arguments.assume_vocab)
    except ValueError as fault:
        raise RecipeError(str(fault), where="--assume-vocab") from None


def run_diff(arguments) -> int:
    """Compare two plans; overrides hold for both recipes."""
    overrides = [*([arguments.recipe] if arguments.recipe else []), *arguments.overrides]
    if strays := [word for word in overrides if "=" not in word]:
        raise RecipeError(f"found {', '.join(strays)} besides {' and '.join(arguments.diff)}; it compares two plans", where="--diff")
    plans = [read_plan(path) for path in arguments.diff]
    recipes = [path for path, plan in zip(arguments.diff, plans, strict=True) if plan is None]
    names = list(dict.fromkeys(name for path in recipes for name in read_recipe(path, overrides).corpora))
    for i, path in enumerate(arguments.diff):
        if plans[i] is None:
            plans[i] = json.loads(json.dumps(plan_recipe(path, overrides, arguments, names)[2].as_json()))
    ours, theirs = (plan or {} for plan in plans)
    difference = compare_plans(ours, theirs)
    if arguments.json:
        print_json(difference)
    else:
        print_difference(difference)
    return 0
