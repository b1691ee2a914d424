"""What tests must notice: a program that answers nothing, in two ways. Tests that pass both look at no answer."""

import signal
import time

__all__ = ["MUTANTS", "Nothing", "is_noticed"]

MOST_SECONDS = 2.0
LOOKED_AT = [
    name
    for kind in (int, float, str, list, dict, set)
    for name, value in vars(kind).items()
    if name.startswith("__") and callable(value) and name not in dir(object)
] + ["__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__", "__str__", "__repr__", "__format__", "__bool__", "__next__",
     "__enter__", "__exit__", "__await__", "__delattr__", "__index__"]  # fmt: skip


class MutantTime(BaseException):
    """The tests do not end without an answer, so they wait for one."""


class Nothing:
    """Stands for whatever the program has or answers; whoever looks at it fails."""

    def __call__(self, *arguments, **named):
        return Nothing()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing()


class NoneAnswered(Nothing):
    """Stands for a function or class whose every answer is None."""

    def __call__(self, *arguments, **named):
        return None


def refusing(name: str):
    """Return a method that fails."""

    def method(self, *arguments):
        raise AssertionError(f"{name} of a program that answers nothing")

    return method


for _name in LOOKED_AT:
    setattr(Nothing, _name, refusing(_name))

MUTANTS = (Nothing, NoneAnswered)


def is_noticed(run) -> bool:
    """Say whether tests fail."""

    def late(number, frame):
        if time.monotonic() - began >= MOST_SECONDS:  # a signal of anybody else's proves nothing
            raise MutantTime

    began = time.monotonic()
    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS)
    try:
        run()
    except BaseException:
        return True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return False
