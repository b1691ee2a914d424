"""Python that a task names is not run unless its user says so, and then the record says it too."""

import json

import pytest
import yaml
from tiny_run import REPOSITORY

from codemix_megatron.errors import EvaluationError, RecipeError
from codemix_megatron.evaluate.harness import run_definition, run_folder_tasks
from codemix_megatron.recipe.reading import read_recipe
from codemix_megatron.trust import TASK_CODE

PLAIN = {
    "task": "asked",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"validation": "questions.jsonl"}},
    "validation_split": "validation",
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{key}}",
    "metric_list": [{"metric": "acc"}],
}
CODE = "open('{mark}', 'w').close()\ndef call(*given, **named):\n    return given[0] if given else None\n"
METRIC = "import evaluate\nopen('{mark}', 'w').close()\n"


@pytest.fixture
def folder(tmp_path):
    """A folder with questions, a module and a metric that make a file when they are imported."""
    (tmp_path / "questions.jsonl").write_text(json.dumps({"question": "1?", "choices": ["a", "b"], "key": 0}) + "\n")
    (tmp_path / "code.py").write_text(CODE.format(mark=tmp_path / "ran"))
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "code.py").write_text(CODE.format(mark=tmp_path / "ran"))
    (tmp_path / "beside" / "part.txt").write_text("doc_to_text: !function code.call\n")
    (tmp_path / "scripted").mkdir()
    (tmp_path / "scripted" / "scripted.py").write_text(METRIC.format(mark=tmp_path / "ran"))
    return tmp_path


WAYS = {
    "text": "doc_to_text: !function code.call",
    "data": "process_docs: !function code.call",
    "class": "class: !function code.call",
    "metric": "metric_list: [{metric: !function code.call, aggregation: mean, higher_is_better: true}]",
    "data set": "custom_dataset: !function code.call",
    "included": "include: beside/part.txt",
    "of the standard library": "process_docs: !function os.system",
    "metric by its path": "metric_list: [{metric: ./scripted}]",
    "metric of evaluate": "metric_list: [{metric: ./scripted, hf_evaluate: true, aggregation: mean, higher_is_better: true}]",
}


@pytest.mark.parametrize("way", WAYS)
def test_code_that_a_task_file_names_is_not_run(folder, way):
    plain = {key: value for key, value in PLAIN.items() if not WAYS[way].startswith(key)}
    (folder / "asked.yaml").write_text(yaml.safe_dump(plain) + WAYS[way] + "\n")
    with pytest.raises(EvaluationError, match=rf"say --trust {TASK_CODE}"):
        run_folder_tasks(None, ["asked"], folder, items=1)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("metric", [{"metric": "{path}"}, {"metric": "{path}", "hf_evaluate": True}])
def test_metric_of_a_suite_is_no_script(folder, metric):
    named = {key: value.format(path=folder / "scripted") if key == "metric" else value for key, value in metric.items()}
    with pytest.raises(EvaluationError, match=rf"none of lm-eval's own.*say --trust {TASK_CODE}"):
        run_definition(None, "asked", {**PLAIN, "metric_list": [named]}, items=1, with_bits=False)
    assert not (folder / "ran").exists()


def test_code_of_a_task_is_run_where_its_user_trusts_it(folder):
    (folder / "asked.yaml").write_text(yaml.safe_dump({**PLAIN, "process_docs": None}).replace("process_docs: null", WAYS["data"]))
    with pytest.raises(EvaluationError, match="cannot be scored"):  # there is no model; the task itself was read
        run_folder_tasks(NoModel(), ["asked"], folder, items=1, trusts_code=True)
    assert (folder / "ran").exists()


class NoModel:
    """Raises when it is asked anything."""


def test_line_that_is_not_there_is_named():
    recipe = REPOSITORY / "examples" / "demo" / "recipe.yaml"
    with pytest.raises(RecipeError, match=r"evaluation.trust\[0\]: no line 'everything'; there are programs, task-code"):
        read_recipe(recipe, ["evaluation.trust=[everything]"])
    assert read_recipe(recipe, ["evaluation.trust=[task-code]"]).evaluation.trust == ("task-code",)
