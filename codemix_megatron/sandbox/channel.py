"""The channel between a program and its tests: requests that are answered, each at most LONGEST_BYTES long.

While one side waits for an answer it serves the other's requests, so that a function of the tests can be handed to the
program. Which requests are served differs: the tests' side calls what it has handed out and reads its public fields, and
nothing else. A message that is none ends the channel for good; what came through it before keeps no trace of that.
"""

import json
import os
import threading

from codemix_megatron.sandbox.values import Coder, ValueFault, dump

__all__ = ["Channel", "ChannelEnded"]

LONGEST_BYTES = 32 << 20
HEADER_BYTES = 8
READ_FAULTS = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError, ArithmeticError, ImportError)


class ChannelEnded(BaseException):
    """The other side is gone, or has sent what is no message. No test can catch it as an exception of its own."""


class Channel:
    """One side: `serve(operation, arguments)` does what the other side asks for, `own` is what this side has handed out."""

    def __init__(self, reading: int, writing: int, objects, *, restricted: bool):
        self.reading, self.writing, self.objects, self.fault, self.answers = reading, writing, objects, "", 0
        self.lock = threading.RLock()
        self.coder = Coder(objects.number_of, objects.describe, objects.own, objects.stand_in, restricted)

    def ask(self, operation: str, *arguments):
        """Have the other side do something; return what came of it, or raise what it raised."""
        with self.lock:
            memo: dict = {}
            self.send(["ask", operation, [self.coder.encode(argument, memo) for argument in arguments]])
            known = dict(memo.values())
            while True:
                message = self.receive()
                if message[0] == "ask":
                    self.answer(message)
                else:
                    return self.outcome(message, known)

    def outcome(self, message: list, known: dict):
        """Return the value of an answer, after what it changed in the arguments; raises what the other side raised."""
        try:
            kind, value, changed = message
            value = self.coder.decode(value, known)
            for number, contents in changed:
                self.coder.fill(known[number], contents, known)
        except READ_FAULTS as fault:
            self.end(f"an answer that is none ({type(fault).__name__}: {str(fault)[:100]})")
        self.answers += 1
        if kind == "value":
            return value
        raise self.objects.raised(value)

    def answer(self, message: list) -> None:
        """Do what the other side asks for and send what came of it."""
        memo: dict = {}
        try:
            _, operation, encoded = message
            arguments = [self.coder.decode(argument, memo) for argument in encoded]
        except READ_FAULTS as fault:
            self.end(f"a request that is none ({type(fault).__name__}: {str(fault)[:100]})")
        received = {number: self.coder.contents(container, numbers(memo)) for number, container in memo.items()}
        try:
            kind, value = "value", self.objects.serve(operation, arguments)
        except ChannelEnded:
            raise
        except BaseException as fault:
            kind, value = "raised", self.objects.described(fault)
        known = numbers(memo)
        try:
            encoded = self.coder.encode(value, known)
            changed = [(n, self.coder.contents(container, known)) for n, container in memo.items()]
            self.send([kind, encoded, [(n, contents) for n, contents in changed if contents != received[n]]])
        except (ValueError, RecursionError, TypeError) as fault:
            why = ValueError(f"a value that cannot cross to the tests: {fault}")
            self.send(["raised", self.coder.encode(self.objects.described(why), {}), []])

    def send(self, message) -> None:
        """Send one message."""
        data = dump(message)
        if len(data) > LONGEST_BYTES:
            raise ValueFault(f"{len(data) >> 20} MiB at once, {LONGEST_BYTES >> 20} may cross")
        rest = memoryview(b"%0*x" % (HEADER_BYTES, len(data)) + data)
        try:
            while rest:
                rest = rest[os.write(self.writing, rest) :]
        except OSError:
            self.end("it has ended")

    def receive(self) -> list:
        """Return the next message; ends the channel when there is none."""
        if self.fault:
            raise ChannelEnded(self.fault)
        try:
            length = int(self.read(HEADER_BYTES), 16)
            if not 0 < length <= LONGEST_BYTES:
                raise ValueError(f"{length} bytes")
            message = json.loads(self.read(length))
            if not isinstance(message, list) or len(message) != 3 or message[0] not in ("ask", "value", "raised"):
                raise ValueError("not a request or an answer")
        except (ValueError, RecursionError) as fault:
            self.end(f"a message that is none ({type(fault).__name__}: {str(fault)[:100]})")
        return message

    def read(self, length: int) -> bytes:
        """Return exactly so many bytes."""
        parts = []
        while length:
            data = os.read(self.reading, min(length, 1 << 20))
            if not data:
                self.end("it has ended")
            parts.append(data)
            length -= len(data)
        return b"".join(parts)

    def end(self, why: str) -> None:
        """Refuse everything from now on."""
        self.fault = self.fault or why
        raise ChannelEnded(self.fault)


def numbers(memo: dict) -> dict:
    """Return (number, object) by identity, for what is known by number."""
    return {id(value): (number, value) for number, value in memo.items()}
