"""Variants times axes: which combinations there are, what they are called, what they change and where that stands."""

import pytest

from codemix_megatron.study.combining import Combination, combine, read_axes, read_changes, read_selection

TWO = {"plain": [("variants.plain", {"a": 1})], "coded": []}
AXES = {"seed": {"seed-1": {"seed": 1}, "seed-2": {"seed": 2}}, "size": {"s": {}, "l": {"model.num_layers": 8}}}


def test_a_list_of_values_is_an_axis_of_its_key():
    faults: list[str] = []
    axes = read_axes({"model.num_layers": [2, 4], "size": {1: None, "l": {"model.hidden_size": 8}}}, faults)
    assert axes == {
        "model.num_layers": {"num_layers-2": {"model.num_layers": 2}, "num_layers-4": {"model.num_layers": 4}},
        "size": {"1": {}, "l": {"model.hidden_size": 8}},
    }
    assert faults == []


@pytest.mark.parametrize(
    ("plain", "faults"),
    [
        (None, ["axes: found nothing, needs a mapping such as {seed: [1, 2]}"]),
        ([1], ["axes: found a list of 1, needs a mapping such as {seed: [1, 2]}"]),
        ({"variant": {"a": {}}}, ["axes.variant: variant is what include and exclude call a variant; name the axis otherwise"]),
        ({"seed": [1, 2, 1, 2]}, ["axes.seed: seed-1 is there twice", "axes.seed: seed-2 is there twice"]),
        (
            {"seed": [], "x": 3},
            [
                "axes.seed: found a list of 0, needs a mapping point -> {a.b: value}, or a list of values of the key seed",
                "axes.x: found 3, needs a mapping point -> {a.b: value}, or a list of values of the key x",
            ],
        ),
        ({"x": {"p": 3}}, ["axes.x.p: found 3, needs a mapping of recipe keys such as {model.num_layers: 4}"]),
    ],
)
def test_faults_of_axes_say_where_and_what_is_needed(plain, faults):
    said: list[str] = []
    read_axes(plain, said)
    assert said == faults


def test_an_axis_that_is_wrong_keeps_none_after_it_from_being_read():
    said: list[str] = []
    assert read_axes({"x": 3, "variant": {"a": {}}, "y": {"p": {"b": 1}}}, said) == {"variant": {"a": {}}, "y": {"p": {"b": 1}}}
    assert len(said) == 2


def test_point_whose_name_could_be_no_folder_is_refused():
    said: list[str] = []
    read_axes({"x": {"a/b": {}}}, said)
    assert len(said) == 1 and said[0].startswith("axes.x: the name 'a/b' has to begin with a letter or digit")


def test_changes_are_a_mapping_or_nothing():
    said: list[str] = []
    assert read_changes(None, "x", said) == {} and read_changes({1: 2, "a.b": None}, "x", said) == {"1": 2, "a.b": None} and said == []
    assert read_changes([1], "x", said) == {} and said == [
        "x: found a list of 1, needs a mapping of recipe keys such as {model.num_layers: 4}"
    ]


KNOWN = {"variant": ["plain", "coded"], "seed": ["seed-1", "seed-2"]}


def test_selection_is_a_list_of_mappings_from_axes_to_patterns():
    said: list[str] = []
    assert read_selection([{"variant": "pl*", "seed": ["seed-1", "*-2"]}, {"seed": "seed-2"}], "include", KNOWN, said) == [
        {"variant": ["pl*"], "seed": ["seed-1", "*-2"]},
        {"seed": ["seed-2"]},
    ]
    assert said == []


def test_faults_of_a_selection_name_the_entry_and_all_come():
    said: list[str] = []
    entries = read_selection([3, {}, {"sed": "x", "seed": ["seed-1", "none", "nor"]}, {"variant": "Plain"}], "exclude", KNOWN, said)
    assert said == [
        "exclude[0]: found 3, needs a mapping of variant, seed to names or patterns",
        "exclude[1]: found an empty mapping, needs a mapping of variant, seed to names or patterns",
        "exclude[2].sed: no such axis; did you mean seed?",
        "exclude[2].seed: 'none' matches none of seed-1, seed-2",
        "exclude[2].seed: 'nor' matches none of seed-1, seed-2",
        "exclude[3].variant: 'Plain' matches none of plain, coded",
    ]
    assert len(entries) == 2
    assert read_selection({"a": 1}, "include", KNOWN, said) == []
    assert said[-1] == "include: found a mapping, needs a list of entries such as {variant: sweep-*}"


