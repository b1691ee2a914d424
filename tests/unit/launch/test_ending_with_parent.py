"""A process that another one starts ends with it, also when that one was dead before the kernel could be asked to see to it."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
from patience import PATIENCE_SECONDS

PROGRAM = """
import os, sys, time
from codemix_megatron.launch.local import end_with_parent
parent = os.getpid()
if child := os.fork():
    print(child, flush=True)
    if sys.argv[1] == "asked":
        time.sleep(1)
    os._exit(0)
while sys.argv[1] == "too late" and os.getppid() == parent:
    time.sleep(0.01)
end_with_parent(parent)
time.sleep(120)
"""


def ends(when: str) -> bool:
    """Start a parent that leaves a child behind; say whether the child is gone soon after it."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, when], stdout=subprocess.PIPE, text=True, check=True, timeout=PATIENCE_SECONDS)
    child, limit = Path("/proc") / done.stdout.strip(), time.monotonic() + 60  # half of what it sleeps
    while child.exists() and psutil.Process(int(child.name)).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > limit:
            psutil.Process(int(child.name)).kill()
            return False
        time.sleep(0.05)
    return True


def test_a_child_ends_with_its_parent():
    assert ends("asked")


def test_a_child_of_a_parent_that_is_dead_already_ends_too():
    assert ends("too late")
