"""How long tests wait for what has to come."""

import time

PATIENCE_SECONDS = 400  # for what takes ten seconds on a quiet machine: it bounds a hang, and says nothing of speed


def wait_until(condition, what="it did not come"):
    """Return what a condition gives once it gives something; `what` says what is missing, or is called to say so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, what() if callable(what) else what
        time.sleep(0.05)
    return found
