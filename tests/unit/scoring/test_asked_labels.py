"""Labels by a teacher over real HTTP: asked once for each document, whatever interrupts it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from codemix_megatron.cli.main import main
from codemix_megatron.scoring.labels import known_documents


@pytest.fixture
def teacher():
    """Gives 4 to what holds a comment, nothing readable to what has an apple in it, else 1; fails from the request on that is set."""
    asked, limit = [], [10**9]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            prompt = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][0]["content"]
            asked.append(prompt)
            text = "no idea" if "Äpfel" in prompt else f"It has 5 lines.\nScore: {4 if '# ' in prompt else 1}"
            self.send_response(200 if len(asked) <= limit[0] else 400)
            self.end_headers()
            self.wfile.write(json.dumps({"choices": [{"message": {"content": text}}]}).encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1", asked, limit
    server.shutdown()
    server.server_close()


def test_each_document_is_asked_about_once_and_replies_without_a_number_are_counted(scored_corpus, tmp_path, teacher, capsys):
    url, asked, limit = teacher
    labels = tmp_path / "made" / "labels.jsonl"
    command = ["score", scored_corpus.prefix, "--label", "50", "--endpoint", url, "--model", "m", "--labels", str(labels), "--threads", "1"]
    limit[0] = 5
    assert main(command) == 2 and "HTTP 400" in capsys.readouterr().err
    known = len(labels.read_text().splitlines())
    assert 3 <= known <= 5
    with open(labels, "a") as handle:
        handle.write('{"document": 3, "la')  # torn by a kill
    limit[0], before = 10**9, len(asked)
    assert main(command) == 0
    train = scored_corpus.train_documents
    records = [json.loads(line) for line in labels.read_text().splitlines()]
    assert len(asked) - before == train - known and len({record["document"] for record in records}) == len(records)
    assert {record["label"] for record in records} == {1, 4}
    out = capsys.readouterr().out
    assert f"{len(records)} labels" in out and ("1 replies held no number" in out) == (len(records) == train - 1)


def test_a_label_written_by_hand_whose_line_lacks_its_end_is_kept(tmp_path):
    labels = tmp_path / "labels.jsonl"
    labels.write_text('{"document": 1, "label": 4}\n{"text": "of nowhere", "label": 0}\n{"document": 7, "label": 2}')
    assert known_documents(labels) == {1, 7}
    assert labels.read_text().splitlines()[-1] == '{"document": 7, "label": 2}' and labels.read_text().endswith("\n")
    with open(labels, "a") as handle:
        handle.write('{"document": 8, "lab')
    assert known_documents(labels) == {1, 7} and labels.read_text().count("\n") == 3
