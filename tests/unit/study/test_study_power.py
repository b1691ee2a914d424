"""What `codemix study power` says before a study is paid for."""

import json

import numpy as np
import pytest
from tiny_run import REPOSITORY

from codemix_megatron.analysis.power import welch_power
from codemix_megatron.cli.main import main

PAPER = REPOSITORY / "examples"
WORDS = ["study", "power", str(PAPER / "studies/paper.yaml"), "--assume-tokens", str(PAPER / "paper/sizes.yaml"), "--device", "h100"]


def test_power_stands_beside_device_hours(capsys):
    assert main([*WORDS, "--json", "--comparisons", "20"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert main(["study", "plan", *WORDS[2:], "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert found["device_hours_per_seed"] == pytest.approx(plan["device_hours"]) and found["comparisons"] == 20
    rows = {row["measure"]: row for row in found["measures"]}
    deviation = 0.7 * np.sqrt(5 / 4) * 0.5  # PiQA at 2.8B, of rescaled percent over a chance of one half
    assert rows["piqa acc"]["deviation"] == pytest.approx(deviation)
    assert rows["piqa acc"]["power"]["5"] == pytest.approx(welch_power(1.0, deviation, 5, 20))
    assert rows["boolq acc"]["seeds"] is None and rows["boolq acc"]["power"]["10"] < 0.2
    assert rows["humaneval pass@1"]["deviation"] is None


def test_table_says_what_no_affordable_number_of_seeds_decides(capsys):
    assert main([*WORDS, "--detect", "2", "--comparisons", "20"]) == 0
    out = capsys.readouterr().out
    assert "not to be decided with 10 seeds: " in out and "boolq acc" in out.rpartition("not to be decided")[2]
    assert "no noise known, repeat a variant by seed first: text, bits per byte" in out
    assert main([*WORDS, "--detect", "0"]) == 2
    assert "--detect 0" in capsys.readouterr().err
