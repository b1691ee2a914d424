"""A swarm over runs whose true law is known: studies, records and fits are real, only the training is made up."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from tiny_run import RECIPE

from codemix_megatron.analysis.law_views import Proposal
from codemix_megatron.cli import swarm
from codemix_megatron.cli.main import main
from codemix_megatron.errors import STOPPED_EARLY, CodemixError
from codemix_megatron.mixture.budget import apportion
from codemix_megatron.plan.assumed import assume_corpora
from codemix_megatron.recipe.mixture_shares import flatten_mixture
from codemix_megatron.recipe.reading import build_recipe
from codemix_megatron.study.changes import graph_in
from codemix_megatron.study.folder import open_study
from codemix_megatron.study.study_file import read_study
from codemix_megatron.study.swarm.figure import slice_through
from codemix_megatron.study.swarm.folder import SwarmFolder
from codemix_megatron.study.swarm.rounds import first_round, next_round
from codemix_megatron.study.swarm.settings import SwarmSettings
from codemix_megatron.study.swarm.space import make_space

SIZES = {"prose": 10**6, "snippets": 10**6, "tags": 10**6}
OBJECTIVES = ("prose bits_per_byte", "snippets bits_per_byte")
PHASES = [{**phase, "tokens": 20 * 512} for phase in RECIPE["phases"]]


def true_bits(shares: np.ndarray, seed: int) -> dict[str, float]:
    """Return what a run [phases, prose and others] measures: what comes last counts most; the noise is the seed's."""
    first, last = shares[:, 0]
    noise = 0.004 * np.random.default_rng(seed).normal(size=2)
    prose = 3 - 0.2 * first - 0.9 * last + 0.3 * last**2
    code = 2.2 + 0.1 * first + 0.6 * last + 0.3 * last**2
    return {"prose": float(prose + noise[0]), "snippets": float(code + noise[1])}


def train_made_up(folder, number: int, arguments) -> int:
    """Stand in for `codemix study run`: open the study as it does, and write the records that its runs would leave."""
    study = read_study(folder.round_file(number))
    graph = graph_in(folder.study, study)
    open_study(folder.study, study, graph)
    for path in graph.paths.values():
        chain: list[np.ndarray] = []
        for name in path:
            segment = graph.segments[name]
            shares = flatten_mixture(segment.phase.mixture, segment.phase.tokens, SIZES)
            chain.append(np.array([shares.get("prose", 0.0), 1 - shares.get("prose", 0.0)]))
            write_segment(folder.study, graph, segment, shares, true_bits(np.array(chain), segment.recipe.seed) if len(chain) == 2 else {})
    return 0


