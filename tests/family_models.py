"""Small random models of every family, as Hugging Face folders, and their import."""

import copy
import io
import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from codemix_megatron.conversion.importing import ImportOptions, import_model
from codemix_megatron.conversion.sample_texts import TOKENIZER_TEXTS
from codemix_megatron.corpus.tokenizers import load_tokenizer
from codemix_megatron.recipe.pretrained import pretrained_model
from codemix_megatron.recipe.schema import Parallel
from codemix_megatron.records.run_folder import RunFolder

SHAPE = {
    "vocab_size": 259,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
DEFAULT = {"rope_type": "default", "rope_theta": 10000.0}
STRETCHED = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
FAMILIES = {
    "llama": ("llama", {"num_key_value_heads": 4, "rope_parameters": DEFAULT}),
    "llama, grouped, tied, linear": (
        "llama",
        {"tie_word_embeddings": True, "rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}},
    ),
    "llama 3.1": ("llama", {"rope_parameters": STRETCHED}),
    "mistral, window 16": ("mistral", {"sliding_window": 16, "rope_parameters": DEFAULT}),
    "mistral nemo, wide heads": ("mistral", {"sliding_window": None, "head_dim": 32, "rope_parameters": DEFAULT}),
    "qwen2, tied": ("qwen2", {"tie_word_embeddings": True, "rope_parameters": DEFAULT}),
    "qwen3": ("qwen3", {"head_dim": 32, "rope_parameters": DEFAULT}),
    "llama, yarn": (
        "llama",
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 32}},
    ),
    "olmo2": ("olmo2", {"rope_parameters": DEFAULT}),
    "olmo3, window 16": ("olmo3", {"sliding_window": 16, "rope_parameters": {"full_attention": DEFAULT, "sliding_attention": DEFAULT}}),
    "llama, biases (Granite Code)": ("llama", {"attention_bias": True, "mlp_bias": True, "rope_parameters": DEFAULT}),
    "starcoder2, window 16": ("starcoder2", {"sliding_window": 16, "rope_parameters": DEFAULT}),
    "starcoder2, no biases, untied": ("starcoder2", {"use_bias": False, "tie_word_embeddings": False, "rope_parameters": DEFAULT}),
    "granite": (
        "granite",
        {
            "embedding_multiplier": 12.0,
            "residual_multiplier": 0.22,
            "attention_multiplier": 0.1,
            "logits_scaling": 13.0,
            "rope_parameters": DEFAULT,
        },
    ),
    "smollm3": ("smollm3", {"no_rope_layer_interval": 2, "rope_parameters": DEFAULT}),
    "phi3": ("phi3", {"rope_parameters": DEFAULT}),
    "phi3, a part of each head turns": (
        "phi3",
        {"partial_rotary_factor": 0.75, "rope_parameters": {**DEFAULT, "partial_rotary_factor": 0.75}},
    ),
    "phi3, longrope": (
        "phi3",
        {
            "original_max_position_embeddings": 96,
            "partial_rotary_factor": 0.75,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "original_max_position_embeddings": 96,
                "partial_rotary_factor": 0.75,
                "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
                "long_factor": [1.0, 1.5, 2.0, 4.0, 8.0, 16.0],
            },
        },
    ),
    "cohere2, window 16": ("cohere2", {"sliding_window": 16, "logit_scale": 0.25, "rope_parameters": DEFAULT}),
    "gemma": ("gemma", {"head_dim": 32, "rope_parameters": DEFAULT}),
    "gemma2, window 16": ("gemma2", {"sliding_window": 16, "head_dim": 32, "query_pre_attn_scalar": 20, "rope_parameters": DEFAULT}),
    "gemma3, window 16": (
        "gemma3_text",
        {
            "sliding_window": 16,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "head_dim": 32,
            "query_pre_attn_scalar": 20,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": DEFAULT,
            },
        },
    ),
    "olmoe": ("olmoe", {"num_experts": 8, "num_experts_per_tok": 3, "rope_parameters": DEFAULT}),
    "mixtral": ("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 16, "rope_parameters": DEFAULT}),
    "qwen3_moe": (
        "qwen3_moe",
        {
            "num_experts": 8,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 96,
            "norm_topk_prob": True,
            "head_dim": 32,
            "rope_parameters": DEFAULT,
        },
    ),
    "cohere": ("cohere", {"tie_word_embeddings": True, "logit_scale": 0.25, "rope_parameters": DEFAULT}),
}


def make_model(name: str, folder, dtype=torch.float32, spread: float = 0.3, **changes) -> None:
    """Write a random model of a family; unlike fresh ones, its biases are not zero and its norms not one."""
    from transformers import AutoConfig, AutoModelForCausalLM

    model_type, own = copy.deepcopy(FAMILIES[name])  # transformers writes into what it is given
    torch.manual_seed(0)
    ids = {"bos_token_id": 257, "eos_token_id": 256, "pad_token_id": 258}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **{**SHAPE, **own, **ids, **changes}), dtype=dtype)
    with torch.no_grad():
        for weight_name, weight in model.named_parameters():
            weight.copy_(torch.randn_like(weight) * spread + (1 if "norm" in weight_name and "gemma" not in model_type else 0))
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    if model_type == "qwen2":  # transformers normalizes for every model of this type
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens(["<|endoftext|>", "<|begin|>", "<|pad|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"eos_token": "<|endoftext|>", "bos_token": "<|begin|>", "pad_token": "<|pad|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **special}))


def carry(folder, run, parity: bool = True, tokenizer: str = "tokenizer.json"):
    """Import a folder as `codemix import` does; return the metadata."""
    layout = Parallel(tensor=2, pipeline=2)
    metadata, options = load_tokenizer(folder / tokenizer).metadata, ImportOptions(parallel=layout, parity=parity)
    return import_model(folder, RunFolder(run), pretrained_model(folder, layout), metadata, options)[1]


def weights_of(folder) -> dict[str, torch.Tensor]:
    """Return all tensors of a folder."""
    found = {}
    for path in folder.glob("*.safetensors"):
        found |= load_file(path)
    return found


def train_sentencepiece(path: Path, vocab_size: int) -> Path:
    """Train a small sentencepiece BPE that keeps white space, as Llama's and Mistral's do."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([line for text in TOKENIZER_TEXTS for line in text.splitlines() if line] * 2),
        model_writer=model, model_type="bpe", vocab_size=vocab_size, byte_fallback=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, character_coverage=0.99, split_digits=True, allow_whitespace_only_pieces=True, minloglevel=2,
    )  # fmt: skip
    path.write_bytes(model.getvalue())
    return path
