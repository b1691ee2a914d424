"""A run that starts from the weights of another one, with Adam fresh."""

import math

import pytest

pytestmark = pytest.mark.distributed


def test_checkpoint_of_a_run_gives_weights_and_nothing_of_its_optimizer(tiny):
    assert tiny.train("trunk").returncode == 0
    branch = ["phases.0.tokens=2K", "phases.0.learning_rate.warmup_tokens=0", "phases.1.tokens=1K"]
    done = tiny.train("branch", f"initial_weights={tiny.folder / 'trunk' / 'checkpoints' / 'step-12'}", *branch)
    assert done.returncode == 0, done.stderr  # moments left over or never set would give losses that are no numbers
    losses = tiny.losses("branch")
    assert [event["step"] for event in tiny.events("branch")] == list(range(1, 7)) and all(math.isfinite(loss) for loss in losses)
    trunk = tiny.losses("trunk")
    assert losses[0] < trunk[0] - 1 and abs(losses[0] - trunk[12]) < 1
