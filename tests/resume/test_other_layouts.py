"""A checkpoint of any layout goes on at any other, and at its own bit for bit."""

import pytest

pytestmark = pytest.mark.distributed
DATA = ["parallel.data=2", "checkpoint.keep_every_tokens=2048", "checkpoint.keep_last=1"]  # every fourth step
INTERLEAVED = ["parallel.pipeline=2", "parallel.virtual_pipeline=2", "checkpoint.every_steps=4", "checkpoint.keep_last=9"]


@pytest.fixture(scope="module")
def two_copies(tiny):
    """A run at DP2, its optimizer split over both."""
    done = tiny.train("two-copies", *DATA)
    assert done.returncode == 0, done.stderr
    return tiny.losses("two-copies")


def test_split_optimizer_resumes_at_its_own_layout_bit_for_bit(tiny, two_copies):
    tiny.rewind("two-copies", "two-copies-again", 8)
    done = tiny.train("two-copies-again", *DATA)
    assert done.returncode == 0, done.stderr
    assert tiny.events("two-copies-again", "start")[-1]["step"] == 8
    assert tiny.losses("two-copies-again") == two_copies


def test_data_parallel_goes_on_as_interleaved_pipeline_and_that_as_tensor_parallel(tiny, two_copies):
    tiny.rewind("two-copies", "interleaved", 8)
    for run, layout in {"interleaved": INTERLEAVED, "tensor": ["parallel.tensor=2"]}.items():
        done = tiny.train(run, *layout)
        assert done.returncode == 0, done.stderr
        assert tiny.losses(run) == pytest.approx(two_copies, abs=1e-5)
        if run == "interleaved":
            tiny.rewind("interleaved", "tensor", 16)
    assert tiny.events("tensor", "start")[-1]["step"] == 16