def write_segment(study, graph, segment, shares: dict[str, float], bits: dict[str, float]) -> None:
    """Write plan and journal of a segment; a branch counts on from its parent."""
    run, length = study.run(segment.name), RECIPE["model"]["sequence_length"]
    run.path.mkdir(parents=True, exist_ok=True)
    before, step, branch = {}, 0, None
    if segment.parent:
        events = [json.loads(line) for line in study.run(segment.parent).journal.read_text().splitlines()]
        last = [event for event in events if event["event"] == "step"][-1]
        before, step = last["tokens_per_source"], last["step"]
        branch = {"run": str(study.run(segment.parent).path), "step": step, "consumed": {n: t // length for n, t in before.items()}}
    counts = apportion(segment.phase.tokens // length, shares)
    tokens = {name: before.get(name, 0) + counts.get(name, 0) * length for name in {**before, **counts}}
    done = {"step": step + 20, "phase": segment.phase.name, "tokens": sum(tokens.values()), "tokens_per_source": tokens}
    plan = {"name": segment.name, "sequence_length": length, "branch": branch, "parameters": {"total": 100_000}}
    run.plan.write_text(json.dumps(plan))
    lines = [{"event": "step", **done}, {"event": "validation", "step": step + 20, "bits_per_byte": bits}, {"event": "end"}]
    run.journal.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def base(tmp_path, monkeypatch) -> Path:
    """A recipe of two phases over corpora of assumed sizes; training is made up."""
    monkeypatch.setattr(swarm, "train_round", train_made_up)
    monkeypatch.setattr("codemix_megatron.study.swarm.learning.KINDS", ("quadratic",))  # the quick one
    for module in ("plan.plan", "study.swarm.reusing"):
        monkeypatch.setattr(f"codemix_megatron.{module}.read_manifests", lambda recipe: assume_corpora(recipe, SIZES_OF(recipe), None, {}))
    path = tmp_path / "base.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, "phases": PHASES}, sort_keys=False))
    return path


def SIZES_OF(recipe) -> dict[str, int]:
    """Return the assumed sizes of a recipe's corpora."""
    return {name: SIZES[name] for name in recipe.corpora}


def words(base: Path, *others: str, runs: int = 18) -> list[str]:
    """Return a swarm's command."""
    objectives = [word for name in OBJECTIVES for word in ("--objective", name)]
    common = ["--directory", str(base.parent / "swarm"), "--prior", "even", "--strength", "0.7,2"]
    return ["swarm", str(base), "--runs", str(runs), *objectives, *common, *others]


def state_of(base: Path) -> dict:
    """Return swarm.json."""
    return SwarmFolder(base.parent / "swarm").read()


def test_swarm_draws_trains_fits_proposes_and_puts_its_predictions_to_the_test(base, capsys):
    assert main(words(base, "--trunks", "6", "--seeds", "2")) == 0
    state = state_of(base)
    first, second = state["rounds"]
    assert len(first["runs"]) == 18 + 4 and state["ended"] == "2 rounds are done"
    assert {run["purpose"] for run in second["runs"]} >= {"best", "explore 1", "control: worst"}
    best = np.array(next(run["shares"] for run in second["runs"] if run["purpose"] == "best"))
    truth = np.array([[f, s] for f in np.linspace(0, 1, 41) for s in np.linspace(0, 1, 41)])
    values = [true_mean(np.array([[f, 1 - f], [s, 1 - s]]), first) for f, s in truth]
    assert true_mean(best, first) <= min(values) + 0.25 * np.ptp(values), "the best by the law is among the best by the truth"
    compared = [row for row in second["compared"] if row["purpose"] == "best"]
    assert len(compared) == 4 and sum(row["within"] for row in compared) >= 3
    for errors in second["out_of_sample"].values():
        assert errors["phases"] < 0.5 * errors["totals"]
    laws = second["learned"]["laws"]
    assert all(law["over"] == "phases" and law["held_out_error"]["phases"] < law["held_out_error"]["totals"] for law in laws.values())
    out = capsys.readouterr().out
    assert "none of them seen: over phases" in out and "within their intervals" in out
    folder = base.parent / "swarm"
    page = (folder / "report" / "index.html").read_text()
    assert "2 rounds are done" in page and "under way" not in page
    assert "What is known where" in page and (folder / "report" / "share-of-snippets.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "law" / "proposals.yaml").is_file()
    assert len(list((folder / "runs").iterdir())) == (6 + 18) + 8 + (2 * 2 + 2 * (len(second["runs"]) - 2)), "shared first phases once"


def true_mean(shares: np.ndarray, entry: dict) -> float:
    """Return the mean of both true losses in units of their spreads over the first round's runs."""

    def exact(run):
        return np.array(list(true_bits(np.asarray(run), 0).values()))

    spread = np.std([exact(run["shares"]) for run in entry["runs"]], axis=0)
    return float(np.mean(exact(shares) / spread))


def test_swarm_that_was_stopped_goes_on_and_one_asked_for_otherwise_is_refused(base, monkeypatch, capsys):
    monkeypatch.setattr(swarm, "train_round", lambda *given: STOPPED_EARLY)
    few = ["--seeds", "1", "--explore", "1"]
    assert main(words(base, *few, runs=10)) == STOPPED_EARLY
    drawn = (base.parent / "swarm" / "round-1.yaml").read_bytes()
    assert main(words(base, *few, "--temperature", "2", runs=10)) == 2
    assert "temperature: 1.0 when it began, 2.0 now" in capsys.readouterr().err
    monkeypatch.setattr(swarm, "train_round", train_made_up)
    assert main(words(base, *few, "--rounds", "1", runs=10)) == 0 and len(state_of(base)["rounds"]) == 1
    assert main(words(base, *few, "--rounds", "2", runs=10)) == 0, "more rounds may be asked for later"
    assert (base.parent / "swarm" / "round-1.yaml").read_bytes() == drawn and len(state_of(base)["rounds"]) == 2
    study = yaml.safe_load((base.parent / "swarm" / "round-2.yaml").read_text())
    assert set(yaml.safe_load(drawn)["variants"]) < set(study["variants"]), "the next study has all runs so far"


@pytest.mark.parametrize("option, said", [
    (["--until-interval", "100"], "asked for was 100"),
    (["--most-tokens", "250K"], "tokens, allowed are 250K"),
])  # fmt: skip
def test_swarm_ends_at_an_interval_or_a_budget(base, option, said):
    assert main(words(base, "--rounds", "9", "--seeds", "1", *option, runs=10)) == 0
    state = state_of(base)
    assert said in state["ended"] and len(state["rounds"]) == 1


def test_swarm_whose_runs_tell_nothing_proposes_nothing_and_fails(base, monkeypatch, capsys):
    monkeypatch.setattr(
        "test_swarm.true_bits",
        lambda shares, seed: dict(zip(("prose", "snippets"), np.random.default_rng(seed).normal(size=2), strict=True)),
    )
    assert main(words(base, "--seeds", "1", runs=14)) == 1
    assert "no law is better than the mean of the runs" in capsys.readouterr().out


def space_for(base: Path, recipe: dict, reused=None, **settings):
    """Return the space of a recipe."""
    built = build_recipe(recipe, directory=base.parent)
    asked = SwarmSettings(base=str(base), objectives=OBJECTIVES, **settings)
    return make_space(built, assume_corpora(built, SIZES_OF(built), None, {}), asked, reused), asked


GROUPED = {
    **RECIPE,
    "corpora": {**RECIPE["corpora"], "tags": {"kind": "markup", "documents": ["tags.jsonl"]}},
    "phases": [
        {**phase, "mixture": {"prose": 0.5, "code": {"share": 0.5, "mixture": {"snippets": inner, "tags": 1 - inner}}}}
        for phase, inner in zip(PHASES, (0.75, 0.5), strict=True)
    ],
}


def test_frozen_group_is_one_domain_with_its_inside_as_it_is(base):
    space, settings = space_for(base, GROUPED, freeze=("code",), runs=5)
    assert space.domains == ("code", "prose")
    run = first_round(space, settings)[-1]
    written = [space.mixture(i, np.array(run.shares[i])) for i in range(2)]
    assert written[0]["code"]["mixture"] == {"snippets": 0.75, "tags": 0.25} and written[1]["code"]["mixture"]["tags"] == 0.5
    assert written[0]["code"]["share"] == pytest.approx(run.shares[0][0], abs=1e-6)
    free, _ = space_for(base, GROUPED)
    assert free.domains == ("prose", "snippets", "tags") and free.base[0] == pytest.approx([0.5, 0.375, 0.125])
    with pytest.raises(CodemixError, match="--freeze cod: no group of the base recipe's mixtures is called so; did you mean code"):
        space_for(base, GROUPED, freeze=("cod",))


def test_earlier_swarm_is_one_domain_beside_what_is_new(base):
    """Only the share of the new corpus is drawn; what the earlier swarm found stays in its proportions, phase by phase."""
    assert main(words(base, "--seeds", "1", "--rounds", "1", runs=10)) == 0
    later = base.parent / "later.yaml"
    later.write_text(yaml.safe_dump(GROUPED, sort_keys=False))
    again = ["swarm", str(later), "--runs", "10", "--objective", OBJECTIVES[0], "--reuse", str(base.parent / "swarm"), "--seeds", "1"]
    assert main([*again, "--directory", str(base.parent / "new"), "--rounds", "1"]) == 0
    study = yaml.safe_load((base.parent / "new" / "round-1.yaml").read_text())
    best = state_of(base)["rounds"][-1]["learned"]["proposals"][0]["shares"]
    for phase in ("balanced", "cooldown"):
        wanted = best[f"{phase}/prose"] / (best[f"{phase}/prose"] + best[f"{phase}/snippets"])
        mixture = study["variants"]["mix-03"]["overrides"][f"phases.{phase}.mixture"]
        assert set(mixture) == {"reused", "tags"}
        assert mixture["reused"]["mixture"].get("prose", 0.0) == pytest.approx(wanted, abs=1e-3)


def test_draws_keep_epoch_bounds_and_what_earlier_phases_read_counts(base):
    limited = {**RECIPE, "phases": PHASES}
    limited["corpora"] = {**RECIPE["corpora"], "snippets": {**RECIPE["corpora"]["snippets"], "max_epochs": 0.01}}
    space, settings = space_for(base, limited, runs=40)
    assert space.bounds[1] == pytest.approx(0.01 * 10**6 / (40 * 512), abs=0.02)
    assert all(space.keeps(np.array(run.shares)) for run in first_round(space, settings))
    last, _ = space_for(base, limited, phases=1)
    assert last.phases == ("cooldown",) and last.bounds[1] == pytest.approx((0.01 * 10**6 - 10 * 512) / (20 * 512), abs=0.02)


def test_mixture_proposed_over_whole_runs_is_that_of_every_phase(base):
    space, settings = space_for(base, {**RECIPE, "phases": PHASES}, seeds=1)
    proposal = Proposal(
        purpose="best", phases=(), shares={"prose": 0.3, "snippets": 0.7}, predicted=1.0, low=None, high=None, ranges={},
        is_outside=False, most_epochs=None,
    )  # fmt: skip
    (run,) = next_round(2, space, settings, [proposal])
    assert run.shares == [pytest.approx([0.3, 0.7])] * 2


def test_slice_keeps_the_proportions_of_the_others():
    best = np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])
    runs = slice_through(best, 0, 1, np.array([0.0, 0.5, 1.0]))
    assert runs[0, 0] == pytest.approx([0.4, 0, 0.6]) and runs[1, 0] == pytest.approx(best[0]) and runs[2, 0] == pytest.approx([0, 1, 0])
    assert (runs[:, 1] == best[1]).all()


@pytest.mark.parametrize("others, message", [
    (["--objective", "prose perplexity"], "training measures prose bits_per_byte, snippets bits_per_byte; add --suite"),
    (["--runs", "0"], "--runs 0: must be at least 1"),
    (["--strength", "2"], "--strength 2: needs two numbers with a comma"),
    (["--phases", "3"], "--phases 3: the base recipe has 2"),
    (["--reuse", "nowhere"], "not a begun swarm"),
])  # fmt: skip
def test_swarm_refuses_in_one_message(base, capsys, others, message):
    assert main(words(base, *others)) == 2
    assert message in capsys.readouterr().err
