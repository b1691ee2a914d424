"""Settings for all tests, and the figures they print at the end."""

import pytest
from hypothesis import settings

# These machines are shared: a slow example says nothing. The same examples every time, so that a red run can be repeated.
settings.register_profile("shared", deadline=None, derandomize=True)
settings.load_profile("shared")

MEASURED = pytest.StashKey[list[str]]()


@pytest.fixture
def measured(request):
    """Call it with a line; the run prints all of them at its end, whether tests pass or fail."""
    return request.config.stash.setdefault(MEASURED, []).append


def pytest_terminal_summary(terminalreporter, config):
    """Print what was measured."""
    lines = config.stash.get(MEASURED, [])
    if lines:
        terminalreporter.write_sep("=", "measured")
        for line in lines:
            terminalreporter.write_line(line)
