"""An OpenAI-compatible server on the loopback whose answers are known: right, wrong, hostile, malformed and none, by the number of the request."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# What the solutions of a problem become, by their number: two right ones, nearly alike, then one of each kind that is not kept.
FATES = ("kept", "near duplicate", "wrong", "unsafe", "no reply", "malformed", "syntax error", "malformed reply")
HOSTILE = "import os\nos.system('touch /tmp/codemix-was-here')\n"


class ScriptedTeacher:
    """Knows the code and the assertions of each problem, by a part of its statement; counts what it is asked."""

    def __init__(self, answers: dict[str, tuple[str, list[str]]]):
        self.answers, self.requests, self.lock = answers, [], threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.requests.append(body)
                outer.answer(self, body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, handler, body):
        prompt, number = body["messages"][0]["content"], body["seed"] % 1000
        code, tests = next(answer for statement, answer in self.answers.items() if statement in prompt)
        is_tests = prompt.startswith("Write tests")
        fate = None if is_tests else FATES[number % len(FATES)]
        if fate == "no reply":
            return  # the connection is closed; a slow answer would ask for a quiet machine, where the others have to come in time
        text = self.tests(tests, number) if is_tests else self.solution(code, fate)
        reply = {"choices": [{"message": {"content": text}}], "usage": {"prompt_tokens": 100, "completion_tokens": 50}}
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(json.dumps({"error": "odd"} if fate == "malformed reply" else reply).encode())

    def solution(self, code: str, fate: str) -> str:
        body = {
            "kept": code,
            "near duplicate": code + "\n\npass\n",
            "wrong": code + "\n\n" + wrong_answer(code),
            "unsafe": HOSTILE + code,
            "syntax error": code + "\ndef (",
        }.get(fate)
        return "I would rather not." if body is None else f"Here you are:\n```python\n{body}\n```\nIt works."

    def tests(self, tests: list[str], number: int) -> str:
        """Give right tests, a wrong one, one that any program passes, and one that would end the tests before they are done."""
        name = tests[0].split("(")[0].removeprefix("assert ").strip()
        lines = [*tests, f"{tests[0].split(' == ')[0]} == 'no such answer'", f"assert callable({name})"]
        return "```python\n" + "\n".join(["import os", *lines, "os._exit(0)"] if number else lines) + "\n```"


def wrong_answer(code: str) -> str:
    """Return a definition that takes the function's place and answers nothing right."""
    line = [line for line in code.splitlines() if line.startswith("def ")][-1]
    return f"{line}\n    return 'wrong'\n"
