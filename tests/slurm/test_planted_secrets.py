"""Secrets in eighteen locations, and everything done with them around: prepared, trained, scored and judged on Slurm, exported, reported.

No file that is left and nothing that was printed holds one of them, in the clear or as base64.
"""

import base64
import json
import os
import secrets
import shutil
import string
import subprocess
import sys
import time

import pytest
import yaml
from patience import PATIENCE_SECONDS
from slurm.cluster import CONTROLLER
from tiny_run import RECIPE, REPOSITORY, clean_environment, make_documents

pytestmark = pytest.mark.slow
UPPER = string.ascii_uppercase + string.digits

# Serves a folder to who knows user and password, or the signature, and answers as a judge to who has the key.
SERVER = """
import base64, json, os, sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
class Handler(SimpleHTTPRequestHandler):
    def may(self):
        token = self.headers.get("Authorization", "")
        signed = f"X-Amz-Signature={os.environ['STORE_SIGNATURE']}" in self.path
        basic = "Basic " + base64.b64encode(f"reader:{os.environ['STORE_PASSWORD']}".encode()).decode()
        return signed or token in (basic, "Bearer " + os.environ["OPENAI_API_KEY"])
    def refuse(self):
        self.send_response(401); self.send_header("WWW-Authenticate", "Basic"); self.send_header("Content-Length", "0"); self.end_headers()
    def do_GET(self): return super().do_GET() if self.may() else self.refuse()
    def do_HEAD(self): return super().do_HEAD() if self.may() else self.refuse()
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"choices": [{"message": {"content": "Compared.\\nPreferred: Answer (A)"}}]}).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
server = ThreadingHTTPServer((sys.argv[1], 0), Handler)
open(sys.argv[2] + ".partial", "w").write(str(server.server_port)); os.rename(sys.argv[2] + ".partial", sys.argv[2])
server.serve_forever()
"""


class Planted:
    """A folder to work in, the secrets, and what was printed."""

    def __init__(self, folder, cluster):
        self.folder, self.cluster, self.printed = folder, cluster, []
        self.secrets: dict[str, str] = {}
        self.inputs = folder / "inputs"  # where the secrets stand on purpose; not searched
        self.work = folder / "work"
        for path in (self.inputs, self.work, folder / "tmp", folder / "home"):
            path.mkdir()

    def plant(self, where: str, prefix: str = "pl4nted", length: int = 16, letters: str = string.ascii_letters + string.digits) -> str:
        """Return a secret that stands in one location alone: drawn, for what reads like a placeholder is not masked."""
        self.secrets[where] = prefix + "".join(secrets.choice(letters) for _ in range(length))
        return self.secrets[where]

    def environment(self) -> dict[str, str]:
        """Return the environment of all commands."""
        plain = {k: v for k, v in clean_environment().items() if k in ("PATH", "LANG", "LC_ALL", "OMP_NUM_THREADS")}
        own = {"PYTHONPATH": str(self.checkout), "HOME": str(self.folder / "home"), "TMPDIR": str(self.folder / "tmp")}
        return {**plain, **own, **self.variables, "SLURM_CONF": str(self.cluster.configuration)}

    def codemix(self, *words, code: int | None = 0) -> str:
        """Run a command on the login node and return what it printed."""
        command = [sys.executable, "-m", "codemix_megatron", *map(str, words)]
        there = [*self.cluster.entry(), "env", f"--chdir={self.work}"]
        done = subprocess.run(
            [*there, *command], env=self.environment(), capture_output=True, text=True, timeout=PATIENCE_SECONDS, stdin=subprocess.DEVNULL
        )
        said = f"$ {' '.join(map(str, words))}\n{done.stdout}{done.stderr}"
        self.printed.append(done.stdout + done.stderr)
        assert code is None or done.returncode == code, said
        return done.stdout + done.stderr

    def wait(self, *runs) -> None:
        """Wait for the jobs that folders name."""
        for run, name in runs:
            job = json.loads((run / "launch" / f"{name}.json").read_text())["id"]
            fields = self.cluster.wait_for_job(job)
            logs = "".join(path.read_text() for path in (run / "launch").glob("*.log"))
            assert fields["JobState"] == "COMPLETED", logs

    def found(self) -> list[str]:
        """Return where a secret was found, in the clear or as base64."""
        forms = {}
        for where, secret in self.secrets.items():
            forms |= {secret.encode(): where, base64.b64encode(f"reader:{secret}".encode()): f"{where}, base64"}
        files = [(str(path.relative_to(self.folder)), path) for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink()]
        found = []
        for name, path in files:
            if path.is_relative_to(self.inputs):
                continue
            data = path.read_bytes()
            found += [f"{name}: {where}" for form, where in forms.items() if form in data or form in name.encode()]
        printed = "\n".join(self.printed).encode()
        return found + [f"printed: {where}" for form, where in forms.items() if form in printed]


