"""What a swarm is asked for: what is drawn, trained and fitted follows from it, the base recipe and the runs."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from codemix_megatron.errors import CodemixError

__all__ = ["DESIGNS", "PRIORS", "SwarmSettings"]

DESIGNS = ("dirichlet", "d-optimal")
PRIORS = ("recipe", "size", "even")
MAY_CHANGE = ("rounds", "most_tokens", "interval", "explore")  # of a begun swarm: when it ends, and what is drawn from here on


@dataclass(frozen=True, kw_only=True)
class SwarmSettings:
    """One swarm. Objectives are small when good unless `maximize`."""

    base: str
    objectives: tuple[str, ...]
    maximize: bool = False
    runs: int = 32  # drawn in the first round, beside the anchors
    phases: int | None = None  # the last so many of the base recipe vary
    trunks: int | None = None  # first phases that the drawn runs share
    design: str = "dirichlet"
    prior: str = "recipe"
    strength: tuple[float, float] = (0.1, 5.0)
    temperature: float = 1.0
    seed: int | None = None  # of draws and of the first anchors; None: the base recipe's
    seeds: int = 3  # of each anchor and of the best mixture
    explore: int = 3  # mixtures of a later round beside the best and the controls
    rounds: int = 2
    most_tokens: int | None = None
    interval: float | None = None
    freeze: tuple[str, ...] = ()
    reuse: str | None = None
    suites: tuple[str, ...] = ()

    def __post_init__(self):
        faults = [f"--{name} {getattr(self, name)}: must be at least 1" for name in ("runs", "seeds", "rounds") if getattr(self, name) < 1]
        faults += [
            f"--{name} {value}: must be at least 1"
            for name in ("phases", "trunks")
            if (value := getattr(self, name)) is not None and value < 1
        ]
        low, high = self.strength
        if not 0 < low <= high:
            faults.append(f"--strength {low:g},{high:g}: needs two numbers above 0, the smaller first")
        if not self.temperature > 0:
            faults.append(f"--temperature {self.temperature:g}: must be above 0; 1 keeps the prior, more makes it more even")
        if not self.objectives:
            faults.append('--objective: missing; name what is to be made small, such as "text bits_per_byte"')
        if self.interval is not None and not self.interval > 0:
            faults.append(f"--until-interval {self.interval:g}: must be above 0")
        if self.explore < 0:
            faults.append(f"--explore {self.explore}: must be at least 0")
        if faults:
            raise CodemixError("\n".join(faults))

    def as_plain(self) -> dict:
        """Return what swarm.json keeps."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: dict) -> "SwarmSettings":
        """Return what swarm.json kept."""
        known: dict[str, Any] = {field.name: plain[field.name] for field in fields(cls) if field.name in plain}
        lists: dict[str, Any] = {name: tuple(value) for name, value in known.items() if isinstance(value, list)}
        return cls(**{**known, **lists})

    def refuse_changes(self, before: "SwarmSettings") -> None:
        """Raise CodemixError where a begun swarm is asked for what would have drawn other runs."""
        changed = [
            f"{field.name}: {getattr(before, field.name)} when it began, {getattr(self, field.name)} now"
            for field in fields(self)
            if field.name not in MAY_CHANGE and getattr(self, field.name) != getattr(before, field.name)
        ]
        if changed:
            raise CodemixError("\n".join([*changed, "this swarm has begun; ask for the same, or take another --directory"]))
