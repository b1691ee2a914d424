"""Records as pandas frames; pandas is imported when a frame is asked for."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from codemix_megatron.extras import require
from codemix_megatron.records.scores import Scores

if TYPE_CHECKING:
    import pandas

__all__ = ["events_frame", "scores_frame"]


def events_frame(events: Iterable[dict[str, Any]]) -> "pandas.DataFrame":
    """Return a row per event; dictionaries become columns such as `loss_per_source.text`."""
    require("pandas", "a frame of records")
    import pandas

    return pandas.json_normalize(list(events))


def scores_frame(scores: Scores, **columns: Any) -> "pandas.DataFrame":
    """Return a row per measure: corpus or task, metric, value, standard_error, items, chance (None where there is none); `columns` come first."""
    require("pandas", "a frame of records")
    import pandas

    rows: list[dict[str, Any]] = [
        {
            "measure": b.corpus,
            "metric": "bits per byte",
            "value": b.value,
            "standard_error": b.standard_error,
            "items": b.documents,
            "chance": None,
        }
        for b in scores.bits_per_byte
    ]
    rows += [
        {"measure": t.task, "metric": t.metric, "value": t.value, "standard_error": t.standard_error, "items": t.items, "chance": t.floor}
        for t in scores.tasks
    ]
    return pandas.DataFrame([{**columns, **row} for row in rows])
