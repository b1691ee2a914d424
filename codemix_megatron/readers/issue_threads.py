"""Pull requests and issues from JSON lines, as `gh issue list --json` and GitHub's API write them.

Of each thread: title, text, diff where there is one, and comments. People become username_0, username_1, ... in the
order they speak in, as in StarCoder's data, so that a thread can be followed and nobody is named: neither as @login nor by
the bare login or full name.
"""

import functools
import re
from collections.abc import Iterator

from codemix_megatron.readers.documents import BadDocument, Document, Position, Span, check_text
from codemix_megatron.readers.json_lines import located_lines, parse_record
from codemix_megatron.readers.record_documents import first_word, licence_at

__all__ = ["read_issue_threads", "thread_text"]

MENTION = re.compile(
    r"(?<![\w@/.])@([A-Za-z0-9](?:[A-Za-z0-9-]{0,38}))([\w.-]{0,200}\w)?"
)  # GitHub's name, and how one of GitLab may go on
# Logins that are as well words of every thread; they are replaced behind an @ only.
WORDS = (
    "admin android apache async auth azure bash beta black build cache chrome class client cloud code core data debian debug default demo "
    "docker docs error firefox flask force gcc github git google guest http issue java json linux lint local main master message model "
    "module name node none null object open package patch php project python react release root ruby rust script search server settings "
    "source state support system team test tests text token type ubuntu unknown update user value version visual web windows work"
)
COMMON_WORDS = frozenset(WORDS.split())
SHORTEST_BARE_NAME = 4
INSIDE_BEFORE, INSIDE_AFTER = re.compile(r"[\w@/.-]\Z"), re.compile(r"[\w/@-]|\.\w")  # a name inside a word, a path, an address
COMMENT_KEYS = ("comments", "reviews", "review_comments", "comments_list")


def read_issue_threads(
    path, name: str, position: Position, *, kind: str | None = None, span: Span | None = None
) -> Iterator[Document | BadDocument]:
    """Yield one document per thread; a record without title and body is reported."""
    for line, location in located_lines(path, position, span):
        record = parse_record(line, location)
        if isinstance(record, BadDocument):
            yield record
        elif not isinstance(record.get("title"), str):
            yield BadDocument(location, "no key 'title'")
        else:
            is_pull = any(record.get(key) for key in ("pull_request", "diff", "patch", "merged_at", "mergedAt", "headRefName"))
            origin = first_word(record, ("repository", "repo_name", "repo", "html_url", "url"))
            language, licence = "pull request" if is_pull else "issue", licence_at(record, ("license", "licence"))
            yield check_text(thread_text(record), location, language=language, licence=licence, origin=origin, kind=kind)


def thread_text(record: dict) -> str:
    """Return the words of a thread, speakers numbered."""
    speakers: dict[str, str] = {}
    parts = [f"Title: {record['title'].strip()}"]
    entries = [record, *(entry for key in COMMENT_KEYS if isinstance(record.get(key), list) for entry in record[key])]
    for entry in entries:
        body = entry if isinstance(entry, str) else entry.get("body") if isinstance(entry, dict) else None
        if isinstance(body, str) and body.strip():
            speaker = login(entry) if isinstance(entry, dict) else None
            parts.append(f"{numbered(speaker or 'unknown', speakers)}: {body.strip()}")
    for key in ("diff", "patch"):
        if isinstance(record.get(key), str) and record[key].strip():
            parts.insert(min(2, len(parts)), record[key].strip("\n"))
            break
    text = MENTION.sub(functools.partial(renamed, speakers), "\n\n".join(parts).replace("\r\n", "\n"))
    return without_bare_names(text, full_names(entries, speakers)) + "\n"


def full_names(entries: list, speakers: dict[str, str]) -> dict[str, str]:
    """Return what people may be called in a thread, in lower case -> their number: logins and, where authors have one, names."""
    names = {name: number for name, number in speakers.items() if len(name) >= SHORTEST_BARE_NAME and name not in COMMON_WORDS}
    for entry in entries:
        author = (entry.get("user") or entry.get("author")) if isinstance(entry, dict) else None
        name = author.get("name") if isinstance(author, dict) else None
        number = speakers.get((login(entry) or "").lower()) if name else None
        if isinstance(name, str) and number and len(name.strip()) >= SHORTEST_BARE_NAME and name.strip().lower() not in COMMON_WORDS:
            names[in_small_letters(name.strip())] = number
    return names


def in_small_letters(text: str) -> str:
    """Return a text in lower case, as long as it was: a few capitals, such as the Turkish I with its dot, have longer small letters and stay."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(small if len(small := character.lower()) == 1 else character for character in text)


def without_bare_names(text: str, names: dict[str, str]) -> str:
    """Return a text with the names of people replaced where they stand as words of their own; in one pass, however many speak."""
    if not names:
        return text
    lowered = in_small_letters(text)
    import ahocorasick_rs

    listed = list(names)
    finder = ahocorasick_rs.AhoCorasick(listed, matchkind=ahocorasick_rs.MatchKind.LeftmostLongest)
    kept, end = [], 0
    for index, begin, stop in finder.find_matches_as_indexes(lowered):
        if not INSIDE_BEFORE.search(text, max(0, begin - 1), begin) and not INSIDE_AFTER.match(text, stop):
            kept += [text[end:begin], names[listed[index]]]
            end = stop
    return "".join([*kept, text[end:]])


def login(entry: dict) -> str | None:
    """Return who wrote an entry."""
    author = entry.get("user") or entry.get("author")
    return author.get("login") if isinstance(author, dict) else author if isinstance(author, str) else None


def numbered(speaker: str, speakers: dict[str, str]) -> str:
    """Return the name a person has in this thread."""
    return speakers.setdefault(speaker.lower(), f"username_{len(speakers)}")


def renamed(speakers: dict[str, str], mention: re.Match) -> str:
    """Return a mention of somebody who speaks in the thread by number, any other as it stands: it may be a decorator."""
    name, rest = mention[1].lower(), mention[2] or ""
    if name + rest.lower() in speakers:
        return f"@{speakers[name + rest.lower()]}"
    return f"@{speakers[name]}{rest}" if name in speakers else mention[0]
