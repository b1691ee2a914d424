"""Prompts that are longer than what a model sees at once lose their beginning: a score over many of these is one of another task."""

from codemix_megatron.errors import EvaluationError

__all__ = ["MOST_CUT", "check_cut"]

MOST_CUT = 0.01  # of a task's items


def check_cut(task: str, cut: int | None, items: int, window: int | None, allow_cut: bool) -> None:
    """Raise EvaluationError when more than 1 % of a task's prompts were cut, unless that is allowed; None counts as none."""
    if allow_cut or not cut or cut <= MOST_CUT * items:
        return
    raise EvaluationError(
        f"{task}: {cut} of {items} prompts are longer than the {window} tokens the model sees and lose their beginning; at most"
        f" {MOST_CUT:.0%} may. Score a model with longer sequences, or say --allow-cut-prompts to score it with them cut"
    )
