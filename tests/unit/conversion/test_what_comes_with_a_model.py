"""Tokenizer, special tokens, context, generation settings and licence of a public model: kept by the run, and out again as they were."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from family_models import carry, make_model, train_sentencepiece
from tokenizers import Tokenizer

from codemix_megatron.checkpoint.metadata import read_metadata, write_metadata
from codemix_megatron.conversion import importing
from codemix_megatron.conversion.checkpoint_source import CheckpointSource
from codemix_megatron.conversion.export import ExportOptions, export_run
from codemix_megatron.conversion.model_files import carry_model_files, licence_of
from codemix_megatron.conversion.parity import largest_difference
from codemix_megatron.conversion.sample_texts import TOKENIZER_TEXTS
from codemix_megatron.conversion.sentencepiece_model import convert_sentencepiece
from codemix_megatron.conversion.tokenizer_files import check_tokenizer
from codemix_megatron.corpus.tokenizers import SpecialTokens, load_tokenizer
from codemix_megatron.errors import ConversionError
from codemix_megatron.recipe.pretrained import take_over_pretrained
from codemix_megatron.records.run_folder import RunFolder


@pytest.fixture
def llama(tmp_path):
    """A small Llama with everything that may lie beside its weights."""
    folder = tmp_path / "theirs"
    make_model("llama", folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "TokenizersBackend", "extra_special_tokens": ["<|pad|>"], "chat_template": "{{ messages }}"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text('{"temperature": 0.6, "eos_token_id": [256, 258]}')
    (folder / "LICENSE").write_text("do as you like")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\ntags: [x]\n---\n# A model\n")
    return folder


def exported(run, folder):
    """Export without comparing logits."""
    return export_run(RunFolder(run), output=folder, options=ExportOptions(parity=False)).folder


def test_an_export_needs_nothing_of_the_folder_the_model_came_from(llama, tmp_path):
    carry(llama, tmp_path / "run", parity=False)
    kept = {name: (llama / name).read_bytes() for name in ("tokenizer.json", "generation_config.json", "LICENSE")}
    shutil.rmtree(llama)
    folder = exported(tmp_path / "run", tmp_path / "ours")
    model_card = (folder / "README.md").read_text()
    assert (
        "license: apache-2.0" in model_card
        and "Started from the weights of theirs under apache-2.0; its LICENSE lies beside." in model_card
    )
    assert {name: (folder / name).read_bytes() for name in kept} == kept
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert config["chat_template"] == "{{ messages }}" and config["bos_token"] == "<|begin|>" and config["pad_token"] == "<|pad|>"


def test_tokenizer_configurations_of_transformers_5_are_put_in_words_that_4_knows(llama, tmp_path):
    carry(llama, tmp_path / "run", parity=False)
    config = json.loads((exported(tmp_path / "run", tmp_path / "ours") / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert config["additional_special_tokens"] == ["<|pad|>"] and "extra_special_tokens" not in config


@pytest.mark.parametrize("name", ["tokenizer_config.json", "generation_config.json", "LICENSE"])
def test_a_file_of_the_model_that_is_gone_or_changed_is_named(llama, tmp_path, name):
    carry(llama, tmp_path / "run", parity=False)
    kept = tmp_path / "run" / "tokenizer" / name
    kept.write_text("{}")
    with pytest.raises(ConversionError, match=f"{name}: is not as it came with the model"):
        exported(tmp_path / "run", tmp_path / "ours")
    kept.unlink()
    with pytest.raises(ConversionError, match=f"{name}: came with the model and is gone; put it back"):
        exported(tmp_path / "run", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_a_run_that_starts_from_an_import_keeps_the_files_too(llama, tmp_path):
    carry(llama, tmp_path / "parent", parity=False)
    parent, child = RunFolder(tmp_path / "parent"), RunFolder(tmp_path / "child")
    shutil.copytree(parent.checkpoints, child.checkpoints)
    carry_model_files(parent.checkpoint(0), child)
    shutil.rmtree(parent.path)
    folder = exported(child.path, tmp_path / "ours")
    assert (folder / "LICENSE").read_text() == "do as you like"


def test_what_training_shortened_or_lengthened_is_the_context_only_where_it_is_longer(llama, tmp_path):
    carry(llama, tmp_path / "run", parity=False)
    checkpoint = tmp_path / "run" / "checkpoints" / "step-0"
    for trained, expected in ((32, 128), (512, 512)):
        metadata = read_metadata(checkpoint)
        write_metadata(checkpoint, metadata | {"model": metadata["model"] | {"sequence_length": trained}})
        config = json.loads((exported(tmp_path / "run", tmp_path / "ours") / "config.json").read_text())
        assert config["max_position_embeddings"] == expected


@pytest.fixture
def trained_here(llama, tmp_path):
    """The export of a model that came from nowhere, with a tokenizer.json that has nothing beside it."""
    carry(llama, tmp_path / "run", parity=False)
    checkpoint, alone = tmp_path / "run" / "checkpoints" / "step-0", tmp_path / "alone"
    alone.mkdir()
    shutil.copyfile(llama / "tokenizer.json", alone / "tokenizer.json")
    shutil.rmtree(tmp_path / "run" / "tokenizer")
    write_metadata(checkpoint, read_metadata(checkpoint) | {"hugging_face": None, "tokenizer": vars(load_tokenizer(alone).metadata)})
    return exported(tmp_path / "run", tmp_path / "ours")


def test_a_run_that_was_moved_finds_the_tokenizer_its_recipe_names_now(llama, tmp_path, trained_here):
    """The checkpoint's metadata names the folder where it was trained; the recipe that resumed it names another."""
    alone, there, run = tmp_path / "alone", tmp_path / "there", tmp_path / "run"
    there.mkdir()
    (alone / "tokenizer.json").rename(there / "tokenizer.json")
    with pytest.raises(ConversionError, match=r"alone/tokenizer\.json: the tokenizer of this checkpoint is gone"):
        exported(run, tmp_path / "again")
    (run / "recipe.yaml").write_text(f"tokenizer: {{path: {there / 'tokenizer.json'}}}\n")
    assert (exported(run, tmp_path / "again") / "tokenizer.json").read_bytes() == (trained_here / "tokenizer.json").read_bytes()
    (there / "tokenizer.json").write_bytes((there / "tokenizer.json").read_bytes() + b" ")
    with pytest.raises(ConversionError, match="is gone"):
        exported(run, tmp_path / "third")


