"""${NAME} in addresses: the secrets reach the server that asks for them, and nothing that is written or said."""

import base64
import functools
import gzip
import http.server
import json
import threading

import pytest

from codemix_megatron.corpus.input_identity import fingerprint_inputs
from codemix_megatron.errors import CorpusError
from codemix_megatron.readers.inputs import find_inputs
from codemix_megatron.recipe.schema import CorpusSpec

PASSWORD, SIGNATURE = "pl4nted&p/w", "pl4nted-signature"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder for who knows user and password, or whose query is signed; its address without http://."""
    lines = "".join(json.dumps({"text": f"line {i}"}) + "\n" for i in range(50)).encode()
    (tmp_path / "a.jsonl").write_bytes(lines)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "a.json").write_bytes(json.dumps([{"text": "line"}], indent=1).encode())
    basic = "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            """Say nothing."""

        def send_head(self):
            if self.headers.get("Authorization") == basic or f"X-Amz-Signature={SIGNATURE}" in self.path:
                return super().send_head()
            return self.send_error(403)

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path)))
    threading.Thread(target=running.serve_forever, daemon=True).start()
    monkeypatch.setenv("STORE_PASSWORD", "pl4nted%26p%2Fw")
    monkeypatch.setenv("STORE_SIGNATURE", SIGNATURE)
    yield f"127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()


def inputs(address: str):
    """Return the inputs of a corpus that an address names."""
    spec = CorpusSpec(kind="text", documents=(address,), prefix="x")
    return spec, find_inputs(spec, where="corpora.x.documents")


@pytest.mark.parametrize("form", ["http://me:${{STORE_PASSWORD}}@{}/{}", "http://{}/{}?v=1&X-Amz-Signature=${{STORE_SIGNATURE}}&z=2"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json"])
def test_an_address_with_variables_is_read(server, form, name):
    spec, (file,) = inputs(form.format(server, name))
    assert file.name == name
    texts = [document.text for document in file.read()]
    assert texts == (["line"] if name == "a.json" else [f"line {i}" for i in range(50)])
    assert fingerprint_inputs(spec, [file])


def test_another_signature_is_no_other_input(server, monkeypatch):
    form = f"http://{server}/a.jsonl?X-Amz-Date=${{DAY}}&X-Amz-Signature=${{STORE_SIGNATURE}}"
    found = []
    for day in ("1", "2"):
        monkeypatch.setenv("DAY", day)
        spec, files = inputs(form)
        found.append(fingerprint_inputs(spec, files))
    assert found[0] == found[1]


def test_a_wrong_secret_is_an_error_that_does_not_hold_it(server, monkeypatch):
    monkeypatch.setenv("STORE_PASSWORD", "pl4nted-wrong")
    with pytest.raises(CorpusError) as refused:
        inputs(f"http://me:${{STORE_PASSWORD}}@{server}/a.jsonl")
    assert "${STORE_PASSWORD}" in str(refused.value) and "pl4nted" not in str(refused.value).replace("${STORE_PASSWORD}", "")


def test_a_variable_that_is_not_set_is_named_before_anybody_is_asked(server, monkeypatch):
    monkeypatch.delenv("STORE_PASSWORD")
    with pytest.raises(CorpusError, match=r"documents\[0\]: .*STORE_PASSWORD of its \$\{...\} is not set; export it"):
        inputs(f"http://me:${{STORE_PASSWORD}}@{server}/a.jsonl")


def test_only_braces_are_references(monkeypatch):
    from codemix_megatron.redaction import with_variables

    monkeypatch.setenv("A", "x")
    assert with_variables("s3://b/$A/${A}$B") == "s3://b/$A/x$B"
