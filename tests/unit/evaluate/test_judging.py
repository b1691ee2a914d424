"""Win rates over a real HTTP server on this machine that is busy, slow, silent or wrong when it is told to be."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from patience import PATIENCE_SECONDS

from codemix_megatron.cli.main import main
from codemix_megatron.errors import EvaluationError
from codemix_megatron.evaluate.judging import Pair, judge_pairs, judge_prompt, read_verdict, summarize
from codemix_megatron.inference.endpoints import EndpointJudge
from codemix_megatron.records.win_rate import WinRate


class Server:
    """An OpenAI-compatible server that prefers the answer `taste` likes best; `faults` happen first, one per request."""

    def __init__(self):
        self.taste, self.faults, self.requests, self.headers = len, [], [], []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append(body)
                outer.headers.append(dict(self.headers))
                fault = outer.faults.pop(0) if outer.faults else None
                outer.answer(self, body, fault)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, handler, body, fault):
        if fault == "slow":
            handler.connection.settimeout(PATIENCE_SECONDS)
            handler.connection.recv(1)  # until the client has given up waiting
            return
        if fault == "hang up":
            handler.connection.close()
            return
        status = fault if isinstance(fault, int) else 200
        content = self.verdict(body["messages"][0]["content"])
        reply = {"error": "no"} if status >= 400 or fault == "another shape" else {"choices": [{"message": {"content": content}}]}
        try:
            handler.send_response(status)
            if status == 429:
                handler.send_header("Retry-After", "0.01")
            handler.end_headers()
            handler.wfile.write(json.dumps(reply).encode())
        except OSError:
            pass  # the client has given up waiting

    def verdict(self, text):
        first, second = text.split("Answer (A):\n")[1].split("\n\nFirst compare")[0].split("\n\nAnswer (B):\n")
        if "?" in (first[:1], second[:1]):
            return "I cannot say."
        return f"Compared.\nPreferred: Answer ({'A' if self.taste(first) >= self.taste(second) else 'B'})"


@pytest.fixture
def server():
    made = Server()
    yield made
    made.server.shutdown()
    made.server.server_close()


def judge_of(server, **options):
    return EndpointJudge(server.url, "judge", first_wait_seconds=0.01, **options)


def pairs_of(*answers):
    return [Pair(prompt=f"prompt {i}", ours=ours, theirs=theirs) for i, (ours, theirs) in enumerate(answers)]


PAIRS = pairs_of(("longer", "long"), ("a", "bcd"), ("same", "size"), ("?", "x"))


def test_both_orders_are_asked_and_a_changed_mind_is_a_tie(server, tmp_path):
    judge = judge_of(server)
    verdicts = judge_pairs(PAIRS, judge.ask, judge.name, tmp_path)
    assert verdicts == [("ours", "ours"), ("theirs", "theirs"), ("ours", "theirs"), (None, None)]
    result = summarize(verdicts, ours="o", theirs="t", judge=judge.name, prompts=4)
    assert (result.wins, result.losses, result.ties, result.unreadable, result.counted) == (1, 1, 1, 1, 3)
    assert result.win_rate == 0.5 and result.words == "not distinguishable" and result.first_preferred == pytest.approx(4 / 6)
    assert len(server.requests) == 8 + 2, "the two replies without a verdict are asked for once more"
    assert all(body["temperature"] == 0 for body in server.requests)
    assert WinRate.read(result.write(tmp_path / "w.json")) == result


@pytest.mark.parametrize("reply, verdict", [
    ("Compared.\nPreferred: Answer (A)", "A"),
    ("**Preferred: Answer (B)**", "B"),
    ("> Preferred: answer B.\n", "B"),
    ("Preferred: Answer (A)\nOn reflection:\nPreferred: Answer (B)", "B"),
    ("Preferred: Answer (A)\nBut then again, Preferred: Answer (B)", None),
    ("I do not think Preferred: Answer (A) is apt; tie", None),
    ("Preferred: Answer (A) or Answer (B)", None),
    ("Preferred: Answer (AB)", None),
    ("", None),
])  # fmt: skip
def test_a_verdict_stands_on_a_line_of_its_own(reply, verdict):
    assert read_verdict(reply) == verdict


def test_unreadable_replies_are_asked_for_again_later_and_none_at_all_is_a_failure(server, tmp_path, capsys):
    for name, answer in (("prompts", None), ("ours", "?"), ("theirs", "x")):
        lines = [{"prompt": f"p{i}"} | ({} if answer is None else {"answer": answer}) for i in range(2)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ["judge", str(tmp_path / "ours.jsonl"), str(tmp_path / "theirs.jsonl"), "--prompts", str(tmp_path / "prompts.jsonl")]
    words += ["--endpoint", server.url, "--model", "judge", "--output", str(tmp_path / "out")]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "none of 2 prompts has a readable verdict in both orders, one of them: 'I cannot say.'" in error
    assert not (tmp_path / "out" / "win-rate.json").exists()
    server.verdict = lambda text: "Preferred: Answer (A)"
    assert main(words) == 0 and WinRate.read(tmp_path / "out" / "win-rate.json").ties == 2


def test_a_judge_with_a_favourite_place_gives_ties_only(server, tmp_path):
    server.taste = lambda answer: 0
    judge = judge_of(server)
    result = summarize(judge_pairs(PAIRS[:3], judge.ask, judge.name, tmp_path), ours="o", theirs="t", judge="j", prompts=3)
    assert (result.wins, result.losses, result.ties, result.first_preferred) == (0, 0, 3, 1.0)


def test_busy_slow_and_lost_replies_are_asked_for_again(server, tmp_path):
    server.faults = [429, 503, "hang up", "slow", 500]
    judge = judge_of(server, timeout_seconds=3.0)
    assert judge_pairs(PAIRS[:1], judge.ask, judge.name, tmp_path, threads=1) == [("ours", "ours")]
    assert len(server.requests) == 5 + 2


def test_server_that_stays_away_is_told_and_replies_so_far_are_kept(server, tmp_path):
    judge = judge_of(server, retries=1)
    judge_pairs(PAIRS[:1], judge.ask, judge.name, tmp_path)
    server.faults = [500] * 50
    with pytest.raises(EvaluationError, match=r"no reply after 2 tries \(HTTP 500\); replies so far are kept"):
        judge_pairs(PAIRS[:3], judge.ask, judge.name, tmp_path, threads=1)
    server.faults, asked = [], len(server.requests)
    with open(tmp_path / "replies.jsonl", "a") as log:
        log.write('{"question": "torn')
    assert judge_pairs(PAIRS[:3], judge.ask, judge.name, tmp_path)[:2] == [("ours", "ours"), ("theirs", "theirs")]
    assert len(server.requests) - asked == 4, "the first pair is not asked about again"
    judge_pairs(PAIRS[:3], judge.ask, judge.name, tmp_path)
    assert len(server.requests) - asked == 4


@pytest.mark.parametrize("fault, message", [
    (401, "HTTP 401: .*; check --endpoint, --model and the key"),
    ("another shape", "the reply is no chat completion"),
])  # fmt: skip
def test_refusals_are_not_asked_again(server, fault, message):
    server.faults = [fault] * 3
    with pytest.raises(EvaluationError, match=message):
        judge_of(server).ask("Answer (A):\nx\n\nAnswer (B):\ny\n\nFirst compare")
    assert len(server.requests) == 1


def test_nobody_listening_is_a_machine_fault():
    judge = EndpointJudge("http://127.0.0.1:9", "judge", retries=1, first_wait_seconds=0.01)
    with pytest.raises(EvaluationError, match="ConnectError") as caught:
        judge.ask("x")
    assert caught.value.exit_code == 1


def test_command_judges_answers_and_resumes(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    prompts = [{"instruction": f"Say {i}", "context": "It is late." if i else ""} for i in range(6)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(p) + "\n" for p in prompts))
    asked = [f"Say {i}" + ("\n\nIt is late." if i else "") for i in range(6)]
    for name, answer in (("ours", "a longer answer"), ("theirs", "short")):
        lines = [json.dumps({"prompt": prompt, "answer": answer}) for prompt in asked]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    words = ["judge", str(tmp_path / "ours.jsonl"), str(tmp_path / "theirs.jsonl"), "--prompts", str(tmp_path / "prompts.jsonl")]
    words += ["--endpoint", server.url, "--model", "m", "--output", str(tmp_path / "out")]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "6 wins, 0 losses, 0 ties over 6 prompts" in out and "p = 0.0312: ours preferred" in out
    assert all(headers["Authorization"] == "Bearer secret" for headers in server.headers)
    kept = "".join(path.read_text() for path in (tmp_path / "out").iterdir())
    assert "secret" not in kept and len(server.requests) == 12
    assert main(words) == 0 and len(server.requests) == 12


def test_command_lets_exported_models_answer(server, tmp_path, export_folder, capsys):
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "the word"}\n{"prompt": "return self"}\n')
    words = ["judge", str(export_folder), str(export_folder), "--prompts", str(tmp_path / "prompts.jsonl"), "--max-tokens", "8"]
    assert main([*words, "--endpoint", server.url, "--model", "m", "--output", str(tmp_path / "out")]) == 0
    assert "0 wins, 0 losses, 2 ties" in capsys.readouterr().out, "a model against itself"


def test_local_model_can_judge(export_folder):
    from codemix_megatron.inference.endpoints import FolderJudge

    assert isinstance(FolderJudge(export_folder, "cpu").ask("the word"), str)


@pytest.mark.parametrize("words, message", [
    ([], "name one judge"),
    (["--endpoint", "http://x"], "--model: missing"),
    (["--endpoint", "x", "--model", "m"], "needs http:// or https://"),
    (["--endpoint", "http://x", "--model", "m", "--template", "x"], "--template: found 'x', needs {prompt}"),
    (["--endpoint", "http://x", "--model", "m", "--timeout", "0"], "--timeout: found 0.0"),
    (["--endpoint", "http://x", "--model", "m"], "no prompt; each line needs `prompt` or `instruction`"),
])  # fmt: skip
def test_command_refuses_in_one_message(tmp_path, capsys, words, message):
    (tmp_path / "p.jsonl").write_text('{"text": "x"}\n')
    assert main(["judge", "a", "b", "--prompts", str(tmp_path / "p.jsonl"), *words]) == 2
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err


def test_prompt_is_frozen():
    """Changing a word of it makes win rates incomparable with earlier ones: do it on purpose, and say so in the changelog."""
    import hashlib

    assert hashlib.sha256(judge_prompt().encode()).hexdigest()[:16] == "ee2d21d1d4cf5859"
    assert read_verdict("Preferred: Answer (A)\nOn second thought:\nPreferred: **Answer (B)**") == "B"


def test_reply_with_line_separators_of_unicode_is_kept(tmp_path):
    """str.splitlines cuts at U+2028 and U+0085, which JSON leaves as they are: the reply was asked for again at each start."""
    asked = []

    def ask(text):
        asked.append(text)
        return "first\u2028second\x85third\nPreferred: Answer (A)"

    for _ in range(2):
        assert judge_pairs(PAIRS[:1], ask, "judge", tmp_path) == [("ours", "theirs")]
        assert len(asked) == 2


def test_a_reply_that_a_crash_tore_within_a_letter_is_cut_off_and_asked_for_again(server, tmp_path):
    """The log could not be read again: half of an ä is no UTF-8; and what was appended to a torn line was lost with it."""
    judge = judge_of(server)
    wanted = judge_pairs(PAIRS[:2], judge.ask, judge.name, tmp_path)
    log = tmp_path / "replies.jsonl"
    whole = log.read_bytes()
    for torn in ('{"question": "x", "reply": "ä'.encode()[:-1], b'{"question"'):
        log.write_bytes(whole + torn)
        asked = len(server.requests)
        assert judge_pairs(PAIRS[:2], judge.ask, judge.name, tmp_path) == wanted and len(server.requests) == asked
        assert log.read_bytes() == whole
    log.write_bytes(whole[:-1])  # it lacks its end alone
    judge_pairs(PAIRS[:2], judge.ask, judge.name, tmp_path)
    assert log.read_bytes() == whole
