"""A data seed of a phase changes the order of what is left, and nothing else: judged by a walk over plain lists."""

import json
from dataclasses import asdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from codemix_megatron.mixture.mixture import Mixture
from codemix_megatron.plan.branch import branch_from, data_order

SIZES, PHASES = [250, 90], [[80, 20], [100, 30], [120, 100]]
NAMES = ["text", "code"]


def pairs(mixture: Mixture, first: int = 0, end: int | None = None) -> list[tuple[int, int]]:
    located = mixture.locate(np.arange(first, len(mixture) if end is None else end))
    return list(zip(located.source.tolist(), located.sequence.tolist(), strict=True))


def plan_of(seeds, phases=PHASES, branch=None) -> dict:
    """What plan.json holds, as far as the data order is concerned: one sequence per batch."""
    first, planned = branch["step"] + 1 if branch else 1, []
    for row, seed in zip(phases, seeds, strict=True):
        counts = {name: {"sequences": count} for name, count in zip(NAMES, row, strict=True)}
        planned.append({"first_step": first, "steps": sum(row), "sources": counts, "data_seed": seed})
        first += sum(row)
    sources = {name: {"sequences_per_epoch": size} for name, size in zip(NAMES, SIZES, strict=True)}
    return {"seed": 5, "steps": first - 1, "global_sequences": 1, "sources": sources, "phases": planned, "branch": branch}


def test_what_was_read_before_the_phase_stays_and_the_rest_comes_in_another_order():
    plain = Mixture(5, NAMES, SIZES, PHASES)
    first, second = (Mixture(5, NAMES, SIZES, PHASES, data_seeds=[None, None, seed]) for seed in (1, 2))
    trunk = 230
    assert pairs(plain, 0, trunk) == pairs(first, 0, trunk) == pairs(second, 0, trunk)
    ends = [pairs(mixture, trunk) for mixture in (plain, first, second)]
    assert [[source for source, _ in end] for end in ends] == [[source for source, _ in ends[0]]] * 3, "the mixture stays what it was"
    alike = [np.mean([a == b for a, b in zip(ends[i], ends[j], strict=True)]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert max(alike) < 0.2
    assert (plain.consumed(300) == first.consumed(300)).all()


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    phases=st.integers(1, 4),
    seeds=st.lists(st.one_of(st.none(), st.integers(0, 2**62 - 1)), min_size=4, max_size=4),
    data=st.data(),
)
def test_nothing_is_read_again_before_all_of_an_epoch_was(sizes, phases, seeds, data):
    rows = data.draw(st.lists(st.lists(st.integers(0, 50), min_size=len(sizes), max_size=len(sizes)), min_size=phases, max_size=phases))
    rows = [[max(1, row[0]), *row[1:]] for row in rows]
    mixture = Mixture(3, [f"s{i}" for i in range(len(sizes))], sizes, rows, data_seeds=seeds[:phases])
    left: dict[int, set[int]] = {}
    for source, sequence in pairs(mixture):
        rest = left.setdefault(source, set()) or set(range(sizes[source]))
        assert sequence in rest
        left[source] = rest - {sequence}


def test_branches_of_a_reseeded_trunk_read_what_one_run_would():
    """Also where a branch begins inside a reseeded phase, and where it has another data seed itself; through JSON, as plans are kept."""
    seeds = [None, 7, 8]
    whole = pairs(data_order(plan_of(seeds)))
    trunk = plan_of(seeds[:2], PHASES[:2])
    point = json.loads(json.dumps(asdict(branch_from(trunk, "runs/trunk", None))))
    assert pairs(data_order(trunk)) + pairs(data_order(plan_of(seeds[2:], PHASES[2:], point)), 230) == whole
    other = pairs(data_order(plan_of([9], PHASES[2:], point)), 230)
    assert other != whole[230:] and not {*other[:60]} & {*whole[:230]}

    inside = json.loads(json.dumps(asdict(branch_from(trunk, "runs/trunk", 150))))
    rest = [[int(a - b) for a, b in zip(np.sum(PHASES[:2], axis=0), data_order(trunk).consumed(150), strict=True)]]
    going_on = pairs(data_order(plan_of([None], rest, inside)), 150)
    assert sorted(going_on) == sorted(whole[150:230]), "the trunk's own order goes on, whatever the interleaving"
    grandchild = json.loads(json.dumps(asdict(branch_from(plan_of([None], rest, inside), "runs/b", None))))
    assert [entry["seed"] for entry in grandchild["reseeded"]] == [7]


def test_orders_of_later_epochs_are_of_the_new_seed():
    plain, seeded = (Mixture(5, ["a"], [50], [[60], [200]], data_seeds=seeds) for seeds in (None, [None, 4]))
    ours, theirs = (np.array(pairs(mixture))[:, 1] for mixture in (seeded, plain))
    assert (ours[:60] == theirs[:60]).all()
    for epoch in range(1, 5):
        here = slice(50 * epoch, 50 * (epoch + 1))
        assert sorted(ours[here]) == list(range(50)) and (ours[here] != theirs[here]).mean() > 0.5


def test_draws_of_a_data_seed_are_uniform():
    """Every one of the sequences that are left is as likely to come next: chi square over 800 seeds."""
    from scipy.stats import chisquare

    left = sorted({sequence for _, sequence in pairs(Mixture(5, ["a"], [30], [[10], [20]]), 10)})
    seen = np.zeros(30)
    for seed in range(800):
        seen[pairs(Mixture(5, ["a"], [30], [[10], [20]], data_seeds=[None, seed]), 10, 11)[0][1]] += 1
    assert seen[[i for i in range(30) if i not in left]].sum() == 0
    assert chisquare(seen[left]).pvalue > 0.001