def test_special_tokens_of_a_model_trained_here_are_its_end_of_document_and_no_other(trained_here):
    """A class's own default would be somebody else's token."""
    config = json.loads((trained_here / "config.json").read_text())
    assert {name: config[f"{name}_token_id"] for name in ("bos", "eos", "pad")} == {"bos": None, "eos": 256, "pad": None}
    tokens = json.loads((trained_here / "tokenizer_config.json").read_text())
    assert tokens["eos_token"] == "<|endoftext|>" and "pad_token" not in tokens and "bos_token" not in tokens


@pytest.mark.parametrize("configured", [False, True])
def test_an_export_puts_the_token_that_began_documents_before_each_text(llama, tmp_path, configured):
    """With a tokenizer that nothing lies beside, and with that of a public model whose configuration says to add none."""
    from transformers import AutoTokenizer

    config = json.loads((llama / "tokenizer_config.json").read_text())
    (llama / "tokenizer_config.json").write_text(
        json.dumps({k: v for k, v in config.items() if k != "bos_token"} | {"add_bos_token": False})
    )
    carry(llama, tmp_path / "run", parity=False)
    checkpoint, alone = tmp_path / "run" / "checkpoints" / "step-0", tmp_path / "alone"
    alone.mkdir()
    shutil.copyfile(llama / "tokenizer.json", alone / "tokenizer.json")
    metadata, special = read_metadata(checkpoint), SpecialTokens(beginning_of_document="<|begin|>")
    ours = load_tokenizer(alone if not configured else tmp_path / "run" / "tokenizer", special=special).metadata
    if not configured:
        shutil.rmtree(tmp_path / "run" / "tokenizer")
    write_metadata(checkpoint, metadata | {"hugging_face": metadata["hugging_face"] if configured else None, "tokenizer": vars(ours)})
    folder = exported(tmp_path / "run", tmp_path / "ours")
    assert json.loads((folder / "config.json").read_text())["bos_token_id"] == 257
    tokenizer = AutoTokenizer.from_pretrained(folder)
    plain = tokenizer("x = 1", add_special_tokens=False).input_ids
    assert tokenizer("x = 1").input_ids == [257, *plain] and tokenizer.bos_token_id == 257
    assert check_tokenizer(ours, folder) == 257


