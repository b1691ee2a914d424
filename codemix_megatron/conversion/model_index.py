"""Scores in the form the Hub reads from a model card's head (`model-index`)."""

import math

from codemix_megatron.records.scores import Scores

__all__ = ["model_index"]

TASK = {"type": "text-generation", "name": "Text Generation"}


def model_index(name: str, scores: Scores) -> list[dict]:
    """Return the value of `model-index`; scores that are not finite are left out, for the Hub takes none."""
    results = [
        result(f"{entry.corpus}, held-out documents", "bits_per_byte", "bits per byte", entry.value, entry.standard_error)
        for entry in scores.bits_per_byte
    ]
    results += [
        result(entry.task, entry.metric, f"{entry.metric} ({entry.items} items)", entry.value, entry.standard_error)
        for entry in scores.tasks
    ]
    found = [entry for entry in results if math.isfinite(entry["metrics"][0]["value"])]
    return [{"name": name, "results": found}] if found else []


def result(dataset: str, kind: str, name: str, value: float, error: float | None) -> dict:
    """Return one measurement of one data set."""
    metric: dict = {"type": kind, "name": name, "value": value}
    if error is not None and math.isfinite(error):
        metric["args"] = {"standard_error": error}
    return {"task": dict(TASK), "dataset": {"type": dataset.partition(",")[0], "name": dataset}, "metrics": [metric]}
