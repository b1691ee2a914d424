"""Win rates: which of two answers a judge prefers, asked in both orders; what it changes its mind about is a tie.

The prompt is frozen: judge_prompt.txt, its digest stands in every record. It asks for a comparison before the verdict
and offers no tie, as the paper's does; judges favour a position, and asking once would measure that too.
"""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from codemix_megatron.analysis.comparing import sign_test
from codemix_megatron.analysis.length_control import control_length
from codemix_megatron.errors import EvaluationError
from codemix_megatron.records.appended_lines import complete_lines, end_last_line
from codemix_megatron.records.win_rate import WinRate

__all__ = ["Pair", "judge_pairs", "judge_prompt", "read_answers", "read_prompts", "read_verdict", "summarize", "unreadable_reply"]

VERDICT = re.compile(r"[\s>#*_`-]*preferred\s*:[\s*_`]*answer\s*\(?\s*([AB])\s*\)?[\s*_`.]*", re.IGNORECASE)
MENTION = re.compile(r"preferred\s*:[\s*_`]*answer", re.IGNORECASE)
REMINDER = (
    "\n\nA reply without a verdict on a line of its own cannot be counted. End with exactly one of these two lines:"
    "\nPreferred: Answer (A)\nPreferred: Answer (B)\n"
)
ORDERS = ("ours first", "theirs first")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One prompt and the two answers to it."""

    prompt: str
    ours: str
    theirs: str


def judge_prompt() -> str:
    """Return the frozen prompt, with {prompt}, {a} and {b} to fill."""
    return resources.files("codemix_megatron.evaluate").joinpath("judge_prompt.txt").read_text(encoding="utf-8")


def filled(template: str, **texts: str) -> str:
    """Return a template with its fields filled, in one pass: what stands in braces in an answer is the answer's own.

    >>> filled("{a}, {b}", a="{b}", b="2")
    '{b}, 2'
    """
    return re.sub("|".join(rf"\{{{name}\}}" for name in texts), lambda match: texts[match[0][1:-1]], template)


def read_prompts(path, limit: int | None = None) -> list[str]:
    """Return the prompts of a JSON lines file, each under `prompt` (or `instruction`, with `context` after it, as Dolly has it)."""
    prompts = []
    for number, entry in lines_of(path):
        text = entry.get("prompt") or entry.get("instruction")
        if not isinstance(text, str) or not text.strip():
            raise EvaluationError(f"{path}:{number}: no prompt; each line needs `prompt` or `instruction`")
        prompts.append(f"{text}\n\n{entry['context']}" if entry.get("context") else text)
        if limit is not None and len(prompts) >= limit:
            break
    if not prompts:
        raise EvaluationError(f"{path}: holds no prompts")
    return prompts


def read_answers(path, prompts: list[str]) -> list[str]:
    """Return the answers of a JSON lines file with `prompt` and `answer`, in the order of `prompts`; raises for one that is missing."""
    known = {entry.get("prompt"): entry.get("answer") for _, entry in lines_of(path)}
    missing = [prompt for prompt in prompts if not isinstance(known.get(prompt), str)]
    if missing:
        raise EvaluationError(f"{path}: no answer to {len(missing)} of {len(prompts)} prompts, the first is {missing[0][:60]!r}")
    return [str(known[prompt]) for prompt in prompts]


def lines_of(path) -> Iterable[tuple[int, dict]]:
    """Yield the number and content of each line of a JSON lines file."""
    try:
        with open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                entry = json.loads(line)
                if not isinstance(entry, dict):
                    raise EvaluationError(f"{path}:{number}: holds {type(entry).__name__}, needs an object")
                yield number, entry
    except OSError as fault:
        raise EvaluationError(f"{path}: cannot be read ({fault.strerror})") from None
    except ValueError as fault:
        raise EvaluationError(f"{path}: not JSON lines ({fault})") from None


def read_verdict(reply: str) -> str | None:
    """Return A or B as the last line that speaks of a verdict has it, None where that line holds anything else or there is none.

    >>> read_verdict("Both are fine.\\nPreferred: Answer (B)"), read_verdict("I do not think Preferred: Answer (A) is apt; tie")
    ('B', None)
    """
    spoken = [line for line in reply.splitlines() if MENTION.search(line)]
    verdict = VERDICT.fullmatch(spoken[-1]) if spoken else None
    return verdict[1].upper() if verdict else None


def ask_until_readable(ask: Callable[[str], str], question: str) -> str:
    """Return a reply; one without a verdict is asked for once more, with what is missing said."""
    reply = ask(question)
    return reply if read_verdict(reply) is not None else ask(question + REMINDER)


def unreadable_reply(folder: Path) -> str | None:
    """Return one of the kept replies that hold no verdict."""
    return next((reply for reply in read_replies(Path(folder) / "replies.jsonl").values() if read_verdict(reply) is None), None)


def judge_pairs(
    pairs: list[Pair], ask: Callable[[str], str], judge: str, folder: Path, *, threads: int = 4, on_done=lambda done, total: None
) -> list[tuple[str | None, str | None]]:
    """Ask a judge about every pair in both orders; return for each who was preferred (ours, theirs or None) in each order.

    Replies are appended to FOLDER/replies.jsonl as they come, under the digest of judge, prompt and answers: called again,
    only what is not there or cannot be read is asked. What `ask` raises ends the judging, with the replies so far kept.
    """
    template, log = judge_prompt(), Path(folder) / "replies.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    known = read_replies(log)
    end_last_line(log)
    questions = {}
    for number, pair in enumerate(pairs):
        for order in ORDERS:
            first, second = (pair.ours, pair.theirs) if order == ORDERS[0] else (pair.theirs, pair.ours)
            text = filled(template, prompt=pair.prompt, a=first, b=second)
            questions[number, order] = text, hashlib.sha256(f"{judge}\n{text}".encode()).hexdigest()
    todo = {digest: text for text, digest in questions.values() if read_verdict(known.get(digest, "")) is None}
    writing, done = threading.Lock(), len(questions) - len(todo)
    with open(log, "a", encoding="utf-8") as handle, ThreadPoolExecutor(threads) as pool:

        def settle(digest: str) -> None:
            nonlocal done
            if stopped.is_set():
                return
            try:
                reply = ask_until_readable(ask, todo[digest])
            except BaseException:
                stopped.set()
                raise
            with writing:
                known[digest] = reply
                handle.write(json.dumps({"question": digest, "reply": reply}, ensure_ascii=False) + "\n")
                handle.flush()
                done += 1
                on_done(done, len(questions))

        stopped = threading.Event()
        for waiting in [pool.submit(settle, digest) for digest in todo]:
            waiting.result()
    judged = [[preferred(known[questions[number, order][1]], order) for order in ORDERS] for number in range(len(pairs))]
    return [(first, second) for first, second in judged]


def preferred(reply: str, order: str) -> str | None:
    """Return whose answer a reply prefers."""
    verdict = read_verdict(reply)
    if verdict is None:
        return None
    return "ours" if (verdict == "A") == (order == ORDERS[0]) else "theirs"


def read_replies(log: Path) -> dict[str, str]:
    """Return the replies so far; a torn last line is left out."""
    found = {}
    for line in complete_lines(log) if log.exists() else []:
        try:
            entry = json.loads(line)
            found[entry["question"]] = entry["reply"]
        except (ValueError, KeyError, TypeError):
            continue
    return found


def summarize(
    verdicts: list[tuple[str | None, str | None]], *, ours: str, theirs: str, judge: str, prompts: int, pairs: Sequence[Pair] = ()
) -> WinRate:
    """Count wins, losses and ties of verdicts in both orders; pairs without a readable verdict in one of them do not count.

    With the `pairs` that were judged come intervals over prompts, and the win rate at equal lengths.
    """
    readable = [pair for pair in verdicts if None not in pair]
    wins = sum(pair == ("ours", "ours") for pair in readable)
    losses = sum(pair == ("theirs", "theirs") for pair in readable)
    first = sum((pair[0] == "ours") + (pair[1] == "theirs") for pair in readable)
    return WinRate(
        ours=ours,
        theirs=theirs,
        judge=judge,
        prompts=prompts,
        wins=wins,
        losses=losses,
        ties=len(readable) - wins - losses,
        unreadable=len(verdicts) - len(readable),
        first_preferred=first / (2 * len(readable)) if readable else None,
        p_value=sign_test(wins, losses),
        judge_prompt_sha256=hashlib.sha256(judge_prompt().encode()).hexdigest(),
        **by_length([(pair, verdict) for pair, verdict in zip(pairs, verdicts, strict=False) if None not in verdict]),
    )


def by_length(judged: list[tuple[Pair, tuple[str | None, str | None]]]) -> dict[str, float | None]:
    """Return the intervals of a win rate over prompts, and the win rate at equal lengths, as WinRate has them."""
    if not judged:
        return {}
    longer = [len(pair.ours) - len(pair.theirs) for pair, _ in judged]
    preferred = np.array([[verdict == "ours" for verdict in verdicts] for _, verdicts in judged])
    found = control_length(preferred, np.array(longer), [pair.prompt for pair, _ in judged])
    if found is None:
        return {"longer_by": float(np.mean(longer))}
    return {
        "low": found.low,
        "high": found.high,
        "length_controlled": found.controlled,
        "length_controlled_low": found.controlled_low,
        "length_controlled_high": found.controlled_high,
        "longer_by": float(np.mean(longer)),
    }