def test_the_end_token_of_an_export_gets_its_gradient_in_transformers(trained_here):
    """transformers gives the row of a padding token none."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(trained_here)
    ids = torch.tensor([[5, 256, 7, 256]])
    model(ids, labels=ids).loss.backward()
    assert model.get_input_embeddings().weight.grad[256].norm() > 0


def test_what_config_json_does_not_say_is_not_said_by_the_export(llama, tmp_path):
    said = json.loads((llama / "config.json").read_text())
    (llama / "config.json").write_text(json.dumps({k: v for k, v in said.items() if k not in ("pad_token_id", "bos_token_id")}))
    (llama / "tokenizer_config.json").unlink()
    (llama / "generation_config.json").unlink()
    carry(llama, tmp_path / "run", parity=False)
    folder = exported(tmp_path / "run", tmp_path / "ours")
    config = json.loads((folder / "config.json").read_text())
    assert "pad_token_id" not in config and "bos_token_id" not in config and config["eos_token_id"] == 256
    assert not (folder / "tokenizer_config.json").exists() and not (folder / "generation_config.json").exists()


def test_a_run_of_before_says_that_the_configuration_of_its_tokenizer_is_gone(llama, tmp_path):
    """Runs of earlier versions kept no copy: their tokenizer stands in the folder it came in."""
    carry(llama, tmp_path / "run", parity=False)
    checkpoint = tmp_path / "run" / "checkpoints" / "step-0"
    metadata = read_metadata(checkpoint)
    metadata["tokenizer"]["path"] = str(llama / "tokenizer.json")
    del metadata["hugging_face"]["files"]
    write_metadata(checkpoint, metadata)
    shutil.rmtree(tmp_path / "run" / "tokenizer")
    assert (exported(tmp_path / "run", tmp_path / "ours") / "tokenizer_config.json").is_file()
    (llama / "tokenizer_config.json").unlink()
    with pytest.raises(ConversionError, match=r"tokenizer_config.json: gone, and with it the special tokens"):
        exported(tmp_path / "run", tmp_path / "other")


def test_sentencepiece_file_of_an_import_comes_out_with_the_ids_of_training(llama, tmp_path):
    make_model("llama", tmp_path / "wide", vocab_size=500)
    path = train_sentencepiece(tmp_path / "wide" / "tokenizer.model", 500)
    (tmp_path / "wide" / "tokenizer.json").unlink()
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "chat_template": "x"}
    (tmp_path / "wide" / "tokenizer_config.json").write_text(json.dumps(config))
    carry(tmp_path / "wide", tmp_path / "run", parity=False, tokenizer="tokenizer.model")
    folder = exported(tmp_path / "run", tmp_path / "ours")
    written = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ours = load_tokenizer(path)
    for text in TOKENIZER_TEXTS:
        assert written.encode(text, add_special_tokens=False).ids == ours.encode_batch([text])[0].tolist()
    assert written.encode("x").ids[0] == ours.token_id("<s>"), "Llama's class puts a first token before each text"
    tokens = json.loads((folder / "tokenizer_config.json").read_text())
    assert tokens["chat_template"] == "x" and (folder / "tokenizer.model").read_bytes() == path.read_bytes()


def test_sentencepiece_models_of_others_are_converted_with_equal_ids_or_refused(shared_data):
    """Mistral's, a unigram with a normalizer, and one whose unknown characters swallow the space after them."""
    folder = shared_data / "tokenizers"
    for name in ("mistral/tokenizer.model", "made/sp_unigram.model"):
        convert_sentencepiece((folder / name).read_bytes(), name)  # compares
    with pytest.raises(ConversionError, match="no tokenizer.json gives this sentencepiece model's ids"):
        convert_sentencepiece((folder / "made/sp_nofallback.model").read_bytes(), "it")


