"""Chat templates: Jinja from anywhere, run in a sandbox that changes nothing and reaches nothing, as transformers runs them.

A conversation is rendered twice: as it is, and with marks in place of what its messages say. The marks tell where each message went;
put back, they must give the first text, so that what is called an answer is one.
"""

import functools
import json
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from codemix_megatron.errors import CorpusError
from codemix_megatron.readers.documents import Turn

__all__ = ["PLAIN_TEMPLATE", "find_template", "render_turns"]

# A turn is a line with who speaks and what is said below it, so that no token spans the border of a prompt and its answer.
PLAIN_TEMPLATE = (
    "{% for m in messages %}{{ m.role.capitalize() + ':\\n' + m.content }}{% if not loop.last %}{{ '\\n\\n' }}{% endif %}{% endfor %}"
)
MARK, MARKED = "\x02{}\x03", re.compile("\x02(\\d+|[<>])\x03")
LEARN_BEGIN, LEARN_END = MARK.format("<"), MARK.format(">")
ANSWERS = ("assistant",)
TEMPLATE_FILES = ("chat_template.jinja", "tokenizer_config.json", "chat_template.json")


def find_template(path: str, where: str) -> str:
    """Return the chat template a file holds, or the files beside a tokenizer; raises CorpusError where there is none."""
    named = Path(path)
    folder = named if named.is_dir() else named.parent
    is_own = named.suffix == ".jinja" or named.name in TEMPLATE_FILES
    candidates = [named] if is_own else [folder / name for name in TEMPLATE_FILES]
    for candidate in candidates:
        if candidate.is_file():
            text = candidate.read_text(encoding="utf-8")
            found = text if candidate.suffix == ".jinja" else template_in(text, candidate)
            if found:
                return found
    raise CorpusError(f"{where}: no chat template in {', '.join(map(str, candidates))}; give a file that holds one, or set template: plain")


def template_in(text: str, path: Path) -> str | None:
    """Return the template of a tokenizer's settings; of several, the default."""
    try:
        found = json.loads(text).get("chat_template")
    except (ValueError, AttributeError) as fault:
        raise CorpusError(f"{path}: not the settings of a tokenizer ({fault}); give its tokenizer_config.json") from None
    if isinstance(found, list):
        found = next((entry.get("template") for entry in found if entry.get("name") == "default"), None)
    return found if isinstance(found, str) else None


@functools.lru_cache(maxsize=8)
def compiled(template: str):
    """Return a template ready to render; raises CorpusError for what is no Jinja."""
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}...{% endgeneration %}`: what templates written for training call the model's own words."""

        tags = {"generation"}  # noqa: RUF012 - jinja2's own form

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("marked"), [], [], body).set_lineno(line)

        def marked(self, caller):
            return f"{LEARN_BEGIN}{caller()}{LEARN_END}"

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False, **options)
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime(2000, 1, 1).strftime(form)  # the same corpus on every day
    try:
        return environment.from_string(template)
    except jinja2.TemplateError as fault:
        raise CorpusError(f"chat template: line {getattr(fault, 'lineno', '?')}: {fault}; it is no Jinja that is read here") from None


def refuse(message: str):
    """Fail as the template asks to."""
    raise ValueError(f"the template refuses it: {message}")


def render_turns(template: str, messages: Sequence[dict], special: dict[str, str], learns_all: bool = False) -> tuple[Turn, ...]:
    """Return the pieces of a conversation's text; raises ValueError saying why it cannot be told which of them are answers."""
    contents = [message["content"] for message in messages]
    if any(MARKED.search(content) for content in contents):
        raise ValueError("a message holds control characters that mark messages here")
    marked = [{**message, "content": MARK.format(number)} for number, message in enumerate(messages)]
    plain, pieces = rendered(template, messages, special), MARKED.split(rendered(template, marked, special))
    has_blocks = "<" in pieces[1::2]
    for stripped in (False, True):
        said = [content.strip() if stripped else content for content in contents]
        turns = list(turns_of(pieces, said, [m["role"] in ANSWERS for m in messages], has_blocks))
        if "".join(turn.text for turn in turns) == MARKED.sub("", plain):
            return tuple(Turn(t.text, learns_all or t.is_learned, t.is_template) for t in turns)
    raise ValueError("the chat template changes what messages say, so that it is not known which words are answers")


def turns_of(pieces: list[str], said: list[str], is_answer: list[bool], has_blocks: bool):
    """Yield the pieces of a marked text that hold something: templates between marks, and what stood behind them."""
    inside = False
    for number, piece in enumerate(pieces):
        if number % 2 and piece in "<>":
            inside = piece == "<"
        elif number % 2:
            if text := said[int(piece)]:
                yield Turn(text, inside if has_blocks else is_answer[int(piece)], False)
        elif piece:
            yield Turn(piece, inside, True)


def rendered(template: str, messages: Sequence[dict], special: dict[str, str]) -> str:
    """Render messages; whatever a template runs into becomes ValueError."""
    try:
        return compiled(template).render(messages=list(messages), add_generation_prompt=False, tools=None, **special)
    except CorpusError:
        raise
    except Exception as fault:  # templates are programs of others
        raise ValueError(f"the chat template fails on it ({type(fault).__name__}: {str(fault)[:160]})") from None
