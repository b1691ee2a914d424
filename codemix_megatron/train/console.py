"""Journal events as lines people read. No torch: the launching process prints them too."""

import time

from codemix_megatron.recipe.quantity import format_tokens

__all__ = ["ConsoleLines"]


class ConsoleLines:
    """Turns events into lines: some steps, held-out scores, checkpoints, stops."""

    def __init__(self, every_steps: int, num_steps: int):
        self.every, self.num_steps = every_steps, num_steps
        self.began_at, self.first_step = 0.0, None

    def line(self, event: str, values: dict) -> str | None:
        """Return the line of an event, or None when it is not worth one."""
        if event == "step":
            if self.first_step is None:
                self.began_at, self.first_step = time.monotonic() - values["seconds"], values["step"]
            is_due = values["step"] % self.every == 0 or values["step"] in (self.first_step, self.num_steps)
            return self.step_line(values) if is_due else None
        if event == "validation" and values["bits_per_byte"]:
            bits = "  ".join(f"{name} {value:.3f}" for name, value in values["bits_per_byte"].items())
            return f"held out, bits per byte: {bits}"
        if event == "checkpoint":
            stalled = f", training stood still for {values['stall_seconds']:.2f} s of it" if values.get("asynchronous") else ""
            return f"checkpoint at step {values['step']}: {values['bytes'] / 2**20:.1f} MiB in {values['seconds']:.1f} s{stalled}"
        if event == "skipped":
            return f"step {values['step']}/{self.num_steps} skipped: {values['reason']}"
        if event == "rollback":
            first, last = values["skipped"]
            return f"{values['text']}; back to step {values['step']}, batches of steps {first} to {last} are left out"
        if event == "profile":
            return f"{values['what']} up to step {values['step']}: {values['path']}"
        if event == "phase_end" and values.get("loss") is not None:
            return f"end of {values['phase']}: loss {values['loss']:.4f} over {values['steps_measured']} steps"
        if event == "straggler":
            place = f"rank {values['rank']} on {values['host']}"
            return f"{place} is {values['factor']} times as slow as the others since {values['steps']} steps: {values['why']}"
        if event == "warning":
            return f"warning: {values['text']}"
        if event == "preflight" and (values["nodes"] or 1) > 1:
            slowest = min(values["bytes_per_second_between"].values())
            return f"{values['nodes']} nodes are alike ({values['device']}); the slowest exchanges {slowest / 1e9:.2f} GB/s with its neighbours"
        if event == "stop":
            return f"stop at step {values['step']}: {values['reason']}"
        return None

    def step_line(self, values: dict) -> str:
        """Return step, loss, rate, speed and the time left."""
        done = values["step"] - self.first_step + 1
        left = (time.monotonic() - self.began_at) / done * (self.num_steps - values["step"])
        sources = " ".join(f"{name} {loss:.3f}" for name, loss in values["loss_per_source"].items())
        return (
            f"step {values['step']}/{self.num_steps}  {values['phase']}  loss {values['loss']:.4f} ({sources})"
            f"  lr {values['learning_rate']:.2e}  {format_tokens(round(values['tokens_per_second']))} tokens/s  {left:.0f} s left"
        )
