"""Filters of one corpus, document by document: what is dropped, and under which name it is counted."""

import difflib
import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from codemix_megatron.errors import CorpusError
from codemix_megatron.filters.contamination import load_contamination_index
from codemix_megatron.filters.personal_data import mask_personal_data
from codemix_megatron.filters.plugin_filters import PluginCheck, filter_packages
from codemix_megatron.filters.text_languages import known_text_languages, text_language
from codemix_megatron.readers.documents import BadDocument, Document, InputFile
from codemix_megatron.readers.licences import licence_allowed
from codemix_megatron.recipe.filtering import FilterSpec, LineLength, with_presets
from codemix_megatron.recipe.languages import LANGUAGE_PRESETS, canonical_language
from codemix_megatron.recipe.schema import as_plain

__all__ = ["Filters", "filtered_inputs", "load_filters"]

ANY = "any"
EXAMPLE_CHARACTERS = 160
FLOAT = re.compile(r"\d\.\d")
GENERATED_CHARACTERS = 400
CASE_BIT, FIRST_LETTER, NUM_LETTERS, LAST_ASCII = (np.uint8(n) for n in (32, 97, 26, 127))
# Every list of top-level domains holds these; next to no other document does, so that the count below is seldom needed.
RARE_DOMAINS = ("museum", "aero", "coop")
COUNTRIES = (
    "ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bw by bz ca cc cd cf cg "
    "ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er es et eu fi fj fk fm fo fr ga gb gd ge gf gg gh "
    "gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke kg kh ki km kn kp kr "
    "kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq mr ms mt mu mv mw mx my mz na nc ne nf "
    "ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs ru rw sa sb sc sd se sg sh si sj sk sl "
    "sm sn so sr ss st sv sx sy sz tc td tf tg th tj tk tl tm tn to tr tt tv tw tz ua ug uk us uy uz va vc ve vg vi vn vu wf "
    "ws ye yt za zm zw"
)
COUNTRY_DOMAINS = frozenset(COUNTRIES.split())
LEAST_COUNTRY_DOMAINS = 150  # of 248
SHORT_WORD = re.compile(r"(?<![a-z0-9])[a-z]{2}(?![a-z0-9])")

Check = Callable[[Document], str | None]


class Filters:
    """Drops and rewrites documents as a recipe says; picklable, and the same in every process.

    A dropped document becomes a harmless BadDocument whose reason is the filter's name and whose example says what
    was found. A rewritten one names what was done to it in `rewritten`.
    """

    def __init__(self, spec: FilterSpec):
        self.spec = with_presets(spec)
        self.checks = list(document_checks(self.spec))
        self.contamination = load_contamination_index(spec.decontamination) if spec.decontamination else None
        if self.contamination is not None:
            self.checks.append(("contaminated", self.shared_with_evaluation))
        check_codes(self.spec.text_languages)

    def __bool__(self) -> bool:
        return bool(self.checks or self.spec.text_languages or self.spec.personal_data)

    def apply(self, document: Document) -> Document | BadDocument:
        """Return the document, rewritten where asked for, or why it is dropped."""
        for name, check in self.checks:
            found = check(document)
            if found is not None:
                return BadDocument(document.identity, name, harmless=True, example=self.masked(quoted(found, document.text)))
        if self.spec.text_languages and (language := text_language(document)) is not None:
            if self.spec.text_languages != (ANY,) and language not in self.spec.text_languages:
                return BadDocument(document.identity, "text language", harmless=True, example=self.masked(quoted(language, document.text)))
            document = replace(document, language=language)
        if self.spec.personal_data and document.turns:
            return self.masked_turns(document)
        if self.spec.personal_data:
            text, masked = mask_personal_data(document.text, self.spec.personal_data)
            if masked:
                return replace(document, text=text, rewritten=(*document.rewritten, *masked))
        return document

    def masked_turns(self, document: Document) -> Document:
        """Return a conversation masked turn by turn, so that it stays known who says what."""
        pairs = [mask_personal_data(turn.text, self.spec.personal_data) for turn in document.turns]
        turns = tuple(replace(turn, text=text) for turn, (text, _) in zip(document.turns, pairs, strict=True))
        masked = [name for _, names in pairs for name in names]
        return replace(document, text="".join(turn.text for turn in turns), turns=turns, rewritten=(*document.rewritten, *masked))

    def masked(self, example: str) -> str:
        """Return an example as the manifest may keep it."""
        return mask_personal_data(example, self.spec.personal_data)[0]

    def shared_with_evaluation(self, document: Document) -> str | None:
        """Say which evaluation item a document shares n-grams with."""
        assert self.contamination is not None and self.spec.decontamination is not None
        runs = self.contamination.shared_runs(document.text)
        if len(runs) > self.spec.decontamination.most_shared:
            return f"{len(runs)} n-grams, the first of {self.contamination.items_of(runs[0])[0]}"
        return None

    def notes(self) -> list[str]:
        """Return what the user should know: how many items of each evaluation set are too short to be looked for."""
        if self.contamination is None:
            return []
        least = self.contamination.least_words
        return [
            f"decontamination: {counts['not_looked_for']:,} of {counts['items']:,} items of {suite} cannot be looked for:"
            f" fewer than {least} words that distinguish them from others"
            for suite, counts in self.contamination.suites().items()
            if counts["not_looked_for"]
        ]

    def settings(self) -> dict:
        """Return what decides the result, for the manifest: every filter in use with its values, presets filled in."""
        unset = as_plain(FilterSpec())
        settings = {name: value for name, value in as_plain(self.spec).items() if value != unset[name]}
        if self.contamination is not None:
            settings["decontamination"]["index_sha256"] = self.contamination.sha256
            settings["decontamination"]["suites"] = self.contamination.suites()
        if packages := filter_packages(self.spec):
            settings["plugin_packages"] = packages
        return settings


