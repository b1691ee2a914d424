"""YAML and overrides -> Recipe, with every fault reported at once."""

import difflib
import re
import types
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from codemix_megatron.errors import RecipeError
from codemix_megatron.plugins import find_plugin
from codemix_megatron.recipe.checks import find_faults
from codemix_megatron.recipe.conversations import OF_TOKENIZER, PLAIN, Conversations
from codemix_megatron.recipe.filtering import FilterSpec
from codemix_megatron.recipe.inheriting import inherit_from_parent
from codemix_megatron.recipe.moving_mixture import is_moving
from codemix_megatron.recipe.pretrained import PREFIX, take_over_pretrained
from codemix_megatron.recipe.published import with_published
from codemix_megatron.recipe.quantity import parse_tokens
from codemix_megatron.recipe.schema import NAMED_READERS, CorpusSpec, Phase, Recipe, as_plain
from codemix_megatron.recipe.shapes import SHAPES
from codemix_megatron.recipe.sources import Source

__all__ = [
    "Faults",
    "apply_overrides",
    "build_recipe",
    "kind_of",
    "nearest",
    "parse_yaml",
    "read_block",
    "read_recipe",
    "set_at",
    "write_recipe",
]

OCTAL = re.compile(r"[-+]?0[0-9_]+")
# What a number may be: NaN and infinity turn comparisons, and so the checks after this, into nothing.
LARGEST = {int: 2**62, float: 1e300}


def read_recipe(path, overrides=()) -> Recipe:
    """Read a YAML recipe, apply `a.b=c` overrides, resolve paths beside the file and check everything.

    Raises RecipeError with all faults at once.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise RecipeError(
            f"cannot be read ({getattr(fault, 'strerror', None) or fault}); give the path of a YAML recipe", where=str(path)
        ) from None
    plain = apply_overrides(parse_yaml(text, where=str(path)), overrides, where=str(path))
    return build_recipe(plain, directory=path.resolve().parent, where=str(path))


def parse_yaml(text: str, *, where: str) -> dict:
    """Return the mapping a YAML text holds; duplicate keys and syntax faults raise RecipeError with the line."""
    try:
        plain = yaml.load(text, Loader=StrictLoader)
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise RecipeError(f"{place}{fault.problem or fault}", where=where) from None
    except (yaml.YAMLError, ValueError) as fault:  # ValueError: a number of thousands of digits, a date that is none
        raise RecipeError(f"is not YAML: {fault}", where=where) from None
    if not isinstance(plain, dict):
        raise RecipeError(f"holds {kind_of(plain)}, not a mapping of keys", where=where)
    return plain


class StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, and numbers that YAML 1.1 takes for others than they look: 010 is 8 to it, 1:30 is 90."""

    def construct_scalar(self, node):
        """Return the text of a value; raises for a number to the base of 8 or 60."""
        number = node.tag.rpartition(":")[2] in ("int", "float")
        if number and (":" in node.value or OCTAL.fullmatch(node.value)):
            raise yaml.constructor.ConstructorError(
                None, None, f"{node.value}: YAML would read another number; write it without a colon and leading zeros", node.start_mark
            )
        return super().construct_scalar(node)

    def construct_mapping(self, node, deep=False):
        """Build a mapping, refusing duplicate keys (YAML itself keeps the last, silently)."""
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, (str, int, float, bool)):
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is not a name", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def apply_overrides(plain: dict, overrides, *, where: str = "override") -> dict:
    """Return the mapping with `a.b=c` and `phases.1.tokens=2M` set; values are read as YAML."""
    faults = []
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path:
            faults.append(f"override {override!r} is not of the form key.key=value")
            continue
        try:
            set_at(plain, path.split("."), yaml.load(text, Loader=StrictLoader))
        except (KeyError, IndexError, TypeError, ValueError, yaml.YAMLError) as fault:
            faults.append(f"override {override!r}: {getattr(fault, 'problem', None) or (fault.args[0] if fault.args else fault)}")
    if faults:
        raise RecipeError(faults, where=where)
    return plain


def set_at(node: Any, keys: list[str], value) -> None:
    """Set one value in nested dicts and lists; missing mappings are made."""
    for word, after in zip(keys, [*keys[1:], None], strict=True):
        key: Any = word
        if isinstance(node, list):
            if not word.isdigit() or int(word) >= len(node):
                raise IndexError(f"{word!r} is not an index; there are {len(node)} entries, from 0")
            key = int(word)
        elif not isinstance(node, dict):
            raise TypeError(f"{key!r} cannot be set inside {kind_of(node)}")
        if after is None:
            node[key] = value
        else:
            node = node[key] if isinstance(node, list) else node.setdefault(key, {})


