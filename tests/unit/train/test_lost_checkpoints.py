"""A run that has saved goes on from what it saved, or says that it is lost; it never begins anew in silence."""

import pytest

from codemix_megatron.checkpoint.loading import newest_valid
from codemix_megatron.errors import CheckpointError
from codemix_megatron.records.journal import Journal
from codemix_megatron.records.run_folder import RunFolder
from codemix_megatron.train.starting import settle_start


def find_start(run):
    """Return the checkpoint to go on from, as ranks find it together, and what to warn of."""
    checkpoint, complaints = newest_valid(run.checkpoints)
    settle_start(run, checkpoint, complaints)
    return checkpoint, complaints


@pytest.fixture
def run(tmp_path):
    """A run whose journal tells of one checkpoint."""
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append("step", step=5)
    journal.append("checkpoint", step=5)
    journal.close()
    return RunFolder(tmp_path)


def test_checkpoints_that_are_gone_are_missed(run):
    with pytest.raises(CheckpointError, match="tells of checkpoints, the last of step 5, and none that is sound is left") as lost:
        find_start(run)
    assert lost.value.exit_code == 2


def test_one_without_its_card_is_named_and_left_where_it_is(run):
    (run.checkpoints / "step-5").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"step-5: .*not a checkpoint.*it is not used"):
        find_start(run)
    assert (run.checkpoints / "step-5").is_dir()


def test_a_run_that_saved_nothing_begins_anew(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append("step", step=1)
    journal.close()
    assert find_start(RunFolder(tmp_path)) == (None, [])