def check_codes(languages: tuple[str, ...]) -> None:
    """Raise CorpusError for a code of a language that is never found."""
    for language in languages:
        if language != ANY and language not in known_text_languages():
            close = difflib.get_close_matches(language, known_text_languages(), n=3, cutoff=0.3)
            raise CorpusError(
                f"filters.text_languages: found {language!r}, allowed are any and codes of ISO 639 that py3langid knows"
                f"{', such as ' + ', '.join(close) if close else ''}: {', '.join(sorted(known_text_languages()))}"
            )


def load_filters(spec: FilterSpec) -> Filters:
    """Return the filters a corpus declares; evaluation sets are read now. Raises CorpusError when one cannot be."""
    return Filters(spec)


def filtered_inputs(inputs: list[InputFile], spec: FilterSpec) -> list[InputFile]:
    """Return inputs that read as filtered; near duplicates, which need all documents at once, are still in them."""
    filters = load_filters(spec)
    if not filters:
        return inputs
    return [replace(file, reader=functools.partial(read_filtered, file.reader, filters)) for file in inputs]


def read_filtered(reader: Callable, filters: Filters, *arguments, **more) -> Iterator[Document | BadDocument]:
    """Yield what a reader yields, filtered."""
    for document in reader(*arguments, **more):
        yield document if isinstance(document, BadDocument) else filters.apply(document)


def quoted(found: str, text: str) -> str:
    """Return what was found and how the document begins, on one line."""
    beginning = " ".join(text[: 2 * EXAMPLE_CHARACTERS].split())[:EXAMPLE_CHARACTERS]
    return f"{found}: {beginning}" if found else beginning


def document_checks(spec: FilterSpec):
    """Yield (name, check) of the filters in use, those that cost least first; a check returns what it found or None."""
    if spec.languages:
        allowed = frozenset(canonical_language(name) for named in spec.languages for name in LANGUAGE_PRESETS.get(named, (named,)))
        yield "language", functools.partial(other_language, allowed)
    if spec.licences:
        yield "licence", functools.partial(other_licence, spec.licences)
    if spec.min_characters is not None:
        yield "too short", functools.partial(too_short, spec.min_characters)
    if spec.max_characters is not None:
        yield "too long", functools.partial(too_long, spec.max_characters)
    if spec.generated_by:
        yield "generated by", generated_by
    if spec.hexadecimal:
        yield "0x", hexadecimal
    if spec.max_floats is not None:
        yield "floats", functools.partial(too_many_floats, spec.max_floats)
    if spec.top_level_domains:
        yield "top-level domains", top_level_domains
    if spec.line_length is not None:
        exempt = frozenset(map(canonical_language, spec.line_length.except_languages))
        yield "line length", functools.partial(long_lines, spec.line_length, exempt)
    if spec.alphabet_share is not None:
        yield "alphabet share", functools.partial(few_letters, spec.alphabet_share)
    for name, settings in spec.plugins.items():
        yield name, PluginCheck(name, settings)


