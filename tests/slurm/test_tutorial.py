"""The tutorial "From one Slurm job to a grid", from its own text, on the real Slurm."""

import json

import pytest
from tiny_run import REPOSITORY
from tutorial_pages import commands_of, lines_not_printed


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_one_job_becomes_a_grid_as_the_page_says(cluster, tmp_path, measured):
    done = cluster.run("bash", "-c", f"export PYTHONPATH={REPOSITORY} COLUMNS=200\n{commands_of('slurm-grid')}", cwd=tmp_path, timeout=1500)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert not lines_not_printed("slurm-grid", done.stdout + done.stderr)
    (job,) = (tmp_path / "grid/runs/grid/launch/attempts.jsonl").read_text().splitlines()[-1:]
    assert json.loads(job)["event"] == "end" and json.loads(job)["action"] == "done"
    runs = tmp_path / "grid/study/runs"
    assert {path.name for path in runs.iterdir() if (path / "scores").is_dir()} == {
        f"{variant}-seed-{seed}" for variant in ("with-code", "without-code") for seed in (1, 2)
    }
    assert (tmp_path / "grid/study/report/index.html").stat().st_size > 10_000
    measured("Slurm tutorial: a site file, one job, then 10 jobs of a study with scores and a report, from the page's own blocks")
