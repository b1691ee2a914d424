"""Every error this package raises on purpose.

    CodemixError
    ├── RecipeError        the recipe, an override or a command-line value is wrong
    ├── CorpusError        documents, tokenizers or prepared corpora are missing or wrong
    ├── CheckpointError    a checkpoint could not be written, read or trusted
    ├── ConversionError    a model could not be converted to or from Hugging Face
    ├── EvaluationError    a suite could not be read or scored
    ├── SandboxError       programs cannot be run apart from this machine
    └── LaunchError        ranks could not be started, or one of them died
        └── RankCrashed    one of them died of a fault in native code; trying again is worth it

A message says where, what was found, what is allowed and what to do. `exit_code` is 2 when the
user can fix it (the default of most classes) and 1 when the machine failed; the command line
prints the message without a traceback and leaves with that code.
"""

__all__ = [
    "CheckpointError",
    "CodemixError",
    "ConversionError",
    "CorpusError",
    "EvaluationError",
    "LaunchError",
    "RankCrashed",
    "RecipeError",
    "SandboxError",
    "STOPPED_EARLY",
    "machine_fault",
]

USER_FAULT = 2
MACHINE_FAULT = 1
STOPPED_EARLY = 75  # EX_TEMPFAIL, no error: saved, run the same command again


class CodemixError(Exception):
    """Base of all errors raised on purpose; catch it to catch them all."""

    default_exit_code = USER_FAULT
    is_carried = False  # another rank's fault, raised on this one too
    evidence: str | None = None  # what speaks for a fault of this machine, and not of what was asked

    def __init__(self, message: str, *, exit_code: int | None = None):
        super().__init__(message)
        self.exit_code = self.default_exit_code if exit_code is None else exit_code


class RecipeError(CodemixError):
    """One or more faults of a recipe, all found at once; `faults` holds one line for each."""

    def __init__(self, faults: str | list[str], *, where: str | None = None):
        self.faults = [faults] if isinstance(faults, str) else list(faults)
        head = f"{where}: " if where else ""
        if len(self.faults) == 1:
            message = head + self.faults[0]
        else:
            message = f"{head}{len(self.faults)} faults\n" + "\n".join(f"  - {f}" for f in self.faults)
        super().__init__(message)


class CorpusError(CodemixError):
    """Documents, a tokenizer or a prepared corpus are missing, damaged or do not fit."""


class CheckpointError(CodemixError):
    """A checkpoint could not be written, is incomplete or does not match its metadata."""

    default_exit_code = MACHINE_FAULT


class ConversionError(CodemixError):
    """A model cannot be expressed on the other side, or its logits differ there."""


class EvaluationError(CodemixError):
    """A suite is missing, malformed or gave no score."""


class SandboxError(CodemixError):
    """No sandbox backend (bubblewrap, unshare) works here, or a resource limit is invalid."""

    default_exit_code = MACHINE_FAULT


class LaunchError(CodemixError):
    """Ranks could not be started, disagreed, or died."""

    default_exit_code = MACHINE_FAULT


class RankCrashed(LaunchError):
    """A rank died of SIGSEGV, SIGBUS or SIGABRT: a fault in native code, not in what was asked."""


def machine_fault(fault: OSError) -> CodemixError:
    """Return what the operating system refused (a full disk, a missing right) as an error of this package."""
    where = f"{fault.filename}: " if fault.filename else ""
    return CodemixError(f"{where}{fault.strerror or fault}; fix it and run the same command again", exit_code=MACHINE_FAULT)
