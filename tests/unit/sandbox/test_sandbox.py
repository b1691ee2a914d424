"""What a program nobody has read can do here, and what it cannot."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from patience import PATIENCE_SECONDS, wait_until

from codemix_megatron.errors import SandboxError
from codemix_megatron.sandbox import running
from codemix_megatron.sandbox.interpreter import find_interpreter
from codemix_megatron.sandbox.isolation import isolations
from codemix_megatron.sandbox.outcome import Limits, Status
from codemix_megatron.sandbox.running import Sandbox, find_sandbox, run_python
from codemix_megatron.sandbox.system_calls import seccomp_filter

REPOSITORY = Path(__file__).resolve().parents[3]
LIMITS = Limits(seconds=15, memory_bytes=256 << 20, processes=8, scratch_bytes=8 << 20, output_bytes=1000)
MARK = "sandbox-test-process"


@pytest.fixture(scope="module", autouse=True)
def default_sandbox():
    """The sandbox of this machine; without one there is nothing to test."""
    try:
        return find_sandbox()
    except SandboxError as fault:
        pytest.skip(str(fault))


@pytest.fixture(scope="module", params=[isolation.name for isolation in isolations()])
def sandbox(request):
    """Each sandbox of this machine."""
    return Sandbox(next(i for i in isolations() if i.name == request.param), find_interpreter())


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        ("assert sorted([2, 1]) == [1, 2]", Status.PASSED, ""),
        ("x = 1\nassert x == 2, 'x is 1'", Status.WRONG, "AssertionError: x is 1 (line 2)"),
        ("def f(:\n", Status.SYNTAX_ERROR, "SyntaxError"),
        ("a = '\0'", Status.SYNTAX_ERROR, "null bytes"),
        ("{}['x']", Status.EXCEPTION, "KeyError: 'x' (line 1)"),
        ("def f(): f()\nf()", Status.EXCEPTION, "RecursionError"),
        ("raise KeyboardInterrupt", Status.EXCEPTION, "KeyboardInterrupt"),
        ("class E(Exception):\n def __str__(self): 1/0\nraise E", Status.EXCEPTION, "E"),
        ("import sys\nsys.exit(0)\nassert False", Status.EXIT, "left with code 0"),
        ("import os\nos._exit(0)", Status.EXIT, "left with code 0"),
        ("import os\nos.kill(os.getpid(), 11)", Status.CRASH, "SIGSEGV"),
        ("x = bytearray(1 << 30)", Status.MEMORY, "MemoryError"),
        ("import os\nif os.fork() == 0: assert False\nos.wait()", Status.PASSED, ""),
    ],
)  # fmt: skip
def test_how_a_program_ended_is_told(code, status, message):
    outcome = run_python(code, LIMITS)
    assert (outcome.status, message in outcome.message) == (status, True), outcome


@pytest.mark.parametrize("code", ["while True: pass", "import signal, time\nsignal.pthread_sigmask(0, range(1, 64))\ntime.sleep(60)"])
def test_a_program_ends_at_its_time(code):
    outcome = run_python(code, Limits(seconds=0.4))
    assert outcome.status == Status.TIMEOUT
    assert 0.4 <= outcome.seconds < 10


def test_what_a_program_prints_is_kept_up_to_the_limit():
    outcome = run_python("import sys\nprint('é' * 10**6)\nsys.stderr.write('e')", LIMITS)
    assert (outcome.status, outcome.stdout, outcome.stderr) == (Status.PASSED, "é" * 500, "e")


def test_ordinary_programs_run(sandbox):
    code = """
import dataclasses, multiprocessing, pickle, tempfile, threading, socket, typing
@dataclasses.dataclass
class P:
    x: 'int'
assert pickle.loads(pickle.dumps(P(1))) == P(1)
assert typing.get_type_hints(P) == {'x': int}
with tempfile.TemporaryFile() as f: f.write(b'x')
t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()
with multiprocessing.Pool(2) as pool: assert pool.map(abs, [-1, -2]) == [1, 2]
import sys
assert sys.stdin.read() == '' and __name__ == '__main__'
"""
    if "bubblewrap" in sandbox.isolation.name:  # unshare leaves even the loopback down
        code += "with socket.create_server(('127.0.0.1', 0)) as s: socket.create_connection(s.getsockname()).close()"
    outcome = run_python(code, LIMITS, sandbox)
    assert outcome.passed and outcome.stdout == "thread\n", outcome


def test_a_program_longer_than_a_pipe_is_run_whole():
    assert run_python("x = 0\n" + "x += 1\n" * 60_000 + "assert x == 60_000", LIMITS).passed


def test_network_is_out_of_reach(sandbox):
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as named:
        named.bind("\0" + MARK)
        named.listen()
        attempts = [
            f"socket.create_connection({server.getsockname()}, 2)",
            f"socket.socket(socket.AF_UNIX).connect('\\0{MARK}')",
            "socket.create_connection(('1.1.1.1', 53), 2)",
            "socket.socket(40, socket.SOCK_STREAM)",  # vsock: the hypervisor
        ]
        assert_all_refused(sandbox, attempts)


def test_files_of_this_machine_are_out_of_sight(sandbox, tmp_path):
    secret = Path.home() / f".{MARK}"
    secret.write_text("secret")
    (tmp_path / "secret").write_text("secret")
    try:
        tried = [secret, tmp_path / "secret", "/etc/passwd", "/etc/shadow", REPOSITORY / "README.md", f"/proc/{os.getpid()}/environ"]
        code = f"for p in {[str(p) for p in tried]}:\n    try: print(open(p).read())\n    except OSError: pass"
        outcome = run_python(code, LIMITS, sandbox)
        assert outcome.passed and outcome.stdout == ""
    finally:
        secret.unlink()
    assert run_python("import os\nassert len(os.environ) < 12, os.environ", LIMITS, sandbox).passed


def test_only_the_scratch_folder_can_be_written(sandbox):
    code = """
