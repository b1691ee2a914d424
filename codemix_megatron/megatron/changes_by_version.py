"""Entries of the table of changes for what differs between the versions of megatron-core that are taken."""

from codemix_megatron.megatron.change import CORE, Change
from codemix_megatron.megatron.sites import Mark, Replaced

__all__ = ["CHANGES_BY_VERSION"]

TORCH_DIST = f"{CORE}.dist_checkpointing.strategies.torch:TorchDistSaveShardedStrategy"
HYBRID = f"{CORE}.models.hybrid"

CHANGES_BY_VERSION = (
    Change(
        "kernels at import",
        "at import",
        "on machines without triton, which torch for CPU does not bring: its pipeline schedules import triton kernels of paged stashes, which"
        " only experts with moe_paged_stash call",
        (Mark(f"{CORE}.pipeline_parallel.schedules:forward_backward_no_pipelining", "moe_paged_stash"),),
        "imports triton outright; other files of its own do without",
        is_needed=True,
        versions=">=0.18",
    ),
    Change(
        "checkpoint format",
        "always",
        "one set of files for all versions: common.pt, which 0.16 reads, is written beside the object of the same content that 0.19 writes",
        (
            Replaced(
                f"{CORE}.dist_checkpointing:save",
                None,
                (
                    "(sharded_state_dict, checkpoint_dir, sharded_strategy=None, common_strategy=None, validate_access_integrity=True,"
                    " async_sharded_save=False, preprocess_common_before_consistancy_check=None, content_metadata=None)",
                    "(sharded_state_dict, checkpoint_dir, sharded_strategy=None, common_strategy=None, validate_access_integrity=True,"
                    " async_sharded_save=False, preprocess_common_before_consistancy_check=None, content_metadata=None,"
                    " async_strategy='nvrx', verify_integrity=False)",
                    "(sharded_state_dict, checkpoint_dir, sharded_strategy=None, validate_access_integrity=True, async_sharded_save=False,"
                    " preprocess_common_before_consistancy_check=None, content_metadata=None, async_strategy='nvrx', verify_integrity=False)",
                ),
            ),
            Replaced(
                f"{TORCH_DIST}.async_save",
                None,
                ("(self, sharded_state_dict, checkpoint_dir)", "(self, sharded_state_dict, checkpoint_dir, async_strategy='nvrx')"),
            ),
            Mark(f"{CORE}.dist_checkpointing:save", "common_state", versions=">=0.19"),
        ),
        "0.19 writes no common.pt and still reads it",
        is_needed=True,
    ),
    Change(
        "hybrid model",
        "always",
        "GPTModel is to be deleted upstream; HybridModel takes our whole layers in the place of attention layers, with our norm behind the last",
        (
            Replaced(
                f"{HYBRID}.hybrid_model:HybridModel.__init__",
                None,
                (
                    "(self, config, hybrid_stack_spec, vocab_size, max_sequence_length, hybrid_layer_pattern=None, hybrid_attention_ratio=None,"
                    " hybrid_mlp_ratio=None, hybrid_override_pattern=None, pre_process=True, post_process=True, fp16_lm_cross_entropy=False,"
                    " parallel_output=True, share_embeddings_and_output_weights=False, position_embedding_type='none', rotary_percent=1.0,"
                    " rotary_base=10000, scatter_embedding_sequence_parallel=True, seq_len_interpolation_factor=None, pg_collection=None,"
                    " vp_stage=None)",
                ),
            ),
            Replaced(
                f"{HYBRID}.hybrid_block:HybridStack.__init__",
                None,
                (
                    "(self, config, submodules, pre_process=True, layer_type_list=None, pp_layer_offset=0, post_layer_norm=True,"
                    " post_process=True, device=None, dtype=None, pg_collection=None, is_mtp_layer=False, name=None)",
                ),
            ),
            Mark(f"{CORE}.models.common.embeddings.rotary_pos_embedding:RotaryEmbedding.get_emb", "rotary_interleaved"),
            Mark(f"{HYBRID}.hybrid_block:HybridStack.forward", "final_norm"),
            Mark(f"{HYBRID}.hybrid_block:HybridStack.forward", "post_layer_norm"),
            Replaced(
                f"{HYBRID}.hybrid_block:HybridStack.sharded_state_dict", None, ("(self, prefix='', sharded_offsets=None, metadata=None)",)
            ),
        ),
        "offers no norm but Transformer Engine's there",
        versions=">=0.19",
    ),
)
