"""Every reply as it came, so that nothing is asked twice: replies.jsonl, a line for each request, under the request's digest.

A request that got no text - no reply, a malformed or an empty one - is asked again by the next command, once.
"""

import hashlib
import json
import os
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from codemix_megatron.errors import CorpusError, EvaluationError
from codemix_megatron.inference.endpoints import NoReplyError
from codemix_megatron.records.appended_lines import complete_lines, end_last_line
from codemix_megatron.synthesis.teachers import Request, Teacher

__all__ = ["BudgetSpentError", "Reply", "ReplyLog"]

MOST_FAILED_IN_A_ROW = 20


class BudgetSpentError(EvaluationError):
    """Another request could cost more tokens than are left."""


@dataclass(frozen=True)
class Reply:
    """What came of one request; `fault` says why there is no text."""

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    fault: str = ""

    @property
    def tokens(self) -> int:
        """What it cost."""
        return self.prompt_tokens + self.completion_tokens


class ReplyLog:
    """Asks a teacher, and remembers; safe to use from several threads."""

    def __init__(self, path: Path, teacher: Teacher, budget_tokens: int | None = None):
        self.path, self.teacher, self.budget = path, teacher, budget_tokens
        self.lock, self.failed_in_a_row, self.reserved = threading.Lock(), 0, 0
        replies = read_replies(path)
        self.known = {request: reply for request, reply in replies if reply.text.strip()}
        self.tokens = sum(reply.tokens for _, reply in replies)  # that all replies have cost, those asked for again too
        self.asked = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self.handle = open(path, "a", encoding="utf-8")  # noqa: SIM115 - open as long as the log

    def close(self) -> None:
        """Flush to disk and close."""
        self.handle.flush()
        os.fsync(self.handle.fileno())
        self.handle.close()

    def digest(self, request: Request) -> str:
        """Return the name of a request."""
        return hashlib.sha256(json.dumps([self.teacher.name, *asdict(request).values()]).encode()).hexdigest()

    def reply(self, request: Request) -> Reply:
        """Return the reply to a request, asked for now or before; raises BudgetSpentError, or EvaluationError when the teacher is gone."""
        digest = self.digest(request)
        with self.lock:
            if digest in self.known:
                return self.known[digest]
            cost = request.max_tokens + len(request.prompt) // 3
            if self.budget is not None and self.tokens + self.reserved + cost > self.budget:
                raise BudgetSpentError(
                    f"--budget-tokens {self.budget:,}: {self.tokens:,} are spent, and the next request may cost {cost:,}"
                )
            self.reserved += cost
            self.asked += 1
        try:
            reply = self.ask(request)
        finally:
            with self.lock:
                self.reserved -= cost
        with self.lock:
            self.known[digest] = reply
            self.tokens += reply.tokens
            self.handle.write(json.dumps({"request": digest, **asdict(reply)}) + "\n")
            self.handle.flush()
        return reply

    def ask(self, request: Request) -> Reply:
        """Ask the teacher; one that gives nothing again and again is gone."""
        try:
            completion = self.teacher.write(request)
        except EvaluationError as fault:
            with self.lock:
                self.failed_in_a_row += 1
                if self.failed_in_a_row >= MOST_FAILED_IN_A_ROW:
                    raise EvaluationError(f"{fault}; {MOST_FAILED_IN_A_ROW} requests in a row failed", exit_code=1) from None
            return Reply("", fault="no reply" if isinstance(fault, NoReplyError) else "malformed reply")
        with self.lock:
            self.failed_in_a_row = 0
        return Reply(completion.text, completion.prompt_tokens, completion.completion_tokens)


def read_replies(path: Path) -> list[tuple[str, Reply]]:
    """Return (request, reply) of all lines so far, in their order; a torn last line is cut off. Raises CorpusError for a file that is no log."""
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(complete_lines(path), 1):
        if line:
            try:
                record = json.loads(line)
                request = record.pop("request")
                found.append((request, Reply(**record)))
            except (ValueError, KeyError, TypeError, AttributeError) as fault:
                raise CorpusError(f"{path}:{number}: no reply of a teacher ({fault}); fix or remove the line") from None
    end_last_line(path)  # a file that is no log was left as it is
    return found
