"""Exports of tickets as threads: GitHub's, GitLab's and Jira's JSON, or any other by a mapping such as `title: fields.summary`.

A thread is what `issues:` reads: title, body and comments, each with who wrote it, whom that reader turns into username_0, username_1, ...
"""

from collections.abc import Iterator
from pathlib import Path

import orjson

__all__ = ["TICKET_FORMS", "TicketForm", "form_of", "read_tickets", "thread_of"]

TicketForm = dict[str, str]  # part of a thread -> keys that lead to it in a record, parted by dots
TICKET_FORMS: dict[str, TicketForm] = {
    "jira": {
        "title": "fields.summary", "body": "fields.description", "author": "fields.reporter.displayName", "comments": "fields.comment.comments",
        "comment_body": "body", "comment_author": "author.displayName", "url": "key",
    },
    "gitlab": {
        "title": "title", "body": "description", "author": "author.username", "comments": "notes", "comment_body": "body",
        "comment_author": "author.username", "url": "web_url",
    },
    "github": {
        "title": "title", "body": "body", "author": "user.login", "comments": "comments", "comment_body": "body", "comment_author": "user.login",
        "url": "html_url",
    },
}  # fmt: skip
LISTS = ("issues", "items", "tickets", "data", "results")  # keys under which exports keep their records
TELLING = {"jira": ("fields",), "gitlab": ("iid", "description"), "github": ("title", "body")}


def value_at(record: object, path: str) -> object:
    """Return what dotted keys lead to; None where one is missing."""
    for key in path.split(".") if path else ():
        record = record.get(key) if isinstance(record, dict) else None
    return record


def text_at(record: object, path: str) -> str:
    """Return the words at dotted keys: a string, or all strings of Jira's documents of nodes."""
    value = value_at(record, path)
    return value if isinstance(value, str) else " ".join(words_of(value)).strip()


def words_of(node: object) -> Iterator[str]:
    """Yield the text of Atlassian's document format, whose nodes hold `content`."""
    if isinstance(node, dict):
        if isinstance(node.get("text"), str):
            yield node["text"]
        yield from words_of(node.get("content"))
    elif isinstance(node, list):
        for inner in node:
            yield from words_of(inner)


def form_of(record: object) -> str | None:
    """Return which system a record is from, None where it is no ticket."""
    if not isinstance(record, dict):
        return None
    found = next((name for name, keys in TELLING.items() if all(key in record for key in keys)), None)
    return found if found and text_at(record, TICKET_FORMS[found]["title"]) else None


def thread_of(record: object, form: TicketForm) -> dict | None:
    """Return a record as a thread, None where it has no title."""
    title = text_at(record, form["title"])
    if not title:
        return None
    comments = value_at(record, form.get("comments", ""))
    entries = [
        {"body": text_at(entry, form.get("comment_body", "body")), "author": text_at(entry, form.get("comment_author", "")) or None}
        for entry in (comments if isinstance(comments, list) and "comments" in form else ())
    ]
    thread: dict = {
        "title": title,
        "body": text_at(record, form.get("body", "")),
        "author": text_at(record, form.get("author", "")) or None,
    }
    return {**thread, "comments": [entry for entry in entries if entry["body"]], "url": text_at(record, form.get("url", ""))}


def read_tickets(path: Path) -> list:
    """Return the records of an export: JSON lines, an array, or an object that holds one; nothing for other JSON."""
    data = path.read_bytes()
    try:
        plain = orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            return [orjson.loads(line) for line in data.splitlines() if line.strip()]
        except orjson.JSONDecodeError:
            return []
    if isinstance(plain, dict):
        return next((plain[key] for key in LISTS if isinstance(plain.get(key), list)), [plain])
    return plain if isinstance(plain, list) else []
