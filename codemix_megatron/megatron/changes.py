"""Every change this package makes to megatron-core, as one table: where, what instead, when, why, and what upstream says of it.

Nothing else in the package replaces anything of megatron-core. `installing.py` checks and applies the table.
"""

from codemix_megatron.megatron.change import CLIPPING, CORE, DISTRIBUTED_OPTIMIZER, LAYERS, LINEAR, OURS, Change, changes_here
from codemix_megatron.megatron.changes_by_version import CHANGES_BY_VERSION
from codemix_megatron.megatron.changes_on_cpu import CHANGES_ON_CPU
from codemix_megatron.megatron.sites import Mark, Replaced, Unwrapped

__all__ = ["CHANGES", "EVERY_CHANGE"]

OPTIMIZER = f"{CORE}.optimizer"
BUCKETS = f"{CORE}.distributed.param_and_grad_buffer:_ParamAndGradBucketGroup"
ROTARY = f"{CORE}.models.common.embeddings.rope_utils"

CHANGES_OF_ALL = (
    Change(
        "trackers at import",
        "at import",
        "its inference engine imports wandb and its timers tensorboard; a rank uses neither: 9.4 CPU-seconds of importing become 5.6,"
        " together with the next",
        (),
        "takes an ImportError of both",
    ),
    Change(
        "compiler at import",
        "at import",
        "on CPU: torch.compile of its fused functions loads dynamo and inductor, and compiling would need a C++ compiler on every machine",
        (Replaced(f"{CORE}.jit:disable_jit_fuser", None, ("()",)),),
        "offers disable_jit_fuser, which its own import comes too early for",
    ),
    Change(
        "output layer's gradient",
        "with Transformer Engine",
        "without apex: its linears add up weight gradients themselves, but the output layer, which is megatron-core's, asks apex to",
        (
            Replaced(
                f"{LAYERS}:fused_weight_gradient_mlp_cuda",
                f"{OURS}.weight_gradients:TransformerEngineGradients",
                ("absent",),
                read_by=f"{LINEAR}.backward",
            ),
            Replaced(f"{LAYERS}:_grad_accum_fusion_available", True, ("bool",), read_by=f"{LAYERS}:ColumnParallelLinear.__init__"),
        ),
        "apex only",
    ),
    Change(
        "gradient norm",
        "on CUDA without FusedAdam",
        "reads one number from the device for each weight, and waits each time: 82 waits a step for 470m",
        (
            Replaced(
                f"{CLIPPING}:l2_norm_impl",
                f"{OURS}.gradient_norm:norm_of_all",
                ("(chunk_size, noop_flag, tensor_lists, per_tensor, *args)",),
                read_by=f"{CLIPPING}:get_grad_norm_fp32",
            ),
        ),
    ),
    Change(
        "Adam",
        "without FusedAdam",
        "with torch's AdamW its distributed optimizer raises on a fresh state, loses `step` on saving and shares one step tensor after loading",
        (
            Replaced(
                f"{OPTIMIZER}:Adam", f"{OURS}.adam:Adam", ("class",), read_by=f"{OPTIMIZER}:_get_megatron_optimizer_based_on_param_groups"
            ),
            Replaced(
                f"{OPTIMIZER}:USING_PYTORCH_OPTIMIZER",
                False,
                ("bool",),
                read_by=f"{OPTIMIZER}:_get_megatron_optimizer_based_on_param_groups",
            ),
            Replaced(
                f"{DISTRIBUTED_OPTIMIZER}:Adam",
                f"{OURS}.adam:Adam",
                ("class",),
                read_by=f"{DISTRIBUTED_OPTIMIZER}:DistributedOptimizer.__init__",
            ),
            Replaced(f"{DISTRIBUTED_OPTIMIZER}:HAVE_APEX_OR_TE", True, ("bool",), read_by=f"{DISTRIBUTED_OPTIMIZER}:DistributedOptimizer"),
            Replaced(
                f"{DISTRIBUTED_OPTIMIZER}:USING_TE_OPTIMIZER", True, ("bool",), read_by=f"{DISTRIBUTED_OPTIMIZER}:DistributedOptimizer"
            ),
        ),
        is_needed=True,
    ),
    Change(
        "rotary positions",
        "always",
        "joins two halves twice for each rotation; ours goes over memory once. Fused rotation (Transformer Engine) does not come by here",
        (
            Replaced(
                f"{ROTARY}:_apply_rotary_pos_emb_bshd",
                f"{OURS}.rotation:rotate",
                ("(t, freqs, rotary_interleaved=False, multi_latent_attention=False, mscale=1.0)",),
                read_by=f"{ROTARY}:apply_rotary_pos_emb",
                versions="<0.19",
            ),
            Replaced(
                f"{ROTARY}:_apply_rotary_pos_emb_bshd",
                f"{OURS}.rotation:rotate_since_19",
                ("(t, freqs, rotary_interleaved=False, mla_rotary_interleaved=False, mscale=1.0, multi_latent_attention=None)",),
                read_by=f"{ROTARY}:apply_rotary_pos_emb",
                versions=">=0.19",
            ),
        ),
    ),
    Change(
        "largest logits",
        "always",
        "torch.max finds indices too: 10 ms instead of 1.5 for 512 tokens and 8192 logits on one core",
        (
            Replaced(
                f"{CORE}.tensor_parallel.cross_entropy:VocabParallelCrossEntropy.calculate_logits_max",
                f"{OURS}.cross_entropy:largest_logits",
                ("(vocab_parallel_logits)",),
            ),
        ),
    ),
    Change(
        "collectives of one tensor rank",
        "always",
        "on one tensor rank nothing is summed on entering or leaving a layer, and autocast is never used: a tenth of a small step's Python",
        (
            Replaced(
                f"{LAYERS}:copy_to_tensor_model_parallel_region",
                f"{OURS}.identity_collectives:into_tensor_ranks",
                ("(input_, group=None)",),
                read_by=f"{LAYERS}:ColumnParallelLinear.forward",
            ),
            Replaced(
                f"{LAYERS}:reduce_from_tensor_model_parallel_region",
                f"{OURS}.identity_collectives:out_of_tensor_ranks",
                ("(input_, group=None)",),
                read_by=f"{LAYERS}:RowParallelLinear.forward",
            ),
            Unwrapped(
                f"{LINEAR}.forward",
                (
                    "(ctx, input, weight, bias, gradient_accumulation_fusion, allreduce_dgrad, sequence_parallel, grad_output_buffer,"
                    " wgrad_deferral_limit, tp_group)",
                    "(ctx, input, weight, bias, gradient_accumulation_fusion, allreduce_dgrad, sequence_parallel, grad_output_buffer,"
                    " wgrad_deferral_limit, tp_group, gtp_remat_size)",
                ),
            ),
            Unwrapped(f"{LINEAR}.backward", ("(ctx, grad_output)",)),
        ),
    ),
    Change(
        "collectives of one data rank",
        "always",
        "they copy every gradient and every weight onto itself",
        (
            Replaced(f"{BUCKETS}.start_grad_sync", f"{OURS}.one_data_rank:start_grad_sync", ("(self, force_all_reduce=False)",)),
            Replaced(f"{BUCKETS}.start_param_sync", f"{OURS}.one_data_rank:start_param_sync", ("(self, force_sync=False)",)),
        ),
    ),
    Change(
        "optimizer shards",
        "always",
        "its fully reshardable format gathers the whole state on every data-parallel rank; ours writes and reads what a rank holds",
        (
            Replaced(
                f"{DISTRIBUTED_OPTIMIZER}:DistributedOptimizer.sharded_param_state_fully_reshardable",
                f"{OURS}.optimizer_shards:sharded_states",
                ("(self, model_sharded_state_dict, is_loading=False, metadata=None)",),
            ),
            Replaced(
                f"{DISTRIBUTED_OPTIMIZER}:DistributedOptimizer.load_parameter_state_from_fully_reshardable",
                f"{OURS}.optimizer_shards:load_states",
                ("(self, state_dict)",),
            ),
            Mark(f"{DISTRIBUTED_OPTIMIZER}:DistributedOptimizer.sharded_state_dict", "sharded_param_state_fully_reshardable"),
        ),
    ),
    Change(
        "SwiGLU",
        "always",
        "autograd computes the two halves apart and copies them together; in local layers, not in Transformer Engine's",
        (Mark(f"{CORE}.transformer.mlp:MLP.__init__", "activation_func"),),
        "layers take an activation module",
    ),
    Change(
        "root mean square",
        "always",
        "torch puts RMSNorm together from single operations on CPU: 0.56 ms instead of 0.96 for 512 tokens of 320 channels",
        (),
        "layers take a norm of ours",
    ),
    Change(
        "expert router",
        "always",
        "its scores name a function that only an import of Transformer Engine would bring, in experts that are computed without it",
        (
            Replaced(
                f"{CORE}.transformer.moe.router:router_gating_linear",
                f"{OURS}.router:router_scores",
                ("(inp, weight, bias, router_dtype)",),
                read_by=f"{CORE}.transformer.moe.router:Router.gating",
            ),
        ),
        is_needed=True,
        versions="<0.17",
    ),
    Change(
        "parallel block",
        "always",
        "attention and MLP side by side with one reduction: their linears are kept from communicating, as its shared experts' are",
        (
            Mark(f"{LAYERS}:ColumnParallelLinear.forward", "explicit_expert_comm"),
            Mark(f"{LAYERS}:RowParallelLinear.forward", "explicit_expert_comm"),
        ),
        "has no such layer",
        is_needed=True,
    ),
)

EVERY_CHANGE = (*CHANGES_ON_CPU, *CHANGES_OF_ALL, *CHANGES_BY_VERSION)
CHANGES = changes_here(EVERY_CHANGE)  # of the installed megatron-core
