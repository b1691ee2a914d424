"""Settings for all tests, and the figures they print at the end."""

import gc
import os

import pytest
from hypothesis import settings

import codemix_megatron as _  # noqa: F401 - before a test imports megatron.core, which needs what stands in for kernels

# One thread for each of these processes: there are more of them than cores, where two threads of one spend more time on waiting for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# These machines are shared: a slow example says nothing. The same examples every time, so that a red run can be repeated.
settings.register_profile("shared", deadline=None, derandomize=True)
settings.load_profile("shared")


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Collect no garbage while modules are imported, nor look at theirs ever after."""
    gc.disable()
    result = yield
    gc.freeze()
    gc.enable()
    return result


def pytest_collection_modifyitems(items):
    """Begin with what takes longest: the tests of the Slurm cluster, which wait for minutes while others have the cores, then real ranks.

    Tests that start ranks may take a quarter of an hour, for the machine may have other work: the limit ends what hangs.
    """
    for item in items:
        if item.get_closest_marker("distributed") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(900))
    with_ranks = {item.path for item in items if item.get_closest_marker("distributed")}
    items.sort(
        key=lambda item: (not item.nodeid.startswith("tests/slurm/"), item.path not in with_ranks)
    )  # whole files, in their own order


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Keep the tests of a file together on one worker, and those of the Slurm cluster all on one."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            return "tests/slurm" if file.startswith("tests/slurm/") else file

    return ByFile(config, log)


@pytest.fixture
def measured(request):
    """Call it with a line; the run prints all of them at its end, whether tests pass or fail."""
    return lambda line: request.node.user_properties.append(("measured", line))


def pytest_terminal_summary(terminalreporter):
    """Print what was measured, on whichever worker."""
    reports = [report for kind in terminalreporter.stats.values() for report in kind if hasattr(report, "user_properties")]
    lines = dict.fromkeys(value for report in reports for name, value in report.user_properties if name == "measured")
    if lines:
        terminalreporter.write_sep("=", "measured")
        for line in lines:
            terminalreporter.write_line(line)
