"""StackExchange dumps: Posts.xml, a question with its answers as one document.

Each post is a `<row .../>` on a line of its own. Answers stand anywhere behind their question, so rows are first dealt
out to files by the question they belong to, as many as keep one of them in little memory; documents come file by file,
and by the number of the question inside each. Answers with a negative score and questions without an answer are left out;
the accepted answer comes first, the others by score.
"""

import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from html.parser import HTMLParser
from xml.etree import ElementTree

from codemix_megatron.corpus.documents import BadDocument, Document, Position, check_text
from codemix_megatron.corpus.json_lines import bounded_lines
from codemix_megatron.corpus.streams import open_unpacked
from codemix_megatron.errors import CorpusError

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
    with open_unpacked(path) as (lines, raw):
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
            raise CorpusError(f"{path}: no Posts.xml of a StackExchange dump, which begins with <posts>; unpack the .7z of a site and name it")
        if not is_whole:
            raise CorpusError(f"{path}: ends before </posts>: it was cut off; copy it again or take it out of `documents`")


def threads(file, path, name: str, kind: str | None) -> Iterator[Document | BadDocument]:
    """Yield the documents of the rows in one file, by the number of the question."""
    questions, answers = {}, {}
    for line in file:
        number, _, row = line.partition(b"\t")
        place = f"{path}:{number.decode()}"
        try:
            post = ElementTree.fromstring(row).attrib
            score = int(post.get("Score", 0))
            if post["PostTypeId"] == QUESTION:
                questions[int(post["Id"])] = (place, post)
            elif score >= 0:
                answers.setdefault(int(post["ParentId"]), []).append((score, int(post["Id"]), post["Body"]))
        except (ElementTree.ParseError, KeyError, ValueError):
            yield BadDocument(place, "broken XML")
    for number in sorted(questions):
        yield thread_document(*questions[number], answers.get(number, []), f"{name}:{number}", kind)


def thread_document(place: str, post: dict, answers: list, origin: str, kind: str | None) -> Document | BadDocument:
    """Return a question with its answers, each after a letter, as in SlimPajama's StackExchange."""
    if not answers:
        return BadDocument(place, "question without answers", harmless=True)
    accepted = int(post.get("AcceptedAnswerId") or -1)
    answers = sorted(answers, key=lambda answer: (answer[1] != accepted, -answer[0], answer[1]))
    question = f"Q: {post.get('Title', '').strip()}\n\n{text_of_html(post.get('Body', ''))}"
    text = "\n\n".join([question, *(f"A: {text_of_html(body)}" for _, _, body in answers)])
    licence = (post.get("ContentLicense") or "CC BY-SA 4.0").replace(" ", "-")
    return check_text(text + "\n", place, language=STACK_EXCHANGE, licence=licence, origin=origin, kind=kind)


def text_of_html(body: str) -> str:
    """Return the text of a post as Markdown: code in fences and backticks, lists with dashes, paragraphs apart."""
    parser = PostText()
    parser.feed(body)
    parser.close()
    return re.sub(r"\n{3,}", "\n\n", "".join(parser.parts)).strip()


BEFORE = {
    "pre": "\n\n```\n", "li": "\n- ", "br": "\n", "hr": "\n\n", "blockquote": "\n\n> ", "h1": "\n\n# ", "h2": "\n\n## ", "h3": "\n\n### ",
}  # fmt: skip
AFTER = {"p": "\n\n", "ul": "\n\n", "ol": "\n\n", "blockquote": "\n\n", "h1": "\n\n", "h2": "\n\n", "h3": "\n\n", "tr": "\n", "td": " "}


class PostText(HTMLParser):
    """Collects the text of a post in `parts`."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.is_code = False

    def handle_starttag(self, tag: str, attributes) -> None:
        """Write what stands before an element."""
        if tag == "pre":
            self.is_code = True
        elif tag == "code" and not self.is_code:
            self.parts.append("`")
        self.parts.append(BEFORE.get(tag, ""))

    def handle_endtag(self, tag: str) -> None:
        """Write what stands behind an element."""
        if tag == "pre":
            self.is_code = False
            self.parts.append("```\n\n" if "".join(self.parts[-1:]).endswith("\n") else "\n```\n\n")
        elif tag == "code" and not self.is_code:
            self.parts.append("`")
        self.parts.append(AFTER.get(tag, ""))

    def handle_data(self, data: str) -> None:
        """Write text; outside code, line ends of the HTML are spaces."""
        self.parts.append(data if self.is_code else re.sub(r"\s*\n\s*", " ", data) if data.strip() else " " if data and "\n" not in data else "")
