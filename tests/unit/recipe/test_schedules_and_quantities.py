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


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
@pytest.mark.parametrize(("peak", "final", "num_steps"), [(1.0, 0.0, 8), (3e-3, 3e-4, 50)])
def test_decays_are_those_of_torch(schedule, peak, final, num_steps):
    import torch
    from torch.optim import lr_scheduler

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    cosine = lr_scheduler.CosineAnnealingLR(optimizer, num_steps, eta_min=final)
    theirs = cosine if schedule == "cosine" else lr_scheduler.LinearLR(optimizer, 1.0, final / peak, num_steps)
    wanted = []
    for _ in range(num_steps):
        optimizer.step()
        theirs.step()
        wanted.append(optimizer.param_groups[0]["lr"])
    assert rates(num_steps, schedule=schedule, peak=peak, final=final) == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_short_forms_have_three_digits_and_the_largest_suffix_that_fits():
    counts = (999, 1000, 1250, 999_400, 999_999, 10**6, 1_234_567, 10**9, 10**12, 10**15)
    assert [format_tokens(count) for count in counts] == ["999", "1K", "1.25K", "999K", "1M", "1M", "1.23M", "1B", "1T", "1e+03T"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (True, "True is not a count; write 40000, 40_000, 1.5M or 200B"),
        ("lots", "'lots' is not a positive count; write 40000, 40_000, 1.5M or 200B"),
        ("1.5", "'1.5' is 1.5 tokens; a whole number of at least 1 is needed"),
        ("0", "'0' is 0 tokens; a whole number of at least 1 is needed"),
        ("2e18", "'2e18' is more than 1e+18 tokens, the most that is counted"),
        ("1e999999999999999999999", "'1e999999999999999999999' is more than 1e+18 tokens, the most that is counted"),
    ],
)
def test_a_count_that_is_refused_is_named_with_what_is_allowed(value, message):
    with pytest.raises(ValueError) as refused:
        parse_tokens(value)
    assert str(refused.value) == message


def test_the_largest_count_is_read():
    assert parse_tokens("1e18") == 10**18 == parse_tokens("1_000_000T")