import os
open('here', 'w').write('x' * 1000)
for folder, inner, _ in os.walk('/'):
    if folder.startswith(('/tmp', '/dev/shm', '/proc')): continue
    if folder.count('/') > 2: inner.clear()
    try: open(folder + '/x', 'w')
    except OSError: continue
    raise SystemError(folder)
for name in ('/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger', '/proc/1/oom_score_adj'):
    try: open(name, 'w').write('0')
    except OSError: continue
    raise SystemError(name)
"""
    assert run_python(code, LIMITS, sandbox).passed
    assert run_python("import os\nassert os.listdir() == []", LIMITS, sandbox).passed


def test_files_have_a_size(sandbox):
    for folder in ("/tmp", "/dev/shm"):
        code = f"import os\nwhile True: open('{folder}/' + os.urandom(4).hex(), 'wb').write(bytes(1 << 20))"
        outcome = run_python(code, LIMITS, sandbox)
        assert outcome.status == Status.EXCEPTION and "No space left" in outcome.message, outcome


def test_limits_cannot_be_gone_around(sandbox):
    attempts = [
        "os.memfd_create('x')",
        "assert ctypes.CDLL(None).shmget(0, 1 << 20, 0o1600) >= 0",
        "assert ctypes.CDLL(None).unshare(0x10000000) == 0",
        "assert ctypes.CDLL(None).mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0",
        "assert ctypes.CDLL(None).ptrace(16, 1, None, None) == 0",
        "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
        "os.setgroups([0])",
        "os.kill(1, 9); time.sleep(0.3); open('/proc/1/status').read(); raise OSError",
        "os.listdir('/proc/1/fd')" if sandbox.isolation.takes_user else "raise OSError",
    ]
    assert_all_refused(sandbox, attempts)


def assert_all_refused(sandbox, attempts: list[str]) -> None:
    """Run statements one by one; none may get through."""
    code = f"""
import ctypes, os, resource, socket, time
for attempt in {attempts!r}:
    try: exec(attempt)
    except (OSError, ValueError, AssertionError) as fault: continue
    print('got through:', attempt)
"""
    outcome = run_python(code, LIMITS, sandbox)
    assert outcome.passed and outcome.stdout == "", outcome


def test_fork_bomb_is_stopped(sandbox):
    outcome = run_python("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", Limits(seconds=1, processes=8), sandbox)
    assert outcome.status in (Status.TIMEOUT, Status.PROCESSES)
    outcome = run_python(
        "import threading, time\nfor _ in range(99): threading.Thread(target=time.sleep, args=(60,)).start()", LIMITS, sandbox
    )
    assert outcome.status == Status.PROCESSES, outcome


def test_memory_is_counted_over_all_processes(sandbox):
    code = "import os, time\nos.fork(); os.fork()\nx = bytearray(os.urandom(1 << 20)) * 120\ntime.sleep(30)"
    outcome = run_python(code, LIMITS, sandbox)
    assert outcome.status == Status.MEMORY and "together" in outcome.message, outcome


def test_memory_that_the_kernel_holds_in_sockets_is_counted(sandbox):
    code = """
import os, socket, time
kept = []
for _ in range(8):
    if os.fork() == 0: break
while True:
    try:
        a, b = socket.socketpair()
        kept += [a, b]
        for s in (a, b):
            s.setblocking(False)
            try:
                while True: s.send(bytes(1 << 16))
            except BlockingIOError: pass
    except OSError:
        time.sleep(0.1)
"""
    outcome = run_python(code, Limits(seconds=20, memory_bytes=256 << 20, processes=12), sandbox)
    assert outcome.status == Status.MEMORY, outcome


def test_parent_cannot_be_killed_and_nothing_is_left_behind(sandbox):
    code = f"""
import os, signal, subprocess, sys, time
for pid in [os.getppid(), {os.getpid()}, 1, -1]:
    try: os.kill(pid, signal.SIGKILL) if pid != -1 else None
    except OSError: pass
subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)', {MARK!r}], start_new_session=True)
time.sleep(0.2)
"""
    outcome = run_python(code, LIMITS, sandbox)
    assert outcome.passed, outcome
    assert not processes_marked()
    outcome = run_python(code + "time.sleep(60)", Limits(seconds=1), sandbox)
    assert outcome.status == Status.TIMEOUT
    assert not processes_marked()


def test_nothing_survives_a_kill_of_its_caller():
    program = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import time; time.sleep(600)', {MARK!r}])"
    code = f"from codemix_megatron.sandbox.running import run_python\nrun_python({program!r})"
    with subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}) as caller:
        wait_until(processes_marked)
        caller.send_signal(signal.SIGKILL)
    wait_until(lambda: not processes_marked())


def processes_marked() -> list[str]:
    """Return processes of the machine whose arguments end with the mark."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if entry.read_bytes().rstrip(b"\0").endswith(b"\0" + MARK.encode()):
                found.append(entry.parent.name)
        except OSError:
            continue
    return found


def test_a_forged_answer_does_not_pass():
    code = (
        'import os\nfor fd in range(3, 64):\n    try: os.write(fd, b\'["guess", "passed", ""]\\n\')\n    except OSError: pass\nos._exit(0)'
    )
    assert run_python(code, LIMITS).status == Status.EXIT


def test_programs_run_side_by_side_from_threads():
    outcomes = {}
    threads = [threading.Thread(target=lambda i=i: outcomes.update({i: run_python(f"print({i})", LIMITS)})) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {i: o.stdout for i, o in outcomes.items()} == {i: f"{i}\n" for i in range(4)}


def test_without_a_way_to_keep_programs_apart_nothing_is_run(monkeypatch):
    running.tried_sandbox.cache_clear()
    monkeypatch.setenv("PATH", "/nowhere")
    try:
        with pytest.raises(SandboxError, match="install bubblewrap, allow user namespaces, or accept the danger with --trust programs"):
            run_python("pass")
    finally:
        running.tried_sandbox.cache_clear()


def test_unsandboxed_programs_still_have_limits():
    bare = find_sandbox(unsandboxed=True)
    assert bare.description.startswith("no sandbox")
    assert run_python("open('x', 'w')", LIMITS, bare).passed
    assert run_python("x = bytearray(1 << 30)", LIMITS, bare).status == Status.MEMORY
    assert run_python("import subprocess\nsubprocess.run(['sleep', '60'])", Limits(seconds=0.3), bare).status == Status.TIMEOUT


def test_an_interpreter_with_its_packages_can_be_given(tmp_path):
    with_packages = find_sandbox(sys.executable)
    assert run_python("import numpy\nprint(numpy.arange(3).sum())", Limits(processes=16), with_packages).stdout == "3\n"
    assert run_python("import numpy", LIMITS).message.startswith("ModuleNotFoundError")
    (tmp_path / "linked").symlink_to(sys._base_executable)
    (tmp_path / "secret").write_text("secret")
    assert run_python(f"import os\nassert not os.path.exists({str(tmp_path)!r})", LIMITS, find_sandbox(str(tmp_path / "linked"))).passed
    with pytest.raises(SandboxError, match="not a Python that runs"):
        find_sandbox(str(tmp_path / "python"))


def test_limits_without_sense_are_refused():
    with pytest.raises(SandboxError, match="memory_bytes: found 5, must be at least"):
        Limits(memory_bytes=5)


def test_filter_is_made_for_known_processors_only():
    assert len(seccomp_filter("x86_64")) == len(seccomp_filter("aarch64"))
    with pytest.raises(SandboxError, match="riscv64"):
        seccomp_filter("riscv64")


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root, to become another user")
def test_a_user_without_rights_gets_the_same_sandbox():
    python = next((p for p in ("/usr/bin/python3.12", "/usr/bin/python3.11") if os.access(p, os.X_OK)), None)
    if python is None:
        pytest.skip("no Python that every user may run")
    code = """
import os
from codemix_megatron.sandbox.interpreter import find_interpreter
from codemix_megatron.sandbox.isolation import isolations
from codemix_megatron.sandbox.outcome import Limits
from codemix_megatron.sandbox.running import Sandbox
for isolation in isolations():
    sandbox = Sandbox(isolation, find_interpreter())
    bomb = sandbox.run("import os\\nwhile True: os.fork()", Limits(processes=8))
    print(isolation.name, os.getuid(), sandbox.run("open('x', 'w')", Limits()).status, bomb.status)
"""
    words = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", python, "-c", code]
    environment = {"PATH": "/usr/bin:/bin:/usr/sbin", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, cwd="/", timeout=PATIENCE_SECONDS)
    if "Permission denied" in done.stderr or "No module named 'codemix_megatron'" in done.stderr:
        pytest.skip("the checkout is for its owner alone")
    expected = [f"{isolation.name.removesuffix(' as root')} 65534 passed processes" for isolation in isolations()]
    assert done.stdout.splitlines() == expected, done