def test_end_of_documents_is_what_the_configuration_names(tmp_path):
    """Cohere and DeepSeek-Coder call it otherwise; a chat model names the end of a turn, and Megatron takes that too."""
    from tokenizers import AddedToken, models

    for named, names, expected in (
        ("<｜end▁of▁sentence｜>", ["<｜end▁of▁sentence｜>"], "<｜end▁of▁sentence｜>"),
        ({"content": "<|END_OF_TURN_TOKEN|>"}, ["<|END_OF_TURN_TOKEN|>"], "<|END_OF_TURN_TOKEN|>"),
        ("</s>", ["<|endoftext|>", "</s>"], "</s>"),
        ("<|im_end|>", ["<|endoftext|>", "<|im_end|>"], "<|im_end|>"),
        (None, ["<|endoftext|>"], "<|endoftext|>"),
    ):
        tokenizer = Tokenizer(models.BPE({"x": 0}, []))
        tokenizer.add_special_tokens([AddedToken(name, special=True) for name in names])
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": named}))
        assert load_tokenizer(tmp_path).end_of_document_id == tokenizer.token_to_id(expected), named


def test_logits_that_are_no_numbers_count_as_different():
    """Python's max() takes the other number, whatever NaN stands beside it."""
    theirs = [torch.full((4, 8), float("nan")), torch.zeros(4, 8)]
    difference = largest_difference(lambda row, *_: torch.zeros(1, 4, 8), [torch.zeros(4)] * 2, theirs, 8, lambda *_: None)
    assert difference != difference


def test_length_of_training_sequences_is_asked_for_where_the_context_is_long(llama):
    config = json.loads((llama / "config.json").read_text())
    (llama / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 131072}))
    faults = []
    take_over_pretrained({"initial_weights": f"hf:{llama}"}, llama, faults)
    assert len(faults) == 1 and "model.sequence_length: missing" in faults[0] and "131072" in faults[0]
    faults = []
    taken = take_over_pretrained({"initial_weights": f"hf:{llama}", "model": {"sequence_length": 4096}}, llama, faults)
    assert not faults and taken["model"]["sequence_length"] == 4096


def test_licence_is_read_from_the_head_of_the_readme(llama, tmp_path):
    assert licence_of(llama) == "apache-2.0"
    (llama / "README.md").write_text("---\nlicense: [\n---\n")
    assert licence_of(llama) is None and licence_of(tmp_path) is None
    carry(llama, tmp_path / "run", parity=False)
    origin = CheckpointSource(tmp_path / "run" / "checkpoints" / "step-0").origin
    assert origin["name"] == "theirs" and origin["max_position_embeddings"] == 128 and "LICENSE" in origin["files"]


def test_model_that_a_start_before_converted_gives_way_to_another_one_asked_for(tmp_path, monkeypatch):
    """A run that has saved nothing may be given another model of the same name; it began with the first one's weights."""
    run, converted = RunFolder(tmp_path / "run"), []
    for name in ("first", "second"):
        (tmp_path / name / "model").mkdir(parents=True)
        (tmp_path / name / "model" / "config.json").write_text("{}")
    for name in ("pretrained_model", "SafetensorsFolder", "check_tensors", "refuse_without_memory"):
        monkeypatch.setattr(importing, name, lambda *_: None)
    monkeypatch.setattr(importing, "recipe_tokenizer", lambda _: SimpleNamespace(metadata=None))
    monkeypatch.setattr(importing, "write_checkpoint", lambda *_: converted.append(run.initial.exists()))
    run.initial.mkdir(parents=True)
    write_metadata(run.initial, {"imported_from": str(tmp_path / "first" / "model")})

    def start_from(name):
        recipe = SimpleNamespace(initial_weights=f"hf:{tmp_path / name / 'model'}", tokenizer="", parallel=None)
        return importing.import_initial(recipe, run), len(converted)

    (tmp_path / "linked").symlink_to(tmp_path / "first")
    assert [start_from(name) for name in ("first", "linked", "gone")] == [(run.initial, 0)] * 3
    assert start_from("second") == (run.initial, 1) and converted == [False]