def build_recipe(plain: dict, *, directory, where: str = "recipe", is_whole: bool = False) -> Recipe:
    """Turn plain dicts into a Recipe; relative paths are taken from `directory`.

    What it leaves out is taken from its parent or the public model it starts from, unless it `is_whole`, as those in run folders are.
    """
    faults = Faults()
    if not is_whole:
        plain = with_published(with_shape(plain, faults), faults)
        plain = inherit_from_parent(plain, Path(directory), faults, parse_yaml)
        plain = take_over_pretrained(plain, Path(directory), faults)
    recipe = read_block(Recipe, plain, "", faults)
    if recipe is not None:
        recipe = resolve_paths(recipe, Path(directory))
        faults += find_faults(recipe)
    if faults:
        raise RecipeError(faults, where=where)
    return recipe


def with_shape(plain: dict, faults: "Faults") -> dict:
    """Return the recipe with `model.shape`, a name, replaced by the keys it stands for; keys beside it win."""
    model = plain.get("model") if isinstance(plain, dict) else None
    if not isinstance(model, dict) or "shape" not in model:
        return plain
    name = model["shape"]
    if name not in SHAPES:
        faults.append(f"model.shape: found {name!r}, allowed are {', '.join(SHAPES)}")
    others = {key: value for key, value in model.items() if key != "shape"}
    return {**plain, "model": {**SHAPES.get(name, {}), **others}}


class Faults(list):
    """Lines about a recipe; `harmless` counts those that do not keep a block from being built."""

    harmless = 0

    @property
    def blocking(self) -> int:
        """Faults that leave a value unknown."""
        return len(self) - self.harmless


def read_block(block, plain, path: str, faults: Faults):
    """Return an instance of the dataclass `block`, or None after adding to `faults`."""
    if not isinstance(plain, dict):
        faults.append(f"{path or 'recipe'}: found {kind_of(plain)}, needs a mapping with {', '.join(f.name for f in fields(block))}")
        return None
    known = {f.name: f for f in fields(block)}
    for key in plain:
        if key not in known:
            faults.append(f"{join(path, key)}: no such key{nearest(key, known)}")
            faults.harmless += 1
    before, hints, values = faults.blocking, get_type_hints(block), {}
    for name, declared in known.items():
        if name in plain:
            values[name] = read_value(declared, hints[name], plain[name], join(path, name), faults)
        elif declared.default is MISSING and declared.default_factory is MISSING:
            faults.append(f"{join(path, name)}: missing; it is the {declared.metadata['help']}")
    return block(**values) if faults.blocking == before else None


def read_value(declared, hint, value, path: str, faults: Faults):
    """Read one value of a block by its declared reader or its type."""
    reader = declared.metadata.get("reader")
    if value is None and declared.default is None:
        return None
    try:
        if reader == "tokens":
            return parse_tokens(value)
        if reader == "tokens_or_zero":
            return 0 if value == 0 and not isinstance(value, bool) else parse_tokens(value)
    except ValueError as fault:
        faults.append(f"{path}: {fault}")
        return None
    if callable(reader):
        return reader(value, path, faults)
    if reader == "corpora":
        return read_corpora(value, path, faults)
    if reader == "sources":
        return read_sources(value, path, faults)
    if reader == "phases":
        return read_phases(value, path, faults)
    if reader == "mixture":
        return read_mixture(value, path, faults)
    if reader == "rates":
        return read_rates(value, path, faults)
    return read_typed(hint, value, path, faults)


def read_typed(hint, value, path: str, faults: Faults):
    """Read a value by its type hint: dataclass, Literal, Optional, tuple or scalar."""
    if is_dataclass(hint):
        return read_block(hint, value, path, faults)
    origin = get_origin(hint)
    if origin is Literal:
        # YAML reads a bare `off` as False, and wandb's own word for it is off.
        value = "off" if value is False and "off" in get_args(hint) else value
        if value not in get_args(hint):
            faults.append(f"{path}: found {value!r}, allowed are {', '.join(get_args(hint))}")
        return value
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return read_typed(next(h for h in get_args(hint) if h is not type(None)), value, path, faults)
    if origin is tuple:
        return read_tuple(get_args(hint), value, path, faults)
    return read_scalar(hint, value, path, faults)


def read_tuple(hints, value, path: str, faults: Faults):
    """Read a list; `tuple[x, ...]` takes one bare value too."""
    endless = len(hints) == 2 and hints[1] is ...
    if endless and isinstance(value, str):
        value = [value]
    if not isinstance(value, (list, tuple)) or (not endless and len(value) != len(hints)):
        faults.append(f"{path}: found {kind_of(value)}, needs a list" + ("" if endless else f" of {len(hints)}"))
        return None
    inner = [hints[0]] * len(value) if endless else hints
    return tuple(read_typed(h, v, f"{path}[{i}]", faults) for i, (h, v) in enumerate(zip(inner, value, strict=True)))


