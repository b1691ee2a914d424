"""The tiny model in plain PyTorch: transformers' Llama with the weights of an engine, a mean over counted tokens, AdamW."""

import torch


def llama_of(engine, model, vocabulary: int):
    """Return transformers' model with the weights of a one-rank engine."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from codemix_megatron.conversion.checkpoint_source import hugging_face_config
    from codemix_megatron.families.llama import LLAMA

    theirs = LlamaForCausalLM(LlamaConfig(**hugging_face_config(LLAMA, model, vocabulary), pad_token_id=None))
    weights = {name: weight.detach() for name, weight in engine.chunks[0].module.named_parameters()}
    found = theirs.load_state_dict({k: v.clone() for k, v in by_llama_names(weights, model, vocabulary).items()}, strict=False)
    assert found.missing_keys in ([], ["lm_head.weight"]) and not found.unexpected_keys
    return theirs


def by_llama_names(values: dict, model, vocabulary: int) -> dict:
    """Return weights, or gradients, of Megatron's parameters under transformers' names and shapes."""
    from codemix_megatron.conversion.dimensions import Dimensions
    from codemix_megatron.families.family import indexed_rows
    from codemix_megatron.families.llama import LLAMA

    dimensions, found = Dimensions(model, vocabulary), {}
    for row, index in indexed_rows(LLAMA.rows(model.tie_embeddings), model.num_layers):
        parts = dimensions.split(row, values[row.megatron[0].replace("*", "".join(map(str, index)))])
        found |= dict(zip(row.names_at(index), parts, strict=True))
    return found


def masked_loss(model, ids: torch.Tensor, is_counted: torch.Tensor) -> torch.Tensor:
    """Return the mean over counted targets of all rows; ids [rows, length + 1], is_counted of the targets [rows, length]."""
    per_token = torch.nn.functional.cross_entropy(model(ids[:, :-1]).logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return (per_token * is_counted.flatten()).sum() / is_counted.sum()


def train_plainly(model, batches) -> tuple[list[float], list[float]]:
    """Return losses and gradient norms of AdamW steps over (ids, is_counted)."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)
    losses, norms = [], []
    for ids, is_counted in batches:
        optimizer.zero_grad()
        loss = masked_loss(model, ids, is_counted)
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)))
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, norms


def plain_llama(model, weights: dict, rows: int):
    """Return LlamaForCausalLM with Megatron's `weights` (by their names there) and `rows` of embedding, padding included."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from codemix_megatron.conversion.checkpoint_source import hugging_face_config
    from codemix_megatron.families.llama import LLAMA

    theirs = LlamaForCausalLM(LlamaConfig(**hugging_face_config(LLAMA, model, rows), pad_token_id=None))
    state = {name: part.detach().clone() for name, part in by_llama_names(weights, model, rows).items()}
    missing = theirs.load_state_dict(state, strict=False)
    assert missing.missing_keys in ([], ["lm_head.weight"]) and not missing.unexpected_keys
    return theirs


def adamw(model, decay: float, undecayed=lambda name: False) -> torch.optim.AdamW:
    """Return torch's AdamW with decay on matrices but those of which `undecayed(name)` is true; set the rate before each step."""
    is_decayed = {name: weight.dim() > 1 and not undecayed(name) for name, weight in model.named_parameters()}
    groups = [
        {"params": [weight for name, weight in model.named_parameters() if is_decayed[name] == flag], "weight_decay": decay * flag}
        for flag in (True, False)
    ]
    return torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.95), eps=1e-8)
