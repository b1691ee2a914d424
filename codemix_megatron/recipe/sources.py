"""How a corpus is drawn on: the block under `sources.NAME`."""

from dataclasses import dataclass
from itertools import pairwise

from codemix_megatron.recipe.fields import option

__all__ = ["Source", "source_faults"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Documents of a corpus in buckets by a score, each read more or less often than the others; the corpus stays as it is."""

    by: str = option("column of the corpus's scores, see codemix score")
    buckets: tuple[float, ...] = option("scores that part the buckets, rising; a document at a border is in the higher one", ())
    quantiles: tuple[float, ...] = option("or shares of the corpus's tokens that part them, from the lowest score on", ())
    epochs: tuple[float, ...] = option("how often each bucket is read in a round, from the lowest score on: one number more than borders")
    unscored: float | None = option("the same for documents without the score; default: there may be none", None)


def source_faults(sources: dict[str, Source], corpora) -> list[str]:
    """Return one line per fault."""
    faults = [f"sources.{name}: no such corpus; corpora are {', '.join(corpora)}" for name in sources if name not in corpora]
    for name, spec in sources.items():
        path, borders = f"sources.{name}", spec.buckets or spec.quantiles
        key = "buckets" if spec.buckets else "quantiles"
        if bool(spec.buckets) == bool(spec.quantiles):
            faults.append(f"{path}: needs the borders of its buckets: either buckets (scores) or quantiles (shares of tokens)")
        elif any(second <= first for first, second in pairwise(borders)):
            faults.append(f"{path}.{key}: found {', '.join(f'{b:g}' for b in borders)}; each must be above the one before")
        elif key == "quantiles" and not (borders[0] > 0 and borders[-1] < 1):
            faults.append(f"{path}.quantiles: found {', '.join(f'{b:g}' for b in borders)}; must lie between 0 and 1")
        elif len(spec.epochs) != len(borders) + 1:
            faults.append(f"{path}.epochs: found {len(spec.epochs)} numbers, {len(borders)} borders part {len(borders) + 1} buckets")
        readings = (*spec.epochs, *(() if spec.unscored is None else (spec.unscored,)))
        if any(reading < 0 for reading in readings) or not any(readings):
            faults.append(f"{path}.epochs: found {', '.join(f'{e:g}' for e in readings)}; must be 0 or more, and one of them above 0")
    return faults
