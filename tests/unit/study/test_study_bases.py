"""A study whose runs start from a public model scores that model once, by itself, as its runs are scored."""

from dataclasses import replace
from pathlib import Path

from small_study import graph_of

from codemix_megatron.cli.main import build_parser
from codemix_megatron.cli.study.progress import failed_bases
from codemix_megatron.launch.slurm.command_job import render_scoring
from codemix_megatron.launch.slurm.site import Site
from codemix_megatron.records.scores import BitsPerByte, Scores
from codemix_megatron.study.folder import StudyFolder
from codemix_megatron.study.reporting import read_bases
from codemix_megatron.study.tasks import find_bases, is_done, list_tasks


def graph_from(folder: Path, model: str):
    """Return the small study's graph with its roots starting from a public model."""
    graph = graph_of(folder)
    segments = {
        name: segment if segment.parent else replace(segment, recipe=replace(segment.recipe, initial_weights=f"hf:{model}"))
        for name, segment in graph.segments.items()
    }
    return replace(graph, segments=segments)


def test_the_base_is_scored_once_as_the_runs_are(tmp_path):
    graph, folder = graph_from(tmp_path, "/models/SmolLM2-135M"), StudyFolder(tmp_path / "study")
    tasks = list_tasks(graph, folder, with_scores=True)
    (base,) = [task for task in tasks.values() if task.is_of_base]
    assert list(tasks)[-1] == base.name == "@base-SmolLM2-135M@score" and not base.needs and not base.is_training
    (words,) = base.commands
    root = graph.children(None)[0].name
    output = folder.run("@base-SmolLM2-135M").scores
    assert words == ("evaluate", "/models/SmolLM2-135M", "--corpora", str(folder.recipe(root)), "--output", str(output))
    asked = build_parser(list(words)).parse_args(words)
    assert (asked.run_folder, asked.corpora, asked.output) == (words[1], words[3], words[5])
    assert not [task for task in list_tasks(graph, folder, with_scores=False).values() if task.is_of_base]
    assert find_bases(graph_of(tmp_path)) == {}, "drawn weights are no base"


def test_scores_of_the_base_are_done_and_read_by_the_report(tmp_path):
    graph, folder = graph_from(tmp_path, "/models/tiny"), StudyFolder(tmp_path / "study")
    task = list_tasks(graph, folder, with_scores=True)["@base-tiny@score"]
    assert not is_done(task, folder) and read_bases(folder) == []
    scores = folder.run("@base-tiny").scores
    scores.mkdir(parents=True)
    bits = BitsPerByte(corpus="text", value=1.25, standard_error=0.1, documents=3, tokens=9, bytes=30)
    Scores(model="/models/tiny", step=0, tokens=0, bits_per_byte=[bits]).write(scores / "scores.json")
    assert is_done(task, folder)
    (base,) = read_bases(folder)
    assert (base.name, base.tokens, base.scores[-1].bits_per_byte[0].value) == ("tiny", 0, 1.25)


def test_on_slurm_its_job_scores_and_exports_nothing(tmp_path):
    graph, folder = graph_from(tmp_path, "/models/tiny"), StudyFolder(tmp_path / "study")
    task = list_tasks(graph, folder, with_scores=True)["@base-tiny@score"]
    script, _ = render_scoring(folder.run(task.segment), Site(), commands=task.commands)["score"]
    assert "evaluate /models/tiny --corpora" in script and f"export {folder.run(task.segment)}" not in script


def test_a_base_that_could_not_be_scored_is_named():
    tasks = {"@base-tiny@score": {"state": "failed", "error": "no eos_token"}, "plain@score": {"state": "failed", "error": "x"}}
    assert failed_bases(tasks) == ["tiny, from which runs start: not scored, no eos_token"]
