"""What a checkpoint of a run holds: the metadata that describes it, and what of it is loaded."""

from dataclasses import asdict
from pathlib import Path

from codemix_megatron.checkpoint.loading import load_checkpoint
from codemix_megatron.checkpoint.metadata import read_metadata
from codemix_megatron.mixture.mixture import DATA_ORDER
from codemix_megatron.plan.plan import Plan
from codemix_megatron.recipe.schema import Recipe, as_plain
from codemix_megatron.records.manifest import TokenizerMetadata
from codemix_megatron.train.engine import Engine
from codemix_megatron.train.folder import now
from codemix_megatron.train.starting import has_random_state
from codemix_megatron.train.state import TrainState

__all__ = ["checkpoint_metadata", "load_into"]


def checkpoint_metadata(recipe: Recipe, plan: Plan, state: TrainState, tokenizer: TokenizerMetadata, origin: dict | None) -> dict:
    """Return the metadata of a checkpoint; `origin` is the family and the special tokens of a public model, for the export."""
    return {
        "step": state.step,
        "sequences_seen": state.sequences_seen,
        "tokens": plan.tokens_at(state.step),
        "data_order": DATA_ORDER,
        "model": as_plain(recipe.model),
        "tokenizer": asdict(tokenizer),
        "phase": plan.phase_at(state.step).name,
        "hugging_face": origin,
        "layout": plan.layout,
        "random_state": True,
        "weight_average": recipe.optimizer.average_decay is not None,
        "train_state": asdict(state),
        "at": now(),
    }


def load_into(engine: Engine, checkpoint: Path, layout: dict[str, int], with_optimizer: bool) -> None:
    """Fill the model (and the optimizer) of an engine from a checkpoint. Every rank calls this."""
    metadata = read_metadata(checkpoint)
    wanted = engine.sharded_state(
        is_loading=True,
        with_optimizer=with_optimizer,
        with_random_state=with_optimizer and has_random_state(metadata, layout),
        with_average=metadata.get("weight_average", False),
    )
    loaded = load_checkpoint(checkpoint, wanted)
    if not with_optimizer:
        # Megatron adds the checkpoint's unsharded part unasked: Adam's groups, whose moments would then be uninitialised memory.
        loaded.pop("optimizer", None)
    engine.load_state(loaded)
