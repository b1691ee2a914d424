"""Random streams: dropout draws on after a resume, alike in every run of a layout, and again the same when layers are recomputed."""

import pytest
import torch
from many_layouts import batches, recipe_of

from codemix_megatron.checkpoint.loading import load_checkpoint
from codemix_megatron.parallel.ranks import join_ranks, leave_ranks
from codemix_megatron.records.manifest import TokenizerMetadata
from codemix_megatron.train.batches import Batch
from codemix_megatron.train.engine import Engine

pytestmark = pytest.mark.distributed


@pytest.fixture
def start(monkeypatch):
    """Call it with a model and a layout for a fresh engine on one rank, seeded as a run is."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}.items():
        monkeypatch.setenv(name, value)

    def begin(model: dict, parallel: dict | None = None):
        leave_ranks()
        recipe = recipe_of(model, parallel or {}, {})
        metadata = TokenizerMetadata(type="none", path="", sha256="", vocab_size=256, end_of_document_id=0)
        return Engine(recipe, metadata, 1, join_ranks(recipe.parallel, recipe.seed))

    yield begin
    leave_ranks()


def train(engine, first: int, last: int) -> list[float]:
    """Train steps `first` to `last`, from 0, and return their losses."""
    rows = torch.from_numpy(batches(last)[first:])
    return [engine.train_step(Batch(batch, torch.zeros(len(batch), dtype=torch.int64)), 1e-2, False).losses.mean for batch in rows]


@pytest.mark.parametrize("block", ["sequential", "parallel"])
def test_dropout_draws_on_after_a_resume_and_alike_with_recomputation(start, tmp_path, block):
    from megatron.core import dist_checkpointing

    model = {"block": block, "dropout": 0.1}
    whole = train(start(model), 0, 6)
    assert whole == train(start(model), 0, 6), "two runs with one seed differ"
    assert whole != train(start({"block": block}), 0, 6), "dropout changed nothing"
    assert whole == train(start(model, {"recompute": "full"}), 0, 6), "layers computed again drew other zeros"
    engine = start(model)
    assert train(engine, 0, 3) == whole[:3]
    dist_checkpointing.save(engine.sharded_state(), str(tmp_path))
    engine = start(model)
    train(engine, 0, 1)  # streams somewhere else
    engine.load_state(load_checkpoint(tmp_path, engine.sharded_state(is_loading=True)))
    assert train(engine, 3, 6) == whole[3:]
