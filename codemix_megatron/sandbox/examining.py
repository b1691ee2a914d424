"""The tests' side of a channel: runs the tests of a program that lives in another process, and says what they have proved.

Every name of the program's is a stand-in here. Assertions are counted as they are executed, in this process, which the
program cannot reach. Tests that pass are run a second time against answers that are none: those that still pass have
looked at nothing, and prove nothing.
"""

import ast
import builtins
import os
import signal
import sys
import types

from codemix_megatron.sandbox.assertions import Counting, divided
from codemix_megatron.sandbox.channel import Channel, ChannelEnded
from codemix_megatron.sandbox.collecting import Untested, count_assertions_of_unittest, run_collected
from codemix_megatron.sandbox.mutants import MUTANTS, is_noticed
from codemix_megatron.sandbox.program_names import Module, Names, imported_module, lent
from codemix_megatron.sandbox.stand_ins import OPERATIONS, Objects, ProgramExit

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` itself takes too long to import for every program
    from typing import Any

__all__ = ["Examination"]

TESTS = "tests.py"
FAILED = ("wrong", "syntax error", "exception", "exit", "memory", "processes")
FRAME_FIELDS = ("f_", "tb_", "gi_", "cr_", "ag_", "co_", "func_", "im_")


class Examination:
    """One program and its tests. `failure(exception, file)` gives the status and the message of an exception."""

    def __init__(self, reading: int, writing: int, process: int, failure):
        self.objects = Objects(self.serve, restricted=True)
        self.channel = Channel(reading, writing, self.objects, restricted=True)
        self.objects.ask, self.process, self.failure, self.assertions = self.channel.ask, process, failure, 0
        self.names: set[str] = set()
        self.entry: str | None = None

    def run(self, program: str, tests: str | None, entry: str | None) -> tuple[str, str, int]:
        """Return status, message and how many assertions were executed. Without tests, a program holds its own."""
        is_whole = tests is None
        try:
            program, tests = divided(program) if tests is None else (program, tests)
            names = self.start(program)
            if isinstance(names, tuple):
                return *names, 0
            tree = ast.parse(tests, TESTS)
            code = self.compiled(tree)
        except ChannelEnded:
            return *self.ended(), 0
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as fault:
            return "syntax error", f"{type(fault).__name__}: {fault}{'' if is_whole else ' (in its tests)'}", 0
        self.names, self.entry = lent(names, tree), entry
        status, message = self.outcome(lambda: self.execute(code))
        if status == "passed":
            status, message = self.proved(code, is_whole)
        return status, message, self.assertions

    def start(self, program: str):
        """Run the program; return its names, or status and message when it did not reach its end."""
        answer = self.channel.ask("run", program)
        status, message, names = answer if isinstance(answer, tuple) and len(answer) == 3 else ("crash", "", [])
        if status == "passed" and isinstance(names, list) and all(isinstance(name, str) for name in names):
            return set(names)
        return status if status in FAILED else "crash", str(message)[:500] or "it sent an invalid answer"

    def compiled(self, tree: ast.Module):
        """Return the code of the tests, every assertion and function of it counted; test runners that would leave are quiet."""
        imported = {alias.name.partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {str(node.module).partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        if "unittest" in imported:
            count_assertions_of_unittest(self.count)
        for name, runners in {"unittest": ("main", "TestProgram"), "pytest": ("main",)}.items():
            if name in imported and (module := imported_module(name)):
                for runner in runners:
                    setattr(module, runner, lambda *words, **named: 0)
        return compile(Counting().visit(tree), TESTS, "exec", dont_inherit=True)

    def execute(self, code, make=None) -> None:
        """Run the tests: what stands there, then what is only defined. With `make`, it answers in the program's place."""
        names = Names(self.channel, self.names, make)
        entered: set[str] = set()
        dict.update(names, __name__="__main__", __builtins__=builtins, __assertion__=self.count, __entered__=entered.add)
        sys.modules["__main__"] = Module(names)
        try:
            exec(code, names)
        except ProgramExit:
            raise
        except SystemExit as left:
            if left.code not in (None, 0, False):
                raise
        run_collected(names, entered, self.entry)

    def count(self) -> None:
        """Count one executed assertion."""
        self.assertions += 1

    def outcome(self, run) -> tuple[str, str]:
        """Return status and message of running something."""
        try:
            run()
        except ChannelEnded:
            return self.ended()
        except Untested as fault:
            return "untested", str(fault)
        except ProgramExit as fault:
            return "exit", f"left with code {fault.code} before its end"
        except SystemExit as fault:
            return "exit", f"its tests left with code {fault.code}"
        except BaseException as fault:
            return self.failure(fault, TESTS)
        if self.channel.fault:
            return self.ended()
        return "passed", ""

    def proved(self, code, is_whole: bool) -> tuple[str, str]:
        """Say whether the tests notice a program that answers nothing; the program itself is ended first."""
        executed = self.assertions
        self.kill()
        if is_whole and executed and self.channel.answers < 2:
            return "passed", ""  # it is all assertions, about nothing but itself
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the end
        noticed = any(is_noticed(lambda make=make: self.execute(code, make)) for make in MUTANTS)
        self.assertions = executed
        if noticed:
            return "passed", ""
        what = f"{executed} assertions were executed, none about it" if executed else "no assertion was executed"
        return "untested", f"its tests pass whatever the program answers: {what}"

    def kill(self) -> None:
        """End the program; under a user id of its own it cannot be killed from here, nor reach this process."""
        for descriptor in (self.channel.reading, self.channel.writing):
            os.close(descriptor)
        try:
            os.kill(self.process, signal.SIGKILL)
        except PermissionError:
            pass

    def ended(self) -> tuple[str, str]:
        """Return how the program's process ended in the middle of its tests."""
        if self.channel.fault != "it has ended":
            self.kill()
            return "crash", f"sent {self.channel.fault}"
        _, state = os.waitpid(self.process, 0)
        number = os.WTERMSIG(state) if os.WIFSIGNALED(state) else 0
        if number == signal.SIGXCPU:
            return "timeout", "used more processor time than is allowed"
        if number:
            return "crash", f"killed by {signal.Signals(number).name if number in set(signal.Signals) else f'signal {number}'}"
        return "exit", f"left with code {os.WEXITSTATUS(state)} before its end"

    def serve(self, operation: str, arguments: list):
        """Do what the program asks for with something that the tests have handed to it, and nothing that leads further."""
        if operation == "operation":
            name, *rest = arguments
            return OPERATIONS[name](*rest)
        if operation in ("next", "plain"):
            return SERVED[operation](*arguments)
        value, *rest = arguments
        if not ALLOWED[operation](value, *rest[:1]):
            raise TypeError(f"tests do not allow {operation} of {type(value).__name__} {str(rest[:1])[:80]}")
        return SERVED[operation](value, *rest)


def next_of(value):
    """Return whether there is a next value, and it."""
    try:
        return True, next(value)
    except StopIteration:
        return False, None


SERVED: "dict[str, Any]" = {
    "call": lambda function, arguments, named: function(*arguments, **named),
    "getattr": getattr,
    "setattr": setattr,
    "next": next_of,
    "plain": lambda value: (False, None),
}


def may_be_called(value, *_) -> bool:
    """Say whether the program may call this: functions and classes of the tests, methods of their objects and of containers."""
    if isinstance(value, types.BuiltinMethodType):
        return type(value.__self__) in (list, dict, set)
    if isinstance(value, types.MethodType):
        return is_of_tests(type(value.__self__))
    return is_of_tests(value) or is_of_tests(type(value))


def is_of_tests(value) -> bool:
    """Say whether a function or class is defined in the tests, or is a mock of theirs."""
    return getattr(value, "__module__", None) in ("__main__", "unittest.mock") and isinstance(value, (types.FunctionType, type))


def may_be_read(value, name) -> bool:
    """Say whether the program may read this field: public ones of objects that the tests have made."""
    is_public = isinstance(name, str) and not name.startswith(("_", *FRAME_FIELDS))
    return is_public and (is_of_tests(type(value)) or (isinstance(value, type) and is_of_tests(value)) or type(value) in (list, dict, set))


def may_be_changed(value, name) -> bool:
    """Say whether the program may set this field."""
    is_test = "unittest" in sys.modules and isinstance(value, sys.modules["unittest"].TestCase)
    return is_of_tests(type(value)) and not is_test and may_be_read(value, name)


ALLOWED: "dict[str, Any]" = {"call": may_be_called, "getattr": may_be_read, "setattr": may_be_changed}