def test_every_variant_is_made_at_every_point_of_every_axis():
    said: list[str] = []
    made = combine(TWO, AXES, [], [], said)
    assert [c.name for c in made] == [
        f"{variant}-{seed}-{size}" for variant in ("plain", "coded") for seed in ("seed-1", "seed-2") for size in ("s", "l")
    ]
    assert said == [] and made[1] == Combination(
        name="plain-seed-1-l",
        variant="plain",
        points={"seed": "seed-1", "size": "l"},
        changes=[("variants.plain", {"a": 1}), ("axes.seed.seed-1", {"seed": 1}), ("axes.size.l", {"model.num_layers": 8})],
        repeats=("seed",),
    )
    assert made[1].conditions == {"size": "l"}


@pytest.mark.parametrize(
    ("include", "exclude", "left"),
    [
        ([{"seed": ["seed-1"]}], [], ["plain-seed-1-s", "plain-seed-1-l", "coded-seed-1-s", "coded-seed-1-l"]),
        ([{"seed": ["seed-1"], "size": ["l"]}], [], ["plain-seed-1-l", "coded-seed-1-l"]),
        ([{"variant": ["pl*"], "size": ["s"]}, {"variant": ["coded"], "seed": ["*-2"], "size": ["l"]}], [],
         ["plain-seed-1-s", "plain-seed-2-s", "coded-seed-2-l"]),
        ([], [{"variant": ["plain"]}, {"size": ["s", "x"]}], ["coded-seed-1-l", "coded-seed-2-l"]),
        ([{"variant": ["plain"]}], [{"seed": ["seed-1"]}, {"size": ["l"]}], ["plain-seed-2-s"]),
        ([{"nowhere": ["*"], "seed": ["seed-1"], "size": ["s"]}], [], ["plain-seed-1-s", "coded-seed-1-s"]),
    ],
)  # fmt: skip
def test_include_takes_what_any_entry_matches_whole_and_exclude_leaves_that_out(include, exclude, left):
    assert [c.name for c in combine(TWO, AXES, include, exclude, [])] == left


def test_two_combinations_of_one_name_are_told_once_and_nothing_left_is_a_fault():
    said: list[str] = []
    combine({"a": [], "a-b": []}, {"x": {"b-c": {}, "c": {}}, "y": {"d": {}}}, [], [], said)
    assert said == ["two variants are called a-b-c-d: a x b-c x d and a-b x c x d; rename one"]
    said = []
    assert combine(TWO, AXES, [], [{"variant": ["*"]}], said) == [] and said == ["variants: none is left after include and exclude"]
    said = ["another"]
    assert combine(TWO, AXES, [], [{"variant": ["*"]}], said) == [] and said == ["another"]


@pytest.mark.parametrize(
    ("points", "is_repetition"),
    [
        ({"1": {"seed": 1}, "2": {"seed": 2}}, True),
        ({"1": {"phases.cooldown.data_seed": 1}, "2": {"seed": 1}}, True),
        ({"1": {}, "2": {"seed": 1}}, True),
        ({"1": {}, "2": {}}, False),
        ({"1": {"seed": 1, "model.num_layers": 2}}, False),
        ({"1": {"seed": 1}, "2": {"seeds": 2}}, False),
        ({"1": {"phases.a.b.data_seed": 1}}, False),
        ({"1": {"phases.data_seed": 1}}, False),
    ],
)
def test_axis_of_seeds_is_repetition_and_no_condition(points, is_repetition):
    (made,) = combine({"v": []}, {"x": {"p": {}}, "y": points}, [], [{"y": [n]} for n in list(points)[1:]], [])
    assert made.repeats == (("y",) if is_repetition else ())
