"""What runs in the batch job itself."""

import subprocess
import sys

from patience import PATIENCE_SECONDS
from tiny_run import clean_environment


def test_batch_step_needs_nothing_but_python():
    """It runs outside of the ranks' container, where there may be no package at all."""
    code = "import codemix_megatron.launch.slurm.batch, sys; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], env=clean_environment(), capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout.split()) & {"torch", "numpy", "yaml", "psutil", "rich"}
