"""What went wrong on a rank, in a file of its own, and which of several failures was the first cause. No torch."""

import os
import re
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

from codemix_megatron.errors import CodemixError
from codemix_megatron.records.atomic import read_json, write_json
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.watch.hardware import hardware_words
from codemix_megatron.watch.rank_environment import node_name, own_rank, start_id

__all__ = ["Failure", "first_failure", "note_failure"]

PACKAGE = Path(__file__).parents[1]
NEVER_CAME = "could not join the others"  # as parallel/ranks.py says it
# What NCCL says of a fault of its own rank: its GPU, its driver, or a wrong call.
OWN_FAULT = r"unhandled cuda error|nccl(UnhandledCudaError|InvalidUsage|InvalidArgument|InternalError)|Call to CUDA function failed"
# What ranks say that lost another one.
LOST_OTHER = (
    r"Connection (closed|reset) by peer|Broken pipe|[Ss]ocket closed|[Tt]imed out|failed to recv|Dist(Network|Backend|Store)Error|NCCL"
)
DRAGGED = re.compile(rf"^(?!.*(?:{OWN_FAULT})).*(?:{LOST_OTHER})", re.DOTALL)


@dataclass(frozen=True)
class Failure:
    """How one rank failed."""

    rank: int
    host: str
    message: str
    where: str | None  # file:line of the innermost frame of this package
    known: bool  # raised on purpose, with words for the user
    exit_code: int
    at: float
    carried: bool = False  # another rank's fault, raised here too
    evidence: str | None = None  # what speaks for a fault of this machine

    @property
    def is_secondary(self) -> bool:
        """Say whether this rank failed because another one was gone."""
        if self.evidence:
            return False
        return NEVER_CAME in self.message if self.known else DRAGGED.search(self.message) is not None

    @property
    def is_users(self) -> bool:
        """Say whether it is a fault of what was asked, and no matter of ranks."""
        return self.known and self.exit_code == 2

    @property
    def location(self) -> str:
        """Rank, node and line."""
        return f"rank {self.rank} on {self.host}" + (f", {self.where}" if self.where else "")

    @property
    def sentence(self) -> str:
        """The message for the user."""
        if self.is_users:
            return self.message
        if self.known:
            return f"{self.message} ({self.location})"
        return f"{self.location}: {'lost another rank, which left no word of its own: ' if self.is_secondary else ''}{self.message}"


def describe_failure(fault: BaseException) -> Failure:
    """Return what went wrong on this rank, now."""
    known = isinstance(fault, CodemixError)
    return Failure(
        rank=own_rank(),
        host=node_name(),
        message=str(fault) if known else f"{type(fault).__name__}: {fault}",
        where=innermost_frame(fault),
        known=known,
        exit_code=getattr(fault, "exit_code", 1),
        at=time.time(),
        carried=getattr(fault, "is_carried", False),
        evidence=None if getattr(fault, "is_carried", False) else evidence_of(fault),
    )


def evidence_of(fault: BaseException | None) -> str | None:
    """Return what an error, or what caused it, says of a fault of this machine."""
    if fault is None:
        return None
    return getattr(fault, "evidence", None) or hardware_words(str(fault)) or evidence_of(fault.__cause__)


def innermost_frame(fault: BaseException | None) -> str | None:
    """Return file:line of the last frame of this package on the way to a fault, or to what caused it."""
    if fault is None:
        return None
    if cause := innermost_frame(fault.__cause__):
        return cause
    frames = [(Path(f.filename), f.lineno) for f in traceback.extract_tb(fault.__traceback__)]
    ours = [f"{file.relative_to(PACKAGE.parent)}:{line}" for file, line in frames if file.is_relative_to(PACKAGE)]
    return ours[-1] if ours else None


def note_failure(run: RunFolder | None, fault: BaseException) -> Failure:
    """Leave what went wrong on this rank in the run's logs/failures, and return it.

    Where that cannot be written (the run's disk may be what is full) it goes to the launching process's folder, if there is one.
    """
    failure, notes = describe_failure(fault), os.environ.get("CODEMIX_NOTES")
    folders = [run.logs / "failures"] if run else []
    for folder in [*folders, *([Path(notes)] if notes else [])]:
        try:
            write_json(folder / f"{start_id()}-rank-{failure.rank}.json", asdict(failure))
            break
        except OSError:
            continue
    return failure


def read_failures(run: RunFolder, start: str, notes: Path | None = None) -> list[Failure]:
    """Return the failures of one start, first causes first."""
    found = []
    for folder in (run.logs / "failures", notes):
        for path in folder.glob(f"{start}-rank-*.json") if folder else ():
            try:
                found.append(Failure(**read_json(path)))
            except (OSError, ValueError, TypeError):
                continue
    return sorted(found, key=lambda f: (f.is_secondary, not f.known, f.carried, f.at))


def first_failure(run: RunFolder, start: str, notes: Path | None = None) -> Failure | None:
    """Return the failure whose words matter: that of ours that came first, before those of ranks it dragged along."""
    return next(iter(read_failures(run, start, notes)), None)
