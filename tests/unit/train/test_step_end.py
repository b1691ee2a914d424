"""A step is over when the device has done all of it: `seconds`, tokens/s and MFU are read afterwards."""

import gc

import torch
from many_layouts import batches, recipe_of

from codemix_megatron.parallel.ranks import one_rank
from codemix_megatron.records.manifest import TokenizerMetadata
from codemix_megatron.train import engine as engine_module
from codemix_megatron.train.batches import Batch
from codemix_megatron.train.engine import Engine
from codemix_megatron.train.garbage import ManualCollection


def test_the_engine_waits_for_the_device_after_the_update(monkeypatch):
    order = []
    monkeypatch.setattr(engine_module, "wait_for_device", lambda: order.append("waited"))
    monkeypatch.setattr(Engine, "update", lambda self, norm: order.append("updated"))
    with one_rank(device="cpu") as ranks:
        metadata = TokenizerMetadata(type="none", path="", sha256="", vocab_size=256, end_of_document_id=0)
        engine = Engine(recipe_of({"num_layers": 1}, {}, {"micro_sequences": 8}), metadata, 1, ranks)
        rows = torch.from_numpy(batches(1)[0])
        engine.train_step(Batch(rows, torch.zeros(len(rows), dtype=torch.int64)), 1e-2)
    assert order == ["updated", "waited"]


def test_garbage_is_collected_at_the_same_steps_on_all_ranks_and_at_no_other_time(monkeypatch):
    collected = []
    monkeypatch.setattr(gc, "collect", lambda generation=2: collected.append(generation))
    was_on = gc.isenabled()
    try:
        collection = ManualCollection(every_steps=3)
        assert not gc.isenabled()
        for _ in range(7):
            collection.after_step()
    finally:
        if was_on:
            gc.enable()
    assert len(collected) == 2


def test_groups_saved_by_another_adam_get_what_this_one_asks_of_them():
    """A checkpoint from CPU on Transformer Engine's Adam, which reads `bias_correction`; what was saved stays."""
    optimizer = torch.optim.Optimizer([torch.zeros(1, requires_grad=True)], {"lr": 1.0, "bias_correction": True})
    saved = optimizer.state_dict()
    del saved["param_groups"][0]["bias_correction"]
    saved["param_groups"][0]["lr"] = 0.5
    optimizer.load_state_dict(saved)
    assert "bias_correction" not in optimizer.param_groups[0]
    engine_module.fill_groups([optimizer])
    assert optimizer.param_groups[0]["bias_correction"] is True and optimizer.param_groups[0]["lr"] == 0.5
