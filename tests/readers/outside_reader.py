"""Read Hugging Face folders with another library, in a process of its own: outside_reader.py READER JOB OUT.

JOB: {"folders": {name: path}, "row": [ids], "texts": [...], "prompt": [ids]}. OUT: {name: {"logits": [[...]], "ids": [[...]], "special": {...},
"continued": [ids]} or {"fault": "..."}}. The reader's packages come first on PYTHONPATH; nothing of codemix_megatron is imported.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

# Of attention scores below a cap, transformers 4 leaves the cap out where sdpa computes, its default; as it says in a warning of training.
WITH_CAP = ("gemma2",)


def transformers_logits(folder: str, row: list[int]) -> np.ndarray:
    """Return logits [length, vocabulary] of transformers, whichever version comes first on the path."""
    import torch
    from transformers import AutoModelForCausalLM

    is_capped = json.loads((Path(folder) / "config.json").read_text())["model_type"] in WITH_CAP
    chosen = {"attn_implementation": "eager"} if is_capped else {}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True, **chosen).eval()
    with torch.no_grad():
        return model(torch.tensor([row])).logits[0].numpy()


def mlx_logits(folder: str, row: list[int]) -> np.ndarray:
    """Return logits of mlx-lm, which has models of its own and reads config.json and safetensors directly."""
    import mlx.core as mx
    from mlx_lm.utils import load_model

    mx.set_default_device(mx.cpu)
    model, _ = load_model(Path(folder))
    return np.array(model(mx.array([row])).astype(mx.float32))[0]


def ctranslate2_logits(folder: str, row: list[int]) -> np.ndarray:
    """Return logits of CTranslate2: its converter reads the folder through transformers, its engine is its own."""
    import ctranslate2
    from ctranslate2.converters import TransformersConverter

    with tempfile.TemporaryDirectory() as converted:
        TransformersConverter(folder).convert(converted, force=True)
        generator = ctranslate2.Generator(converted, device="cpu", compute_type="float32", intra_threads=1)
        ids, lengths = np.array([row], dtype=np.int32), np.array([len(row)], dtype=np.int32)
        view = ctranslate2.StorageView.from_array
        return np.array(generator.forward_batch(view(ids), view(lengths)))[0]


def continued(folder: str, prompt: list[int], new: int) -> list[int]:
    """Return a prompt with what transformers generates greedily after it."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    ids = torch.tensor([prompt])
    return model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False, repetition_penalty=1.0)[0].tolist()


def tokenizer_facts(folder: str, texts: list[str]) -> dict:
    """Return the ids of texts and the special tokens, as AutoTokenizer has them."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    special = {name: getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    ids = [tokenizer(text, add_special_tokens=False, verbose=False).input_ids for text in texts]
    round_trip = [tokenizer.decode(row, clean_up_tokenization_spaces=False) for row in ids]
    return {"ids": ids, "special": special, "decoded": round_trip, "chat_template": bool(tokenizer.chat_template)}


LOGITS = {"transformers": transformers_logits, "mlx": mlx_logits, "ctranslate2": ctranslate2_logits}


def main(reader: str, job: str, out: str) -> None:
    """Read every folder; what one raises is its answer."""
    asked, found = json.loads(Path(job).read_text()), {}
    for name, folder in asked["folders"].items():
        try:
            found[name] = {"logits": LOGITS[reader](folder, asked["row"]).tolist()} if asked["row"] else {}
            if reader == "transformers":
                found[name] |= tokenizer_facts(folder, asked["texts"])
                found[name] |= {"continued": continued(folder, asked["prompt"], 8)} if asked.get("prompt") else {}
        except Exception as fault:  # every reader has errors of its own
            found[name] = {"fault": f"{type(fault).__name__}: {str(fault).splitlines()[0][:200] if str(fault) else ''}"}
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