def read_scalar(hint, value, path: str, faults: Faults):
    """Read a bool, int, finite float or str without guessing between them."""
    if hint is float and isinstance(value, str):
        try:
            value = float(value)  # YAML 1.1 reads 3e-4 (no dot) as text
        except ValueError:
            pass
    accepted = {bool: (bool,), int: (int,), float: (int, float), str: (str,)}[hint]
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        faults.append(f"{path}: found {kind_of(value)}, needs {names_of(hint)}")
        return None
    if hint in LARGEST and isinstance(value, (int, float)) and not abs(value) <= LARGEST[hint]:  # .nan is neither above nor below
        faults.append(f"{path}: found {value if isinstance(value, float) else 'a number of more than 62 bits'}, needs a finite number")
        return None
    return hint(value)


def read_corpora(value, path: str, faults: Faults):
    """Read the mapping name -> CorpusSpec."""
    if not value:
        faults.append(f"{path}: found {kind_of(value)}, needs a mapping of corpus names")
        return None
    return read_blocks(CorpusSpec, value, path, faults, "of corpus names")


def read_sources(value, path: str, faults: Faults):
    """Read the mapping name of a corpus -> Source."""
    return read_blocks(Source, value, path, faults, "such as {code: {by: quality, buckets: [0.5], epochs: [0, 2]}}")


def read_blocks(declared: type, value, path: str, faults: Faults, what: str):
    """Read a mapping name -> block; `what` says in a fault which mapping it should be."""
    if not isinstance(value, dict):
        faults.append(f"{path}: found {kind_of(value)}, needs a mapping {what}")
        return None
    return {str(name): read_block(declared, plain, join(path, name), faults) for name, plain in value.items()}


def read_rates(value, path: str, faults: Faults):
    """Read a mapping name -> number."""
    if not isinstance(value, dict):
        faults.append(f"{path}: found {kind_of(value)}, needs a mapping such as {{python: 0.5}}")
        return None
    return {str(name): read_scalar(float, rate, join(path, name), faults) for name, rate in value.items()}


def read_phases(value, path: str, faults: Faults):
    """Read the list of phases."""
    if not isinstance(value, list) or not value:
        faults.append(f"{path}: found {kind_of(value)}, needs a list of at least one phase")
        return None
    return tuple(read_block(Phase, plain, f"{path}[{i}]", faults) for i, plain in enumerate(value))


def read_mixture(value, path: str, faults: Faults):
    """Read a mixture; sums are checked later, with the names."""
    if not isinstance(value, dict) or not value:
        faults.append(f"{path}: found {kind_of(value)}, needs a mapping corpus -> share")
        return None
    if is_moving(value):
        return read_moving(value, path, faults)
    if "proportional" in value:
        return read_proportional(value, path, faults)
    return {str(name): read_entry(entry, join(path, name), faults) for name, entry in value.items()}


def read_moving(value: dict, path: str, faults: Faults):
    """Read {from, to, stages}."""
    for key in value:
        if key not in ("from", "to", "stages"):
            faults.append(f"{join(path, key)}: no such key{nearest(key, ('from', 'to', 'stages'))}")
    read = {end: read_mixture(value[end], f"{path}.{end}", faults) for end in ("from", "to")}
    if value.get("stages") is not None:
        read["stages"] = read_scalar(int, value["stages"], f"{path}.stages", faults)
    return read


def read_entry(entry, path: str, faults: Faults):
    """Read one entry of a mixture: a share, {tokens}, or a group with {share or tokens, mixture}."""
    if not isinstance(entry, dict):
        return read_scalar(float, entry, path, faults)
    keys = set(entry)
    if keys not in ({"tokens"}, {"share", "mixture"}, {"tokens", "mixture"}):
        found = ", ".join(map(str, entry)) or "none"
        faults.append(f"{path}: found the keys {found}; allowed are a share, {{tokens}}, {{share, mixture}} or {{tokens, mixture}}")
        return None
    read = {}
    if "share" in entry:
        read["share"] = read_scalar(float, entry["share"], f"{path}.share", faults)
    else:
        try:
            read["tokens"] = 0 if entry["tokens"] == 0 else parse_tokens(entry["tokens"])
        except ValueError as fault:
            faults.append(f"{path}.tokens: {fault}")
    if "mixture" in entry:
        read["mixture"] = read_mixture(entry["mixture"], f"{path}.mixture", faults)
    return read


