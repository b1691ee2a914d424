"""A recipe that says otherwise than the corpora it names is refused, with what differs; a project that was moved is not."""

import copy
import json
import shutil
from dataclasses import replace

import pytest

from codemix_megatron.corpus.prepare import prepare_recipe
from codemix_megatron.corpus.tokenizers import load_tokenizer
from codemix_megatron.errors import CorpusError
from codemix_megatron.plan.agreement import find_disagreements
from codemix_megatron.plan.plan import make_plan, read_manifests
from codemix_megatron.plan.tokenizer_agreement import vocabulary_of
from codemix_megatron.recipe.reading import build_recipe
from codemix_megatron.recipe.reading_documents import how_documents_are_read
from codemix_megatron.recipe.yaml_text import apply_overrides

PLAIN = {
    "name": "agreeing",
    "model": {"num_layers": 1, "hidden_size": 16, "num_attention_heads": 2, "sequence_length": 16},
    "batch": {"global_sequences": 2},
    "tokenizer": {"path": "tokenizer.json", "train_vocab_size": 300},
    "corpora": {
        "prose": {"documents": ["data/prose/*.jsonl"]},
        "code": {"kind": "code", "documents": ["data/code/*.jsonl"], "filters": {"min_characters": 4}},
    },
    "phases": [{"name": "one", "tokens": 64, "mixture": {"prose": 0.5, "code": 0.5}, "learning_rate": {"peak": 1e-3}}],
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with documents, prepared."""
    folder = tmp_path_factory.mktemp("agreeing") / "project"
    for name, licence in (("prose", "mit"), ("code", "gpl-3.0")):
        (folder / "data" / name).mkdir(parents=True)
        rows = [{"text": f"{name} number {i} says {i * i}", "license": licence} for i in range(60)]
        (folder / "data" / name / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "eval.jsonl").write_text(json.dumps({"text": "one item of an evaluation set"}) + "\n")
    prepare_recipe(recipe_of(folder))
    return folder


def recipe_of(folder, *overrides):
    return build_recipe(apply_overrides(copy.deepcopy(PLAIN), overrides), directory=folder)


def test_corpora_prepared_from_the_recipe_agree_with_it(project):
    assert set(read_manifests(recipe_of(project))) == {"prose", "code"}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "corpora.code.filters.licences=[permissive]",
            "corpora.code.filters.licences: permissive in the recipe, none when it was prepared",
        ),
        ("corpora.code.filters={}", "corpora.code.filters.min_characters: none in the recipe, 4 when it was prepared"),
        ("corpora.code.filters.decontamination={against: [eval.jsonl]}", "corpora.code.filters.decontamination: {'against'"),
        ("corpora.prose.documents=[data/code/*.jsonl.gz]", "corpora.prose.documents: "),
        ("corpora.prose.documents=[data/other/*.jsonl]", "data/other/*.jsonl in the recipe, "),
        ("corpora.prose.kind=markup", "corpora.prose.kind: markup in the recipe, text when it was prepared"),
        ("evaluation.held_out_share=0.2", "corpora.code.held_out_share: 0.2 in the recipe's evaluation, 0.01 when it was prepared"),
        ("corpora.prose.text_key=content", "corpora.prose.text_key: content in the recipe, text when it was prepared"),
        ("corpora.code.text_documents=line", "corpora.code.text_documents: line in the recipe, file when it was prepared"),
        ("corpora.prose.shuffle=true", "corpora.prose.shuffle: true in the recipe, false when it was prepared"),
    ],
)
def test_a_recipe_that_says_otherwise_is_refused_with_the_difference(project, override, said):
    with pytest.raises(CorpusError) as caught:
        read_manifests(recipe_of(project, override))
    assert said in str(caught.value) and "prepare" in str(caught.value)


def test_another_tokenizer_under_the_recipes_name_is_refused(project, tmp_path):
    moved = shutil.copytree(project, tmp_path / "project")
    plain = json.loads((moved / "tokenizer.json").read_text())
    vocabulary = plain["model"]["vocab"]
    first, second = list(vocabulary)[50:52]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (moved / "tokenizer.json").write_text(json.dumps(plain))
    with pytest.raises(CorpusError, match="made with another tokenizer") as caught:
        read_manifests(recipe_of(moved))
    assert str(caught.value).count("made with another tokenizer") == 2


def test_another_end_of_documents_is_refused(project):
    recipe, manifests = recipe_of(project), read_manifests(recipe_of(project))
    end = load_tokenizer(project / "tokenizer.json").end_of_document_id
    named = recipe_of(project, f"tokenizer.end_of_document={json.dumps(vocabulary_of(project / 'tokenizer.json')[end])}")
    assert find_disagreements(named, manifests) == []
    other = {name: replace(m, tokenizer=replace(m.tokenizer, end_of_document_id=end + 1)) for name, m in manifests.items()}
    assert f"its documents end in id {end + 1}, tokenizer.end_of_document" in find_disagreements(named, other)[0]
    assert find_disagreements(recipe, other) == []


def test_another_beginning_of_documents_is_refused(project):
    """Documents without the token were trained on, and the model asked with it afterwards."""
    manifests = read_manifests(recipe_of(project))
    number = load_tokenizer(project / "tokenizer.json").end_of_document_id  # its one special token
    begun = recipe_of(project, f"tokenizer.beginning_of_document={json.dumps(vocabulary_of(project / 'tokenizer.json')[number])}")
    assert "the token its documents begin with is none, tokenizer.beginning_of_document" in find_disagreements(begun, manifests)[0]
    same = {name: replace(m, tokenizer=replace(m.tokenizer, beginning_of_document_id=number)) for name, m in manifests.items()}
    assert find_disagreements(begun, same) == []


def test_answers_learned_otherwise_than_the_corpus_was_prepared_for_are_refused(project):
    manifests = read_manifests(recipe_of(project))
    chats = "corpora.prose.conversations={template: chats/mine.jinja, learn: %s}"
    prepared, asked = recipe_of(project, chats % "answers"), recipe_of(project, chats % "everything")
    masked = replace(manifests["prose"], reading=how_documents_are_read(prepared.corpora["prose"]), loss_mask_sha256="there")
    assert find_disagreements(prepared, manifests | {"prose": masked}) == []
    (fault,) = find_disagreements(asked, manifests | {"prose": masked})
    assert "corpora.prose.conversations: " in fault and "'learn': 'everything'" in fault and "mine.jinja" in fault
    older = replace(masked, reading={})
    assert find_disagreements(asked, manifests | {"prose": older}) == []


def test_a_project_that_was_moved_and_corpora_that_were_taken_elsewhere_agree(project, tmp_path):
    moved = shutil.copytree(project, tmp_path / "elsewhere" / "project")
    assert read_manifests(recipe_of(moved))
    shutil.copytree(project / "corpora", tmp_path / "cluster" / "prepared")
    away = [f"corpora.{name}.prefix={tmp_path}/cluster/prepared/{name}" for name in ("prose", "code")]
    assert read_manifests(recipe_of(moved, *away))
    assert read_manifests(recipe_of(tmp_path, "corpora.prose.documents=[]", "corpora.code.documents=[]", *away))
    with pytest.raises(CorpusError, match=r"corpora\.prose\.documents"):
        read_manifests(recipe_of(moved, "corpora.prose.documents=[data/prose/*.txt]", *away))


@pytest.fixture
def public_model(tmp_path, project):
    """Return a function that makes a public model's folder whose tokenizer is the corpora's with some ids exchanged."""

    def make(exchanged: dict[int, int], fewer: int = 0):
        folder = tmp_path / "model"
        folder.mkdir()
        config = {
            "model_type": "llama", "vocab_size": 512, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 16, "rms_norm_eps": 1e-5,
            "tie_word_embeddings": True, "hidden_act": "silu", "rope_theta": 10000.0,
        }  # fmt: skip
        (folder / "config.json").write_text(json.dumps(config))
        plain = json.loads((project / "tokenizer.json").read_text())
        words = {number: token for token, number in plain["model"]["vocab"].items()}
        plain["model"]["vocab"] = {words[exchanged.get(n, n)]: n for n in sorted(words) if n < len(words) - fewer}
        plain["model"]["merges"] = plain["model"]["merges"][: len(plain["model"]["merges"]) - fewer]
        (folder / "tokenizer.json").write_text(json.dumps(plain, indent=1))  # other bytes
        return folder

    return make


def from_public(project, folder):
    plain = copy.deepcopy(PLAIN)
    del plain["model"]
    plain["model"] = {"sequence_length": 16}
    return build_recipe(plain | {"initial_weights": f"hf:{folder}"}, directory=project)


def test_a_public_model_to_which_two_ids_mean_each_other_is_refused(project, public_model):
    with pytest.raises(CorpusError, match=r"2 of \d+ ids of the corpora .* are other tokens to the model .*: id 100 is '.*' here and"):
        read_manifests(from_public(project, public_model({100: 101, 101: 100})))


def test_a_public_model_whose_tokenizer_file_was_only_written_again_is_taken(project, public_model):
    assert read_manifests(from_public(project, public_model({})))


def test_tokens_the_corpora_have_beyond_the_models_may_be_new(project, public_model):
    assert read_manifests(from_public(project, public_model({}, fewer=3)))


def begin_with(folder, name: str = "<|begin|>"):
    """Have a public model's tokenizer put a token before each text."""
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": name, "add_bos_token": True}))
    return folder


def test_a_public_model_whose_texts_begin_with_a_token_that_documents_lack_is_warned_of(project, public_model):
    recipe = from_public(project, begin_with(public_model({})))
    (found,) = make_plan(recipe, read_manifests(recipe)).warnings
    assert (
        "puts <|begin|> before each text" in found
        and 'tokenizer.beginning_of_document: "<|begin|>"' in found
        and "codemix prepare" in found
    )


def test_documents_that_begin_with_it_and_a_model_without_one_are_not(project, public_model):
    folder = public_model({})
    recipe = from_public(project, folder)
    assert make_plan(recipe, read_manifests(recipe)).warnings == []
    begin_with(folder)
    manifests = {
        name: replace(manifest, tokenizer=replace(manifest.tokenizer, beginning_of_document_id=1))
        for name, manifest in read_manifests(recipe).items()
    }
    assert make_plan(recipe, manifests).warnings == []
