"""What a rank does not use costs it nothing at its start."""

import subprocess
import sys

import pytest
from patience import PATIENCE_SECONDS
from tiny_run import REPOSITORY, clean_environment

CODE = """
from codemix_megatron.megatron.importing import import_megatron
import_megatron()
import codemix_megatron.train.run, sys, torch
optimizer = torch.optim.AdamW([torch.zeros(1)])
optimizer.load_state_dict(optimizer.state_dict())
loaded = [name for name in ("wandb", "tensorboard", "torch._dynamo", "torch._inductor") if name in sys.modules]
print(loaded, torch.compile.__module__)
"""


def test_a_rank_on_cpu_loads_no_compiler_and_no_tracker():
    import torch

    if torch.cuda.is_available():
        pytest.skip("with CUDA, fused functions are compiled")
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=REPOSITORY, env=clean_environment(), capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["[]", "torch"]
