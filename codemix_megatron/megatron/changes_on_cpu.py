"""Entries of the table of changes without which megatron-core does not compute on CPU, or slowly: what it leaves to CUDA and its kernels."""

from codemix_megatron.megatron.change import CLIPPING, CORE, DISTRIBUTED_OPTIMIZER, LAYERS, LINEAR, OURS, Change
from codemix_megatron.megatron.sites import CudaNames, Mark, Replaced

__all__ = ["CHANGES_ON_CPU"]

RANDOM = f"{CORE}.tensor_parallel.random"
SCHEDULES = f"{CORE}.pipeline_parallel.schedules"

NAMES_CUDA = (
    f"{SCHEDULES}:forward_backward_no_pipelining",
    f"{SCHEDULES}:forward_backward_pipelining_with_interleaving",
    f"{SCHEDULES}:forward_backward_pipelining_without_interleaving",
    f"{CLIPPING}:get_grad_norm_fp32",
    f"{CLIPPING}:clip_grad_by_total_norm_fp32",
    f"{CLIPPING}:count_zeros_fp32",
    f"{CORE}.optimizer.optimizer:MixedPrecisionOptimizer.__init__",
    f"{CORE}.optimizer.optimizer:Float16OptimizerWithFloat16Params.__init__",
    f"{CORE}.optimizer.optimizer:FP32Optimizer.__init__",
    f"{DISTRIBUTED_OPTIMIZER}:DistributedOptimizer._build_model_and_main_param_groups",
    f"{DISTRIBUTED_OPTIMIZER}:DistributedOptimizer.__init__",
    f"{CORE}.utils:local_multi_tensor_l2_norm",
)

CHANGES_ON_CPU = (
    Change(
        "device names",
        "on CPU",
        'two dozen sites name "cuda" outright',
        (
            *(CudaNames(target) for target in NAMES_CUDA),
            CudaNames(f"{CORE}.optimizer.optimizer:MegatronOptimizer.has_grad_norm_group", versions=">=0.19"),
            Replaced("torch.cuda:current_device", f"{OURS}.cpu:cpu_device", ("()",)),
            Replaced("torch:Tensor.cuda", f"{OURS}.cpu:stay_on_cpu", ("method_descriptor",)),
        ),
        "https://github.com/NVIDIA/Megatron-LM/pull/6270 (open; conversion only)",
        is_needed=True,
    ),
    Change(
        "streams",
        "on CPU",
        "schedules wait for CUDA streams; on CPU everything is in order already",
        (
            Replaced("torch.cuda:synchronize", f"{OURS}.cpu:synchronize_cpu", ("(device=None)",)),
            Replaced("torch.cuda:current_stream", f"{OURS}.cpu:cpu_stream", ("(device=None)",)),
        ),
        "https://github.com/NVIDIA/Megatron-LM/pull/6270 (open; conversion only)",
        is_needed=True,
    ),
    Change(
        "random streams",
        "on CPU",
        "tensor ranks draw dropout from tracked streams, which it keeps as states of CUDA generators",
        (
            Replaced("torch.cuda:manual_seed", f"{OURS}.cpu:seed_cpu", ("(seed)",)),
            Replaced("torch.cuda:get_rng_state", f"{OURS}.cpu:cpu_random_state", ("(device='cuda')",)),
            Replaced(
                f"{RANDOM}:_get_cuda_rng_state",
                f"{OURS}.cpu:tracked_random_state",
                ("(device='cuda', clone=False, graph_safe=False)",),
                read_by=f"{RANDOM}:CudaRNGStatesTracker.add",
            ),
            Replaced(
                f"{RANDOM}:_set_cuda_rng_state",
                f"{OURS}.cpu:set_cpu_random_state",
                ("(new_state, device=-1, graph_safe=False)",),
                read_by=f"{RANDOM}:CudaRNGStatesTracker.add",
            ),
            Replaced(f"{RANDOM}:CudaRNGStatesTracker.fork", f"{OURS}.cpu:fork_on_cpu", ("(self, name='model-parallel-rng')",)),
        ),
        is_needed=True,
    ),
    Change(
        "weight gradients",
        "on CPU",
        "a product that adds to the gradient itself, where it takes apex's kernel: one pass over every weight less",
        (
            Replaced(
                f"{LAYERS}:fused_weight_gradient_mlp_cuda",
                f"{OURS}.cpu:WeightGradients",
                ("absent",),
                read_by=f"{LINEAR}.backward",
            ),
            Replaced(f"{LAYERS}:_grad_accum_fusion_available", True, ("bool",), read_by=f"{LAYERS}:ColumnParallelLinear.__init__"),
        ),
        "apex only",
    ),
    Change(
        "gradient scaling",
        "on CPU",
        "clipping multiplies into a copy and copies back",
        (
            Replaced(
                f"{CLIPPING}:multi_tensor_scale_impl",
                f"{OURS}.cpu:scale_in_place",
                ("(chunk_size, noop_flag, tensor_lists, scale)",),
                read_by=f"{CLIPPING}:clip_grad_by_total_norm_fp32",
            ),
        ),
    ),
    Change(
        "embedding gradients",
        "on CPU",
        "rows are added where they belong, not to a table of zeros first: 3 % of a step",
        (
            Replaced(f"{LAYERS}:F", f"{OURS}.embedding:functional", ("module",), read_by=f"{LAYERS}:VocabParallelEmbedding.forward"),
            Mark(f"{LAYERS}:VocabParallelEmbedding.forward", "embedding"),
            Mark(f"{CORE}.distributed:DistributedDataParallel._make_backward_post_hook", "grad_added_to_main_grad"),
            Mark(f"{CORE}.distributed:DistributedDataParallel._make_backward_post_hook", "zero_out_wgrad"),
        ),
        needs="weight gradients",  # what the output layer adds itself is told to the hooks by the embedding
    ),
)
