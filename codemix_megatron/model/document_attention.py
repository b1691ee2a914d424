"""Attention that ends at the borders of documents, without a mask of every token against every other: kernels of variable length.

Megatron's own way for packed sequences (`thd` everywhere) gives every document rotary positions of its own, whose fused kernel does not
know interleaved channels, and other shapes to the pipeline. Rotary positions are relative, so that only the core attention has to
know the borders; everything around it stays [sequence, batch, heads, size].
"""

from dataclasses import replace

import torch
from megatron.core.packed_seq_params import PackedSeqParams

__all__ = ["attend_within_documents", "document_borders", "transformer_engine_attention"]


def document_borders(inputs: torch.Tensor, document_end: int, size: int) -> list[PackedSeqParams]:
    """Return where the documents of each micro batch of `size` rows begin and end, for inputs [rows, length]; waits once for the device.

    A document's end token is its own last one. Every row begins a document, and a batch's borders count through its rows.
    """
    length = inputs.size(1)
    begins = torch.ones_like(inputs, dtype=torch.bool)
    begins[:, 1:] = inputs[:, :-1] == document_end
    on_host = begins.cpu()
    every = [torch.cat([part.flatten().nonzero().flatten(), torch.tensor([part.numel()])]) for part in on_host.split(size)]
    on_device = torch.cat(every).to(torch.int32).to(inputs.device).split([len(one) for one in every])
    return [
        PackedSeqParams(qkv_format="sbhd", cu_seqlens_q=one, cu_seqlens_kv=one, max_seqlen_q=length, max_seqlen_kv=length)
        for one in on_device
    ]


def attend_within_documents(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    borders: PackedSeqParams,
    dropout: float,
    scale: float | None,
    window: int | None,
) -> torch.Tensor:
    """Map query [sequence, batch, heads, size], key and value [.., groups, size] to [sequence, batch, heads * size]."""
    length, size = query.shape[:2]
    queries, keys, values = (of.transpose(0, 1).flatten(0, 1) for of in (query, key, value))  # row after row: [batch * sequence, ..]
    attended = flash_attention(queries, keys, values, borders.cu_seqlens_q, borders.max_seqlen_q, dropout, scale, window)
    return attended.reshape(size, length, -1).transpose(0, 1).contiguous()


def flash_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    borders: torch.Tensor,
    longest: int,
    dropout: float,
    scale: float | None,
    window: int | None,
) -> torch.Tensor:
    """Return causal attention within stretches of [tokens, heads, size], by torch's FlashAttention: 16 bits, on CUDA."""
    left, right = (None, None) if window is None else (window - 1, 0)
    attended, *_ = torch.ops.aten._flash_attention_forward(
        query,
        key,
        value,
        borders,
        borders,
        longest,
        longest,
        dropout,
        True,
        False,
        scale=scale,
        window_size_left=left,
        window_size_right=right,
    )
    return attended


def transformer_engine_attention() -> type:
    """Return Transformer Engine's attention, which takes borders of documents too."""
    from megatron.core.extensions.transformer_engine import TEDotProductAttention

    class DocumentAttention(TEDotProductAttention):
        """Attention over [sequence, batch, heads, size] that ends at the borders in `packed_seq_params`."""

        def forward(self, query, key, value, attention_mask, attn_mask_type, attention_bias=None, packed_seq_params=None, **more):
            """Map query, key and value to [sequence, batch, heads * size]."""
            if packed_seq_params is None:
                return super().forward(query, key, value, attention_mask, attn_mask_type, attention_bias, **more)
            length, size = query.shape[:2]
            flat = [of.transpose(0, 1).flatten(0, 1) for of in (query, key, value)]
            packed = replace(packed_seq_params, qkv_format="thd")
            attended = super().forward(*flat, None, attn_mask_type, attention_bias, packed, **more)
            return attended.reshape(size, length, -1).transpose(0, 1).contiguous()

    return DocumentAttention
