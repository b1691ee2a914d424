"""README.md of an exported model: what it is, where it comes from, what it read, what it scored, how it was checked. No torch."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from codemix_megatron.checkpoint.metadata import read_metadata
from codemix_megatron.conversion.lineage import CorpusRead, Stage, corpora_read, lineage, public_recipe
from codemix_megatron.conversion.model_index import model_index
from codemix_megatron.errors import CodemixError
from codemix_megatron.recipe.quantity import format_tokens
from codemix_megatron.records.atomic import read_json, replace_text, write_json
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.records.scores import Scores

__all__ = ["model_card", "renew_model_card", "write_model_card"]

CARD, RECORD = "README.md", "export.json"
WITH_CAP = 'Load it in transformers 4 with `attn_implementation="eager"`: its default leaves the cap of attention scores out, in silence.'
LICENCE_FILES = ("LICENSE", "LICENCE", "NOTICE", "USE_POLICY")
MOST_LICENCES = 4  # of a corpus, in its row


def model_card(run: RunFolder, metadata: dict, record: dict) -> str:
    """Return the model card's text; what the run folder does not hold is left out."""
    chain, scores, origin = lineage(run, metadata["step"]), scores_of(run, metadata["step"]), metadata.get("hugging_face") or {}
    corpora = corpora_read(chain)
    head = front_matter(f"{run.path.name}, step {metadata['step']}", origin, scores)
    lines = ["---", yaml.safe_dump(head, sort_keys=False, allow_unicode=True).rstrip(), "---"]
    lines += [f"# {run.path.name}, step {metadata['step']}", "", description(metadata, record, chain), "", *started_from(origin)]
    lines += [f"Exported in {record['dtype']}; {parity_text(record['parity'])}"]
    lines += [WITH_CAP] if metadata["model"].get("attention_softcap") else []
    sections = {
        "Lineage": lineage_table(chain),
        "Mixture": mixture_table(chain),
        "Data": data_tables(corpora),
        "Scores": score_table(scores) if scores else [],
        "Made with": made_with(run),
        "Made again with": commands(chain, metadata["step"]),
    }
    for title, body in sections.items():
        lines += ["", f"## {title}", "", *body] if body else []
    for stage in chain:
        if stage.recipe is not None:
            recipe = yaml.safe_dump(public_recipe(stage.recipe), sort_keys=False, allow_unicode=True).rstrip()
            lines += ["", f"## Recipe of {stage.run.path.name}", "", "```yaml", recipe, "```"]
    return "\n".join(lines) + "\n"


def write_model_card(run: RunFolder, folder: Path, metadata: dict, record: dict) -> dict:
    """Write the model card of an export whose record this is; return the record with the card's checksum."""
    text = model_card(run, metadata, record)
    replace_text(folder / CARD, text)
    return record | {"card_sha256": sha256(text.encode()).hexdigest()}


def renew_model_card(run: RunFolder, folder: Path) -> bool:
    """Write the model card of a run's export again, with what was scored since, unless somebody changed it or its checkpoint is gone."""
    try:
        record, text = read_json(folder / RECORD), (folder / CARD).read_text(encoding="utf-8")
        if record.get("card_sha256") != sha256(text.encode()).hexdigest():
            return False
        metadata = read_metadata(run.checkpoint(record["step"]))
    except (OSError, ValueError, AttributeError, KeyError, CodemixError):
        return False
    write_json(folder / RECORD, write_model_card(run, folder, metadata, record))
    return True


def front_matter(name: str, origin: dict, scores: Scores | None) -> dict[str, Any]:
    """Return what the Hub reads from a model card's head."""
    found: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["codemix_megatron"]}
    if origin.get("licence"):
        found["license"] = origin["licence"]
    if origin.get("name"):
        found["base_model"] = origin["name"]
    index = model_index(name, scores) if scores else []
    return found | ({"model-index": index} if index else {})


def scores_of(run: RunFolder, step: int) -> Scores | None:
    """Return what a step scored, None where it was not scored or its file cannot be read."""
    try:
        return Scores.read(run.score_file(step)) if run.score_file(step).is_file() else None
    except CodemixError:
        return None


def description(metadata: dict, record: dict, chain: list[Stage]) -> str:
    """Return what model it is and how much it was trained, over all runs of the chain."""
    model, tokens = metadata["model"], sum(stage.tokens for stage in chain)
    trained = (
        f"on {format_tokens(tokens)} tokens" if tokens else f"on {format_tokens(metadata['tokens'])} tokens ({metadata['step']} steps)"
    )
    trained = f"Trained with codemix_megatron {trained}" if metadata["step"] else "Imported, not trained here"
    runs = f", in {len(chain)} runs" if len(chain) > 1 else ""
    return (
        f"A {record['family']} causal language model of {format_tokens(record['parameters'])} parameters: {model['num_layers']} layers,"
        f" hidden size {model['hidden_size']}, context {model['sequence_length']}, vocabulary {metadata['tokenizer']['vocab_size']}."
        f" {trained}{runs}."
    )


