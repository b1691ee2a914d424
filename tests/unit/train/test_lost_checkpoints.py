"""A run that has saved goes on from what it saved, or says that it is lost; it never starts again in silence."""

import pytest

from codemix_megatron.checkpoint.loading import newest_valid
from codemix_megatron.errors import CheckpointError
from codemix_megatron.records.events import CheckpointEvent, StepEvent
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
    """A run whose journal records one checkpoint."""
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append(StepEvent.from_json({"step": 5}))
    journal.append(CheckpointEvent.from_json({"step": 5}))
    journal.close()
    return RunFolder(tmp_path)


def test_checkpoints_that_are_gone_are_missed(run):
    with pytest.raises(CheckpointError, match="records checkpoints up to step 5, but no valid one remains") as lost:
        find_start(run)
    assert lost.value.exit_code == 2


def test_one_without_its_metadata_is_named_and_left_where_it_is(run):
    (run.checkpoints / "step-5").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"step-5: .*not a checkpoint.*it is not used"):
        find_start(run)
    assert (run.checkpoints / "step-5").is_dir()


def test_a_run_that_saved_nothing_starts_again(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append(StepEvent.from_json({"step": 1}))
    journal.close()
    assert find_start(RunFolder(tmp_path)) == (None, [])