def git(folder, *words) -> None:
    """Run git as somebody."""
    subprocess.run(["git", "-C", folder, "-c", "user.name=me", "-c", "user.email=me@example.org", *words], check=True, capture_output=True)


@pytest.fixture
def planted(tmp_path, cluster):
    """A checkout, a repository, corpora behind addresses that want secrets, keys in documents, and an environment full of them."""
    made = Planted(tmp_path, cluster)
    make_documents(made.inputs)
    made.checkout = made.inputs / "checkout"
    shutil.copytree(REPOSITORY / "codemix_megatron", made.checkout / "codemix_megatron", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in (made.checkout, made.inputs / "repository"):
        folder.mkdir(exist_ok=True)
        subprocess.run(["git", "init", "-q", folder], check=True, capture_output=True)
    for n in range(40):
        (made.inputs / "repository" / f"f{n}.py").write_text(f"def f{n}(x):\n    return x * {n} + sum(range({n}))\n" * 3)
    for folder, where in ((made.checkout, "remote of the checkout"), (made.inputs / "repository", "remote of a repository")):
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", "all")
        git(folder, "remote", "add", "origin", f"https://me:{made.plant(where)}@git.example.org/x.git")
    with open(made.checkout / "codemix_megatron" / "cores.py", "a") as handle:
        handle.write(f"\nNOT_COMMITTED = '{made.plant('uncommitted change', 'hf_', 34)}'\n")
    key, other = made.plant("key in a document", "AKIA", 16, UPPER), made.plant("token in a document", "ghp_", 36)
    texts = [f"The settings of host {n} are aws_access_key_id = {key} and token: {other}, which nobody needs to read." for n in range(30)]
    (made.inputs / "keyed.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    made.variables = {
        "STORE_USER": "reader",
        "STORE_PASSWORD": made.plant("password of an address"),
        "STORE_SIGNATURE": made.plant("signature of a query"),
        "OPENAI_API_KEY": made.plant("key of the judge", "sk-", 40),
        "HF_TOKEN": made.plant("HF_TOKEN", "hf_", 34),
        "WANDB_API_KEY": made.plant("WANDB_API_KEY"),
        "AWS_SECRET_ACCESS_KEY": made.plant("AWS_SECRET_ACCESS_KEY"),
        "DATABASE_URL": f"postgres://me:{made.plant('DATABASE_URL')}@db/x",
        "HTTPS_PROXY": f"http://me:{made.plant('HTTPS_PROXY')}@proxy.example.org:3128",
        "GITHUB_PAT": made.plant("GITHUB_PAT"),
    }
    return made


@pytest.fixture
def address(planted):
    """Host and port of what serves the corpora and judges."""
    host, port = CONTROLLER if planted.cluster.isolated else "127.0.0.1", planted.inputs / "port"
    words = [*planted.cluster.entry(), "env", f"--chdir={planted.inputs}", sys.executable, "-c", SERVER, host, str(port)]
    server = subprocess.Popen(words, env={**os.environ, **planted.variables}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not port.exists():
        assert time.monotonic() < deadline and server.poll() is None, "the server did not start"
        time.sleep(0.05)
    yield f"{host}:{port.read_text()}"
    server.kill()
    server.wait()


def write_recipe(planted, address) -> None:
    """Write recipe and site into the inputs."""
    documents = {
        "prose": {"kind": "text", "documents": [f"http://${{STORE_USER}}:${{STORE_PASSWORD}}@{address}/prose.jsonl"]},
        "snippets": {"kind": "code", "documents": [f"http://{address}/snippets.jsonl?X-Amz-Signature=${{STORE_SIGNATURE}}"]},
        "history": {"kind": "code", "documents": [f"git:{planted.inputs / 'repository'}"]},
        "keyed": {
            "kind": "text",
            "documents": [str(planted.inputs / "keyed.jsonl")],
            "filters": {"personal_data": ["key"]},
            "max_epochs": 50,
        },
    }
    corpora = {name: {**spec, "prefix": str(planted.work / "corpora" / name), "max_epochs": 50} for name, spec in documents.items()}
    phase = {**RECIPE["phases"][0], "tokens": 4 * 512, "mixture": {"prose": 0.4, "snippets": 0.3, "keyed": 0.2, "history": 0.1}}
    recipe = {**RECIPE, "corpora": corpora, "phases": [phase], "observers": {"tensorboard": True, "wandb": "offline"}}
    recipe["tokenizer"] = {"path": str(planted.work / "tokenizer.json"), "train_vocab_size": 512}
    recipe["evaluation"] = {"held_out_share": 0.1, "held_out_sequences": 2, "items": 4, "suites": ["bits_per_byte"]}
    (planted.work / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    (planted.inputs / "site.yaml").write_text(yaml.safe_dump({"partition": "train", "ranks_per_node": 1, "save_seconds": 60}))


def test_no_planted_secret_is_left_anywhere(planted, address, measured):
    write_recipe(planted, address)
    recipe, site, run = planted.work / "recipe.yaml", ["--site", planted.inputs / "site.yaml"], planted.work / "runs" / "tiny"
    planted.codemix("doctor", code=None)
    planted.codemix("launch", "--prepare", recipe, *site, "--tasks", 2)
    planted.wait((run, "merge"))
    planted.codemix("plan", recipe)
    for name in ("prose", "snippets", "keyed", "history"):
        planted.codemix("inspect", planted.work / "corpora" / name, "--samples", 3)
    planted.codemix("launch", recipe, *site, "parallel.tensor=2")
    planted.wait((run, "job"))
    planted.codemix("launch", "--evaluate", run, *site)
    planted.wait((run, "score"))
    (planted.work / "prompts.jsonl").write_text('{"prompt": "the model"}\n{"prompt": "code and"}\n')
    endpoint = f"http://judge:{planted.plant('address of the judge')}@{address}/v1"
    planted.codemix("judge", run, run, "--prompts", "prompts.jsonl", "--endpoint", endpoint, "--model", "m", "--max-tokens", 4)
    planted.codemix("audit", run)
    planted.codemix("report", run)
    # what is wrong with them, in messages
    planted.codemix("prepare", recipe, f"corpora.prose.documents=[http://${{STORE_USER}}:${{STORE_PASSWORD}}@{address}/none.jsonl]",
                    f"corpora.prose.prefix={planted.work}/none", code=2)  # fmt: skip
    planted.codemix("plan", recipe, f"corpora.prose.documents=[http://me:{planted.plant('override')}@{address}/x]", code=2)
    bad = {
        "partition": "train",
        "environment": {"HUB_TOKEN": planted.plant("environment of a site")},
        "setup": [f"export API_KEY={planted.plant('setup')}"],
    }
    (planted.inputs / "bad.yaml").write_text(yaml.safe_dump(bad))
    planted.codemix("launch", recipe, "--site", planted.inputs / "bad.yaml", "--dry-run", code=2)
    files = sum(1 for path in planted.folder.rglob("*") if path.is_file() and not path.is_relative_to(planted.inputs))
    assert planted.found() == []
    measured(f"{len(planted.secrets)} planted secrets; none in {files} files and {sum(map(len, planted.printed))} characters of output")


def test_search_itself_finds_what_is_left(planted):
    (planted.work / "leak.txt").write_text(f"x {planted.secrets['HF_TOKEN']} x")
    planted.printed.append(base64.b64encode(f"reader:{planted.secrets['password of an address']}".encode()).decode())
    assert planted.found() == ["work/leak.txt: HF_TOKEN", "printed: password of an address, base64"]
