"""The program's side of a channel: runs the program, then does what its tests ask for."""

import os
import sys
import types

from codemix_megatron.sandbox.channel import Channel, ChannelEnded
from codemix_megatron.sandbox.stand_ins import OPERATIONS, Objects
from codemix_megatron.sandbox.values import plain_value

__all__ = ["serve_program"]


def serve_program(reading: int, writing: int, execute) -> None:
    """Run the program that comes first with `execute(code) -> (status, message)`, then answer until the tests are done."""
    program = Program(execute)
    channel = Channel(reading, writing, program.objects, restricted=False)
    program.objects.ask = channel.ask
    own = os.getpid()
    try:
        while True:
            channel.answer(channel.receive())
    except ChannelEnded:
        pass
    finally:
        if os.getpid() == own:
            sys.stdout.flush()
        os._exit(0)


class Program:
    """A program that has run, and what it does when asked."""

    def __init__(self, execute):
        self.execute, self.objects = execute, Objects(self.serve, restricted=False)

    def serve(self, operation: str, arguments: list):
        """Do one thing."""
        return getattr(self, f"do_{operation}")(*arguments)

    def do_run(self, code: str):
        """Run the program itself; return its status, why, and the names it has defined."""
        module = sys.modules["__main__"] = types.ModuleType("__main__")
        self.names = module.__dict__
        own = os.getpid()
        status, message = self.execute(code, self.names)
        if os.getpid() != own:
            os._exit(0)  # a fork that ran to the end has nobody to answer
        return status, message, [name for name in self.names if isinstance(name, str) and not name.startswith("__")]

    def do_global(self, name: str):
        return self.names[name]

    def do_call(self, function, arguments, named):
        return function(*arguments, **named)

    def do_getattr(self, value, name: str):
        return getattr(value, name)

    def do_setattr(self, value, name: str, new):
        setattr(value, name, new)

    def do_delattr(self, value, name: str):
        delattr(value, name)

    def do_operation(self, name: str, *arguments):
        return OPERATIONS[name](*arguments)

    def do_next(self, value):
        try:
            return True, next(value)
        except StopIteration:
            return False, None

    def do_plain(self, value):
        try:
            return True, plain_value(value)
        except TypeError:
            return False, None

    def do_await(self, number: int):
        import asyncio

        return asyncio.run(self.objects.own(number))
