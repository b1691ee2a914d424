"""The first program inside a sandbox: gives up what is left of its rights, then runs the user's program.

Its source is handed to the sandbox's interpreter, so it imports nothing but the standard library. It reads two JSON
requests from stdin and answers on the descriptor named in its argument: a line when it waits, one when it is ready, and
one when the program has ended. The last two carry a secret of the second request.

A program that has tests is run in a process of its own, begun before this one has read secret and tests, under another
user id where there are any: this process runs the tests, and asks the program for answers through a pipe. A program
without tests runs here; what it says of its end is then its own word.
"""

import binascii
import json
import marshal
import os
import resource
import sys
import types

__all__ = ["main"]

# BlockingIOError is what fork raises beyond the limit.
STATUS_OF = {AssertionError: "wrong", MemoryError: "memory", BlockingIOError: "processes"}
DUMPABLE, NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER_MODE = 4, 38, 22, 2
LENGTH_BYTES = 16


def main() -> None:
    """Confine this process as the request says, run the program, answer how it ended."""
    descriptor = int(sys.argv[1])
    os.write(descriptor, b"waiting\n")
    settings = read_request()
    os.set_inheritable(descriptor, False)
    sys.argv = ["program.py"]
    sys.path = [entry for entry in sys.path if entry]
    own = os.getpid()
    if settings["modules"]:
        reading, writing, process = begin_program(descriptor, settings)
        request = begin(descriptor, settings, settings["user"] and settings["user"] + 1)
        hide_process()  # before the program's code reaches its process
        Examination = sys.modules["codemix_megatron.sandbox.examining"].Examination
        ended = Examination(reading, writing, process, failure).run(request["code"], request["tests"], request["entry"])
    else:
        request = begin(descriptor, settings, settings["user"])
        ended = *execute(request["code"], new_main()), 0
    if os.getpid() == own:  # a fork that ran to the end has nothing to tell
        flush()
        answer(descriptor, request, *ended)
    os._exit(0)


def read_request() -> dict:
    """Read one request: its length, then JSON. Not a byte more, for what follows is not for every process here."""
    return json.loads(read_exactly(int(read_exactly(LENGTH_BYTES), 16)))


def read_exactly(length: int) -> bytes:
    """Read so many bytes from stdin."""
    data = bytearray()
    while len(data) < length:
        data += os.read(0, min(length - len(data), 1 << 16)) or sys.exit("no request")
    return bytes(data)


def begin(descriptor: int, settings: dict, user: int) -> dict:
    """Read what is to be run, leave stdin, take the limits, say so."""
    request = read_request()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    confine(settings, user)
    answer(descriptor, request, "ready", "", 0)
    return request


def begin_program(descriptor: int, settings: dict) -> tuple[int, int, int]:
    """Start the process that the program will run in; return the pipes to it and its number."""
    load_modules(settings["modules"])
    import ctypes  # noqa: F401 - once for both processes

    asked, answered = os.pipe(), os.pipe()
    process = os.fork()
    if process:
        os.close(asked[0])
        os.close(answered[1])
        return answered[0], asked[1], process
    for own in (descriptor, asked[1], answered[0]):
        os.close(own)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    confine(settings, settings["user"])
    sys.modules["codemix_megatron.sandbox.serving"].serve_program(asked[0], answered[1], execute)
    os._exit(0)


def hide_process() -> None:
    """Keep others with this user id from looking into this process: its memory, its files, its environment."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(DUMPABLE, 0, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel does not hide this process")


def load_modules(encoded: str) -> None:
    """Load the modules that were handed over as code."""
    for name, code in marshal.loads(binascii.a2b_base64(encoded)).items():
        module = sys.modules[name] = types.ModuleType(name)
        exec(code, module.__dict__)


def confine(settings: dict, user: int) -> None:
    """Take the user id, the limits and the filter that the settings name."""
    os.chdir(settings["scratch"])
    with open("/proc/self/oom_score_adj", "w") as handle:
        handle.write("1000")  # before any other process of the machine
    if user:
        if user == settings["user"]:
            os.chown(settings["scratch"], user, user)
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    for name, value in settings["resources"].items():
        # At the hard limit of processor time the kernel sends SIGKILL, which says nothing; SIGXCPU, a second before, does.
        resource.setrlimit(getattr(resource, name), (value, value + (name == "RLIMIT_CPU")))
    if settings["filter"]:
        load_filter(binascii.a2b_base64(settings["filter"]))


def load_filter(code: bytes) -> None:
    """Load a seccomp filter for this process and all it starts."""
    import ctypes

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]

    libc = ctypes.CDLL(None, use_errno=True)
    program = Program(len(code) // 8, code)
    if libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(SET_SECCOMP, FILTER_MODE, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel does not take the system call filter")


def new_main() -> dict:
    """Return the names of a new `__main__`; pickle, dataclasses and type hints look names up there."""
    module = sys.modules["__main__"] = types.ModuleType("__main__")
    return module.__dict__


def execute(code: str, names: dict) -> tuple[str, str]:
    """Run the program with `names` as its own; return its status and one line that says why."""
    try:
        program = compile(code, "program.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as fault:
        return "syntax error", f"{type(fault).__name__}: {fault}"
    names["__loader__"] = Source(code)
    try:
        exec(program, names)
    except SystemExit as fault:
        return "exit", f"left with code {fault.code} before its end"
    except BaseException as fault:
        return failure(fault, "program.py")
    return "passed", ""


class Source:
    """Where tracebacks and `inspect` find the lines of a program that is no file."""

    def __init__(self, code: str):
        self.code = code

    def get_source(self, name: str) -> str:
        """Return the program."""
        return self.code


def failure(fault: BaseException, file: str) -> tuple[str, str]:
    """Print the traceback; return status and one line."""
    import traceback  # here, for it takes as long to import as most programs to run

    status = next((name for kind, name in STATUS_OF.items() if isinstance(fault, kind)), "exception")
    try:
        if "can't start new thread" in str(fault):
            status = "processes"
        frames = [f for f in traceback.extract_tb(fault.__traceback__) if f.filename == file]
        where = fault.__dict__.get("_where", "")
        where += f" (line {frames[-1].lineno}{'' if file == 'program.py' else ' of its tests'})" if frames else ""
        message = traceback.format_exception_only(type(fault), fault)[-1].strip() + where
        traceback.print_exception(type(fault), fault, fault.__traceback__ and fault.__traceback__.tb_next)
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


def answer(descriptor: int, request: dict, status: str, message: str, assertions: int) -> None:
    """Write one line, in ASCII; its form is fixed and its length bounded."""
    line = json.dumps([request["secret"], status, message[:500], assertions])
    os.write(descriptor, line.encode() + b"\n")


if __name__ == "__main__":
    main()
