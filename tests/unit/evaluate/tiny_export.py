"""What the tests of this room score: texts, and a tiny random Llama saved as an export would be."""

import json
import random

END_OF_TEXT = "<|endoftext|>"
MAX_LENGTH = 48
COMMON = "the of and a to in is you that it he was for on are as with his they at be this have from or one had by word but not what"
RARE = "return self value index für süß naïve 数字 def import class None True length window token corpus share phase mixture"
WORDS = f"{COMMON} {RARE}".split()


def make_text(seed: int, words: int) -> str:
    """Return sentences on lines of ten words; the same seed gives the same text."""
    draw = random.Random(seed)
    chosen = [draw.choice(WORDS) for _ in range(words)]
    return "\n".join(" ".join(chosen[i : i + 10]) for i in range(0, words, 10)) + "\n"


def save_export(folder, tokenizer_file, *, step: int = 7, uniform: bool = False, max_length: int = MAX_LENGTH) -> None:
    """Save tokenizer, random model and export.json into a folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    PreTrainedTokenizerFast(tokenizer_file=str(tokenizer_file), eos_token=END_OF_TEXT).save_pretrained(folder)
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=384, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=max_length, tie_word_embeddings=False, bos_token_id=None, eos_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    if uniform:
        torch.nn.init.zeros_(model.lm_head.weight)
    model.save_pretrained(folder)
    (folder / "export.json").write_text(json.dumps({"step": step, "tokens": 512 * step}))
