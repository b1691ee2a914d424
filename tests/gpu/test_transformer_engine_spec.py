"""Transformer Engine's layers can be built without a GPU: their parameters and checkpoint names against those of the local layers."""

import json
import subprocess
import sys

import pytest
from patience import PATIENCE_SECONDS
from tiny_run import REPOSITORY, clean_environment

from codemix_megatron.parallel.device import active_engines

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.skipif(not active_engines()["transformer_engine"], reason="needs Transformer Engine, which is not installed"),
]
KINDS = {
    "llama": {},
    "paper": {"block": "parallel", "normalization": "layernorm", "rotary_interleaved": True},
    "parallel with rmsnorm": {"block": "parallel"},
    "sequential with layernorm": {"normalization": "layernorm"},
}

PROGRAM = """
import json, sys, torch
torch.cuda.is_available = lambda: True  # all that Transformer Engine asks when layers are built
from many_layouts import recipe_of
from codemix_megatron.model.build import new_chunk
from codemix_megatron.model.config import transformer_config
from codemix_megatron.model.initial import initialize_weights, sharded_tensors
import torch.distributed as dist
from megatron.core import parallel_state
dist.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=0, world_size=1)
parallel_state.initialize_model_parallel()
found = {}
for name, model in json.loads(sys.argv[2]).items():
    recipe = recipe_of(model, {}, {})
    for device in ("cpu", "cuda"):
        config = transformer_config(recipe, torch.device(device))
        config.use_cpu_initialization, config.gradient_accumulation_fusion = True, False
        gpt = new_chunk(recipe, config, 256, torch.device(device), None)
        initialize_weights([gpt], recipe.seed, recipe.model)
        layer = gpt.decoder.layers[0]
        found[f"{name}/{device}"] = {
            "shards": sorted([s.key, list(s.global_shape), list(s.global_offset), float(s.data.double().sum())] for s in sharded_tensors([gpt])),
            "linear": type(layer.self_attention.linear_qkv).__name__,
            "modes": [getattr(m, "parallel_mode", "none") for m in (layer.self_attention.linear_qkv, layer.mlp.linear_fc2)],
        }
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Every kind of model, on local and on Transformer Engine's layers."""
    words = [sys.executable, "-c", PROGRAM, str(tmp_path_factory.mktemp("group") / "store"), json.dumps(KINDS)]
    env = {**clean_environment(), "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"}
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_weights_have_the_local_layers_names_places_and_initial_values(built, kind):
    """So a checkpoint of one is read by the other."""
    assert built[f"{kind}/cuda"]["linear"].startswith("TE")
    assert built[f"{kind}/cuda"]["shards"] == built[f"{kind}/cpu"]["shards"]


@pytest.mark.parametrize("kind", KINDS)
def test_linears_of_a_parallel_block_do_not_communicate(built, kind):
    is_parallel = KINDS[kind].get("block") == "parallel"
    assert built[f"{kind}/cuda"]["modes"] == ([None, None] if is_parallel else ["column", "row"])
