"""What a study says, once it is read: named variants, each an ordinary recipe."""

from dataclasses import dataclass, field
from pathlib import Path

from codemix_megatron.recipe.schema import Recipe

__all__ = ["Study", "Variant"]


@dataclass(frozen=True)
class Variant:
    """One whole run a study asks for; `recipe` has all its phases and its name."""

    name: str
    recipe: Recipe
    variant: str = ""  # its name without its points on axes
    points: dict[str, str] = field(default_factory=dict)  # axis -> point, axes of seeds left out


@dataclass(frozen=True)
class Study:
    """A study as its file says, axes multiplied out."""

    name: str
    path: Path
    variants: tuple[Variant, ...]
    device: str | None = None  # to estimate hours with
    limit: int | None = None  # runs at a time
    is_scored: bool = True

    @property
    def corpora(self) -> list[str]:
        """Names of the corpora of all variants, each once."""
        return list(dict.fromkeys(name for variant in self.variants for name in variant.recipe.corpora))
