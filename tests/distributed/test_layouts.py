"""Layouts through the command: losses over 20 steps against a single rank."""

from pathlib import Path

import pytest

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "tiny_losses.txt"
NUM_STEPS = 20

# Other layouts are in test_blocks.py, where one start of ranks trains many.
LAYOUTS = {
    "tensor 2 x pipeline 2": ["parallel.tensor=2", "parallel.pipeline=2"],
    "data 2": ["parallel.data=2"],
}

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def single(tiny):
    """Losses of one rank."""
    done = tiny.train("single", in_full=True)
    assert done.returncode == 0, done.stderr
    return tiny.losses("single")


@pytest.mark.parametrize("name", LAYOUTS)
def test_losses_equal_the_single_rank(tiny, single, name, measured):
    run = name.replace(" ", "-").replace(",", "")
    done = tiny.train(run, *LAYOUTS[name], in_full=True)
    assert done.returncode == 0, done.stderr
    losses = tiny.losses(run)
    assert len(losses) == len(single) == NUM_STEPS
    largest = max(abs(a - b) for a, b in zip(losses, single, strict=True))
    measured(f"losses of {NUM_STEPS} steps, {name}: at most {largest:.1e} from the single rank (allowed 1e-5)")
    assert largest <= 1e-5


def test_gradient_norms_count_every_shard_once(tiny, single):
    """A wrong norm hides behind equal first losses: clipping then differs between layouts."""
    norms = {run: [e["gradient_norm"] for e in tiny.events(run)] for run in ("single", "data-2", "tensor-2-x-pipeline-2")}
    if not all(norms.values()):
        pytest.skip("the layouts did not run in this session")
    for run in ("data-2", "tensor-2-x-pipeline-2"):
        assert norms[run] == pytest.approx(norms["single"], rel=1e-3)


def test_losses_equal_the_golden_file(single):
    """Other processors round differently; a changed data order, schedule or initialisation moves losses far more."""
    golden = [float(line) for line in GOLDEN.read_text().splitlines() if not line.startswith("#")]
    assert single == pytest.approx(golden, abs=5e-4)


def test_the_loss_falls_on_both_sources(tiny, single):
    first, last = (tiny.events("single")[i]["loss_per_source"] for i in (0, -1))
    assert all(last[name] < first[name] - 1 for name in first)


def test_every_rank_reads_only_its_share(tiny, single):
    """Tokens consumed per source are the plan's, to the token."""
    import json

    plan = json.loads((tiny.folder / "single" / "plan.json").read_text())
    consumed = tiny.events("single")[-1]["tokens_per_source"]
    assert consumed == {name: source["tokens"] for name, source in plan["sources"].items()}
