"""A small installation says in one line what to install; what setup.py declares is what the code knows."""

import ast
import importlib.metadata
import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from patience import PATIENCE_SECONDS
from tiny_run import REPOSITORY, clean_environment

from codemix_megatron.cli.main import main
from codemix_megatron.errors import CodemixError
from codemix_megatron.extras import EXTRAS, missing_extra, require


def declared() -> dict[str, list[str]]:
    """Return the extras of setup.py that a user would want, without running it."""
    tree = ast.parse((REPOSITORY / "setup.py").read_text())
    assigned = next(node for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "EXTRAS")  # type: ignore[attr-defined]
    return ast.literal_eval(assigned.value)


def test_modules_of_each_extra_are_brought_by_its_packages():
    brought = importlib.metadata.packages_distributions()
    for extra, requirements in declared().items():
        packages = {canonicalize_name(Requirement(text).name) for text in requirements}
        found = {canonicalize_name(name) for module in EXTRAS[extra] for name in brought.get(module, [])}
        assert found == packages, extra


def test_nothing_at_the_top_of_a_module_imports_what_only_an_extra_brings():
    """So that every command of a small installation starts."""
    optional = "|".join(module for modules in EXTRAS.values() for module in modules)
    at_top = re.compile(rf"^(?:import|from) (?:{optional})\b.*", re.MULTILINE)
    for path in (REPOSITORY / "codemix_megatron").rglob("*.py"):
        assert not at_top.search(path.read_text()), path


@pytest.mark.parametrize(("module", "extra"), [(module, extra) for extra, modules in EXTRAS.items() for module in modules])
def test_a_missing_package_is_one_line_with_the_command(module, extra):
    said = missing_extra(ModuleNotFoundError(name=f"{module}.part"))
    assert said == f"needs the package {module}, which is not installed: pip install 'codemix_megatron[{extra}]'"


def test_a_module_of_no_extra_is_left_alone():
    assert missing_extra(ModuleNotFoundError(name="codemix_megatron.nothing")) is None
    assert missing_extra(ModuleNotFoundError("no name")) is None


def test_the_command_line_says_it_without_a_traceback(monkeypatch, capsys):
    from codemix_megatron.cli import doctor

    def fails(arguments):
        raise ModuleNotFoundError("No module named 'lm_eval'", name="lm_eval")

    monkeypatch.setattr(doctor, "run", fails)
    assert main(["doctor"]) == 2
    assert capsys.readouterr().err == (
        "codemix doctor: error: needs the package lm_eval, which is not installed: pip install 'codemix_megatron[eval]'\n"
    )


def test_what_a_recipe_asks_for_is_missed_before_ranks_start():
    require("json", "anything")
    with pytest.raises(CodemixError, match=r"observers.wandb: needs the package no_such"):
        require("no_such", "observers.wandb")


REPORT = """
import sys
sys.modules["matplotlib"] = None
from codemix_megatron.report.canvas import draw_figure
from codemix_megatron.report.page import block_html
from codemix_megatron.report.markdown import block_markdown
figure = draw_figure("loss", "Loss.", "It fell from 4 to 2.", None)
print(block_html(figure)); print(block_markdown(figure))
"""


def test_without_matplotlib_a_report_says_in_words_what_a_figure_shows():
    done = subprocess.run([sys.executable, "-c", REPORT], env=clean_environment(), capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    html, markdown = done.stdout.strip().splitlines()
    for text in (html, markdown):
        assert "It fell from 4 to 2." in text and "codemix_megatron[figures]" in text and "<svg" not in text
