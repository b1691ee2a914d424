"""Draws docs/images/rooms.svg and docs/images/flow.svg: the subpackages in their layers, from the import contract, and what flows through them.

Run it when a subpackage is added: python docs/draw_architecture.py
"""

import ast
import tomllib
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "codemix_megatron"
IMAGES = Path(__file__).parent / "images"
INK, QUIET, PAPER, FRAME = "#1b1f24", "#59636e", "#ffffff", "#8c959f"
TORCH, PLAIN = "#fdf0d5", "#e3f0fb"
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "codemix", "font.size": 9, "font.family": "sans-serif"}

# What is handed on, and the module that makes it.
ROADS = {
    "a document becomes a loss": [
        ("documents", "readers/inputs.py"),
        ("kept documents", "filters/filters.py"),
        (".bin, .idx, manifest", "corpus/prepare.py"),
        ("Plan", "plan/plan.py"),
        ("position → sequence", "mixture/mixture.py"),
        ("batch of ids", "train/batches.py"),
        ("losses, gradients", "train/engine.py"),
        ("journal", "train/loop.py"),
    ],
    "a checkpoint becomes scores": [
        ("sharded state", "checkpoint/writing.py"),
        ("tensors by name", "checkpoint/torch_dist.py"),
        ("rows of a family", "families/registry.py"),
        ("safetensors", "conversion/export.py"),
        ("logits compared", "conversion/parity.py"),
        ("likelihoods", "inference/exported.py"),
        ("scores", "evaluate/scoring.py"),
        ("report", "report/page.py"),
    ],
}


def layers() -> list[list[str]]:
    """Return the layers of the import contract, the highest first."""
    contract = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"][0]
    found = [[name.strip() for name in line.split("|")] for line in contract["layers"]]
    return [[name for name in names if name != "__main__"] for names in found if names != ["__main__"]]


def loads_torch(room: str) -> bool:
    """Say whether a module of the room imports torch or megatron-core."""
    for path in (PACKAGE / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] in ("torch", "megatron") for name in names):
                return True
    return False


def box(axes, x: float, y: float, width: float, title: str, below: str, colour: str) -> None:
    """Draw a box with a title and a line under it."""
    axes.add_patch(FancyBboxPatch((x, y), width, 0.62, boxstyle="round,pad=0,rounding_size=0.08", fc=colour, ec=FRAME, lw=0.8))
    axes.text(x + width / 2, y + 0.38, title, ha="center", va="center", color=INK, fontsize=9.5)
    axes.text(x + width / 2, y + 0.16, below, ha="center", va="center", color=QUIET, fontsize=6.5)


def draw_rooms() -> Figure:
    """Return the layers; a subpackage imports those below it."""
    rows = layers()
    figure = Figure(figsize=(8.4, 0.62 * len(rows) + 0.5), facecolor=PAPER)
    axes = figure.add_axes((0, 0, 1, 1))
    for i, names in enumerate(rows):
        y, width = (len(rows) - 1 - i) * 0.8 + 0.1, 9.2 / len(names)
        for j, name in enumerate(names):
            files = len(list((PACKAGE / name).rglob("*.py"))) - 1 if (PACKAGE / name).is_dir() else 1
            colour = TORCH if (PACKAGE / name).is_dir() and loads_torch(name) else PLAIN
            box(axes, 0.4 + j * width, y, width - 0.2, name, f"{files} modules" if files > 1 else "one module", colour)
    axes.text(5, len(rows) * 0.8 + 0.15, "imports go downwards only; yellow: some module loads torch", ha="center", color=QUIET, fontsize=8)
    axes.set(xlim=(0, 10), ylim=(0, len(rows) * 0.8 + 0.4))
    axes.axis("off")
    return figure


def draw_flow() -> Figure:
    """Return both roads, four boxes to a line."""
    lines = sum(-(-len(road) // 4) for road in ROADS.values()) + len(ROADS)
    figure = Figure(figsize=(8.4, 0.62 * lines), facecolor=PAPER)
    axes, y = figure.add_axes((0, 0, 1, 1)), lines * 0.8 - 0.5
    for title, road in ROADS.items():
        axes.text(0.4, y + 0.1, title, color=INK, fontsize=11)
        for i, (name, module) in enumerate(road):
            y -= 0.9 if i % 4 == 0 else 0
            x = 0.4 + (i % 4) * 2.35
            box(axes, x, y, 1.9, name, module, TORCH if loads_torch(module.split("/")[0]) else PLAIN)
            if i % 4:
                axes.add_patch(FancyArrowPatch((x - 0.42, y + 0.31), (x - 0.03, y + 0.31), arrowstyle="-|>", mutation_scale=9, color=QUIET))
        y -= 0.6
    axes.set(xlim=(0, 10), ylim=(y, lines * 0.8))
    axes.axis("off")
    return figure


def main() -> None:
    """Write both pictures."""
    IMAGES.mkdir(exist_ok=True)
    with matplotlib.rc_context(STYLE):
        for name, figure in (("rooms", draw_rooms()), ("flow", draw_flow())):
            figure.savefig(IMAGES / f"{name}.svg", metadata={"Date": None})
            print(IMAGES / f"{name}.svg")


if __name__ == "__main__":
    main()
