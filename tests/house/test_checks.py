"""The checks of coverage and mutation can fail: a subpackage below its floor is named, and `met` is false."""

import importlib.util
import sys

import pytest
from tiny_run import REPOSITORY


def load(name: str):
    """Return a module of benchmarks/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"{name}_check", REPOSITORY / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("shares", "floors", "fallen", "met"),
    [
        ({"train": 0.81, "plan": 0.95}, {"train": 0.81, "plan": 0.95}, [], True),
        ({"train": 0.809, "plan": 0.95}, {"train": 0.81, "plan": 0.95}, ["train"], False),
        ({"train": 0.81, "newcomer": 0.89}, {"train": 0.81}, ["newcomer"], False),
        ({"train": 0.81}, {"train": 0.81, "gone": 0.9}, [], False),
        ({}, {}, [], False),
    ],
)
def test_a_subpackage_below_its_floor_of_coverage_is_named(shares, floors, fallen, met):
    found = load("coverage_by_room").verdict(shares, floors)
    assert list(found["fallen"]) == fallen and found["met"] is met


def test_lines_are_counted_by_subpackage_and_floors_are_never_above_what_is_there():
    check = load("coverage_by_room")
    summary = {"covered_lines": 2, "num_statements": 3}
    files = {
        f"codemix_megatron/{name}": {"summary": summary}
        for name in ("errors.py", "train/run.py", "launch/slurm/batch.py", "launch/local.py")
    }
    assert check.lines_by_room(files) == {"(top)": (2, 3), "launch": (4, 6), "train": (2, 3)}
    assert [check.rounded_down(share) for share in (2 / 3, 0.29, 1.0, 0.999)] == [0.66, 0.29, 1.0, 0.99]


def test_a_subpackage_below_its_floor_of_mutants_is_named():
    check = load("mutation")
    assert check.verdict({"plan": 0.85}, {})["met"] and not check.verdict({"plan": 0.849}, {})["met"]
    assert list(check.verdict({"plan": 0.9, "mixture": 0.79}, {"mixture": 0.8})["fallen"]) == ["mixture"]
    assert not check.verdict({"plan": None}, {})["met"], "nothing was measured"


def test_changes_made_by_hand_fit_the_code():
    check = load("mutation")
    for change in check.CHANGES:
        text = (REPOSITORY / "codemix_megatron" / change.file).read_text(encoding="utf-8")
        assert text.count(change.text) == 1, f"{change.file}: {change.text}"
        assert (REPOSITORY / change.tests).is_file()
