"""Who writes: a model behind an OpenAI-compatible endpoint, or one in a local Hugging Face folder."""

import threading
import time
from dataclasses import dataclass
from typing import Protocol

from codemix_megatron.inference.endpoints import ChatEndpoint, Completion

__all__ = ["EndpointTeacher", "FolderTeacher", "RateLimit", "Request", "Teacher"]


@dataclass(frozen=True)
class Request:
    """One thing a teacher is asked; equal requests are one."""

    kind: str
    prompt: str
    seed: int
    temperature: float
    max_tokens: int


class Teacher(Protocol):
    """What writes replies; `name` identifies it."""

    name: str

    def write(self, request: Request) -> Completion:
        """Return a reply; raises EvaluationError."""


class RateLimit:
    """Spaces requests of all threads evenly."""

    def __init__(self, per_minute: float | None):
        self.seconds = 60.0 / per_minute if per_minute else 0.0
        self.lock, self.next = threading.Lock(), 0.0

    def wait(self) -> None:
        """Sleep until this request may go out."""
        if not self.seconds:
            return
        with self.lock:
            at = self.next = max(time.monotonic(), self.next + self.seconds)
        time.sleep(max(0.0, at - time.monotonic()))


class EndpointTeacher:
    """A model behind an endpoint, asked no more often than allowed."""

    def __init__(self, endpoint: ChatEndpoint, requests_per_minute: float | None = None):
        self.endpoint, self.limit = endpoint, RateLimit(requests_per_minute)
        self.name = endpoint.model  # its address may change while it goes on

    def write(self, request: Request) -> Completion:
        """Return the endpoint's reply."""
        self.limit.wait()
        return self.endpoint.complete(
            request.prompt, temperature=request.temperature, max_tokens=request.max_tokens, seed=request.seed
        )  # fmt: skip


class FolderTeacher:
    """A local model; its chat template is used where it has one. One request at a time."""

    def __init__(self, folder, device: str = "auto"):
        from codemix_megatron.inference.exported import load_exported

        self.model, self.lock = load_exported(folder, device), threading.Lock()
        self.name = self.model.folder.name

    def write(self, request: Request) -> Completion:
        """Return the model's reply, the same for the same seed."""
        from codemix_megatron.inference.generation import Sampling, generate

        tokenizer, text = self.model.tokenizer, request.prompt
        if tokenizer.chat_template:
            text = tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True)
        with self.lock:
            most = self.model.max_length // 2
            ids = self.model.encode(text)[-most:]
            sampling = Sampling(max_tokens=min(request.max_tokens, most), temperature=request.temperature, seed=request.seed)
            reply = generate(self.model, [ids], sampling)[0]
        return Completion(reply, len(ids), len(self.model.encode(reply)) if reply else 0)
