"""The package of docs/extend.md, installed beside this one from the page's own text, does what the page says."""

import importlib
import json
import os
import pickle
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import yaml
from patience import PATIENCE_SECONDS
from tiny_run import REPOSITORY, clean_environment

from codemix_megatron import plugins
from codemix_megatron.cli.main import main
from codemix_megatron.errors import CorpusError, RecipeError
from codemix_megatron.families import registry
from codemix_megatron.plugins import PluginError

PAGE = (REPOSITORY / "docs" / "extend.md").read_text(encoding="utf-8")
TICKETS = {
    "1.ticket": "# Printer\nAda Lovelace says that it prints nothing; ask ada@initech.co\n--\nGrace Hopper, second floor\n",
    "2.ticket": "Without any comment at all\n",
    "3.ticket": "# Keyboard\nsticks, said Grace Hopper.\n",
}


def written(folder, name: str, value: str = "") -> None:
    """Write one file of a package."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(value, encoding="utf-8")


def installed(source, target) -> None:
    """Install a package into a folder, with what is there already and nothing downloaded."""
    words = ["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index", "--target", target]
    done = subprocess.run([sys.executable, "-m", "pip", *words, source], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def acme(tmp_path_factory):
    """The folder that the page's package is installed in."""
    pytest.importorskip("setuptools", reason="setuptools, which builds the package, is not installed")
    folder = tmp_path_factory.mktemp("acme")
    files = dict(re.findall(r"^```\w+\n# (\S+)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
    assert len(files) == 10
    for name, text in files.items():
        written(folder / "source", name, text)
    written(folder / "source", "acme/__init__.py")
    installed(folder / "source", folder / "site")
    return folder / "site"


@pytest.fixture
def beside(acme, monkeypatch):
    """The package as this process sees it."""
    monkeypatch.syspath_prepend(str(acme))
    for cached in (plugins.plugins_of, registry.all_families):
        cached.cache_clear()
    yield acme
    for cached in (plugins.plugins_of, registry.all_families):
        cached.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme"]:
        del sys.modules[name]


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe with the page's block, and tickets beside it."""
    for name, text in TICKETS.items():
        written(tmp_path / "mine/tickets", name, text)
    block = next(yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if text.startswith("corpora:"))
    plain = {
        "name": "mine", "batch": {"global_sequences": 1}, "tokenizer": {"path": "tokenizer.json", "train_vocab_size": 300},
        "model": {"num_layers": 1, "hidden_size": 64, "num_attention_heads": 1, "sequence_length": 64},
        "phases": [{"name": "only", "tokens": 64, "mixture": {"tickets": 1.0}, "learning_rate": {"peak": 1e-3}}], **block,
    }  # fmt: skip
    plain["evaluation"] = {**plain["evaluation"], "held_out_share": 0.0}
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "mine/recipe.yaml", yaml.safe_dump(plain))
    return tmp_path / "mine/recipe.yaml"


def texts_of(prefix, capsys) -> list[str]:
    """Return the documents of a corpus as `codemix inspect` prints them."""
    assert main(["inspect", str(prefix), "--samples", "9", "--characters", "0"]) == 0
    return capsys.readouterr().out


def test_doctor_lists_all_of_it_and_the_page_names_its_groups(acme):
    environment = {**clean_environment(), "PYTHONPATH": os.pathsep.join((str(acme), str(REPOSITORY)))}
    done = subprocess.run(
        [sys.executable, "-m", "codemix_megatron", "doctor", "--plugins"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for group, name in re.findall(r'entry-points\."codemix_megatron\.(\w+)"\]\n(\w+) =', PAGE):
        assert re.search(rf"^{group}:.*\n  {name} +acme 1\.0 +acme\.\w+:\w+ +ok$", done.stdout, re.MULTILINE), done.stdout
    assert {*re.findall(r'codemix_megatron\.(\w+)"\]', PAGE)} == {*plugins.GROUPS}


def test_a_corpus_is_read_filtered_and_masked_by_it(beside, recipe, capsys):
    assert main(["prepare", str(recipe), "--workers", "1"]) == 0
    prefix = recipe.parent / "corpora/tickets"
    manifest = json.loads((recipe.parent / "corpora/tickets.manifest.json").read_text())
    assert manifest["dropped"] == {"few_comments": 1}
    assert manifest["rewritten"] == {"e-mail masked": 1, "person masked": 2}
    assert manifest["filters"]["plugin_packages"] == ["acme 1.0"]
    text = texts_of(prefix, capsys)
    assert "<PERSON> says that it prints nothing; ask <EMAIL>" in text and "sticks, said <PERSON>." in text
    assert "Lovelace" not in text and "Hopper" not in text and "second floor" not in text


def test_another_version_of_it_prepares_again_and_the_same_does_not(beside, recipe):
    metadata = next(beside.glob("acme-*.dist-info")) / "METADATA"
    before, made = metadata.read_text(), []
    try:
        for version in ("1.0", "1.0", "2.0"):
            metadata.write_text(re.sub(r"^Version: .*$", f"Version: {version}", before, flags=re.MULTILINE))
            plugins.plugins_of.cache_clear()
            importlib.invalidate_caches()
            made.append(fingerprint(recipe))
    finally:
        metadata.write_text(before)
    assert made[0] == made[1] != made[2]


def fingerprint(recipe) -> str:
    """Prepare and return the fingerprint of the corpus."""
    assert main(["prepare", str(recipe), "--workers", "1"]) == 0
    return json.loads((recipe.parent / "corpora/tickets.manifest.json").read_text())["input_fingerprint"]


@pytest.mark.parametrize(
    "change, said",
    [
        ("corpora.tickets.filters.plugins={few_comments: {leest: 1}}", r"filter 'few_comments' of acme 1\.0 refuses its settings: KeyError: 'least'"),
        ("corpora.tickets.filters.plugins={no_such: {}}", r"no installed package has a filter 'no_such' \(found: few_comments\)"),
        ("corpora.tickets.filters.plugins=few_comments", r"needs a mapping of a filter's name to its settings"),
        ("corpora.tickets.filters.personal_data=[{name: person, recogniser: nobody}]", r"a recogniser 'nobody' \(found: colleagues\)"),
        ("corpora.tickets.documents=['tickets:./nowhere']", r"nowhere: no folder of tickets"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(beside, recipe, capsys, change, said):
    assert main(["prepare", str(recipe), change, "--workers", "1"]) == 2
    assert re.search(said, capsys.readouterr().err)


def test_a_filter_that_fails_names_the_document_and_publishes_nothing(beside, recipe, capsys, monkeypatch):
    comments = importlib.import_module("acme.comments")
    monkeypatch.setattr(comments, "few_comments", lambda settings: lambda document: 1 / 0)
    assert main(["prepare", str(recipe), "--workers", "1"]) == 2
    error = capsys.readouterr().err
    assert re.search(r"filter 'few_comments' of acme 1\.0 failed on \S+1\.ticket: ZeroDivisionError", error), error
    assert not list((recipe.parent / "corpora").glob("tickets.bin"))


def test_its_filter_goes_to_other_processes_though_its_check_cannot_be_pickled(beside):
    from codemix_megatron.filters.plugin_filters import PluginCheck
    from codemix_megatron.readers.documents import Document

    check = PluginCheck("few_comments", {"least": 0.5})
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(check.check)
    again = pickle.loads(pickle.dumps(check))
    assert [again(Document(text, "x")) for text in ("# a\nb\n", "a\nb\n")] == [None, "0 % comments"]


def test_a_recogniser_that_points_outside_the_text_is_refused(beside, monkeypatch):
    from codemix_megatron.filters import plugin_filters
    from codemix_megatron.filters.personal_data import mask_personal_data
    from codemix_megatron.recipe.filtering import PersonalRecogniser

    plugin_filters.loaded_recogniser.cache_clear()
    monkeypatch.setattr(importlib.import_module("acme.colleagues"), "make_recogniser", lambda: lambda text: [(0, 99)])
    with pytest.raises(CorpusError, match=r"recogniser 'colleagues' of acme 1\.0: found characters 0 to 99 of a text of 5"):
        mask_personal_data("Grace", (PersonalRecogniser(name="person", recogniser="colleagues"),))
    plugin_filters.loaded_recogniser.cache_clear()


def test_events_go_to_its_observer_and_one_that_fails_is_left_out(beside, tmp_path, capsys):
    from codemix_megatron.records.events import StepEvent
    from codemix_megatron.records.journal import read_events
    from codemix_megatron.records.run_folder import RunFolder
    from codemix_megatron.train.observers import PluginObserver

    step = next(event for event in read_events(REPOSITORY / "tests/golden/journal.jsonl") if isinstance(event, StepEvent))
    observer = PluginObserver("loss_table", SimpleNamespace(), RunFolder(tmp_path), 0)
    observer.emit(step)
    assert (tmp_path / "losses.csv").read_text() == f"{step.step},{step.loss}\n"
    observer.observer.stream.close()
    observer.emit(step)
    observer.emit(step)
    assert capsys.readouterr().err.count("observer 'loss_table' of acme 1.0 failed and gets no more events: ValueError") == 1


def test_its_suite_and_its_site_are_found_by_name(beside):
    from codemix_megatron.evaluate.suites import read_suite
    from codemix_megatron.launch.slurm.site import read_site

    assert list(read_suite("acme").tasks[0].files) == ["questions.jsonl"]
    assert read_site("acme").gpus_per_node == 8
    with pytest.raises(RecipeError, match="cannot be read"):
        read_site("acmee")


@pytest.mark.distributed
def test_its_family_goes_both_ways_and_transformers_agrees(beside, tmp_path, monkeypatch):
    import torch
    from family_models import DEFAULT, FAMILIES, carry, make_model, weights_of

    from codemix_megatron.conversion.export import ExportOptions, export_run
    from codemix_megatron.records.run_folder import RunFolder

    monkeypatch.setitem(FAMILIES, "seed_oss", ("seed_oss", {"head_dim": 32, "rope_parameters": DEFAULT}))
    make_model("seed_oss", tmp_path / "theirs")
    assert carry(tmp_path / "theirs", tmp_path / "run")["parity"]["largest_logit_difference"] <= 1e-4
    exported = export_run(RunFolder(tmp_path / "run"), options=ExportOptions(parity=False, family="seed_oss"))
    before, after = weights_of(tmp_path / "theirs"), weights_of(exported.folder)
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


def test_two_packages_with_one_name_and_one_that_cannot_be_imported_are_errors(beside, tmp_path, monkeypatch, capsys):
    other = tmp_path / "other-3.dist-info"
    written(other, "METADATA", "Metadata-Version: 2.1\nName: other\nVersion: 3\n")
    written(other, "entry_points.txt", "[codemix_megatron.sites]\nacme = no_such_module:SITE\nbroken = no_such_module:SITE\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins.plugins_of.cache_clear()
    with pytest.raises(PluginError, match=r"site 'acme' is declared by acme 1\.0 and by other 3; uninstall one of them"):
        plugins.find_plugin("sites", "acme")
    with pytest.raises(PluginError, match=r"site 'broken' of other 3 cannot be loaded from no_such_module:SITE: ModuleNotFoundError"):
        plugins.plugin_file("sites", "broken")
    assert main(["doctor", "--plugins"]) == 1
    said = capsys.readouterr().out
    assert said.count("FAILS") == 3 and re.search(r"loss_table .* ok", said)
