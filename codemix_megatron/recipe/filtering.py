"""What a corpus leaves out or masks: the blocks under `corpora.NAME.filters`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from codemix_megatron.recipe.fields import option

__all__ = [
    "PERSONAL_DATA",
    "Decontamination",
    "FilterSpec",
    "LineLength",
    "NearDuplicates",
    "PersonalPattern",
    "PersonalRecogniser",
    "filter_faults",
    "with_presets",
]

PERSONAL_DATA = ("email", "ip", "key", "phone", "iban")

# StarCoder (arXiv:2305.06161, section 3.1) lets long lines pass in formats that are prose or data.
LONG_LINE_LANGUAGES = ("html", "json", "markdown", "roff", "rst", "latex", "text", "xml", "notebook", "commit")


@dataclass(frozen=True, kw_only=True)
class LineLength:
    """StarCoder's filter of data, bundles and minified code, by the length of lines in characters."""

    mean: float = option("longest mean of a document", 100.0)
    longest: int = option("longest line of a document", 1000)
    except_languages: tuple[str, ...] = option("languages in which long lines are usual", LONG_LINE_LANGUAGES)


@dataclass(frozen=True, kw_only=True)
class NearDuplicates:
    """MinHash signatures of word shingles, compared by locality-sensitive hashing; of documents alike the first stays."""

    similarity: float = option("Jaccard similarity of two documents' shingles from which they count as copies", 0.7)
    shingle_words: int = option("words that make one shingle", 5)
    permutations: int = option("hashes of a signature; memory and time go with it", 128)


@dataclass(frozen=True, kw_only=True)
class Decontamination:
    """Drops documents that share n-grams with evaluation sets."""

    against: tuple[str, ...] = option("evaluation sets: JSON lines, text files, globs, or an index built from them (.npz)")
    ngram_words: int = option("words of a run that counts as shared", 13)
    short_words: int = option("words from which an item shorter than such a run is looked for, as a whole; 0 looks for none", 8)
    most_shared: int = option("shared runs a document may hold", 0)
    keys: tuple[str, ...] = option("keys of the items that count; default: all", ())


@dataclass(frozen=True, kw_only=True)
class PersonalPattern:
    """A form of personal data of one's own: what the pattern finds becomes <NAME>."""

    name: str = option("what is counted and, in capitals, the mask; letters, digits and underscores")
    pattern: str = option("regular expression as RE2 reads it: no look-around, no references back")


@dataclass(frozen=True, kw_only=True)
class PersonalRecogniser:
    """A form of personal data that an installed package recognises: what it finds becomes <NAME>."""

    name: str = option("what is counted and, in capitals, the mask; letters, digits and underscores")
    recogniser: str = option("name of a recogniser among the plugins")


OWN_FORMS: dict[frozenset[str], type[PersonalPattern] | type[PersonalRecogniser]] = {
    frozenset(("name", "pattern")): PersonalPattern,
    frozenset(("name", "recogniser")): PersonalRecogniser,
}


def read_personal_data(value, path: str, faults) -> tuple[str | PersonalPattern | PersonalRecogniser, ...] | None:
    """Read names of forms and mappings {name, pattern} or {name, recogniser}."""
    entries = value if isinstance(value, (list, tuple)) else [value]
    for index, entry in enumerate(entries):
        if isinstance(entry, dict) and frozenset(entry) in OWN_FORMS and all(isinstance(word, str) for word in entry.values()):
            faults += [f"{path}[{index}].{fault}" for fault in own_form_faults(**entry)]
        elif entry not in PERSONAL_DATA:
            allowed = f"{', '.join(PERSONAL_DATA)}, {{name, pattern}} and {{name, recogniser}}"
            faults.append(f"{path}[{index}]: found {entry!r}, allowed are {allowed}")
    return tuple(OWN_FORMS[frozenset(entry)](**entry) if isinstance(entry, dict) else entry for entry in entries) if not faults else None


def read_plugins(value, path: str, faults) -> dict[str, dict] | None:
    """Read names of filters among the plugins, each with its settings."""
    if not isinstance(value, dict):
        faults.append(
            f"{path}: found {value!r}, needs a mapping of a filter's name to its settings, such as {{few_comments: {{least: 0.1}}}}"
        )
        return None
    wrong = [
        f"{path}.{name}: found {settings!r}, needs a mapping" for name, settings in value.items() if not isinstance(settings, dict | None)
    ]
    faults += wrong
    return {str(name): settings or {} for name, settings in value.items()} if not wrong else None


def own_form_faults(name: str, pattern: str | None = None, recogniser: str | None = None) -> Iterator[str]:
    """Yield what is wrong with a form of one's own."""
    if not re.fullmatch(r"\w{1,40}", name) or name in PERSONAL_DATA:
        yield f"name: found {name!r}, allowed are 1 to 40 letters, digits and underscores, and none of {', '.join(PERSONAL_DATA)}"
    if pattern is not None:
        yield from pattern_faults(pattern)


def pattern_faults(pattern: str) -> Iterator[str]:
    """Yield what is wrong with a pattern of one's own."""
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as fault:
        yield f"pattern: found {pattern!r}, which RE2 cannot read ({text_of(fault)})"


