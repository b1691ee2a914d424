"""A checkpoint from local layers to Transformer Engine's and back, with values; and documents apart against each alone.

    python carried.py cpu|transformer-engine MODELS.json FOLDER OUT.json

For every model: steps 0 and 1 on local layers, saved; step 2 here and there; Transformer Engine's state saved, and step 3 here and there.
"""

import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]
from values import prepare  # noqa: E402

STEPS = 4


def tokenizer_metadata(vocabulary: int):
    """Return a tokenizer of so many ids."""
    from codemix_megatron.records.manifest import TokenizerMetadata

    return TokenizerMetadata(type="none", path="", sha256="", vocab_size=vocabulary, end_of_document_id=0)


def engine_for(model: dict, device: str, ranks):
    """Return an engine for one source."""
    from many_layouts import recipe_of

    from codemix_megatron.train.engine import Engine

    return Engine(recipe_of(model, {"device": device}, {}), tokenizer_metadata(256), 1, ranks)


def train(model: dict, device: str, folder: Path, first: int, last: int) -> list[float]:
    """Train steps [first, last), from the other side's checkpoint where there is one before; save in between and at the end."""
    import torch
    from many_layouts import batches

    from codemix_megatron.checkpoint.loading import load_checkpoint
    from codemix_megatron.checkpoint.writing import save_checkpoint
    from codemix_megatron.parallel.ranks import one_rank
    from codemix_megatron.train.batches import Batch

    losses = []
    with one_rank(device=device) as ranks:
        engine = engine_for(model, device, ranks)
        if first:
            wanted = engine.sharded_state(is_loading=True)
            engine.load_state(load_checkpoint(folder / f"step-{first}", wanted))
        for step in range(first, last):
            if step != first and not (folder / f"step-{step}").exists():
                save_checkpoint(folder / f"step-{step}", engine.sharded_state(), {"step": step}, torch.device("cpu"))
            rows = torch.from_numpy(batches(STEPS)[step]).to(ranks.device)
            losses.append(engine.train_step(Batch(rows, torch.zeros(len(rows), dtype=torch.int64, device=ranks.device)), 1e-2).losses.mean)
    return losses


def keys_of(checkpoint: Path) -> list[str]:
    """Return the names of all that a checkpoint holds but of what Transformer Engine keeps of FP8 beside its weights."""
    from codemix_megatron.checkpoint.torch_dist import stored_names

    return sorted(name for name in stored_names(checkpoint) if "_extra_state" not in name)


def documents(model: dict) -> float:
    """Return how far logits of a document in a row are from those it has alone, by borders on Transformer Engine's attention."""
    import torch
    from many_layouts import recipe_of

    from codemix_megatron.model.build import build_model
    from codemix_megatron.model.document_attention import document_borders
    from codemix_megatron.parallel.ranks import one_rank

    rows = torch.tensor([[3, 9, 4, 0, 8, 2, 7, 7, 0, 5, 6, 1], [1, 2, 0, 0, 4, 5, 6, 7, 8, 9, 1, 0]])
    with one_rank(device="cuda") as ranks, torch.no_grad():
        (gpt,) = build_model(recipe_of(model, {"device": "cuda"}, {}), 256, ranks.device)
        gpt.eval()
        positions = torch.arange(12).expand_as(rows)
        (borders,) = document_borders(rows, 0, 2)
        together = gpt(rows, positions, None, packed_seq_params=borders)
        alone = gpt(rows[:1, 4:9], positions[:1, :5], None)
        leaking = gpt(rows, positions, None)
    assert (leaking[0, 4:9] - alone[0]).abs().max() > 1e-3, "documents see each other without borders"
    return float((together[0, 4:9] - alone[0]).abs().max())


def main() -> None:
    """Do this side's part of every model."""
    kind, folder = sys.argv[1], Path(sys.argv[3])
    prepare(kind)
    import torch

    torch.set_num_threads(1)
    found = {}
    for name, model in json.loads(Path(sys.argv[2]).read_text()).items():
        kept_in = folder / name.replace(" ", "-")
        if kind == "cpu":
            has_other = (kept_in / "step-3").exists()
            losses = train(model, "cpu", kept_in, 3, 4) if has_other else train(model, "cpu", kept_in, 0, 3)
            found[name] = {"losses": losses, "keys": keys_of(kept_in / "step-2")}
        else:
            losses = train(model, "cuda", kept_in, 2, 4)
            found[name] = {"losses": losses, "documents": documents(model), "keys": keys_of(kept_in / "step-3")}
    Path(sys.argv[4]).write_text(json.dumps(found))


if __name__ == "__main__":
    os.environ.setdefault("RANK", "0")
    os.environ.update(WORLD_SIZE="1", LOCAL_RANK="0", LOCAL_WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    main()
