"""One rank as seen from outside: its output goes into a file of its own, and so does what makes it fail. No torch."""

import os
import sys
import traceback
from contextlib import suppress

from codemix_megatron.errors import LaunchError, machine_fault
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.watch.failures import Failure, note_failure
from codemix_megatron.watch.rank_log import lead_output, say_inside, say_outside

__all__ = ["as_rank", "launching_run", "report_failure"]


def launching_run() -> RunFolder | None:
    """Return the run folder in which a launching process follows this rank, None where there is none."""
    return RunFolder(os.environ["CODEMIX_RUN"]) if "CODEMIX_RUN" in os.environ else None


def as_rank(run: RunFolder | None, function):
    """Return what `function()` returns; this rank's output goes to the run's logs, and what goes wrong to its failures."""
    try:
        if run:
            with suppress(OSError):  # on a node that cannot write there; the preflight says it with names
                lead_output(run)
        return function()
    except OSError as fault:
        known = machine_fault(fault)
        known.__cause__ = fault
        report_failure(run, known)
        raise known from fault
    except BaseException as fault:
        failure = report_failure(run, fault)
        if run and failure.is_secondary and not failure.known:
            say_inside(traceback.format_exc())
            raise LaunchError(
                f"{failure.location}: lost another rank; see {run.logs}/failures and rank-N.log beside it ({failure.message})"
            ) from None
        raise
    finally:
        sys.stdout.flush()


def report_failure(run: RunFolder | None, fault: BaseException) -> Failure:
    """Note what went wrong here and return it; what only this rank knows is also said where its output went before."""
    failure = note_failure(run, fault)
    if not (failure.is_secondary or failure.carried or failure.is_users):
        say_outside(f"codemix: {failure.sentence}")
    return failure