def read_proportional(value: dict, path: str, faults: Faults):
    """Read {proportional: tokens, temperature, corpora}."""
    for key in value:
        if key not in ("proportional", "temperature", "corpora"):
            faults.append(f"{join(path, key)}: no such key{nearest(key, ('proportional', 'temperature', 'corpora'))}")
    if value["proportional"] != "tokens":
        faults.append(f"{path}.proportional: found {value['proportional']!r}, allowed is tokens")
    corpora = read_tuple((str, ...), value.get("corpora"), f"{path}.corpora", faults)
    temperature = read_scalar(float, value.get("temperature", 1.0), f"{path}.temperature", faults)
    return {"proportional": "tokens", "temperature": temperature, "corpora": list(corpora or ())}


def resolve_paths(recipe: Recipe, directory: Path) -> Recipe:
    """Return the recipe with absolute paths and default prefixes filled in."""

    def absolute(path: str) -> str:
        if path.startswith(PREFIX):
            return PREFIX + absolute(path.removeprefix(PREFIX))
        return path if "://" in path else str((directory / Path(path).expanduser()).absolute())

    def document(path: str) -> str:
        reader, named, rest = path.partition(":")
        if path.startswith("python:"):
            return path
        if named and reader.isidentifier() and reader not in NAMED_READERS and "://" not in path and find_plugin("readers", reader):
            return f"{reader}:{absolute(rest)}" if rest.startswith(("./", "../", "~")) else path
        return f"{reader}:{absolute(rest)}" if named and reader in NAMED_READERS else absolute(path)

    corpora = {
        name: replace(
            spec,
            documents=tuple(document(p) for p in spec.documents),
            prefix=absolute(spec.prefix or f"corpora/{name}"),
            filters=resolve_filters(spec.filters, absolute),
            conversations=resolve_template(spec.conversations, absolute, recipe.tokenizer.path),
        )
        for name, spec in recipe.corpora.items()
    }
    evaluation, asked = recipe.evaluation, recipe.evaluation.while_training
    tasks, data = evaluation.tasks_directory, evaluation.data_directory
    evaluation = replace(
        evaluation,
        tasks_directory=absolute(tasks) if tasks else tasks,
        data_directory=absolute(data) if data else data,
        suites=absolute_suites(evaluation.suites, absolute),
        while_training=asked and replace(asked, suites=absolute_suites(asked.suites, absolute)),
    )
    return replace(
        recipe,
        corpora=corpora,
        evaluation=evaluation,
        tokenizer=replace(recipe.tokenizer, path=absolute(recipe.tokenizer.path)),
        initial_weights=absolute(recipe.initial_weights) if recipe.initial_weights else None,
        branch=replace(recipe.branch, run=absolute(recipe.branch.run)) if recipe.branch else None,
    )


def resolve_template(spec: Conversations | None, absolute, tokenizer: str) -> Conversations | None:
    """Return how conversations are read with the file of their chat template named, be it one beside the tokenizer."""
    if spec is None or spec.template == PLAIN:
        return spec
    return replace(spec, template=absolute(tokenizer if spec.template == OF_TOKENIZER else spec.template))


def absolute_suites(suites: tuple[str, ...], absolute) -> tuple[str, ...]:
    """Return suites with the paths of those that are files made absolute."""
    return tuple(absolute(suite) if suite.endswith((".yaml", ".yml")) else suite for suite in suites)


def resolve_filters(spec: FilterSpec, absolute) -> FilterSpec:
    """Return the filters with the paths of their evaluation sets and of other corpora made absolute."""
    spec = replace(spec, apart_from=tuple(absolute(entry) if "/" in entry else entry for entry in spec.apart_from))
    if spec.decontamination is None:
        return spec
    against = tuple(absolute(path) for path in spec.decontamination.against)
    return replace(spec, decontamination=replace(spec.decontamination, against=against))


def write_recipe(recipe: Recipe) -> str:
    """Return the YAML text of a resolved recipe; reading it again gives the same recipe."""
    return yaml.safe_dump(as_plain(recipe), sort_keys=False, allow_unicode=True)


def join(path: str, key) -> str:
    """Return the dotted path of a key."""
    return f"{path}.{key}" if path else str(key)


def nearest(word, allowed) -> str:
    """Return `; did you mean X?` for a near miss, else what is allowed."""
    close = difflib.get_close_matches(str(word), [str(a) for a in allowed], n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else f"; allowed are {', '.join(map(str, allowed))}"


def names_of(hint) -> str:
    """Name a scalar type as a person would."""
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[hint]


def kind_of(value) -> str:
    """Describe a value for an error message."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    return repr(value)