def started_from(origin: dict) -> list[str]:
    """Say which public model the weights began as, and where its licence is."""
    if not origin.get("name"):
        return []
    licences = [name for name in origin.get("files", {}) if name.upper().startswith(LICENCE_FILES)]
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


def lineage_table(chain: list[Stage]) -> list[str]:
    """Return a Markdown table of the runs the weights went through."""
    if not any(stage.plan for stage in chain):
        return []
    rows = [
        (stage.run.path.name, f"{stage.first} to {stage.last}", format_tokens(stage.tokens) if stage.plan else "not known", stage.how)
        for stage in chain
    ]
    return table(("run", "steps", "tokens", "how it began"), rows)


def mixture_table(chain: list[Stage]) -> list[str]:
    """Return a Markdown table of the phases of all runs, as far as the weights went."""
    rows = []
    for stage in chain:
        for phase in stage.phases:
            done = min(1.0, (stage.last - phase["first_step"] + 1) / phase["steps"])
            shares = ", ".join(f"{name} {source['share']:.3g}" for name, source in phase["sources"].items())
            rows.append((stage.run.path.name, phase["name"], format_tokens(round(done * phase["tokens"])), shares))
    return table(("run", "phase", "tokens", "shares"), rows) if rows else []


def data_tables(corpora: list[CorpusRead]) -> list[str]:
    """Return Markdown tables of the corpora: what was read of each, licences, what filters left out, checksums."""
    if not corpora:
        return []
    total, rows, filtered = sum(corpus.tokens for corpus in corpora), [], []
    for corpus in corpora:
        manifest = corpus.manifest
        size = f"{manifest.train_documents} documents, {format_tokens(manifest.train_tokens)} tokens" if manifest else "not there any more"
        epochs = f"{corpus.tokens / manifest.train_tokens:.2f}" if manifest and manifest.train_tokens else ""
        share, checksum = f"{corpus.tokens / total:.3f}", (corpus.sha256 or "not known")[:16]
        rows.append((corpus.name, corpus.kind, format_tokens(corpus.tokens), share, epochs, size, licences_of(corpus), checksum))
        if manifest and (manifest.dropped or manifest.rewritten):
            left_out = ", ".join(f"{reason} {count}" for reason, count in manifest.dropped.items())
            changed = ", ".join(f"{reason} {count}" for reason, count in manifest.rewritten.items())
            filtered.append((corpus.name, left_out or "none", changed or "none"))
    lines = table(("corpus", "kind", "tokens read", "share", "epochs", "holds", "licences (documents)", "sha256 of .bin"), rows)
    return lines + (["", *table(("corpus", "documents left out", "documents changed"), filtered)] if filtered else [])


def licences_of(corpus: CorpusRead) -> str:
    """Return the licences of a corpus's documents, the most frequent first."""
    known = corpus.manifest.licences if corpus.manifest else {}
    ranked = sorted(known.items(), key=lambda entry: -entry[1].get("documents", 0))
    shown = ", ".join(f"{name} {counts.get('documents', 0)}" for name, counts in ranked[:MOST_LICENCES])
    return (shown + (f" and {len(ranked) - MOST_LICENCES} more" if len(ranked) > MOST_LICENCES else "")) or "not recorded"


def score_table(scores: Scores) -> list[str]:
    """Return a Markdown table of what this step scored."""
    rows: list[tuple[str, float, float | None]] = [
        (f"bits per byte, {entry.corpus}", entry.value, entry.standard_error) for entry in scores.bits_per_byte
    ]
    rows += [(f"{entry.task}, {entry.metric}", entry.value, entry.standard_error) for entry in scores.tasks]
    return table(
        ("score", "value", "standard error"),
        [(name, f"{value:.4f}", "" if error is None else f"{error:.4f}") for name, value, error in rows],
    )


def made_with(run: RunFolder) -> list[str]:
    """Return the versions that trained it."""
    try:
        environment = read_json(run.environment)
    except (OSError, ValueError):
        return []
    versions = environment.get("versions") if isinstance(environment, dict) else None
    return [", ".join(f"{name} {version}" for name, version in versions.items())] if isinstance(versions, dict) else []


def commands(chain: list[Stage], step: int) -> list[str]:
    """Return the commands that make the model again from the recipes below and the same corpora."""
    lines = []
    for stage in chain:
        if stage.recipe is not None:
            name = stage.run.path.name
            lines += [f"codemix prepare {name}.yaml", f"codemix train {name}.yaml --folder runs/{name}"]
        elif stage.run.checkpoints.is_dir():
            lines.append(f"codemix import MODEL runs/{stage.run.path.name}")
    return ["```sh", *lines, f"codemix export runs/{chain[-1].run.path.name}@{step}", "```"] if lines else []


def table(headings: tuple[str, ...], rows: list[tuple]) -> list[str]:
    """Return a Markdown table."""
    lines = [" | ".join(headings), " | ".join("---" for _ in headings)]
    lines += [" | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in row) for row in rows]
    return [f"| {line} |" for line in lines]
