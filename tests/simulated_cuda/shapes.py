"""Train two steps of each case on fake CUDA tensors as one rank of many; one line of JSON for each.

    python shapes.py CASES.json        a list of {"name", "size", "model", "parallel", "batch", "vocabulary", "rank", "world", "documents"}

Run under the stub libraries (check.py). FAKE_TE=1 puts Transformer Engine over its stand-in.
"""

import json
import os
import sys
import time
import traceback
import warnings
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
warnings.filterwarnings("ignore")
import fake_cuda  # noqa: E402
import torch  # noqa: E402

fake_cuda.install()
if os.environ.get("FAKE_TE") == "1":
    import stand_in

    stand_in.install()
from codemix_megatron.megatron.importing import import_megatron  # noqa: E402

import_megatron()
from many_layouts import recipe_of  # noqa: E402

from codemix_megatron.megatron.installing import install_changes  # noqa: E402
from codemix_megatron.model import build  # noqa: E402
from codemix_megatron.parallel import ranks as ranks_module  # noqa: E402
from codemix_megatron.parallel.device import active_engines  # noqa: E402
from codemix_megatron.plan.memory import memory_by_stage  # noqa: E402
from codemix_megatron.recipe.schema import Batch as BatchSizes  # noqa: E402
from codemix_megatron.recipe.schema import Sequences  # noqa: E402
from codemix_megatron.recipe.shapes import SHAPES  # noqa: E402
from codemix_megatron.records.manifest import TokenizerMetadata  # noqa: E402
from codemix_megatron.train.batches import Batch  # noqa: E402
from codemix_megatron.train.engine import Engine  # noqa: E402

install_changes("cuda", active_engines())
fake_cuda.patch_megatron()
build.initialize_weights = lambda *arguments: None  # draws on the host


def recipe_for(case: dict):
    """Return the recipe of a case; micro batches fill the pipeline."""
    shape = SHAPES[case["size"]] if "size" in case else {"num_layers": 8}
    parallel, sizes = {"device": "cuda", **case.get("parallel", {})}, case.get("batch", {})
    recipe = recipe_of({**shape, "num_query_groups": None, "precision": "bf16", **case.get("model", {})}, parallel, {})
    micro, count = sizes.get("micro_sequences", 1), sizes.get("micro_batches", recipe.parallel.pipeline)
    data = case["world"] // recipe.parallel.model_ranks
    sequences = Sequences(attention_within_documents=case.get("documents", False))
    return replace(
        recipe, batch=BatchSizes(global_sequences=count * micro * data, micro_sequences=micro), sequences=sequences
    ), count * micro


def train(case: dict) -> dict:
    """Build, step twice, and say what was seen."""
    began, (recipe, own) = time.time(), recipe_for(case)
    os.environ.update(RANK=str(case["rank"]), WORLD_SIZE=str(case["world"]), LOCAL_RANK="0", LOCAL_WORLD_SIZE="1")
    fake_cuda.PLACE[:] = [case["rank"], case["world"]]
    fake_cuda.WAITS.clear()
    memory, vocabulary = fake_cuda.Memory(), case.get("vocabulary", 1024)
    with fake_cuda.fake_mode(), memory:
        ranks = ranks_module.join_ranks(recipe.parallel, 1)
        try:
            metadata = TokenizerMetadata(type="none", path="", sha256="", vocab_size=vocabulary, end_of_document_id=0)
            engine, length = Engine(recipe, metadata, 3, ranks), recipe.model.sequence_length
            at_build = dict(fake_cuda.WAITS)
            has_rows = ranks.is_first_stage or ranks.is_loss_stage or case.get("documents")
            rows = torch.zeros(own, length + 1, dtype=torch.int64, device="cuda") if has_rows else None
            batch = Batch(rows, torch.zeros(own, dtype=torch.int64, device="cuda"))
            for step in range(2):
                memory.label, memory.peak = f"step {step}", memory.live
                fake_cuda.WAITS.clear()
                engine.train_step(batch, 1e-3)
            waits = dict(fake_cuda.WAITS)
            state = engine.sharded_state() if case.get("save") else {}
            weights = sum(p.numel() for chunk in engine.chunks for p in chunk.parameters())
        finally:
            ranks_module.leave_ranks()
    data = case["world"] // recipe.parallel.model_ranks
    stage = case["rank"] // (case["world"] // recipe.parallel.pipeline)  # Megatron numbers pipeline stages last
    layers = "transformer_engine" if os.environ.get("FAKE_TE") == "1" else "local"
    plan = memory_by_stage(recipe, vocabulary, data, layers)[stage]
    largest = sorted(((size, what) for what, size in memory.at_peak.items()), reverse=True)[:8]
    return {
        "weights": weights,
        "peak": memory.peak,
        "at_rest": memory.live,
        "plan": plan.total,
        "plan_parts": plan.parts(),
        "waits": waits,
        "at_build": at_build,
        "largest": {what: size for size, what in largest},
        "saved": len(state),
        "seconds": round(time.time() - began, 1),
    }


def main() -> None:
    """Do all cases; a failure is a result too."""
    for case in json.loads(Path(sys.argv[1]).read_text()):
        try:
            found = train(case)
        except Exception as fault:
            frames = traceback.extract_tb(fault.__traceback__)[-6:]
            where = [f"{frame.filename.split('site-packages/')[-1]}:{frame.lineno} {frame.line}" for frame in frames]
            found = {"fault": f"{type(fault).__name__}: {fault}"[:500], "where": where}
        print(json.dumps({"name": case["name"], **found}), flush=True)


if __name__ == "__main__":
    main()
