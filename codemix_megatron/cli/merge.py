"""`codemix merge RECIPE`: the parts that shards have done -> corpora under their names."""

from codemix_megatron.cli.prepare import add_finishing_arguments, check_arguments, print_summary, reporting
from codemix_megatron.corpus.prepare import HowToPrepare, prepare_recipe
from codemix_megatron.recipe.reading import read_recipe

__all__ = ["add_arguments", "run"]

EPILOG = """examples:
  codemix merge recipe.yaml
  codemix merge recipe.yaml --only web_code

Needs every part to be done, by any shards; says which are missing. Give the same recipe and KEY=VALUE changes as
to `codemix prepare`. The files are those of a single `codemix prepare`, byte for byte."""


def add_arguments(parser) -> None:
    """Declare the arguments."""
    parser.add_argument("recipe", metavar="RECIPE", help="YAML recipe")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="recipe keys to change, those given to prepare")
    parser.add_argument("--only", action="append", metavar="NAME", help="merge this corpus; may be given more than once")
    add_finishing_arguments(parser)
    parser.set_defaults(workers=None)


def run(arguments) -> None:
    """Merge and print what there is."""
    check_arguments(arguments)
    recipe = read_recipe(arguments.recipe, arguments.overrides)
    with reporting() as (progress, say):
        how = HowToPrepare(
            max_bad_share=arguments.max_bad_share,
            only_merge=True,
            check_inputs=arguments.check_inputs,
            duplicates_by=arguments.duplicates_by,
            progress=progress,
            say=say,
        )
        manifests = prepare_recipe(recipe, arguments.only, how)
    print_summary(manifests)
