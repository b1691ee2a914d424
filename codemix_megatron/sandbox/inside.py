"""The first program inside a sandbox: gives up what is left of its rights, then runs the user's program.

Its source is handed to the sandbox's interpreter, so it imports nothing but the standard library. It reads one
JSON request from stdin and answers on the descriptor named in its argument: a line when it waits for the request, one
when it is ready, and one when the program has ended. The last two carry a secret of the request: a program that merely
leaves early gives none.
"""

import base64
import json
import linecache
import os
import resource
import sys
import traceback
import types

__all__ = ["main"]

# BlockingIOError is what fork raises beyond the limit.
STATUS_OF = {AssertionError: "wrong", MemoryError: "memory", BlockingIOError: "processes"}
NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER_MODE = 38, 22, 2


def main() -> None:
    """Confine this process as the request says, run the program, answer how it ended."""
    descriptor = int(sys.argv[1])
    os.write(descriptor, b"waiting\n")
    request = json.loads(sys.stdin.buffer.read())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.set_inheritable(descriptor, False)
    sys.argv = ["program.py"]
    sys.path = [entry for entry in sys.path if entry]
    confine(request)
    answer(descriptor, request, "ready", "")
    own = os.getpid()
    ended = execute(request["code"])
    if os.getpid() == own:  # a fork that ran to the end has nothing to tell
        flush()
        answer(descriptor, request, *ended)
    os._exit(0)


def confine(request: dict) -> None:
    """Take the user id, the limits and the filter that the request names."""
    os.chdir(request["scratch"])
    with open("/proc/self/oom_score_adj", "w") as handle:
        handle.write("1000")  # before any other process of the machine
    if request["user"]:
        os.chown(request["scratch"], request["user"], request["user"])
        os.setgroups([])
        os.setresgid(*[request["user"]] * 3)
        os.setresuid(*[request["user"]] * 3)
    for name, value in request["resources"].items():
        resource.setrlimit(getattr(resource, name), (value, value))
    if request["filter"]:
        load_filter(base64.b64decode(request["filter"]))


def load_filter(code: bytes) -> None:
    """Load a seccomp filter for this process and all it starts."""
    import ctypes

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]

    libc = ctypes.CDLL(None, use_errno=True)
    program = Program(len(code) // 8, code)
    if libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(SET_SECCOMP, FILTER_MODE, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel does not take the system call filter")


def execute(code: str) -> tuple[str, str]:
    """Run the program; return its status and one line that says why."""
    try:
        program = compile(code, "program.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as fault:
        return "syntax error", f"{type(fault).__name__}: {fault}"
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module  # pickle, dataclasses and type hints look names up there
    linecache.cache["program.py"] = (len(code), None, code.splitlines(keepends=True), "program.py")
    try:
        exec(program, module.__dict__)
    except SystemExit as fault:
        return "exit", f"left with code {fault.code} before its end"
    except BaseException as fault:
        return failure(fault)
    return "passed", ""


def failure(fault: BaseException) -> tuple[str, str]:
    """Print the traceback; return status and one line."""
    status = next((name for kind, name in STATUS_OF.items() if isinstance(fault, kind)), "exception")
    try:
        if "can't start new thread" in str(fault):
            status = "processes"
        frames = [f for f in traceback.extract_tb(fault.__traceback__) if f.filename == "program.py"]
        where = f" (line {frames[-1].lineno})" if frames else ""
        message = traceback.format_exception_only(type(fault), fault)[-1].strip() + where
        fault.__traceback__ = fault.__traceback__ and fault.__traceback__.tb_next
        traceback.print_exception(fault)
    except BaseException as again:  # even str(fault) may be the program's
        message = f"{type(fault).__name__}, which cannot be printed ({type(again).__name__})"
    return status, message[:500]


def flush() -> None:
    """Let what was printed out."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            pass


def answer(descriptor: int, request: dict, status: str, message: str) -> None:
    """Write one line; replaces what UTF-8 cannot hold."""
    line = json.dumps([request["secret"], status, message])
    os.write(descriptor, line.encode() + b"\n")


if __name__ == "__main__":
    main()
