"""No wrong program passes, whatever it does, and none ends the verification of the others."""

import json
import os
import shutil
import subprocess

import pytest
from attacks.forged_passes import FORGED
from patience import PATIENCE_SECONDS
from tiny_run import REPOSITORY

from codemix_megatron.errors import SandboxError
from codemix_megatron.sandbox.interpreter import find_interpreter
from codemix_megatron.sandbox.isolation import isolations
from codemix_megatron.sandbox.outcome import Limits, Status
from codemix_megatron.sandbox.running import Sandbox, find_sandbox

LIMITS = Limits(seconds=2, memory_bytes=512 << 20)
RIGHT = "def add(a, b):\n    return a + b\n"
USER = 65534
# As another user, with that user's Python: every attack in every sandbox there is; one line of JSON.
AS_A_USER = """
import json, sys
sys.path.insert(0, sys.argv[1])
from concurrent.futures import ThreadPoolExecutor
from attacks.forged_passes import FORGED
from codemix_megatron.sandbox.interpreter import find_interpreter
from codemix_megatron.sandbox.isolation import isolations
from codemix_megatron.sandbox.outcome import Limits
from codemix_megatron.sandbox.running import Sandbox
limits, found = Limits(seconds=2, memory_bytes=512 << 20), {}
for isolation in isolations():
    sandbox = Sandbox(isolation, find_interpreter())
    with ThreadPoolExecutor(2) as pool:
        found[isolation.name] = dict(zip(FORGED, pool.map(lambda pair: sandbox.examine(*pair, limits).status, FORGED.values())))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def sandbox():
    try:
        return find_sandbox()
    except SandboxError as fault:
        pytest.skip(str(fault))


@pytest.mark.parametrize("attack", FORGED)
def test_wrong_program_does_not_pass(sandbox, attack):
    program, tests = FORGED[attack]
    outcome = sandbox.examine(program, tests, LIMITS)
    assert not outcome.passed, outcome
    assert outcome.status != Status.SYNTAX_ERROR, "the attack itself is wrong"


@pytest.mark.parametrize(
    "tests", sorted({tests for program, tests in FORGED.values() if "(a, b)" in program and "add(2, 3) == 5" in tests})
)
def test_right_program_passes_the_same_tests(sandbox, tests):
    assert sandbox.examine(RIGHT, tests, LIMITS).passed


@pytest.mark.slow
@pytest.mark.parametrize("isolation", isolations(), ids=lambda isolation: isolation.name)
def test_in_no_sandbox_of_this_user(isolation):
    sandbox = Sandbox(isolation, find_interpreter())
    assert not [name for name, pair in FORGED.items() if sandbox.examine(*pair, LIMITS).passed]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root, to become another user")
def test_in_no_sandbox_of_an_ordinary_user():
    python = next((p for p in ("/usr/bin/python3.12", "/usr/bin/python3.11") if os.access(p, os.X_OK)), None)
    if python is None:
        pytest.skip("no Python that every user may run")
    words = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", python, "-c", AS_A_USER, str(REPOSITORY / "tests")]
    environment = {"PATH": f"{os.environ['PATH']}:/usr/sbin", "PYTHONPATH": str(REPOSITORY), "SECRET_TOKEN": "SECRET"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, cwd="/", timeout=PATIENCE_SECONDS)
    if "No module named 'codemix_megatron'" in done.stderr or "No module named 'attacks" in done.stderr:
        pytest.skip("the checkout is for its owner alone")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {isolation.name.removesuffix(" as root") for isolation in isolations()}, done.stderr
    assert not [(name, attack) for name, statuses in found.items() for attack, status in statuses.items() if status == "passed"]
