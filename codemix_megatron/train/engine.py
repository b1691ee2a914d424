"""The Megatron engine: model, optimizer, and one step of either training or scoring."""

import math
from functools import partial

import numpy as np
import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig, finalize_model_grads
from megatron.core.optimizer import get_megatron_optimizer
from megatron.core.optimizer.clip_grads import clip_grad_by_total_norm_fp32
from megatron.core.pipeline_parallel import get_forward_backward_func
from megatron.core.utils import get_model_config

from codemix_megatron.megatron.optimizer_shards import AVERAGE
from codemix_megatron.model.build import build_model
from codemix_megatron.parallel.random_state import restore_random_state, sharded_random_state
from codemix_megatron.parallel.ranks import Ranks
from codemix_megatron.recipe.schema import Recipe
from codemix_megatron.records.manifest import TokenizerMetadata
from codemix_megatron.train.batches import Batch, data_parallel_slice
from codemix_megatron.train.forward import Documents, forward_step, micro_batches
from codemix_megatron.train.garbage import ManualCollection
from codemix_megatron.train.gradient_norms import gradient_norms
from codemix_megatron.train.optimizer_config import fill_groups, optimizer_config
from codemix_megatron.train.parameter_groups import parameter_groups
from codemix_megatron.train.step_result import Losses, StepResult
from codemix_megatron.train.timing import timed, wait_for_device
from codemix_megatron.train.weight_average import begin_average, forget_average, update_average

__all__ = ["Engine"]

MOMENTS = ("exp_avg", "exp_avg_sq")
OPTIMIZER_SHARDING = {"distrib_optim_sharding_type": "fully_reshardable"}