def other_language(allowed: frozenset[str], document: Document) -> str | None:
    """Find a language that is not on the list; a document that names none is dropped too."""
    if document.language is None:
        return "no language"
    return None if canonical_language(document.language) in allowed else document.language


def other_licence(allowed: tuple[str, ...], document: Document) -> str | None:
    """Find a licence that is not on the list; a document that names none is dropped too."""
    if document.licence is None:
        return "no licence"
    return None if licence_allowed(document.licence, allowed) else document.licence


def too_short(least: int, document: Document) -> str | None:
    """Find fewer characters than `least`."""
    return f"{len(document.text)} characters" if len(document.text) < least else None


def too_long(most: int, document: Document) -> str | None:
    """Find more characters than `most`."""
    return f"{len(document.text)} characters" if len(document.text) > most else None


def generated_by(document: Document) -> str | None:
    """Find "generated by" in the first 400 characters, in any case (the paper, appendix A.1)."""
    return "" if "generated by" in document.text[:GENERATED_CHARACTERS].lower() else None


def hexadecimal(document: Document) -> str | None:
    """Find the string 0x (the paper, appendix A.1)."""
    at = document.text.find("0x")
    return None if at < 0 else document.text[at : at + 10].split("\n")[0]


def too_many_floats(most: int, document: Document) -> str | None:
    """Find more numbers with a decimal point than `most`, 1000 in the paper's appendix A.1."""
    if document.text.count(".") <= most:
        return None
    floats = len(FLOAT.findall(document.text))
    return f"{floats} floats" if floats > most else None


def top_level_domains(document: Document) -> str | None:
    """Find a list of top-level domains (the paper, appendix A.1): the rare ones, and most of those of countries."""
    if not all(domain in document.text for domain in RARE_DOMAINS):
        return None
    countries = COUNTRY_DOMAINS & set(SHORT_WORD.findall(document.text))
    return f"{len(countries)} domains of countries" if len(countries) >= LEAST_COUNTRY_DOMAINS else None


def long_lines(limits: LineLength, exempt: frozenset[str], document: Document) -> str | None:
    """Find lines too long, in the mean or a single one (StarCoder, arXiv:2305.06161, section 3.1)."""
    text = document.text
    if document.language is not None and canonical_language(document.language) in exempt:
        return None
    mean = len(text) / (text.count("\n") + 1)
    if mean > limits.mean:
        return f"lines of {mean:.0f} characters in the mean"
    longest = long_line(text, limits.longest)
    return f"a line of {longest} characters" if longest else None


def long_line(text: str, most: int) -> int:
    """Return the characters of the first line longer than `most`, or 0; looks at the ends of steps of that size only."""
    begin = 0
    while begin + most < len(text):
        end = text.rfind("\n", begin, begin + most + 1)
        if end < 0:
            end = text.find("\n", begin)
            return (end if end >= 0 else len(text)) - begin
        begin = end + 1
    return 0


def few_letters(least: float, document: Document) -> str | None:
    """Find a smaller share of letters, of any alphabet, than `least` (StarCoder, arXiv:2305.06161, section 3.1)."""
    text = document.text
    data = np.frombuffer(text.encode(), np.uint8)
    letters = int(np.count_nonzero((data | CASE_BIT) - FIRST_LETTER < NUM_LETTERS))
    if len(data) != len(text):
        points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        letters += sum(map(str.isalpha, points[points > LAST_ASCII].tobytes().decode("utf-32-le")))
    share = letters / len(text)
    return f"{100 * share:.0f} % letters" if share < least else None
