"""journal.jsonl: one JSON object per event of a run, appended, never rewritten but to cut a lost tail.

Events: `start`, `recipe`, `preflight`, `warning`, `step`, `skipped`, `rollback`, `straggler`, `validation`, `checkpoint`,
`phase_end`, `profile`, `stop`, `end`, `reopened`, `averaged`. Field names are those the report prints. A step event holds step (1 = after the
first update), phase, tokens (seen so far), sequences, loss (nats per token), loss_per_source, tokens_per_source (consumed so far in the run),
learned_per_source (tokens of this step that counted in the loss: not those a loss mask hides, nor empty places),
learning_rate, gradient_norm, seconds (this step), tokens_per_second, model_flops_per_second (of all ranks: 6 per matrix entry
and token, causal attention counted once, recomputation not at all), mfu (that over the peak of all ranks, null where no peak
is known: see observers.peak_teraflops), and of the main rank seconds_per_part (data, forward_backward, optimizer, reduce, other)
and memory_bytes (host, host_peak; on CUDA device, device_peak, device_reserved). A phase_end event holds means over all steps
of the phase, those before a resume too. A recipe event holds the changed lines of a recipe that holds from its step on; reopened
says that a run which had ended goes on with more phases, averaged that its checkpoint is the mean of others. A profile event holds
the path of what --profile or --memory-snapshot wrote.
A validation event holds step, phase, tokens, loss_per_source, bits_per_byte (per source). A skipped event stands in
the place of a step whose batch was not trained on, and says why; a rollback event goes back to its step. A checkpoint
event holds the step that was saved (it may come some steps later), seconds, stall_seconds (training stood still for it),
bytes, asynchronous. A preflight event follows a start and holds what was measured before the model was built: nodes, ranks, seconds
it took, and where there are several nodes device, clock_seconds (largest difference that is sure) and bytes_per_second_within and
_between nodes. A straggler event names a rank that was slow in several windows of steps in a row: rank, host, factor (over the median
of the other ranks), why, steps.
"""

import json
import os
from pathlib import Path

from codemix_megatron.errors import CodemixError
from codemix_megatron.records.atomic import UNENCODABLE, replace_text
from codemix_megatron.redaction import redact

__all__ = ["Journal", "cut_after", "read_journal"]


class Journal:
    """Appends events to a file."""

    def __init__(self, path):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.handle = open(self.path, "a", encoding="utf-8", errors=UNENCODABLE)  # noqa: SIM115 - open as long as the run

    def append(self, event: str, **values) -> None:
        """Write one event as one line; it survives the process once this returns."""
        self.handle.write(redact(json.dumps({"event": event, **values})) + "\n")
        self.handle.flush()

    def close(self) -> None:
        """Flush to disk and close."""
        self.handle.flush()
        os.fsync(self.handle.fileno())
        self.handle.close()


def read_journal(path) -> list[dict]:
    """Return all events that still count; a torn last line (the process was killed in it) is left out.

    What came after the step that a `rollback` event goes back to was undone; it stays in the file only.
    """
    path = Path(path)
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    events: list[dict] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
        except ValueError:
            if number < len(lines):
                raise CodemixError(f"{path}: line {number} is not JSON: {line[:80]!r}; mend or remove the line") from None
            continue
        if event.get("event") == "rollback":
            events = [e for e in events if e.get("step", 0) <= event["step"]]
        events.append(event)
    return events


def cut_after(path, step: int) -> int:
    """Keep only events up to `step`, atomically; return how many were dropped."""
    events = read_journal(path)
    kept = [e for e in events if e.get("step", 0) <= step]
    if Path(path).exists():
        replace_text(path, "".join(json.dumps(e) + "\n" for e in kept))
    return len(events) - len(kept)
