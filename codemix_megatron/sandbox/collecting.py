"""Tests that are only defined: found as unittest and pytest find them, and run, each, or it is said which cannot be."""

import sys
import types

__all__ = ["Untested", "count_assertions_of_unittest", "run_collected"]


class Untested(BaseException):
    """Tests that cannot be run prove nothing; no test can catch it."""


def count_assertions_of_unittest(count) -> None:
    """Have every assertion method of unittest counted when it is called."""
    import unittest

    for name in dir(unittest.TestCase):
        if name.startswith(("assert", "fail")) and callable(getattr(unittest.TestCase, name)) and name != "failureException":
            setattr(unittest.TestCase, name, counted(getattr(unittest.TestCase, name), count))


def counted(method, count):
    """Return a method that counts its calls."""

    def calling(self, *arguments, **named):
        count()
        return method(self, *arguments, **named)

    return calling


def run_collected(names: dict, entered: set[str], entry: str | None) -> None:
    """Run functions and classes of tests that nothing has called; raises Untested for those that want what is not there."""
    own = {name: value for name, value in dict.items(names) if not name.startswith("__")}
    functions = {name: value for name, value in own.items() if isinstance(value, types.FunctionType) and value.__module__ == "__main__"}
    if "check" in functions and "check" not in entered and takes(functions["check"]) == 1:
        functions.pop("check")(candidate(names, entry))
    for name, function in functions.items():
        if name in entered:
            continue
        if name.lower().startswith("test") or (not takes(function) and "__assertion__" in function.__code__.co_names):
            run_function(function, name)
    for name, value in own.items():
        if isinstance(value, type) and value.__module__ == "__main__":
            if is_test_case(value):
                run_test_case(value)
            elif name.startswith("Test"):
                run_class(value)


def takes(function) -> int:
    """Return how many arguments a function, a method or the making of an object must be given."""
    if isinstance(function, type):
        function = getattr(function, "__init__")  # noqa: B009 - of the class, as it is
        if not isinstance(function, types.FunctionType):
            return 0
        return takes(types.MethodType(function, None))
    bound = 1 if isinstance(function, types.MethodType) else 0
    function = getattr(function, "__func__", function)
    if not isinstance(function, types.FunctionType):
        return 0
    code, given = function.__code__, function.__kwdefaults__ or {}
    named = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    return code.co_argcount - len(function.__defaults__ or ()) - bound + sum(name not in given for name in named)


def candidate(names, entry: str | None):
    """Return the function that `check` is for: the one named, or the only one there is."""
    try:
        return names[entry or names.only_function()]
    except KeyError:
        raise Untested(f"check(candidate) is for the function {entry!r}, which the program does not define") from None


def run_function(function, name: str) -> None:
    """Call a test function, once for each of its parameters where pytest's parametrize gives some."""
    for arguments in parameters(function):
        missing = takes(function) - len(arguments)
        if missing > 0:
            raise Untested(f"{name} needs {missing} arguments; fixtures are not given here")
        run_one(function, **arguments)


def run_one(function, **arguments) -> None:
    """Call a function, to its end where it is a coroutine's or a generator's."""
    result = function(**arguments)
    if isinstance(result, types.CoroutineType):
        import asyncio  # here, for it takes longer to import than most tests to run

        asyncio.run(result)
    elif isinstance(result, types.GeneratorType):
        for _ in result:
            pass


def parameters(function) -> list[dict]:
    """Return the arguments that pytest.mark.parametrize gives a function, every combination."""
    combined: list[dict] = [{}]
    for mark in getattr(function, "pytestmark", []):
        if mark.name == "parametrize":
            named, values = mark.args[:2]
            named = [name.strip() for name in named.split(",")] if isinstance(named, str) else list(named)
            rows = [getattr(value, "values", value) for value in values]
            rows = [
                row if len(named) > 1 or (isinstance(row, tuple) and hasattr(value, "values")) else (row,)
                for row, value in zip(rows, values, strict=True)
            ]
            combined = [{**done, **dict(zip(named, row, strict=True))} for done in combined for row in rows]
    return combined


def is_test_case(value: type) -> bool:
    """Say whether a class is one of unittest's, by whatever name it was imported."""
    return "unittest" in sys.modules and issubclass(value, sys.modules["unittest"].TestCase)


def run_test_case(value: type) -> None:
    """Run one class of unittest; raises what its first failed test raised."""
    import unittest

    class Result(unittest.TextTestResult):
        first: BaseException | None = None

        def addFailure(self, test, error):
            self.first = self.first or error[1]
            super().addFailure(test, error)

        def addError(self, test, error):
            self.first = self.first or error[1]
            super().addError(test, error)

        def addSubTest(self, test, subtest, error):
            self.first = self.first or (error[1] if error else None)
            super().addSubTest(test, subtest, error)

    suite = unittest.defaultTestLoader.loadTestsFromTestCase(value)
    if not suite.countTestCases():
        return
    result: Result = unittest.TextTestRunner(stream=sys.stderr, resultclass=Result, verbosity=0).run(suite)  # type: ignore[arg-type, assignment]
    if result.first is not None:
        raise result.first
    if not result.wasSuccessful() or len(result.skipped) == result.testsRun:
        raise Untested(f"{value.__name__}: {result.testsRun} tests run, {len(result.skipped)} of them skipped, {len(result.errors)} errors")


def run_class(value: type) -> None:
    """Run a class of pytest's kind: a fresh object for each test."""
    tests = [name for name in dir(value) if name.startswith("test") and callable(getattr(value, name))]
    if tests and takes(value) > 0:
        raise Untested(f"{value.__name__} needs arguments; pytest would not collect it either")
    call_if_there(value, "setup_class")
    for name in tests:
        test = value()
        for before in ("setup_method", "setup"):
            call_if_there(test, before)
        run_function(getattr(test, name), f"{value.__name__}.{name}")
        call_if_there(test, "teardown_method")
    call_if_there(value, "teardown_class")


def call_if_there(owner, name: str) -> None:
    """Call a method that a class of tests may have."""
    if (method := getattr(owner, name, None)) is not None:
        method(*[None] * takes(method))
