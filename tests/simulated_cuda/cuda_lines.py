"""Which lines of the package run on CUDA alone: bodies of conditions that ask for it, and functions that only such lines call."""

import ast
import re
from pathlib import Path

__all__ = ["CudaLines", "FILES", "cuda_lines"]

# Folders and files whose CUDA branches are looked for.
FILES = (
    "parallel",
    "model",
    "train",
    "checkpoint",
    "megatron/gradient_norm.py",
    "megatron/weight_gradients.py",
    "evaluate/live.py",
    "inference/live.py",
)
# Conditions that hold on CUDA, as ast.unparse writes them, and those that do not.
HOLDS = re.compile(
    r"== 'cuda'|== 'nccl'|\bon_cuda\b|\bis_cuda\b|\bon_transformer_engine\b|(?<!\w)transformer_engine\b|\bhas_transformer_engine\b"
    r"|cuda\.is_(available|initialized)\(\)|\bhas_borders\b|packed_seq_params is not None|\bself\.(garbage|overlaps|recording)\b|\bengines\["
    r"|\bself\.memory and step\b"
)
HOLDS_NOT = re.compile(
    r"!= 'cuda'|== 'cpu'|\bnot (on_cuda|transformer_engine|engines\[)|packed_seq_params is None|isinstance\(begun, float\)"
)
# Functions that are called on CUDA alone, or only to say what CUDA would compute with.
CALLED_ON_CUDA = {
    "parallel/cuda_environment.py": {"cuda_settings", "set_cuda_environment"},
    "parallel/device.py": {"device_of_rank", "transformer_engine_fault", "broken_modules", "weight_gradients"},
    "parallel/fusions.py": {"is_trusted", "version_fault", "fusion_lines"},
    "model/layers.py": {"transformer_engine_layer"},
    "model/document_attention.py": {
        "document_borders",
        "attend_within_documents",
        "flash_attention",
        "transformer_engine_attention",
        "forward",
    },
    "train/garbage.py": {"__init__", "after_step"},
    "train/timing.py": {"mark_stream"},
    "train/profiling.py": {"end_memory"},
    "checkpoint/host_copies.py": {"copy_at", "pinned_like"},
    "megatron/gradient_norm.py": {"norm_of_all"},
    "megatron/weight_gradients.py": {"wgrad_gemm_accum_fp32"},
}


class CudaLines(ast.NodeVisitor):
    """First lines of statements that run on CUDA alone; those of which only an arm does are kept apart."""

    def __init__(self, functions: set[str]):
        self.functions, self.whole, self.arms = functions, set(), set()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Take a function that only CUDA calls."""
        if node.name in self.functions:
            self.take(node.body)
        self.visit_block(node.body)

    def visit_block(self, statements: list[ast.stmt]) -> None:
        """Look through statements; behind a condition that leaves where there is no CUDA, all of them are CUDA's."""
        for number, statement in enumerate(statements):
            if isinstance(statement, ast.If):
                condition = ast.unparse(statement.test)
                if HOLDS_NOT.search(condition):
                    self.take(statement.orelse)
                    if leaves(statement.body) and " and " not in condition:
                        self.take(statements[number + 1 :])
                elif HOLDS.search(condition):
                    self.take(statement.body)
            self.look_for_arms(statement)
            self.visit(statement)

    def generic_visit(self, node: ast.AST) -> None:
        """Look through every block of a statement."""
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                self.visit_block(block)
        for handler in getattr(node, "handlers", ()):
            self.visit_block(handler.body)

    def look_for_arms(self, statement: ast.stmt) -> None:
        """Take a statement with a conditional expression in it that asks for CUDA."""
        if hasattr(statement, "body"):
            return
        for node in ast.walk(statement):
            if isinstance(node, ast.IfExp) and (HOLDS.search(text := ast.unparse(node.test)) or HOLDS_NOT.search(text)):
                self.arms.add(statement.lineno)

    def take(self, statements: list[ast.stmt]) -> None:
        """Take statements and all inside them."""
        for statement in statements:
            self.whole |= {inner.lineno for inner in ast.walk(statement) if isinstance(inner, ast.stmt)}


def leaves(statements: list[ast.stmt]) -> bool:
    """Say whether a block leaves its function or its turn of a loop."""
    return bool(statements) and isinstance(statements[-1], (ast.Return, ast.Raise, ast.Continue))


def cuda_lines(package: Path) -> dict[Path, CudaLines]:
    """Return the lines of each file that has some."""
    paths = [path for name in FILES for path in (sorted((package / name).glob("*.py")) if (package / name).is_dir() else [package / name])]
    found = {}
    for path in paths:
        lines = CudaLines(CALLED_ON_CUDA.get(path.relative_to(package).as_posix(), set()))
        lines.visit(ast.parse(path.read_text(encoding="utf-8")))
        if lines.whole or lines.arms:
            found[path] = lines
    return found
