"""Learning rates at every step, token counts in every form."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codemix_megatron.recipe.quantity import format_tokens, parse_tokens
from codemix_megatron.recipe.schedule import learning_rate_at
from codemix_megatron.recipe.schema import LearningRate


@pytest.mark.parametrize(
    ("text", "count"), [("200B", 200 * 10**9), ("1.5M", 1_500_000), ("40_000", 40_000), (40000, 40_000), ("3k", 3000), ("1e6", 10**6)]
)
def test_counts_are_read_as_people_write_them(text, count):
    assert parse_tokens(text) == count


@pytest.mark.parametrize("text", ["", "-3", "1.5", "lots", "10X", True, None, [1], "0"])
def test_what_is_no_count_is_refused(text):
    with pytest.raises(ValueError, match=r"40_000, 1\.5M or 200B|whole number of at least 1"):
        parse_tokens(text)


@given(st.integers(1, 10**14))
def test_short_form_is_within_half_a_percent(count):
    assert parse_tokens(format_tokens(count)) == pytest.approx(count, rel=0.006)


def rates(num_steps: int, **spec) -> list[float]:
    """Return the rate of every step of a phase with batches of 100 tokens."""
    return [learning_rate_at(LearningRate(**spec), i, num_steps, 100) for i in range(num_steps)]


@pytest.mark.parametrize("schedule", ["linear", "cosine", "wsd"])
@given(num_steps=st.integers(2, 300), warmup=st.integers(0, 5000))
def test_warm_up_rises_to_the_peak_and_the_last_step_has_the_final_rate(schedule, num_steps, warmup):
    warmup = min(warmup, (num_steps - 1) * 100)
    found = rates(num_steps, schedule=schedule, peak=1.0, final=0.01, warmup_tokens=warmup)
    steps = -(-warmup // 100)
    assert all(a < b for a, b in pairwise(found[:steps]))
    if steps:
        assert found[steps - 1] == pytest.approx(1.0)
    assert all(a >= b for a, b in pairwise(found[steps:])), "the rate rose again after the warm-up"
    assert found[-1] == pytest.approx(0.01)


def test_wsd_holds_the_peak_until_the_decay():
    found = rates(100, schedule="wsd", peak=1.0, final=0.0, decay_share=0.2)
    assert found[:80] == [1.0] * 80
    assert found[80] == pytest.approx(0.95) and found[-1] == 0.0


def test_wsd_may_decay_as_one_minus_the_root():
    found = rates(100, schedule="wsd", peak=1.0, final=1e-6, decay_share=0.2, decay="1-sqrt")
    assert found[:80] == [1.0] * 80
    assert found[84] == pytest.approx(1 - 0.5) and found[-1] == pytest.approx(1e-6)


def test_constant_holds_and_warm_up_may_begin_above_zero():
    assert rates(4, schedule="constant", peak=2.0, start=1.0, warmup_tokens=200) == [1.5, 2.0, 2.0, 2.0]
