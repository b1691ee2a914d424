"""Who is asked: a local model gives the same reply for the same seed; an endpoint is asked no more often than allowed."""

import json
import threading
import time

import pytest
from scripted_teacher import ScriptedTeacher

from codemix_megatron.cli.main import main
from codemix_megatron.corpus.tokenizers import train_tokenizer
from codemix_megatron.errors import EvaluationError, SandboxError
from codemix_megatron.inference.endpoints import ChatEndpoint, Completion, NoReplyError
from codemix_megatron.sandbox.running import find_sandbox
from codemix_megatron.synthesis.reply_log import ReplyLog
from codemix_megatron.synthesis.teachers import EndpointTeacher, FolderTeacher, RateLimit, Request

STATEMENT = "Return the sum of two numbers."


def asked(seed: int, max_tokens: int = 12) -> Request:
    """A request for a solution."""
    return Request("solution", STATEMENT, seed, 0.8, max_tokens)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random Llama that sees 96 tokens."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    path = tmp_path_factory.mktemp("teacher") / "model"
    train_tokenizer(["def add(a, b):\n    return a + b\n", STATEMENT] * 20, 300, path.parent / "tokenizer.json")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path.parent / "tokenizer.json"), eos_token="<|endoftext|>")
    tokenizer.save_pretrained(path)
    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=320, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=96,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, initializer_range=0.3,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(path)
    return path


def test_a_local_model_gives_the_same_reply_for_the_same_seed(folder):
    teacher = FolderTeacher(folder)
    replies = [teacher.write(asked(seed)) for seed in (1, 2, 1)]
    assert replies[0] == replies[2] and replies[0].text != replies[1].text and teacher.name == "model"
    assert replies[0].prompt_tokens == len(teacher.model.encode(STATEMENT)) and replies[0].completion_tokens > 0
    long = teacher.write(Request("solution", STATEMENT * 40, 1, 0.8, 500))
    assert long.prompt_tokens == 48, "the end of a prompt that is too long, and half the window for the reply"


def test_the_command_asks_a_local_model_and_goes_on_without_asking_again(folder, tmp_path, capsys):
    try:
        find_sandbox()
    except SandboxError as fault:
        pytest.skip(str(fault))
    problems = tmp_path / "problems.jsonl"
    problems.write_text(json.dumps({"id": 1, "text": STATEMENT, "entry_point": "add"}) + "\n")
    command = [
        "synthesize",
        str(problems),
        "--teacher-folder",
        str(folder),
        "--output",
        str(tmp_path / "out"),
        "--solutions",
        "3",
        "--max-tokens",
        "8",
    ]
    assert main(command) == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert sum(manifest["solutions"].values()) == 3 and manifest["solutions"].get("kept", 0) == 0, "a random model writes no programs"
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()}
    assert main(command) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()} == before
    assert main([*command, "--endpoint", "http://localhost:1/v1", "--model", "m"]) == 2
    assert "name one teacher" in capsys.readouterr().err


def test_requests_of_all_threads_leave_no_sooner_than_allowed():
    limit, left, lock = RateLimit(1200), [], threading.Lock()  # one each 50 ms

    def work():
        for _ in range(3):
            limit.wait()
            with lock:
                left.append(time.monotonic())

    began = time.monotonic()
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # However slow the machine is, the n-th cannot leave before n intervals after the first was allowed to.
    assert all(at - began >= 0.05 * number - 0.005 for number, at in enumerate(sorted(left)))
    assert len(left) == 9


def test_an_endpoint_is_asked_no_more_often_than_requests_per_minute():
    teacher = ScriptedTeacher({STATEMENT: ("def add(a, b):\n    return a + b\n", ["assert add(1, 2) == 3"])})
    asking, began = EndpointTeacher(ChatEndpoint(teacher.url, "m"), 600), time.monotonic()
    for seed in (0, 8, 16):
        assert "def add" in asking.write(asked(seed)).text
    assert time.monotonic() - began >= 0.195 and len(teacher.requests) == 3
    unlimited = EndpointTeacher(ChatEndpoint(teacher.url, "m"))
    assert unlimited.limit.seconds == 0
    teacher.server.shutdown()
    teacher.server.server_close()


class FadingTeacher:
    """Gives nothing at first: no reply, a malformed one, an empty one, blanks; then text. Each costs eight tokens where it comes at all."""

    name = "fading"

    def __init__(self, *replies):
        self.replies, self.asked = list(replies), 0

    def write(self, request):
        self.asked += 1
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return Completion(reply, 5, 3)


@pytest.mark.parametrize("nothing", [NoReplyError("away"), EvaluationError("no chat completion"), "", " \n"])
def test_a_request_that_got_no_text_is_asked_again_by_the_next_command_and_once(tmp_path, nothing):
    path, request, text = tmp_path / "replies.jsonl", asked(1), "def add(a, b):\n    return a + b\n"
    first = ReplyLog(path, FadingTeacher(nothing))
    assert not first.reply(request).text.strip() and not first.reply(request).text.strip() and first.teacher.asked == 1
    first.close()
    second = ReplyLog(path, FadingTeacher(text))
    assert second.reply(request).text == text and second.teacher.asked == 1
    cost = 16 if isinstance(nothing, str) else 8
    assert second.tokens == cost, "what the empty reply cost counts"
    second.close()
    third = ReplyLog(path, FadingTeacher())
    assert third.reply(request).text == text and third.teacher.asked == 0 and third.tokens == cost
    third.close()
