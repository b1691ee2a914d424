"""The whole chain on statements of MBPP's train split: yields as scripted, nothing hostile, nothing of MBPP's test split, the same after ten kills."""

import json
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from scripted_teacher import FATES, ScriptedTeacher
from tiny_run import clean_environment

from codemix_megatron.errors import SandboxError
from codemix_megatron.sandbox.outcome import Limits
from codemix_megatron.sandbox.running import find_sandbox

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
NUM_PROBLEMS = 16


@pytest.fixture(scope="module")
def problems(tmp_path_factory):
    """The first problems whose own code passes its own assertions and whose code is harmless, and those that stand in MBPP's test split too."""
    folder = Path(__file__).resolve().parents[4] / "shared" / "data" / "eval"
    if not (folder / "mbpp.train.jsonl").is_file():
        pytest.skip(f"no MBPP at {folder}")
    try:
        sandbox = find_sandbox()
    except SandboxError as fault:
        pytest.skip(str(fault))
    records = [json.loads(line) for line in (folder / "mbpp.train.jsonl").read_text().splitlines()]
    held = [json.loads(line)["text"] for line in (folder / "mbpp.test.jsonl").read_text().splitlines()]
    copied = [record for record in records if any(shares_words(record["text"], text) for text in held)]
    chosen = []
    for record in records:
        code = record["code"].replace("\r\n", "\n")
        is_plain = (
            re.findall(r"^def (\w+)", code, re.M)[-1:] == re.findall(r"assert (\w+)\(", record["test_list"][0]) and "import" not in code
        )
        if record in copied or not is_plain or len(chosen) == NUM_PROBLEMS:
            continue
        if sandbox.examine(code, "\n".join(record["test_list"]), Limits(seconds=5.0)).passed:
            chosen.append(record | {"code": code})
    path = tmp_path_factory.mktemp("mbpp") / "problems.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in [*chosen, *copied]))
    return path, chosen, copied, folder / "mbpp.test.jsonl"


def shares_words(one: str, other: str, run: int = 13) -> bool:
    """Say whether two texts share an n-gram, or are the same eight words and more: by plain sets."""
    words, others = (re.findall(r"\w+", text.lower()) for text in (one, other))
    runs = ({tuple(w[i : i + run]) for i in range(len(w) - run + 1)} for w in (words, others))
    return bool(set.intersection(*runs)) or (len(words) >= 8 and words == others)


def test_chain_gives_what_the_teacher_scripted_and_kills_change_no_byte(problems, tmp_path, measured):
    path, chosen, copied, suite = problems
    teacher = ScriptedTeacher({record["text"]: (record["code"], record["test_list"]) for record in chosen})

    def command(output: Path) -> list[str]:
        return [
            sys.executable, "-m", "codemix_megatron", "synthesize", str(path), "--endpoint", teacher.url, "--model", "scripted", "--output", str(output),
            "--solutions", str(len(FATES)), "--timeout", "1", "--retries", "0", "--against", str(suite), "--threads", "4",
        ]  # fmt: skip

    def run(output: Path, seconds: float | None = None) -> int:
        with subprocess.Popen(
            command(output), env=clean_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                return process.wait(seconds) and pytest.fail(process.stderr.read())
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                return -1

    assert run(tmp_path / "whole") == 0
    manifest = json.loads((tmp_path / "whole" / "manifest.json").read_text())
    documents = (tmp_path / "whole" / "documents.jsonl").read_text()
    assert manifest["problems_contaminated"] >= len(copied) >= 1
    done = manifest["problems_done"] - manifest["problems_contaminated"]
    assert {fate: manifest["solutions"][fate] for fate in FATES[2:]} == dict.fromkeys(FATES[2:], done)
    assert (
        manifest["solutions"]["kept"] + manifest["solutions"].get("near duplicate", 0) + manifest["solutions"].get("contaminated", 0)
        == 2 * done
    )
    assert manifest["solutions"]["kept"] >= 0.8 * done, "a few problems may be nearly alike"
    assert "os.system" not in documents and "return 'wrong'" not in documents
    kept = {json.loads(line)["problem"] for line in documents.splitlines()}
    assert not kept & {str(record["task_id"]) for record in copied}
    draw, kills = random.Random(0), 0
    while kills < 10 and run(tmp_path / "cut", draw.uniform(2.0, 6.0)) < 0:
        kills += 1
    assert run(tmp_path / "cut") == 0
    for name in ("documents.jsonl", "manifest.json", "yields.md"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    measured(f"MBPP chain: {manifest['solutions']}, {len(copied)} of them copied, same bytes after {kills} kills")
    teacher.server.shutdown()
