"""Wrong programs that try to pass: name -> (program, tests). Imports nothing, so that any user's Python can run it."""

__all__ = ["FORGED"]

PLAIN = "assert add(2, 3) == 5\nassert add(0, 0) == 0\n"
UNITTEST = "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        self.assertEqual(add(2, 3), 5)\n"
CLOSE = "import math\nassert math.isclose(add(2, 3), 5)\nassert abs(add(1.5, 1) - 2.5) < 1e-6\n"
ONLY_CLOSE = "assert math.isclose(add(2, 3), 5)\n"
NEAR = "assert abs(add(1.5, 1) - 2.5) < 1e-6\n"
QUOTIENT = "assert abs(add(1.5, 1) / 2.5 - 1) < 1e-6\n"
ORDER = "assert 4 < add(2, 3) < 6\n"
LISTS = "assert add([1], [2]) == [1, 2]\n"
MEMBER = "assert 5 in add(2, 3)\n"
EVERY = "assert all(map(add, [1, 2], [3, 4]))\nassert [add(1, 1)] == [2]\n"
LOOP = "for got, want in zip(map(add, [1, 2], [3, 4]), [4, 6]):\n    assert got == want\n"
CALLBACK = "def apply(f, *x):\n    return f(*x)\nassert add(apply, 3) == 5\n"
METHODS = "class Box:\n    def __init__(self):\n        self.inside = 5\n        self.calls = []\nassert add(Box(), 2) == 5\n"
GENERATOR = "def numbers():\n    yield 2\n    yield 3\nassert add(numbers(), 0) == 5\n"
TEXT = "assert add('a', 'b') == 'ab'\n"
SKIPPING = "try:\n    result = add(2, 3)\nexcept Exception:\n    result = None\nassert result == 5\n"

# Writes raw messages into the channel, as an answer to what the tests ask next.
RAW = """
import os, json
def pipes():
    found = []
    for name in os.listdir('/proc/self/fd'):
        if int(name) > 2:
            try: os.fstat(int(name)); found.append(int(name))
            except OSError: pass
    return found
def send(data):
    for number in pipes():
        try: os.write(number, data)
        except OSError: pass
def frame(message):
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    return b'%08x' % len(data) + data
def say(*messages):
    for message in messages: send(frame(message))
"""
PARENTS = """
import os, sys, signal, ctypes
others = [int(n) for n in os.listdir('/proc') if n.isdigit() and int(n) != os.getpid()]
"""


def raw(*messages: str) -> str:
    """Return a program that sends messages of its own making when it is called."""
    return f"{RAW}\ndef add(a, b):\n    say({', '.join(messages)})\n    return 0\n"


def before(statements: str, answer: str = "0") -> str:
    """Return a program that does something first and then answers wrongly."""
    return f"{statements}\ndef add(a, b):\n    return {answer}\n"


def inside(statements: str, answer: str = "0") -> str:
    """Return a program that does something when it is called and then answers wrongly."""
    lines = "\n".join(f"    {line}" for line in statements.strip().splitlines())
    return f"{PARENTS}\ndef add(a, b):\n{lines}\n    return {answer}\n"


LIAR = """
class Liar:
    def yes(self, *rest): return True
    __eq__ = __lt__ = __gt__ = __le__ = __ge__ = __contains__ = __bool__ = yes
    def zero(self, *rest): return 0
    __sub__ = __rsub__ = __abs__ = __hash__ = zero
    def one(self, *rest): return 1
    __truediv__ = __rtruediv__ = one
    def __ne__(self, other): return False
    def __len__(self): return 2
    def __iter__(self): return iter([Liar(), Liar()])
    def __getitem__(self, key): return Liar()
"""

