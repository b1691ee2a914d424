"""`make gpu-check`: every stage runs in its limit whatever the others do, in ten minutes, and its results are kept one by one."""

import json
import struct
import sys
import time

import pytest
from tiny_run import REPOSITORY

HERE = REPOSITORY / "benchmarks" / "gpu_check"
PROGRAMS = {
    "good": "import json; print('words'); print(json.dumps({'state': 'ok', 'figure': 3}))",
    "broken": "raise SystemExit('the device is gone')",
    "silent": "print('nothing that is JSON')",
    "hanging": "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); print('begun'); time.sleep(600)",
}


@pytest.fixture(scope="module")
def check():
    """The modules of benchmarks/gpu_check, which is no package."""
    sys.path.insert(0, str(HERE))
    try:
        import device_code
        import running
        import stages

        yield {"running": running, "stages": stages, "device_code": device_code}
    finally:
        sys.path.remove(str(HERE))


@pytest.fixture
def runner(check, tmp_path):
    """A runner of the programs above."""
    for name, text in PROGRAMS.items():
        (tmp_path / f"{name}.py").write_text(text)
    return check["running"].Runner(tmp_path / "out", True, 60.0, programs=tmp_path)


def test_all_stages_together_end_within_ten_minutes(check):
    assert sum(stage.limit_seconds for stage in check["stages"].STAGES) < 600


def test_stages_come_in_the_order_in_which_they_rest_on_each_other(check):
    names = [stage.name for stage in check["stages"].STAGES]
    assert names[:2] == ["versions", "losses-torch"] and names.index("losses-te") < names.index("fp8") < names.index("speed-470m")
    assert all((HERE / stage.program).is_file() for stage in check["stages"].STAGES) and len(set(names)) == len(names)


def test_stage_that_fails_or_says_nothing_keeps_no_other_from_running(check, runner):
    made = [check["stages"].Stage(name, f"{name}.py", (), 200.0, "a claim") for name in ("broken", "silent", "good")]
    assert [runner.run(stage)["state"] for stage in made] == ["failed", "failed", "ok"]
    results = [json.loads(line) for line in (runner.folder / "results.jsonl").read_text().splitlines()]
    assert [result["stage"] for result in results] == ["broken", "silent", "good"] and results[2]["figure"] == 3
    assert results[0]["exit_code"] == 1 and results[0]["last_line"] == "the device is gone"
    assert {result["on"] for result in results} == {"simulated CUDA"}


def test_stage_that_hangs_is_ended_with_what_it_started(check, runner):
    began = time.monotonic()
    found = runner.run(check["stages"].Stage("hanging", "hanging.py", (), 10.0, "a claim"))
    assert (found["state"], found["last_line"]) == ("out of time", "begun") and time.monotonic() - began < 30
    log = str(runner.folder / "hanging.log")
    assert not [line for line in open_files() if log in line]


def open_files() -> list[str]:
    """Return the files that processes of this machine have open; those of a stage all write to its log."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            found += [entry.path for entry in process.open_files()]
        except psutil.Error:
            continue
    return found


def test_stage_for_which_no_time_is_left_is_not_begun(check, runner):
    runner.total = 1.0
    found = runner.run(check["stages"].Stage("good", "good.py", (), 20.0, "a claim"))
    assert found["state"] == "no time was left" and not (runner.folder / "good.log").exists()


def fat_binary(codes: dict[int, bytes]) -> bytes:
    """Return one as nvcc writes it: a header, and for each architecture a header of 64 bytes and its code."""
    body = b"".join(
        struct.pack("<HHIQ", 2, 0x101, 64, len(code)) + bytes(12) + struct.pack("<I", arch) + bytes(32) + code
        for arch, code in codes.items()
    )
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def test_device_code_of_one_architecture_stays_and_that_of_others_becomes_zeros(check, tmp_path):
    library, chance = tmp_path / "library.so", struct.pack("<I", 0xBA55ED50) + b"not a fat binary"
    host = b"\x7fELF" + chance + bytes(16)
    library.write_bytes(host + fat_binary({80: b"a" * 24, 90: b"b" * 40}) + host + fat_binary({90: b"c" * 8}) + host)
    assert check["device_code"].keep_architecture(library, 90) == 48
    pruned = library.read_bytes()
    assert pruned == host + fat_binary({80: bytes(24), 90: b"b" * 40}) + host + fat_binary({90: b"c" * 8}) + host
    with pytest.raises(ValueError, match="no device code for sm_75; there is sm_80, sm_90"):
        check["device_code"].keep_architecture(library, 75)


@pytest.mark.timeout(600)
def test_a_stage_runs_on_simulated_cuda_and_says_so(check, tmp_path):
    runner = check["running"].Runner(tmp_path, True, 560.0)
    (stage,) = [stage for stage in check["stages"].STAGES if stage.name == "adam-torch"]
    found = runner.run(check["stages"].Stage(stage.name, stage.program, stage.words, 550.0, stage.claim))
    assert found["state"] == "ok" and found["largest_difference"] < 1e-5, (tmp_path / "adam-torch.log").read_text()
    assert found["on"] == "simulated CUDA" and found["simulated"].startswith("with values: CPU tensors stand for CUDA ones")
