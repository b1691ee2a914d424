"""A study scores where its variants end, prepares what is missing, and is planned and drawn before."""

import copy

import pytest
import yaml
from tiny_run import RECIPE, Tiny, make_documents

STUDY = {
    "name": "scored",
    "base": "recipe.yaml",
    "phases": {"start": {**RECIPE["phases"][0], "tokens": 4 * 512}},
    "variants": {"only": {"phases": ["start"]}},
    "score": {"suites": ["bits_per_byte"]},
}


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Tiny:
    """A folder with documents, the tiny recipe and the study; nothing is prepared."""
    made = Tiny(tmp_path_factory.mktemp("study"))
    make_documents(made.folder)
    made.recipe.write_text(yaml.safe_dump(RECIPE, sort_keys=False))
    (made.folder / "study.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    return made


def test_study_is_planned_and_drawn_before_corpora_are_prepared(here):
    sizes = ["--assume-tokens", "prose=100K,snippets=100K"]
    done = here.codemix_here("study", "plan", "study.yaml", *sizes, "--device", "h100", "--figure", "tree.png")
    assert done.returncode == 0, done.stderr
    for said in (
        "scored: 1 variant in 1 run",
        "sizes of corpora are assumed",
        "on h100 at 40 % of peak",
        "shared by several variants: nothing",
    ):
        assert said in done.stdout
    assert (here.folder / "tree.png").read_bytes().startswith(b"\x89PNG")
    missing = here.codemix_here("study", "plan", "study.yaml")
    assert missing.returncode == 2 and "`codemix study run` prepares what is missing; --assume-tokens plans before" in missing.stderr


def test_bad_words_are_refused_without_a_traceback(here):
    for words, said in (
        (["run", "study.yaml", "--jobs", "0"], "--jobs: found 0, must be at least 1"),
        (["run", "study.yaml", "--on", "slurm"], "--site: missing; give the YAML file that says what this cluster wants"),
        (["status", "."], "not a begun study (no study.json in it)"),
        (["plan", "study.yaml", "--assume-tokens", "pros=1M"], "pros: no such corpus; did you mean prose?"),
        (["plan", "study.yaml", "--assume-tokens", "prose=1M,snippets=1M", "--figure", "tree.gif"], "allowed are .png, .pdf, .svg"),
    ):
        done = here.codemix_here("study", *words)
        assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_scripts_of_all_jobs_are_shown_and_nothing_is_written(here, tmp_path):
    site = tmp_path / "site.yaml"
    site.write_text("partition: p\nprepare: {partition: plain}\nevaluate: {time_limit_hours: 2}\nstudy_run: {qos: low}\n")
    words = ["study", "run", "study.yaml", "--directory", "shown", "--dry-run"]
    shown = here.codemix_here(*words, "--on", "slurm", "--site", site)
    assert shown.returncode == 0, shown.stderr
    scripts = dict(part.split("\n", 1) for part in shown.stdout.split("# ---- ")[1:])
    assert list(scripts) == ["tokenizer", "prepare", "merge", "only", "only@score, after only"]
    assert "--partition=plain" in scripts["prepare"] and "--array=0-3" in scripts["prepare"]
    assert "--qos=low" in scripts["only"] and "batch train" in scripts["only"] and "--time=120" in scripts["only@score, after only"]
    assert not (here.folder / "shown").exists()
    local = here.codemix_here(*words)
    assert local.returncode == 2 and "--dry-run: shows Slurm's scripts; add --on slurm" in local.stderr


@pytest.mark.distributed
def test_study_prepares_trains_scores_and_reports(here):
    done = here.codemix("study", "run", "study.yaml", "--directory", "whole", in_full=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "codemix prepare" in done.stdout and "1 run: 1 done; 1 of 1 scored" in done.stdout
    run = here.folder / "whole" / "runs" / "only"
    assert (run / "exports" / "step-4" / "export.json").is_file() and (run / "scores" / "step-4.json").is_file()
    page = here.codemix_here("study", "report", "whole")
    assert page.returncode == 0 and (here.folder / "whole" / "report" / "index.html").is_file()
    changed = copy.deepcopy(STUDY)
    changed["overrides"] = {"seed": 8}
    (here.folder / "study.yaml").write_text(yaml.safe_dump(changed))
    refused = here.codemix_here("study", "run", "study.yaml", "--directory", "whole")
    assert refused.returncode == 2 and "-seed: 7" in refused.stderr and "+seed: 8" in refused.stderr