FORGED = {
    # the judge's objects, as far as a program can look
    "frames": (before("import sys\nf = sys._getframe()\nwhile f:\n    f.f_locals.update(status='passed', ended=('passed', '', 9))\n"
                      "    f.f_globals.update(STATUS_OF={}, failure=lambda *a: ('passed', ''), execute=lambda *a: ('passed', ''))\n"
                      "    f = f.f_back"), PLAIN),
    "garbage collector": (before("import gc, types\nfor o in gc.get_objects():\n    if isinstance(o, dict) and 'secret' in o:\n        print(o)\n"
                                 "    if isinstance(o, types.FunctionType) and o.__name__ in ('failure', 'answer', 'outcome', 'proved'):\n"
                                 "        o.__code__ = (lambda *a, **k: ('passed', '')).__code__"), PLAIN),
    "builtins": (before("import builtins\nbuiltins.AssertionError = Warning\nbuiltins.isinstance = lambda *a: True\nbuiltins.abs = lambda x: 0"), NEAR),
    "own abs": (before("def abs(x): return 0"), NEAR),
    "own isinstance": (before("def isinstance(*a): return True"), "assert isinstance(add(2, 3), str)\n"),
    "own AssertionError": (before("AssertionError = Warning"), PLAIN),
    "unittest result": (before("import unittest\nunittest.TestResult.wasSuccessful = lambda self: True\nunittest.TestCase.run = lambda *a: None\n"
                               "unittest.TestCase.assertEqual = lambda *a: None"), UNITTEST),
    "skipped": (before("import unittest\nclass S(unittest.SkipTest): pass", "(_ for _ in ()).throw(unittest.SkipTest('x'))"), UNITTEST),
    "own math": (before("class math:\n    isclose = staticmethod(lambda *a: True)"), CLOSE),
    "own math that nobody imports": (before("class math:\n    isclose = staticmethod(lambda *a: True)"), ONLY_CLOSE),
    "own isclose": (before("def isclose(*a): return True"), "assert isclose(add(2, 3), 5)\n"),
    "fake module": (before("import sys, types\nmath = types.ModuleType('math')\nmath.isclose = lambda *a: True\nsys.modules['math'] = math"), ONLY_CLOSE),
    "shadowed files": (before("for name in ('math', 'unittest', 'ast', 'json'):\n    open(f'/tmp/{name}.py', 'w').write('isclose = lambda *a: True')"), CLOSE),
    "trace": (before("import sys, threading\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)\nthreading.settrace(lambda *a: None)"), PLAIN),
    "atexit": (before("import atexit, os\natexit.register(os._exit, 0)"), PLAIN),
    "excepthook": (before("import sys\nsys.excepthook = lambda *a: None\nsys.unraisablehook = lambda *a: None"), PLAIN),
    "patched channel": (before("import sys\nfor m in list(sys.modules.values()):\n    if hasattr(m, 'Channel'):\n"
                               "        m.Channel.end = lambda *a: None\n        m.Channel.outcome = lambda *a: 5"), PLAIN),
    # answers that are more than they seem
    "always equal": (before(LIAR, "Liar()"), PLAIN),
    "always equal, unittest": (before(LIAR, "Liar()"), UNITTEST),
    "always near": (before(LIAR, "Liar()"), NEAR),
    "always close": (before(LIAR, "Liar()"), CLOSE),
    "always one": (before(LIAR, "Liar()"), QUOTIENT),
    "always between": (before(LIAR, "Liar()"), ORDER),
    "always the list": (before(LIAR, "Liar()"), LISTS),
    "always a member": (before(LIAR, "Liar()"), MEMBER),
    "lying int": (before("class I(int):\n    __eq__ = lambda *a: True\n    __hash__ = int.__hash__\n    __sub__ = lambda *a: 0", "I(0)"), PLAIN),
    "lying float": (before("class F(float):\n    __sub__ = __rsub__ = lambda *a: 0.0\n    __eq__ = lambda *a: True", "F(0)"), NEAR),
    "lying str": (before("class S(str):\n    __eq__ = lambda *a: True\n    __hash__ = str.__hash__\n    __str__ = lambda s: 'ab'", "S('x')"), TEXT),
    "lying list": (before("class L(list):\n    __eq__ = lambda *a: True\n    __iter__ = lambda s: iter([1, 2])", "L()"), LISTS),
    "lying bytes": (before("class B(bytes):\n    __eq__ = lambda *a: True", "B(b'')"), "assert add(b'a', b'b') == b'ab'\n"),
    "lying dict": (before("class D(dict):\n    __eq__ = lambda *a: True\n    items = lambda s: [(1, 2)]", "D()"), "assert add(1, 2) == {1: 2}\n"),
    "lying tuple": (before("class T(tuple):\n    __eq__ = lambda *a: True", "T()"), "assert add(1, 2) == (1, 2)\n"),
    "lying set": (before("class S(set):\n    __eq__ = lambda *a: True\n    __hash__ = lambda s: 0", "S()"), "assert add(1, 2) == {1, 2}\n"),
    "lying enum": (before("import enum\nclass E(enum.IntEnum):\n    A = 0\n    def __eq__(self, o): return True\n    __hash__ = int.__hash__", "E.A"), PLAIN),
    "lying class": (before("class C:\n    __class__ = int\n    __eq__ = lambda *a: True", "C()"), PLAIN),
    "lying metaclass": (before("class M(type):\n    __eq__ = lambda *a: True\n    __hash__ = lambda s: 0\nclass C(metaclass=M): pass", "C"), PLAIN),
    "lying module": (before("import types\nclass M(types.ModuleType):\n    __eq__ = lambda *a: True\nm = M('math')", "m"), PLAIN),
    "lying named tuple": (before("import collections\nclass P(collections.namedtuple('P', 'a b')):\n    __eq__ = lambda *a: True", "P(9, 9)"),
                          "assert add(1, 2) == (1, 2)\n"),
    "expected value kept": (before("kept = []\nclass K:\n    def __eq__(self, other): kept.append(other); return True", "kept[0] if kept else K()"), PLAIN),
    # ways to leave
    "sys.exit in a call": (before("import sys", "sys.exit(0)"), PLAIN),
    "sys.exit in a call, unittest": (before("import sys", "sys.exit(0)"), UNITTEST),
    "os._exit in a call": (before("import os", "os._exit(0)"), PLAIN),
    "left before": (before("import os\nos._exit(0)"), PLAIN),
    "exit swallowed": (before("import sys", "sys.exit(0)"), SKIPPING),
    "stop iteration": (before("def stop(): raise StopIteration", "stop()"), EVERY),
    "stop iteration in a loop": (before("def stop(): raise StopIteration", "stop()"), LOOP),
    "generator exit": (before("def stop(): raise GeneratorExit", "stop()"), LOOP),
    "interrupt": (before("def stop(): raise KeyboardInterrupt", "stop()"), UNITTEST),
    "own base exception": (before("class Out(BaseException): pass\ndef stop(): raise Out", "stop()"), UNITTEST),
    "own system exit": (before("class Out(SystemExit): code = 0\ndef stop(): raise Out(0)", "stop()"), PLAIN),
    "fork": (before("import os", "(os.fork(), 0)[1]"), PLAIN),
    "fork that leaves": (before("import os\nif os.fork(): os._exit(0)"), PLAIN),
    "closed pipes": (inside("for n in range(3, 99):\n    try: os.close(n)\n    except OSError: pass"), PLAIN),
    # messages of its own making
    "forged verdict": (raw("b'[\"guess\", \"passed\", \"\", 9]\\n'", "['value', ['passed', '', 9], []]"), PLAIN),
    "answer in advance": (raw("['value', 5, []]"), "assert add(2, 3) == 5\nassert add(2, 4) == 6\nassert add(5, 5) == 10\n"),
    "nested brackets": (raw("b'[' * 100000"), PLAIN),
    "nested values": (raw("['value', eval('[\"tuple\", [' * 80 + '1' + ']]' * 80), []]"), PLAIN),
    "bogus answer": (raw("['verdict', 'passed', []]"), PLAIN),
    "no JSON": (raw("b'\\xff\\xfe' * 50"), PLAIN),
    "endless length": (inside("import os\nos.write(max(int(n) for n in os.listdir('/proc/self/fd') if int(n) < 64), b'ffffffff' * 9)"), PLAIN),
    "negative length": (f"{RAW}\ndef add(a, b):\n    send(b'-0000009' + b'x' * 9)\n    return 0\n", PLAIN),
    "length of letters": (f"{RAW}\ndef add(a, b):\n    send(b'zzzzzzzz')\n    return 0\n", PLAIN),
    "own objects of the tests": (raw("['value', ['yours', 0], []]", "['value', ['yours', -1], []]"), CALLBACK),
    "name of a module": (raw("['value', ['global', 'os', 'system'], []]"), CALLBACK),
    "name of eval": (raw("['value', ['global', 'builtins', 'eval'], []]"), CALLBACK),
    "eval as an argument": (before("def go(f): return f(eval, \"__import__('os')._exit(0)\")", "go(a)"), CALLBACK),
    "attribute getter": (before("import operator\ndef go(f): return f(operator.attrgetter('__globals__'), f)", "go(a)"), CALLBACK),
    "globals of a test": (before("def go(f): f.__globals__['add'] = lambda *a: 5; return 5 - 5", "go(a)"), CALLBACK),
    "code of a test": (before("def go(f): f.__code__ = (lambda *a: 5).__code__; return 0", "go(a)"), CALLBACK),
    "frame of a generator": (before("def go(g): g.gi_frame.f_globals['add'] = lambda *a: 5; return 0", "go(a)"), GENERATOR),
    "class of a test's object": (before("def go(b): type(b).__class__; b.__class__.__eq__ = lambda *a: True; return b", "go(a)"), METHODS),
    "dictionary of a test's object": (before("def go(b): return b.__dict__['inside'] - b.__init__.__globals__['add'](1, 1)", "go(a)"), METHODS),
    "reduce of a test's object": (before("def go(b): return b.__reduce_ex__(2)", "go(a)"), METHODS),
    "fields of a named tuple": (raw("['value', ['namedtuple', 'T', ['x=__import__(\"os\")'], [1]], []]"), PLAIN),
    "unhashable keys": (raw("['value', ['container', 'dict', 9, [[['container', 'list', 8, []], 1]]], []]"), PLAIN),
    "object array": (raw("['value', ['numpy', '|O', [1], '00' * 8], []]"), PLAIN),
    "another's container": (raw("['value', 0, [[0, [5]], [99, []]]]"), LISTS),
    "class of classes": (raw("['value', ['theirs', 0, 'class', 'A', [[0, 'class', 'A', [[0, 'class', 'A', []]]]]], []]"), PLAIN),
    "text for a number": (raw("['value', ['theirs', '0', 'object', 'A', None], []]"), PLAIN),
    "many requests": (f"{RAW}\ndef add(a, b):\n    while True: say(['ask', 'next', [1]])\n", PLAIN),
    "unknown request": (raw("['ask', 'run', ['x']]", "['ask', '__class__', []]", "['ask', 'operation', ['__import__', 'os']]"), PLAIN),
    "large answer": (before("", "'x' * (40 << 20)"), TEXT),
    "deep answer": (before("x = []\nfor _ in range(100000): x = [x]", "x"), LISTS),
    "answer that holds itself": (before("x = []\nx.append(x)", "x"), LISTS),
    "large number": (before("", "1 << 50000000"), PLAIN),
    "no answer": (before("import time", "time.sleep(60)"), PLAIN),
    # the process of the tests
    "killed tests": (inside("for p in others:\n    try: os.kill(p, signal.SIGKILL)\n    except OSError: pass"), PLAIN),
    "stopped tests": (inside("for p in others:\n    try: os.kill(p, signal.SIGSTOP)\n    except OSError: pass"), PLAIN),
    "alarmed tests": (inside("for p in others:\n    try: os.kill(p, signal.SIGALRM)\n    except OSError: pass"), PLAIN),
    "memory of the tests": (inside("for p in others:\n    try: open(f'/proc/{p}/mem', 'r+b').write(b'x')\n    except OSError: pass"), PLAIN),
    "environment of others": (inside("for p in others:\n    try: assert b'SECRET' not in open(f'/proc/{p}/environ', 'rb').read(), 'seen'\n"
                                     "    except OSError: pass"), PLAIN),
    "pipes of others": (inside("for p in others:\n    for n in range(64):\n        try: os.write(os.open(f'/proc/{p}/fd/{n}', os.O_WRONLY | os.O_NONBLOCK),"
                               " b'[\"x\", \"passed\", \"\", 9]\\n')\n        except OSError: pass"), PLAIN),
    "stdin of others": (inside("for p in others:\n    try: print(os.read(os.open(f'/proc/{p}/fd/0', os.O_NONBLOCK), 99))\n    except OSError: pass"),
                        PLAIN),
    "tracing": (inside("libc = ctypes.CDLL(None)\nfor p in others: libc.ptrace(16, p, None, None)"), PLAIN),
    "written memory": (inside("libc = ctypes.CDLL(None)\nfor p in others: libc.syscall(311, p, None, 0, None, 0, 0)"), PLAIN),
    "descriptors of others": (inside("libc = ctypes.CDLL(None)\nfor p in others:\n    try:\n        fd = os.pidfd_open(p)\n"
                                     "        for n in range(16):\n            got = libc.syscall(438, fd, n, 0)\n"
                                     "            if got > 2: os.write(got, b'[\"x\", \"passed\", \"\", 9]\\n')\n    except OSError: pass"), PLAIN),
    "limits of others": (inside("import resource\nfor p in others:\n    try: resource.prlimit(p, resource.RLIMIT_AS, (1 << 20, 1 << 20))\n"
                                "    except (OSError, ValueError): pass"), PLAIN),
    "secret in memory": (inside("data = b''\nfor line in open('/proc/self/maps'):\n    if 'rw-p' in line:\n"
                                "        a, b = (int(x, 16) for x in line.split()[0].split('-'))\n"
                                "        try:\n            m = open('/proc/self/mem', 'rb', 0); m.seek(a); data += m.read(min(b - a, 1 << 22))\n"
                                "        except (OSError, OverflowError): pass\n"
                                "assert b'== 5' + bytes([10]) not in data.replace(b'zz== 5', b''), 'the tests are here'"), PLAIN),
    "source of the tests": (inside("import linecache\nprint(linecache.getlines('tests.py'))\nassert not linecache.getlines('tests.py')"), PLAIN),
}  # fmt: skip
