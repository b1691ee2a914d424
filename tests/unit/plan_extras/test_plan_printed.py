"""The plan's table and its figure."""

import subprocess
import sys
from dataclasses import replace

import pytest
from presets_plan import EXAMPLES, plan_of

from codemix_megatron.cli.main import main
from codemix_megatron.cli.plan import print_plan
from codemix_megatron.errors import CodemixError
from codemix_megatron.plan.figure import draw_plan

RECIPE = str(EXAMPLES / "paper/470m/balanced-to-text-synth.yaml")
SIZES = ["--assume-tokens", str(EXAMPLES / "paper/sizes.yaml")]


@pytest.mark.parametrize("columns", [80, 120])
def test_table_fits_the_terminal_and_no_number_is_cut(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    plan = plan_of("paper/470m/balanced-to-text-synth")
    print_plan(plan)
    out = capsys.readouterr().out
    assert max(len(line) for line in out.splitlines()) <= columns and "…" not in out
    header = next(line for line in out.splitlines() if "sequences" in line and "source" in line)
    assert header.split("  ")[0].strip() == "phase" and "data read" in header
    for phase in plan.phases:
        for name, source in phase.sources.items():
            assert any(name in line and f"{source.sequences:,}" in line for line in out.splitlines())
    assert "3.13 x" in out and "19.9 %" in out and "rounded)" in out
    assert ("100,000,595,968" in out) == (columns == 120)


def test_figure_is_drawn_in_the_format_of_its_suffix(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["plan", RECIPE, *SIZES, "--figure", "figures/plan.png"]) == 0
    assert "figures/plan.png" in capsys.readouterr().out
    assert (tmp_path / "figures/plan.png").read_bytes().startswith(b"\x89PNG")
    drawn = draw_plan(plan_of("paper/470m/balanced-to-text-synth"), tmp_path / "plan.svg").read_text(encoding="utf-8")
    for word in ("init", "continue", "cooldown", "synthetic", "web_code", "learning rate", "tokens seen", "assumed"):
        assert f">{word}" in drawn or word in drawn
    with pytest.raises(CodemixError, match=r"suffix \.bmp; allowed are \.png"):
        draw_plan(plan_of("paper/470m/text-only"), tmp_path / "plan.bmp")


def test_names_are_drawn_as_they_are_written(tmp_path):
    plan = replace(plan_of("paper/470m/text-only"), name=r"a$\foo$b")
    assert r"a$\foo$b" in draw_plan(plan, tmp_path / "plan.svg").read_text(encoding="utf-8")


def test_planning_imports_neither_torch_nor_matplotlib(tmp_path):
    words = ["plan", RECIPE, *SIZES, "--output", str(tmp_path / "plan.json"), "--device", "h100"]
    code = f"import sys; from codemix_megatron.cli.main import main; main({words!r})"
    code += "; print(sorted({'torch', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=EXAMPLES.parent, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
