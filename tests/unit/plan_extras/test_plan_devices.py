"""Hours and memory on known accelerators; the paper's own chip-hours as a check."""

import json

import pytest
from presets_plan import plan_of

from codemix_megatron.cli.main import main
from codemix_megatron.errors import RecipeError
from codemix_megatron.plan.devices import DEVICES, device_hours, on_device


@pytest.mark.parametrize(
    ("parameters", "tokens", "mfu", "published"),
    [(470e6, 200e9, 0.168, 4736), (2.8e9, 200e9, 0.343, 13824)],
)
def test_published_chip_hours_follow_from_six_times_parameters(parameters, tokens, mfu, published):
    assert device_hours(6 * parameters * tokens, "v5e", mfu) == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize(("size", "published"), [("470m", 4736), ("2.8b", 13824)])
def test_published_chip_hours_are_a_plausible_share_of_peak_for_our_flops(size, published):
    plan = plan_of(f"paper/{size}/balanced-to-text")
    first = plan.phases[0]
    assert first.asked_tokens == 200 * 10**9
    share = device_hours(plan.flops["per_token"] * first.tokens, "v5e", 1.0) / published
    assert 0.15 < share < 0.55


def test_hours_are_device_hours_over_ranks():
    plan = on_device(plan_of("paper/470m/sweep-050"), "h100", 0.5)
    assert plan.device["device_hours"] == pytest.approx(plan.flops["total"] / (989e12 * 0.5 * 3600))
    assert plan.device["hours"] * plan.layout["ranks"] == pytest.approx(plan.device["device_hours"])


def test_fit_depends_on_the_recompute_choice_and_the_device():
    plan = plan_of("paper/2.8b/text-only")
    assert not any(on_device(plan, "v5e", 0.4).device["fits"].values())
    assert on_device(plan, "b200", 0.4).device["fits"]["full"]
    for name, device in DEVICES.items():
        for choice, fits in on_device(plan, name, 0.4).device["fits"].items():
            assert fits == (plan.memory_by_recompute[choice] <= 0.9 * device.memory_gigabytes * 1e9)


@pytest.mark.parametrize(("device", "mfu", "said"), [("h1000", 0.4, "no device 'h1000'; known are"), ("h100", 1.4, "--mfu: found 1.4")])
def test_unknown_device_and_impossible_share_are_refused(device, mfu, said):
    with pytest.raises(RecipeError, match=said):
        on_device(plan_of("paper/470m/text-only"), device, mfu)


def test_command_prints_hours_and_memory(small_recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    words = ["plan", str(small_recipe), "--assume-tokens", "prose=1M,web=1M", "--assume-vocab", "5K", "--device", "h200", "--nproc", "4"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "on h200 (989 TFLOP/s, 141 GB) at 40 % of peak" in out and "none" in out and "(fits)" in out
    assert json.loads((tmp_path / "plan.json").read_text())["device"]["name"] == "h200"
    assert main([*words[:-1], "3"]) == 2
    assert "--nproc: 3 ranks do not divide" in capsys.readouterr().err
