"""`codemix` commands that start ranks, forked from a process that has imported torch and megatron-core: five CPU-seconds less for each.

    python tests/forked_commands.py SOCKET     # imports, then forks a command for each connection, until its parent dies

Launching process and ranks are processes of their own as a user's are, with their sessions, descriptors, environment, signals and exit codes.
What is skipped, an interpreter's start and the imports, is in `Tiny.codemix(in_full=True)`, in studies, under torchrun and on Slurm.
"""

import array
import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

real_popen = subprocess.Popen
COMMAND, RANKS = "codemix_megatron", "codemix_megatron.cli.ranks"


class Started:
    """A command that the forking process has started; used as subprocess.Popen is."""

    def __init__(self, server: str, words: list[str], folder: Path, environment: dict[str, str], merged: bool = False):
        self.args, self.returncode = words, None
        self.out = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the command
        self.errors = self.out if merged else tempfile.TemporaryFile()  # noqa: SIM115
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.connect(server)
        files = array.array("i", [self.out.fileno(), self.errors.fileno()])
        self.connection.sendmsg([b"f"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
        self.connection.sendall(json.dumps({"words": words, "folder": str(folder), "environment": environment}).encode())
        self.connection.shutdown(socket.SHUT_WR)
        self.said = self.connection.makefile()
        self.pid = int(self.said.readline())

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        if self.returncode is None and select.select([self.connection], [], [], 0)[0]:
            self.returncode = int(self.said.readline())
            self.said.close()
            self.connection.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit code."""
        if self.returncode is None and not select.select([self.connection], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        code = self.poll()
        assert code is not None
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end and return what it wrote to both streams; to both together, where they were merged."""
        self.wait(timeout)
        texts = []
        for file in dict.fromkeys((self.out, self.errors)):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
            file.close()
        return texts[0], texts[-1]

    def send_signal(self, number: int) -> None:
        """Signal it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


def start_server(environment: dict[str, str]) -> str:
    """Start the forking process, which ends with this one; return its socket's path."""
    from patience import PATIENCE_SECONDS  # the process itself runs without this folder on its path

    path = os.path.join(tempfile.mkdtemp(prefix="codemix-fork-"), "socket")
    process = real_popen([sys.executable, "-P", __file__, path], env=environment, stdin=subprocess.DEVNULL)
    atexit.register(shutil.rmtree, os.path.dirname(path), ignore_errors=True)
    atexit.register(process.kill)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not os.path.exists(path):
        assert process.poll() is None and time.monotonic() < deadline, "the process that forks commands did not start"
        time.sleep(0.02)
    return path


def serve(path: str) -> None:
    """Import, then fork a command for each connection and say there how it ended."""
    from codemix_megatron.cli.ranks import import_before_forking
    from codemix_megatron.launch.local import end_with_parent

    end_with_parent(os.getppid())
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{path}.begun")
    listener.listen()
    os.rename(f"{path}.begun", path)
    gc.disable()
    for name in ("cli.main", "cli.train", "launch.local"):
        importlib.import_module(f"codemix_megatron.{name}")
    import_before_forking(["train"])
    gc.freeze()  # as codemix_megatron/cli/ranks.py does: pages that are never looked at stay shared
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, socket.socket] = {}
    while True:
        ready = select.select([listener, woken], [], [])[0]
        if woken in ready:
            os.read(woken, 1000)
            bury(running)
        if listener in ready:
            connection, _ = listener.accept()
            asked, files = received(connection)
            process = os.fork()
            if process == 0:
                signal.set_wakeup_fd(-1)
                become(asked, files)
            running[process] = connection
            connection.sendall(f"{process}\n".encode())
            for file in files:
                os.close(file)


def bury(running: dict[int, socket.socket]) -> None:
    """Take note of commands that have ended and tell who asked for them."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            with running.pop(ended[0]) as connection, contextlib.suppress(OSError):  # nobody may be waiting any more
                connection.sendall(f"{os.waitstatus_to_exitcode(ended[1])}\n".encode())


def received(connection: socket.socket) -> tuple[dict, list[int]]:
    """Return what is asked for, and the files of its two streams."""
    _, files, _, _ = socket.recv_fds(connection, 1, 2)
    text = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    return json.loads(text), list(files)


def become(asked: dict, files: list[int]) -> None:
    """Be the command that was asked for, to its end."""
    os.chdir(asked["folder"])
    lead(os.open(os.devnull, os.O_RDONLY), *files)
    run(COMMAND, asked["words"], asked["environment"])


class Forked:
    """What a command starts by `python -m codemix_megatron`, forked as the command itself was; used as subprocess.Popen is."""

    def __init__(self, words, *, stdin, stdout, stderr, env, start_new_session, preexec_fn):
        assert (stdin, stderr, start_new_session) == (subprocess.DEVNULL, subprocess.STDOUT, True)
        self.args, self.returncode = words, None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            preexec_fn()
            lead(os.open(os.devnull, os.O_RDONLY), stdout.fileno(), stdout.fileno())
            run(words[2], words[3:], env)

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        return self.take(os.waitpid(self.pid, os.WNOHANG)) if self.returncode is None else self.returncode

    def take(self, ended: tuple[int, int]) -> int | None:
        """Take note of its end, if it has ended."""
        if ended[0]:
            self.returncode = os.waitstatus_to_exitcode(ended[1])
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit code."""
        deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            time.sleep(0.02)
        return code

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def popen(words, *rest, **options):
    """Fork commands of this package; start everything else, and all that a process with threads starts: locks they hold stay locked in a fork."""
    own = isinstance(words, list) and words[:2] == [sys.executable, "-m"] and words[2] in (COMMAND, RANKS)
    has_threads = len(os.listdir("/proc/self/task")) > 1  # as one that has converted a public model before its ranks start
    return Forked(words, *rest, **options) if own and not has_threads else real_popen(words, *rest, **options)


def lead(*files: int) -> None:
    """Have the standard streams lead into files, and inherit no other descriptor, as after exec."""
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.closerange(len(files), 4096)


def run(module: str, words: list[str], environment: dict[str, str]) -> None:
    """Run a module's command with the signals and environment a new process has, and leave with its exit code, past all callers."""
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    gc.enable()
    os.environ.clear()
    os.environ.update(environment)
    sys.stdout.reconfigure(write_through=bool(os.environ.get("PYTHONUNBUFFERED")))
    sys.argv = ["codemix", *words]
    subprocess.Popen = popen  # type: ignore[assignment, misc]
    code = 1
    try:
        code = importlib.import_module("codemix_megatron.cli.ranks" if module == RANKS else "codemix_megatron.cli.main").main(words)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        atexit._run_exitfuncs()  # such as coverage's
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
