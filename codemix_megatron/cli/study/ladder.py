"""codemix study ladder: a recipe at several sizes and tokens, and in several mixtures, as a study to run."""

import sys
from pathlib import Path

from codemix_megatron.cli.study.progress import say
from codemix_megatron.errors import CodemixError, RecipeError
from codemix_megatron.recipe.quantity import format_tokens, parse_tokens
from codemix_megatron.recipe.reading import read_recipe
from codemix_megatron.recipe.yaml_text import parse_yaml
from codemix_megatron.records.atomic import replace_text
from codemix_megatron.study.ladder import RULES, Rung, ladder_study, rungs_of

__all__ = ["add_ladder_arguments"]


def add_ladder_arguments(parser) -> None:
    """Declare the action's arguments."""
    parser.add_argument("base", metavar="BASE.yaml", help="recipe of the base size, whose learning rates and batch are right for it")
    parser.add_argument("--sizes", required=True, metavar="N,N", help="parameters in all, such as 20M,60M,180M")
    parser.add_argument("--tokens-per-parameter", default="20", metavar="R,R", help="lengths of training (default: 20)")
    parser.add_argument("--rule", choices=RULES, default=RULES[0], help="how learning rate and batch move from the base's (default: step)")
    proposals = "proposals.yaml of codemix law or swarm: its mixtures are trained beside the base's own"
    parser.add_argument("--mixtures", metavar="FILE", help=proposals)
    parser.add_argument("--vocab", metavar="N", help="vocabulary to count parameters with (default: tokenizer.train_vocab_size)")
    parser.add_argument("--output", default="ladder.yaml", metavar="FILE", help="the study (default: ladder.yaml)")
    parser.set_defaults(act=write_ladder)


def write_ladder(arguments) -> None:
    """Write the study and say what it trains."""
    import yaml

    recipe = read_recipe(arguments.base)
    vocab = quantities("--vocab", arguments.vocab)[0] if arguments.vocab else recipe.tokenizer.train_vocab_size
    if vocab is None:
        raise RecipeError("missing; the recipe trains no tokenizer, so give the size of its vocabulary", where="--vocab")
    ratios = [positive(word) for word in arguments.tokens_per_parameter.split(",")]
    rungs = rungs_of(recipe, quantities("--sizes", arguments.sizes), ratios, arguments.rule, vocab)
    mixtures: dict[str, dict[str, dict]] = {"base": {}}
    if arguments.mixtures:
        mixtures |= read_mixtures(Path(arguments.mixtures), [phase.name for phase in recipe.phases])
    study = ladder_study(recipe, str(Path(arguments.base).resolve()), rungs, mixtures)
    head = f"# Sizes x tokens of {arguments.base}; learning rate and batch by the rule {arguments.rule} from the base's own.\n"
    replace_text(Path(arguments.output), head + yaml.safe_dump(study, sort_keys=False, default_flow_style=None, width=150))
    print_rungs(rungs, recipe)
    say(f"{len(rungs)} rungs x {len(mixtures)} mixtures: {arguments.output}; next: codemix study run {arguments.output}")


def quantities(option: str, text: str) -> list[int]:
    """Return counts with commas between them."""
    try:
        return [parse_tokens(word) for word in text.split(",")]
    except ValueError as fault:
        raise CodemixError(f"{option}: {fault}") from None


def positive(word: str) -> float:
    """Return a number above 0."""
    try:
        number = float(word)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e6:
        raise CodemixError(f"--tokens-per-parameter: found {word!r}, needs numbers above 0 with commas between them")
    return number


def read_mixtures(path: Path, phases: list[str]) -> dict[str, dict[str, dict]]:
    """Return name -> phase -> mixture of a file of proposals; the best and those for exploring."""
    try:
        blocks = parse_yaml(f"blocks:\n{path.read_text(encoding='utf-8')}", where=str(path))["blocks"]
    except (OSError, UnicodeDecodeError) as fault:
        raise CodemixError(f"{path}: cannot be read ({getattr(fault, 'strerror', None) or fault})") from None
    found: dict[str, dict[str, dict]] = {}
    for block in blocks or []:
        if not isinstance(block, dict) or not ("mixture" in block or "phases" in block):
            raise CodemixError(f"{path}: holds no proposals as codemix law --output writes them")
        name = str(block.get("purpose", "mixture")).removeprefix("control: ").replace(" ", "-")
        own: dict[str, dict] = dict.fromkeys(phases, block.get("mixture") or {})
        if "phases" in block:
            own = {part["name"]: part["mixture"] for part in block["phases"]}
        if unknown := [phase for phase in own if phase not in phases]:
            raise CodemixError(f"{path}: phase {unknown[0]} of {name}; the base recipe has {', '.join(phases)}")
        found[name] = own
    return found


def print_rungs(rungs: list[Rung], recipe) -> None:
    """Print sizes, tokens, learning rate and batch of each rung."""
    from rich.table import Table

    from codemix_megatron.cli.consoles import Console

    shown = Table("rung", "layers", "width", "parameters", "tokens", "peak rate", "batch", title="ladder", title_justify="left")
    for rung in rungs:
        peak = recipe.phases[0].learning_rate.peak * rung.rate_factor
        row = (str(rung.model.num_layers), str(rung.model.hidden_size), format_tokens(rung.parameters), format_tokens(rung.tokens))
        shown.add_row(rung.name, *row, f"{peak:.3g}", str(rung.global_sequences))
    Console(width=None if sys.stdout.isatty() else 110).print(shown)