def text_of(fault: Exception) -> str:
    """Return the words of an error of RE2, which gives bytes."""
    words = fault.args[0] if fault.args else fault
    return words.decode("utf-8", "replace") if isinstance(words, bytes) else str(words)


@dataclass(frozen=True, kw_only=True)
class FilterSpec:
    """Filters of one corpus, applied in this order; each is off until it is named."""

    presets: tuple[Literal["paper", "starcoder"], ...] = option(
        "paper: max_floats 1000, hexadecimal, top_level_domains, generated_by; starcoder: line_length, alphabet_share 0.25", ()
    )
    languages: tuple[str, ...] = option("languages kept: names, or paper_code (25) and paper_markup (10 formats)", ())
    licences: tuple[str, ...] = option("licences kept: SPDX names, or permissive; a document without one is dropped", ())
    min_characters: int | None = option("shortest document", None)
    max_characters: int | None = option("longest document", None)
    max_floats: int | None = option("most floating-point numbers in a document", None)
    hexadecimal: bool = option("drop documents that contain 0x", False)
    top_level_domains: bool = option("drop lists of top-level domains", False)
    generated_by: bool = option("drop documents with `generated by` in their first 400 characters", False)
    line_length: LineLength | None = option("drop documents with long lines", None)
    alphabet_share: float | None = option("least share of letters among the characters of a document", None)
    plugins: dict[str, dict] = option("filters that installed packages add, NAME: {settings}", factory=dict, reader=read_plugins)
    decontamination: Decontamination | None = option("drop documents that share n-grams with evaluation sets", None)
    text_languages: tuple[str, ...] = option("natural languages kept, as codes of ISO 639 such as en; any keeps and names all", ())
    personal_data: tuple[str | PersonalPattern | PersonalRecogniser, ...] = option(
        "mask email addresses, public ip addresses, key: keys and passwords, phone numbers, iban accounts, {name, pattern} of your own,"
        " {name, recogniser} of a plugin",
        (),
        reader=read_personal_data,
    )
    near_duplicates: NearDuplicates | None = option("drop documents nearly alike to an earlier one", None)
    apart_from: tuple[str, ...] = option(
        "corpora whose documents are dropped: names of corpora before it in the recipe, `earlier` for all of them, or prefixes", ()
    )


PRESETS: dict[str, dict[str, object]] = {
    "paper": {"max_floats": 1000, "hexadecimal": True, "top_level_domains": True, "generated_by": True},
    "starcoder": {"line_length": LineLength(), "alphabet_share": 0.25},
}


def with_presets(spec: FilterSpec) -> FilterSpec:
    """Return the filters with those of its presets filled in where nothing else is set."""
    unset = vars(FilterSpec())
    filled: dict[str, Any] = {
        name: value for preset in spec.presets for name, value in PRESETS[preset].items() if getattr(spec, name) == unset[name]
    }  # fmt: skip
    return replace(spec, **filled)


def filter_faults(spec: FilterSpec, path: str) -> list[str]:
    """Return one line per value out of range."""
    faults = []

    def check(key: str, value, is_good, allowed: str) -> None:
        if value is not None and not is_good(value):
            faults.append(f"{path}.{key}: found {value}, {allowed}")

    check("min_characters", spec.min_characters, lambda n: n >= 1, "must be at least 1")
    check("max_characters", spec.max_characters, lambda n: n >= (spec.min_characters or 1), "must be at least min_characters")
    check("max_floats", spec.max_floats, lambda n: n >= 0, "must be at least 0")
    check("alphabet_share", spec.alphabet_share, lambda share: 0 < share <= 1, "must be above 0 and at most 1")
    if spec.text_languages and "any" in spec.text_languages and len(spec.text_languages) > 1:
        faults.append(f"{path}.text_languages: found {', '.join(spec.text_languages)}; `any` stands alone")
    if spec.line_length:
        check("line_length.mean", spec.line_length.mean, lambda n: n > 0, "must be above 0")
        check("line_length.longest", spec.line_length.longest, lambda n: n > 0, "must be above 0")
    if near := spec.near_duplicates:
        check("near_duplicates.similarity", near.similarity, lambda s: 0.1 <= s < 1, "allowed are 0.1 to below 1")
        check("near_duplicates.shingle_words", near.shingle_words, lambda n: 1 <= n <= 64, "allowed are 1 to 64")
        check("near_duplicates.permutations", near.permutations, lambda n: 16 <= n <= 1024, "allowed are 16 to 1024")
    if eval_sets := spec.decontamination:
        check("decontamination.ngram_words", eval_sets.ngram_words, lambda n: 2 <= n <= 64, "allowed are 2 to 64")
        check("decontamination.short_words", eval_sets.short_words, lambda n: n == 0 or n >= 2, "allowed are 0 and 2 and more")
        check("decontamination.most_shared", eval_sets.most_shared, lambda n: n >= 0, "must be at least 0")
        check("decontamination.against", len(eval_sets.against), lambda n: n > 0, "name at least one evaluation set")
    return faults
