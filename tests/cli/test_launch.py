"""codemix launch looks at everything before Slurm is asked."""

import pytest

from codemix_megatron.cli.main import main

SITE = "partition: train\nranks_per_node: 2\n"


@pytest.fixture
def launch(tiny, tmp_path, capsys):
    """Call it with words; gives exit code and everything it printed."""
    site = tmp_path / "site.yaml"
    site.write_text(SITE)

    def call(*words):
        code = main(["launch", *map(str, words), "--site", str(site)])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return call


def test_dry_run_prints_the_script_and_writes_nothing(launch, tiny, tmp_path):
    code, printed = launch(tiny.recipe, "--folder", tmp_path / "run", "--nodes", 2, "--dry-run", "parallel.tensor=2")
    assert code == 0, printed
    assert "#SBATCH --nodes=2\n#SBATCH --ntasks-per-node=2\n" in printed and "launch.slurm.batch train" in printed
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["parallel.pipeline=4", "--nodes", "1"], "1 node x 2 ranks: 2 ranks do not divide into copies of 4"),
        (["parallel.data=2", "--nodes", "2"], "2 nodes x 2 ranks: 4 ranks asked for"),
        (["phases.0.tokens=9M"], "lower its share, add documents"),
        (["seeed=1"], "seeed: no such key; did you mean seed?"),
        (
            ["--tasks", "3", "--suite", "small", "--nodes", "0"],
            "--tasks: belongs to --prepare; --suite, --data and --trust: belong to --evaluate; --nodes: found 0",
        ),
        (["--prepare", "--nodes", "2"], "--nodes: belongs to training"),
    ],
)
def test_what_cannot_be_launched_is_refused_before_slurm_is_asked(launch, tiny, tmp_path, words, told):
    code, printed = launch(tiny.recipe, "--folder", tmp_path / "run", *words)
    assert code == 2 and told in printed
    assert not (tmp_path / "run").exists()


def test_machine_without_slurm_is_told(launch, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, printed = launch(tiny.recipe, "--folder", tmp_path / "run")
    assert code == 2 and "not found; run this where Slurm's commands are" in printed


def test_tokenizer_that_is_to_be_trained_has_a_job_before_the_array(launch, tiny, tmp_path):
    words = [tiny.recipe, "--prepare", "--tasks", 3, "--dry-run", "--folder", tmp_path / "run"]
    _, there = launch(*words)
    _, missing = launch(*words, f"tokenizer.path={tmp_path}/none.json")
    assert "--tokenizer-only" not in there and "--tokenizer-only" in missing
    assert "#SBATCH --array=0-2" in there and '--shard "$SLURM_ARRAY_TASK_ID"/3' in there


def test_every_key_of_a_site_is_printed(capsys):
    assert main(["launch", "--site-keys"]) == 0
    assert "max_starts_without_progress    [3] starts in a row" in capsys.readouterr().out
