"""StackExchange dumps: Posts.xml, a question with its answers as one document.

Each post is a `<row .../>` on a line of its own. Answers stand anywhere behind their question, so rows are first dealt
out to files by the question they belong to, as many as keep one of them in little memory; documents come file by file,
and by the number of the question inside each. Answers with a negative score and questions without an answer are left out;
the accepted answer comes first, the others by score.
"""

import html
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from xml.etree import ElementTree

from codemix_megatron.errors import CorpusError
from codemix_megatron.readers.documents import BadDocument, Document, Position, check_text
from codemix_megatron.readers.json_lines import bounded_lines
from codemix_megatron.readers.streams import open_unpacked

__all__ = ["STACK_EXCHANGE", "read_posts", "text_of_html"]

STACK_EXCHANGE = "stackexchange"
BYTES_PER_FILE = 32 << 20
MOST_FILES = 256
QUESTION, ANSWER = "1", "2"
BELONGS_TO = {QUESTION: re.compile(rb'\sId="(\d+)"'), ANSWER: re.compile(rb'\sParentId="(\d+)"')}
POST_TYPE = re.compile(rb'\sPostTypeId="(\d+)"')
PACKED_RATIO = 6  # of XML, roughly


def read_posts(path, name: str, position: Position, *, kind: str | None = None, num_bytes: int = 0) -> Iterator[Document | BadDocument]:
    """Yield the questions of a Posts.xml with their answers; raises CorpusError when it is none or was cut off."""
    num_bytes *= PACKED_RATIO if str(path).lower().endswith((".gz", ".zst")) else 1
    with ExitStack() as stack:
        count = max(1, min(MOST_FILES, -(-num_bytes // BYTES_PER_FILE)))
        files = [stack.enter_context(tempfile.TemporaryFile(prefix="posts-")) for _ in range(count)]
        yield from deal_out(path, position, files)
        for file in files:
            file.seek(0)
            yield from threads(file, path, name, kind)


def deal_out(path, position: Position, files: list) -> Iterator[BadDocument]:
    """Write each question and answer, after its line number, to the file of its question; yield the rows that are broken."""
    with open_unpacked(path, position.hashed) as (lines, raw):
        is_posts = is_whole = False
        for number, line in enumerate(bounded_lines(lines), 1):
            position.bytes_read = raw.tell()
            line = line.strip()
            is_posts = is_posts or line.startswith(b"<posts")
            is_whole = is_whole or line.startswith(b"</posts")
            if not line.startswith(b"<row"):
                continue
            post_type = POST_TYPE.search(line)
            owner = BELONGS_TO[post_type[1].decode()].search(line) if post_type and post_type[1].decode() in BELONGS_TO else None
            if post_type is None or (owner is None and post_type[1].decode() in BELONGS_TO) or not line.endswith(b"/>"):
                yield BadDocument(f"{path}:{number}", "broken XML")
            elif owner:
                files[int(owner[1]) % len(files)].write(b"%d\t%s\n" % (number, line))
        if not is_posts:
            raise CorpusError(
                f"{path}: no Posts.xml of a StackExchange dump, which begins with <posts>; unpack the .7z of a site and name it"
            )
        if not is_whole:
            raise CorpusError(f"{path}: ends before </posts>: it was cut off; copy it again or take it out of `documents`")


def threads(file, path, name: str, kind: str | None) -> Iterator[Document | BadDocument]:
    """Yield the documents of the rows in one file, by the number of the question."""
    questions: dict[int, tuple] = {}
    answers: dict[int, list] = {}
    for line in file:
        number, _, row = line.partition(b"\t")
        location = f"{path}:{number.decode()}"
        try:
            post = ElementTree.fromstring(row).attrib
            score = int(post.get("Score", 0))
            if post["PostTypeId"] == QUESTION:
                questions[int(post["Id"])] = (location, post)
            elif score >= 0:
                answers.setdefault(int(post["ParentId"]), []).append((score, int(post["Id"]), post["Body"]))
        except (ElementTree.ParseError, KeyError, ValueError):
            yield BadDocument(location, "broken XML")
    for number in sorted(questions):
        location, post = questions[number]
        yield thread_document(location, post, answers.get(number, []), f"{name}:{number}", kind)


def thread_document(location: str, post: dict, answers: list, origin: str, kind: str | None) -> Document | BadDocument:
    """Return a question with its answers, each after a letter, as in SlimPajama's StackExchange."""
    if not answers:
        return BadDocument(location, "question without answers", harmless=True)
    accepted = int(post.get("AcceptedAnswerId") or -1)
    answers = sorted(answers, key=lambda answer: (answer[1] != accepted, -answer[0], answer[1]))
    question = f"Q: {post.get('Title', '').strip()}\n\n{text_of_html(post.get('Body', ''))}"
    text = "\n\n".join([question, *(f"A: {text_of_html(body)}" for _, _, body in answers)])
    licence = (post.get("ContentLicense") or "CC BY-SA 4.0").replace(" ", "-")
    return check_text(text + "\n", location, language=STACK_EXCHANGE, licence=licence, origin=origin, kind=kind)


def text_of_html(body: str) -> str:
    """Return the text of a post as Markdown: code in fences and backticks, lists with dashes, paragraphs apart.

    Bodies are what StackExchange has made of its own Markdown, so that every < begins one of few elements: looking for
    those takes 10 CPU-seconds for 130 MB of a dump where Python's parser of HTML took 26, rows and all.
    """
    parts, at, is_code = [], 0, False
    for element in ELEMENT.finditer(body):
        parts.append(plain(body[at : element.start()], is_code))
        at, is_end, name = element.end(), bool(element[1]), (element[2] or "").lower()
        if name == "pre":
            is_code = not is_end
        if name == "code" and not is_code:
            parts.append("`")
        elif name == "pre" and is_end:
            parts.append("```\n\n" if "".join(parts[-4:]).endswith("\n") else "\n```\n\n")
        else:
            parts.append((AFTER if is_end else BEFORE).get(name, ""))
    parts.append(plain(body[at:], is_code))
    return BLANK_LINES.sub("\n\n", "".join(parts)).strip()


def plain(text: str, is_code: bool) -> str:
    """Return the text between two elements; outside code, line ends are spaces, and none between paragraphs."""
    if "&" in text:
        text = html.unescape(text)
    if is_code or "\n" not in text:
        return text
    return LINE_END.sub(" ", text) if text.strip() else ""


ELEMENT = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]*)\b[^>]*>|<!--.*?-->", re.DOTALL)
BLANK_LINES, LINE_END = re.compile(r"\n{3,}"), re.compile(r"\s*\n\s*")
BEFORE = {
    "pre": "\n\n```\n", "li": "\n- ", "br": "\n", "hr": "\n\n", "blockquote": "\n\n> ", "h1": "\n\n# ", "h2": "\n\n## ", "h3": "\n\n### ",
}  # fmt: skip
AFTER = {"p": "\n\n", "ul": "\n\n", "ol": "\n\n", "blockquote": "\n\n", "h1": "\n\n", "h2": "\n\n", "h3": "\n\n", "tr": "\n", "td": " "}
