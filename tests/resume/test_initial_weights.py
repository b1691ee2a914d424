"""Runs that start from another one: from its weights with Adam fresh, or as a branch that goes on with everything."""

import json
import math
import shutil

import pytest
import yaml

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def trunk(tiny):
    """Losses of the whole tiny recipe, with a checkpoint after its first phase of 12 steps."""
    done = tiny.train("trunk")
    assert done.returncode == 0, done.stderr
    return tiny.losses("trunk")


@pytest.fixture(scope="module")
def branched(tiny, trunk):
    """A branch that has the recipe's second phase alone."""
    recipe = yaml.safe_load(tiny.recipe.read_text())
    recipe |= {"name": "branched", "branch": {"run": "trunk", "step": 12}, "phases": recipe["phases"][1:]}
    path = tiny.folder / "branched.yaml"
    path.write_text(yaml.safe_dump(recipe))
    done = tiny.codemix("train", path, "--folder", tiny.folder / "branched")
    assert done.returncode == 0, done.stderr
    return path


def test_checkpoint_of_a_run_gives_weights_and_nothing_of_its_optimizer(tiny, trunk):
    branch = ["phases.0.tokens=2K", "phases.0.learning_rate.warmup_tokens=0", "phases.1.tokens=1K"]
    done = tiny.train("branch", f"initial_weights={tiny.folder / 'trunk' / 'checkpoints' / 'step-12'}", *branch)
    assert done.returncode == 0, done.stderr  # moments left over or never set would give losses that are not finite
    losses = tiny.losses("branch")
    assert [event["step"] for event in tiny.events("branch")] == list(range(1, 7)) and all(math.isfinite(loss) for loss in losses)
    assert losses[0] < trunk[0] - 1 and abs(losses[0] - trunk[12]) < 1


def test_branch_is_bit_for_bit_the_run_that_did_both_phases_itself(tiny, trunk, branched, measured):
    ours, theirs = tiny.events("branched"), tiny.events("trunk")[12:]
    same = ("step", "tokens", "sequences", "phase", "loss", "loss_per_source", "tokens_per_source", "learning_rate", "gradient_norm")
    assert [{key: event[key] for key in same} for event in ours] == [{key: event[key] for key in same} for event in theirs]
    measured("a branch at step 12: losses of the 8 steps after it equal the run's that did both phases itself, bit for bit")


def test_branch_is_understood_by_audit_and_report_and_needs_its_parent_no_more(tiny, branched):
    (tiny.folder / "trunk").rename(tiny.folder / "gone")
    try:
        audited = tiny.codemix_here("audit", tiny.folder / "branched")
        assert audited.returncode == 0 and "the journal agrees, up to step 20 of 20" in audited.stdout, audited.stdout + audited.stderr
        reported = tiny.codemix_here("report", tiny.folder / "branched")
        assert reported.returncode == 0, reported.stderr
        again = tiny.codemix_here("train", branched, "--folder", tiny.folder / "branched")
        assert again.returncode == 0 and "already trained to step 20 of 20" in again.stdout
    finally:
        (tiny.folder / "gone").rename(tiny.folder / "trunk")
    page = (tiny.folder / "branched" / "report" / "index.md").read_text()
    assert "whose step 12 it went on from" in page and "Every finished phase consumed exactly the tokens planned" in page
    plan = json.loads((tiny.folder / "branched" / "plan.json").read_text())
    whole = json.loads((tiny.folder / "trunk" / "plan.json").read_text())
    assert plan["tokens"] == 8 * plan["batch_tokens"] and plan["steps"] == 20
    assert {n: s["epochs"] for n, s in plan["sources"].items()} == {n: s["epochs"] for n, s in whole["sources"].items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("branch.step=13", "has no checkpoint of step 13; there are steps 12, 20"),
        ("branch.step=21", "has no step 21; it goes from 1 to 20"),
        ("branch.run=nowhere", "is no run folder (no readable plan.json); train the parent first"),
        ("seed=8", "seed is 8 here and 7 there; a branch keeps it"),
        ("model.num_layers=2", "model.num_layers 2 here, 4 there"),
        ("parallel.distributed_optimizer=false", "was trained with parallel.distributed_optimizer true, this recipe says false"),
        ("initial_weights=trunk", "branch: initial_weights is given too"),
    ],
)
def test_branch_that_cannot_be_is_refused(tiny, branched, change, message):
    done = tiny.codemix_here("train", branched, "--folder", tiny.folder / "refused", change)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert message in done.stderr


def test_initial_checkpoint_that_was_damaged_is_refused(tiny, trunk):
    """torch checks no checksum of a tensor: training began from other weights than were saved."""
    damaged = tiny.folder / "damaged"
    shutil.copytree(tiny.folder / "trunk" / "checkpoints" / "step-12", damaged)
    shard = max(damaged.glob("*.distcp"), key=lambda path: path.stat().st_size)
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 0x40
    shard.write_bytes(data)
    done = tiny.train("from-damaged", f"initial_weights={damaged}", "phases.0.tokens=2K", "phases.0.learning_rate.warmup_tokens=0")
    assert done.returncode and f"{shard.name} has another checksum than card.json says" in done.stderr
