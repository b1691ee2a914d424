"""Pull requests and issues from JSON lines, as `gh issue list --json` and GitHub's API write them.

Of each thread: title, text, diff where there is one, and comments. People become username_0, username_1, ... in the
order they speak in, as in StarCoder's data, so that a thread can be followed and nobody is named.
"""

import functools
import re
from collections.abc import Iterator

from codemix_megatron.readers.documents import BadDocument, Document, Position, Span, check_text
from codemix_megatron.readers.json_lines import parse_record, placed_lines
from codemix_megatron.readers.record_documents import first_word

__all__ = ["read_issue_threads", "thread_text"]

MENTION = re.compile(r"(?<![\w@/.])@([A-Za-z0-9](?:[A-Za-z0-9-]{0,38}))")
COMMENT_KEYS = ("comments", "reviews", "review_comments", "comments_list")


def read_issue_threads(
    path, name: str, position: Position, *, kind: str | None = None, span: Span | None = None
) -> Iterator[Document | BadDocument]:
    """Yield one document per thread; a record without title and body is reported."""
    for line, place in placed_lines(path, position, span):
        record = parse_record(line, place)
        if isinstance(record, BadDocument):
            yield record
        elif not isinstance(record.get("title"), str):
            yield BadDocument(place, "no key 'title'")
        else:
            is_pull = any(record.get(key) for key in ("pull_request", "diff", "patch", "merged_at", "mergedAt", "headRefName"))
            origin = first_word(record, ("repository", "repo_name", "repo", "html_url", "url"))
            language, licence = "pull request" if is_pull else "issue", first_word(record, ("license", "licence"))
            yield check_text(thread_text(record), place, language=language, licence=licence, origin=origin, kind=kind)


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
    text = "\n\n".join(parts).replace("\r\n", "\n")
    return MENTION.sub(functools.partial(renamed, speakers), text) + "\n"


def login(entry: dict) -> str | None:
    """Return who wrote an entry."""
    author = entry.get("user") or entry.get("author")
    return author.get("login") if isinstance(author, dict) else author if isinstance(author, str) else None


def numbered(speaker: str, speakers: dict[str, str]) -> str:
    """Return the name a person has in this thread."""
    return speakers.setdefault(speaker.lower(), f"username_{len(speakers)}")


def renamed(speakers: dict[str, str], mention: re.Match) -> str:
    """Return a mention of somebody who speaks in the thread by number, any other as it stands: it may be a decorator."""
    return f"@{speakers[mention[1].lower()]}" if mention[1].lower() in speakers else mention[0]
