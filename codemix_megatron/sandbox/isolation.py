"""How a program is kept apart: bubblewrap, else util-linux's unshare; chosen by trying, never silently absent."""

import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from codemix_megatron.sandbox.interpreter import Interpreter
from codemix_megatron.sandbox.namespaces import bubblewrap, unshare
from codemix_megatron.sandbox.outcome import Limits

__all__ = ["Isolation", "isolations"]

FIRST_USER, USERS = 2_000_000_000, 100_000_000  # user ids nobody has
PER_NAMESPACE_COUNTS = (5, 14)  # since this Linux, processes are counted per user namespace


@dataclass(frozen=True)
class Isolation:
    """One way to run a program apart; `name` is what is printed and recorded."""

    name: str
    words: Callable[[Interpreter, Limits], list[str]] | None = None  # that make the namespaces and run what follows them
    takes_user: bool = False  # the program gets a user id of its own
    counts_processes: bool = False  # RLIMIT_NPROC counts this sandbox alone

    @property
    def keeps_apart(self) -> bool:
        """Say whether this is a sandbox at all."""
        return self.words is not None

    def command(self, interpreter: Interpreter, limits: Limits, arguments: tuple[str, ...]) -> list[str]:
        """Return the words that run the interpreter with `arguments` inside."""
        outer = self.words(interpreter, limits) if self.words else []
        return [*outer, interpreter.path, "-s", "-B", *interpreter.options, *arguments]

    def user(self) -> int:
        """Return a user id for one run, 0 for none."""
        return FIRST_USER + secrets.randbelow(USERS) if self.takes_user else 0


def isolations() -> list[Isolation]:
    """Return the ways this user could have here, the strongest first; whether they work is for a trial to say."""
    is_root = os.geteuid() == 0
    counted = is_root or tuple(int(word) for word in os.uname().release.split(".")[:2]) >= PER_NAMESPACE_COUNTS
    tools = {"bubblewrap": (bubblewrap, ("bwrap",)), "unshare": (unshare, ("unshare", "setpriv", "pivot_root"))}
    return [
        Isolation(f"{name} as root" if is_root else name, partial(words, is_root=is_root), takes_user=is_root, counts_processes=counted)
        for name, (words, programs) in tools.items()
        if all(shutil.which(program) for program in programs)
    ]