class Engine:
    """One model over all ranks. Every method is called by every rank."""

    def __init__(self, recipe: Recipe, tokenizer: TokenizerMetadata, num_sources: int, ranks: Ranks):
        self.recipe, self.ranks, self.num_sources = recipe, ranks, num_sources
        self.documents = documents_of(recipe, tokenizer, ranks.device) if recipe.sequences.attention_within_documents else None
        on_cuda, sharing = ranks.device.type == "cuda", parallel_state.get_data_parallel_world_size(with_context_parallel=True)
        self.overlaps = recipe.parallel.overlaps(on_cuda, sharing)
        self.garbage = ManualCollection() if on_cuda else None
        chunks = build_model(recipe, tokenizer.vocab_size, ranks.device)
        self.config = get_model_config(chunks[0])
        self.chunks = [self.wrap(chunk, first=i == 0) for i, chunk in enumerate(chunks)]
        config = optimizer_config(recipe, self.overlaps)
        groups = parameter_groups(recipe, config)
        self.optimizer = get_megatron_optimizer(config, self.chunks, config_overrides=groups, use_gloo_process_groups=False)
        self.reports_norms = False  # of the next step, by kind of weight
        self.average_decay = recipe.optimizer.average_decay
        if self.average_decay is not None:
            self.fill_moments()
            begin_average(self.optimizers)
        self.connect()
        self.forward_backward = get_forward_backward_func()

    def wrap(self, chunk, first: bool) -> DistributedDataParallel:
        """Give a model chunk its gradient buffers; only the first chunk's are kept in one bucket."""
        ddp = DistributedDataParallelConfig(
            grad_reduce_in_fp32=True,
            overlap_grad_reduce=self.overlaps,
            overlap_param_gather=self.overlaps,
            use_distributed_optimizer=self.recipe.parallel.distributed_optimizer,
            average_in_collective=self.ranks.device.type == "cuda",  # a pass over all gradients less; gloo cannot
        )
        return DistributedDataParallel(self.config, ddp, chunk, disable_bucketing=not first)

    def connect(self) -> None:
        """Tell the pipeline schedule how gradients are finished, scaled and overlapped."""
        config = self.config
        config.finalize_model_grads_func = finalize_model_grads
        config.grad_scale_func = self.optimizer.scale_loss if self.recipe.model.precision == "bf16" else None
        if self.overlaps:
            no_sync = [chunk.no_sync for chunk in self.chunks]
            start = [chunk.start_grad_sync for chunk in self.chunks]
            gather = [chunk.start_param_sync for chunk in self.chunks]
            single = len(self.chunks) == 1
            config.no_sync_func = no_sync[0] if single else no_sync
            config.grad_sync_func = start[0] if single else start
            config.param_sync_func = gather[0] if single else gather

    def train_step(self, batch: Batch, learning_rate: float, stop_asked: bool = False, is_saving: bool = False) -> StepResult:
        """Update once on a global batch, of which `batch` is this rank's share, unless loss or gradients are not finite.

        The device has done all of it when this returns. `stop_asked` and `is_saving` of any rank come back as True on every
        rank; they ride on the loss reduction.
        """
        result = self.launch_step(batch, learning_rate, stop_asked, is_saving)
        wait_for_device()
        if self.garbage:
            self.garbage.after_step()
        return result

    @timed("train_step")
    def launch_step(self, batch: Batch, learning_rate: float, stop_asked: bool, is_saving: bool) -> StepResult:
        """Do what `train_step` does; clip and update may still run on the device afterwards."""
        for chunk in self.chunks:
            if not chunk.training:  # saying so again goes through every module
                chunk.train()
            chunk.zero_grad_buffer()
        self.optimizer.zero_grad()
        self.set_rates(learning_rate)
        reports = self.run_schedule(batch, forward_only=False)
        self.optimizer.prepare_grads()
        gradient_norm = float(self.optimizer.get_grad_norm())
        norms = gradient_norms(self.chunks, self.optimizers) if self.reports_norms else None
        losses, (is_bad, stop_asked, is_saving) = self.reduce(reports, (not math.isfinite(gradient_norm), stop_asked, is_saving))
        is_finite = math.isfinite(losses.mean) and not is_bad
        if is_finite:
            self.update(gradient_norm)
        return StepResult(losses, gradient_norm, is_finite, stop_asked, is_saving, norms)

    def update(self, gradient_norm: float) -> None:
        """Clip and step, as the optimizer's own `step` does, which leaves no chance to look at the norm in between."""
        if self.recipe.optimizer.gradient_clip > 0:
            for optimizer in self.optimizers:
                if parameters := optimizer.get_parameters():
                    clip_grad_by_total_norm_fp32(parameters, max_norm=self.recipe.optimizer.gradient_clip, total_norm=gradient_norm)
        self.optimizer.step_with_ready_grads()
        if self.average_decay is not None:
            update_average(self.optimizers, self.average_decay)

    @torch.no_grad()
    def score(self, rows: np.ndarray, source: int) -> Losses:
        """Return losses of any number of rows [sequences, length + 1] of one source without training on them.

        Every rank gives all rows and scores its share; rows that fill up the last batch are not counted.
        """
        for chunk in self.chunks:
            chunk.eval()
        multiple = self.recipe.batch.micro_sequences * self.ranks.data
        multiple *= self.recipe.parallel.pipeline if self.recipe.parallel.virtual_pipeline > 1 else 1
        missing = -len(rows) % multiple
        sources = np.concatenate([np.full(len(rows), source), np.full(missing, self.num_sources)])
        rows = np.concatenate([rows, np.repeat(rows[:1], missing, axis=0)]).astype(np.int64)
        device = self.ranks.device
        own_rows, own_sources = (torch.from_numpy(data_parallel_slice(values, self.ranks)).to(device) for values in (rows, sources))
        losses, _ = self.reduce(self.run_schedule(Batch(own_rows, own_sources), forward_only=True))
        return losses

    @timed("forward_backward")
    def run_schedule(self, batch: Batch, forward_only: bool) -> list:
        """Send this rank's share through the pipeline; the last stage gets its loss reports back."""
        size, length = self.recipe.batch.micro_sequences * batch.parts, self.recipe.model.sequence_length // batch.parts
        parts = micro_batches(batch, size, self.documents)
        weight = None if forward_only else self.loss_weight(batch)
        iterators = [iter(parts) for _ in self.chunks]
        return self.forward_backward(
            forward_step_func=partial(forward_step, num_sources=self.num_sources, documents=self.documents, weight=weight),
            data_iterator=iterators if len(iterators) > 1 else iterators[0],
            model=self.chunks,
            num_microbatches=len(parts),
            seq_length=length,
            micro_batch_size=size,
            decoder_seq_length=length,
            forward_only=forward_only,
        )

    def loss_weight(self, batch: Batch) -> torch.Tensor | None:
        """Return all positions of the global batch over those at which something is learned; None on stages without a loss.

        Micro batches and ranks may count unevenly, so that a mean of their means would weigh tokens unequally.
        """
        if batch.rows is None or not self.ranks.is_loss_stage:
            return None
        labels = batch.rows[:, 1:]
        counted = (labels >= 0).sum()
        if self.ranks.data > 1:
            dist.all_reduce(counted, group=parallel_state.get_data_parallel_group())
        return (labels.numel() * self.ranks.data / counted.clamp(min=1).double()).float()

    @timed("reduce")
    def reduce(self, reports: list, flags: tuple[bool, ...] = ()) -> tuple[Losses, list[bool]]:
        """Sum loss reports over all ranks and say which flags some rank raised, in one collective.

        Only one tensor rank of the last stage counts.
        """
        num_losses = 2 * (self.num_sources + 1)
        own = torch.zeros(num_losses + len(flags), dtype=torch.float64, device=self.ranks.device)
        if reports and parallel_state.get_tensor_model_parallel_rank() == 0:
            own[:num_losses] = torch.stack([r["losses"] for r in reports]).sum(dim=0).flatten()
        own[num_losses:] = torch.tensor(flags, dtype=torch.float64)
        dist.all_reduce(own)
        whole = own.cpu().numpy()
        sums, tokens = whole[:num_losses].reshape(2, -1)[:, : self.num_sources]
        return Losses(sums, tokens), [bool(flag) for flag in whole[num_losses:]]

    def set_rates(self, learning_rate: float) -> None:
        """Set learning rate and weight decay of every group; Megatron leaves `lr_mult` and `wd_mult` to a scheduler of its own."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group.get("lr_mult", 1.0)
            group["weight_decay"] = self.recipe.optimizer.weight_decay * group["wd_mult"]

    def reset_optimizer(self) -> None:
        """Start Adam's moments and step count at zero again."""
        for optimizer in self.optimizers:
            for group in optimizer.optimizer.param_groups:
                group["step"] = 0
            for state in optimizer.optimizer.state.values():
                for name in MOMENTS:
                    if name in state:
                        state[name].zero_()

    def sharded_state(
        self, is_loading: bool = False, with_optimizer: bool = True, with_random_state: bool = True, with_average: bool = True
    ) -> dict:
        """Return the sharded state dict of model, optimizer and random streams for dist_checkpointing. Every rank calls this.

        Without `with_average` what is loaded has no average of the weights; one begins with them.
        """
        if not is_loading:
            self.finish_update()
        if not with_average:
            forget_average(self.optimizers)
        metadata = dict(OPTIMIZER_SHARDING)
        models = [chunk.module.sharded_state_dict(metadata=metadata) for chunk in self.chunks]
        state = {f"model{i}": model for i, model in enumerate(models)}
        if with_optimizer:
            everything = state if len(models) > 1 else models[0]
            state["optimizer"] = self.optimizer.sharded_state_dict(everything, is_loading=is_loading, metadata=metadata)
        if with_random_state:
            state["random_state"] = sharded_random_state()
        return state

    @property
    def has_average(self) -> bool:
        """Say whether an average of every weight of this rank is there."""
        return all(AVERAGE in state for optimizer in self.optimizers for state in optimizer.optimizer.state.values())

    @property
    def optimizers(self) -> list:
        """Megatron's optimizers: one for all of this rank's weights, or several in a chain."""
        return getattr(self.optimizer, "chained_optimizers", [self.optimizer])

    @torch.no_grad()
    def finish_update(self) -> None:
        """Before saving: gather the weights of the last update, which the next forward pass would do, and create missing moments as zeros."""
        if self.overlaps:
            for chunk in self.chunks:
                chunk.start_param_sync(force_sync=True)  # megatron-core gathers other ranks' weights with the next forward
        self.fill_moments()

    @torch.no_grad()
    def fill_moments(self) -> None:
        """Give weights that were never updated the moments and the count that their optimizer would give them: zeros."""
        for optimizer in self.optimizers:
            for group in optimizer.optimizer.param_groups:
                group.setdefault("step", 0)
                for weight in group["params"]:
                    state = optimizer.optimizer.state[weight]
                    state.update({name: torch.zeros_like(weight) for name in MOMENTS if name not in state})

    @torch.no_grad()
    def load_state(self, state: dict) -> None:
        """Take over a loaded state dict; without an optimizer in it, Adam starts fresh from the loaded weights."""
        for i, chunk in enumerate(self.chunks):
            chunk.module.load_state_dict(state[f"model{i}"])
        if "optimizer" in state:
            self.optimizer.load_state_dict(state["optimizer"])
            fill_groups([optimizer.optimizer for optimizer in self.optimizers])
        else:
            self.optimizer.reload_model_params()
            forget_average(self.optimizers)  # of weights that are no longer there
        if self.average_decay is not None and not self.has_average:
            self.fill_moments()
            begin_average(self.optimizers)
        if "random_state" in state:
            restore_random_state(state["random_state"])


def documents_of(recipe: Recipe, tokenizer: TokenizerMetadata, device: torch.device) -> Documents:
    """Return how documents are kept apart here."""
    return Documents(tokenizer.end_of_document_id, has_borders=device.type == "cuda" and recipe.model.precision == "bf16")
