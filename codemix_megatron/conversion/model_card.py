"""README.md of an exported model: what it is, what it read, how it was checked."""

from codemix_megatron.recipe.quantity import format_tokens
from codemix_megatron.records.atomic import read_json
from codemix_megatron.records.run_folder import RunFolder

__all__ = ["model_card"]


def model_card(run: RunFolder, card: dict, record: dict) -> str:
    """Return the card's text; what the run folder does not hold is left out."""
    model, origin = card["model"], card.get("hugging_face") or {}
    tokens = f"{format_tokens(card['tokens'])} tokens ({card['step']} steps)" if card["step"] else "imported, not trained here"
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        *([f"license: {origin['licence']}"] if origin.get("licence") else []),
        "---",
        f"# {run.path.name}, step {card['step']}",
        "",
        f"A {record['family']} causal language model of {format_tokens(record['parameters'])} parameters: {model['num_layers']} layers,"
        f" hidden size {model['hidden_size']}, context {model['sequence_length']}, vocabulary {card['tokenizer']['vocab_size']}."
        f" Trained with codemix_megatron on {tokens}.",
        "",
        *started_from(origin),
        f"Exported in {record['dtype']}; {parity_text(record['parity'])}",
    ]
    if run.plan.is_file():
        lines += ["", "## Mixture", "", *mixture_table(read_json(run.plan), card["step"])]
    if run.recipe.is_file():
        lines += ["", "## Recipe", "", "```yaml", run.recipe.read_text(encoding="utf-8").rstrip(), "```"]
    if run.score_file(card["step"]).is_file():
        lines += ["", "## Scores", "", *score_table(read_json(run.score_file(card["step"])))]
    return "\n".join(lines) + "\n"


def started_from(origin: dict) -> list[str]:
    """Say which public model the weights began as, and where its licence is."""
    if not origin.get("name"):
        return []
    licences = [name for name in origin.get("files", {}) if name.upper().startswith(("LICENSE", "LICENCE", "NOTICE", "USE_POLICY"))]
    said = f" under {origin['licence']}" if origin.get("licence") else ""
    files = f"; its {', '.join(licences)} lies beside" if licences else ""
    return [f"Started from the weights of {origin['name']}{said}{files}.", ""]


def parity_text(parity: dict | None) -> str:
    """Say how the export was checked."""
    if parity is None:
        return "its logits were NOT compared with the Megatron model's (--no-parity)."
    return (
        f"logits equal the Megatron model's to {parity['largest_logit_difference']:.1e} over {parity['tokens_compared']} tokens of"
        f" {parity['compared_on']}, and so do {parity['greedy_tokens']} tokens of greedy continuation."
    )


def score_table(scores: dict) -> list[str]:
    """Return a Markdown table of what an earlier export of this step scored."""
    lines = ["| score | value | standard error |", "|---|---|---|"]
    rows = [(f"bits per byte, {s['corpus']}", s) for s in scores["bits_per_byte"]] + [
        (f"{s['task']}, {s['metric']}", s) for s in scores["tasks"]
    ]
    for name, score in rows:
        error = score.get("standard_error")
        lines.append(f"| {name} | {score['value']:.4f} | {'' if error is None else f'{error:.4f}'} |")
    return lines


def mixture_table(plan: dict, step: int) -> list[str]:
    """Return a Markdown table of the phases up to `step`."""
    lines = ["| phase | tokens | shares |", "|---|---|---|"]
    for phase in plan["phases"]:
        if phase["first_step"] > step:
            break
        shares = ", ".join(f"{name} {source['share']:.3g}" for name, source in phase["sources"].items())
        lines.append(f"| {phase['name']} | {format_tokens(phase['tokens'])} | {shares} |")
    return lines
