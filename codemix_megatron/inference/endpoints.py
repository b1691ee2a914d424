"""OpenAI-compatible endpoints (vLLM, a local server, an API), and judges: such an endpoint, or a Hugging Face model in a folder."""

import os
import random
import threading
import time
from dataclasses import dataclass

from codemix_megatron.errors import EvaluationError

__all__ = ["ChatEndpoint", "Completion", "EndpointJudge", "FolderJudge", "NoReplyError"]

RETRIED = (408, 409, 425, 429, 500, 502, 503, 504)
LONGEST_WAIT_SECONDS = 60.0
MOST_TOKENS = 512


class NoReplyError(EvaluationError):
    """An endpoint gave no reply, however often it was asked."""


@dataclass(frozen=True)
class Completion:
    """A reply and what it cost, in the endpoint's tokens; 0 where it does not say."""

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0


class ChatEndpoint:
    """Asks `URL/chat/completions`; what is busy, slow or out of reach is asked again, with growing waits."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        timeout_seconds: float = 60.0,
        retries: int = 5,
        first_wait_seconds: float = 1.0,
        key_variable: str = "OPENAI_API_KEY",
    ):
        import httpx

        self.url, self.model, self.retries, self.first_wait = url.rstrip("/"), model, retries, first_wait_seconds
        key = os.environ.get(key_variable)
        self.client = httpx.Client(timeout=timeout_seconds, headers={"Authorization": f"Bearer {key}"} if key else {})
        self.faults = (httpx.TimeoutException, httpx.TransportError)

    @property
    def name(self) -> str:
        """What identifies this endpoint's replies."""
        return f"{self.model} at {self.url}"

    def complete(self, text: str, *, temperature: float = 0, max_tokens: int = MOST_TOKENS, seed: int | None = None) -> Completion:
        """Return the reply to one message; raises NoReplyError when none comes, EvaluationError when what comes is none."""
        body = {"model": self.model, "messages": [{"role": "user", "content": text}], "temperature": temperature, "max_tokens": max_tokens}
        body |= {} if seed is None else {"seed": seed}
        for attempt in range(self.retries + 1):
            try:
                response = self.client.post(f"{self.url}/chat/completions", json=body)
            except self.faults as fault:
                why, asked_wait = f"{type(fault).__name__}: {fault}", None
            else:
                if response.status_code not in RETRIED:
                    return self.read(response)
                why, asked_wait = f"HTTP {response.status_code}", response.headers.get("retry-after")
            if attempt < self.retries:
                time.sleep(self.wait(attempt, asked_wait))
        raise NoReplyError(
            f"{self.url}: no reply after {self.retries + 1} tries ({why}); replies so far are kept, run the same command again", exit_code=1
        )

    def wait(self, attempt: int, asked: str | None) -> float:
        """Return the seconds before the next try: what the server asked for, else doubling, with chance so that threads part."""
        if asked and asked.replace(".", "", 1).isdigit():
            return min(float(asked), LONGEST_WAIT_SECONDS)
        return min(self.first_wait * 2**attempt, LONGEST_WAIT_SECONDS) * (0.5 + random.random() / 2)

    def read(self, response) -> Completion:
        """Return what a reply says; raises EvaluationError for a refusal or another shape."""
        if response.status_code >= 400:
            raise EvaluationError(f"{self.url}: HTTP {response.status_code}: {response.text[:300]}; check --endpoint, --model and the key")
        try:
            plain = response.json()
            text = plain["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError):
            raise EvaluationError(f"{self.url}: the reply is no chat completion: {response.text[:300]!r}; is --endpoint right?") from None
        usage = plain.get("usage") if isinstance(plain.get("usage"), dict) else {}
        counts = [value if isinstance(value := usage.get(key), int) else 0 for key in ("prompt_tokens", "completion_tokens")]
        return Completion(text if isinstance(text, str) else "", *counts)


class EndpointJudge(ChatEndpoint):
    """A judge behind an endpoint."""

    def ask(self, text: str) -> str:
        """Return the judge's reply, greedy; raises EvaluationError when it cannot be had."""
        return self.complete(text).text


class FolderJudge:
    """A local model; its chat template is used where it has one."""

    def __init__(self, folder, device: str = "auto"):
        from codemix_megatron.inference.exported import load_exported

        self.model, self.lock = load_exported(folder, device), threading.Lock()

    @property
    def name(self) -> str:
        """What identifies this judge's replies."""
        return str(self.model.folder.absolute())

    def ask(self, text: str) -> str:
        """Return the model's greedy reply."""
        from codemix_megatron.inference.generation import Sampling, generate

        tokenizer = self.model.tokenizer
        if tokenizer.chat_template:
            text = tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True)
        with self.lock:
            return generate(self.model, [self.model.encode(text)], Sampling(max_tokens=min(MOST_TOKENS, self.model.max_length // 2)))[0]
