"""Models by name: the paper's two sizes, and two that a CPU trains.

The paper (arXiv:2408.10914v1) gives sizes and no dimensions; these meet 470M and 2.8B with a tied table of 256,000 rows.
Its block is parallel, with SwiGLU and without biases (section 2.3); LayerNorm without bias, rotary positions of neighbouring
channels and the tied table are the habit of the authors' other models.
"""

__all__ = ["SHAPES"]

PAPER = {"block": "parallel", "normalization": "layernorm", "rotary_interleaved": True, "tie_embeddings": True}

# name -> keys of a recipe's `model`; 10m and 50m reach their names with vocabularies of 8,192 and 16,384.
SHAPES = {
    "10m": {"num_layers": 6, "hidden_size": 320, "num_attention_heads": 4, "ffn_hidden_size": 896, "sequence_length": 512, **PAPER},
    "50m": {"num_layers": 10, "hidden_size": 576, "num_attention_heads": 8, "ffn_hidden_size": 1536, "sequence_length": 1024, **PAPER},
    "470m": {"num_layers": 16, "hidden_size": 1024, "num_attention_heads": 16, "ffn_hidden_size": 2816, "sequence_length": 8192, **PAPER},
    "2.8b": {"num_layers": 28, "hidden_size": 2560, "num_attention_heads": 20, "ffn_hidden_size": 6912, "sequence_length": 8192, **PAPER},
}
