"""Conversations out of records: messages, prompt and completion, the columns of Dolly and Alpaca."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codemix_megatron.readers.chat_templates import PLAIN_TEMPLATE, find_template, render_turns
from codemix_megatron.readers.documents import BadDocument, Document, check_text
from codemix_megatron.recipe.conversations import OF_TOKENIZER, PLAIN, Conversations

__all__ = ["COLUMNS", "FORMS", "ConversationRule", "conversation_document", "messages_of"]

FORMS = "messages; conversations; prompt and completion; instruction (and context or input) and response or output"
COLUMNS = ("messages", "conversations", "prompt", "completion", "instruction", "context", "input", "response", "output", "system")
SPEAKERS = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "chatgpt": "assistant", "prompter": "user"}
SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token")


@dataclass(frozen=True)
class ConversationRule:
    """How records of a corpus become documents: decides what is read, so all of it is in the corpus's fingerprint."""

    template: str
    learns_all: bool
    system: str | None
    special: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, spec: Conversations, where: str) -> "ConversationRule":
        """Return the rule of a corpus; reads its template now. Raises CorpusError where there is none."""
        learns_all = spec.learn == "everything"
        if spec.template in (PLAIN, OF_TOKENIZER):
            return cls(PLAIN_TEMPLATE, learns_all, spec.system)
        return cls(find_template(spec.template, where), learns_all, spec.system, tuple(special_tokens(Path(spec.template))))


def special_tokens(path: Path):
    """Yield the names of tokens that templates may use, from the settings beside them."""
    folder = path if path.is_dir() else path.parent
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    for name in SPECIAL:
        token = settings.get(name)
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str):
            yield name, token


def conversation_document(record: dict, location: str, rule: ConversationRule, **about) -> Document | BadDocument:
    """Return the document of one conversation, with its turns, or why there is none."""
    try:
        messages = messages_of(record)
        if rule.system is not None and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": rule.system}, *messages]
        turns = render_turns(rule.template, messages, dict(rule.special), rule.learns_all)
    except ValueError as fault:
        return BadDocument(location, str(fault))
    if not any(turn.is_learned for turn in turns):
        return BadDocument(location, "a conversation without an answer", harmless=True)
    return check_text("".join(turn.text for turn in turns), location, turns=turns, **about)


def messages_of(record: dict) -> list[dict[str, str]]:
    """Return the messages of a record as role and content; raises ValueError for one that holds no conversation."""
    found = record.get("messages") or record.get("conversations")
    if found is None and record.get("prompt") is not None and record.get("completion") is not None:
        found = [*as_messages(record["prompt"], "user"), *as_messages(record["completion"], "assistant")]
    if found is None and isinstance(record.get("instruction"), str):
        answer = record.get("response") if record.get("response") is not None else record.get("output")
        about = record.get("context") or record.get("input")
        asked = f"{record['instruction']}\n\n{about}" if isinstance(about, str) and about.strip() else record["instruction"]
        found = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    if not isinstance(found, list) or not found:
        raise ValueError(f"no conversation (none of {FORMS})")
    messages = [checked(message) for message in found]
    if isinstance(record.get("system"), str) and record["system"] and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": record["system"]}, *messages]
    return messages


def as_messages(value: Any, role: str) -> list:
    """Return a prompt or a completion, text or messages, as messages."""
    return value if isinstance(value, list) else [{"role": role, "content": value}]


def checked(message) -> dict[str, str]:
    """Return role and content of one message, whatever its data set calls them."""
    if not isinstance(message, dict):
        raise ValueError("a message is not an object")
    role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
    if isinstance(content, list):  # parts, of which those of text are read
        if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
            raise ValueError("a message holds more than text")
        content = "".join(part["text"] for part in content)
    if not isinstance(role, str) or not isinstance(content, str):
        raise ValueError("a message without role and content")
    return {"role": SPEAKERS.get(role.lower(), role.lower()), "content": content}
