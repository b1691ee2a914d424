"""Conversations become ids and a loss mask: judged by transformers' own templates and tokenizers."""

import json
import os

import numpy as np
import pytest

from codemix_megatron.corpus.corpus_check import check_corpus
from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.corpus.prepare import HowToPrepare, prepare_corpus
from codemix_megatron.corpus.removal import remove_documents
from codemix_megatron.corpus.tokenizers import load_tokenizer, train_tokenizer
from codemix_megatron.errors import CorpusError
from codemix_megatron.recipe.conversations import Conversations
from codemix_megatron.recipe.filtering import FilterSpec
from codemix_megatron.records.manifest import CorpusManifest, loss_mask_path

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
GENERATION = CHATML.replace(
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + '<|im_end|>' + '\\n' }}",
    "{{ '<|im_start|>' + message['role'] + '\\n' }}{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}"
    "{% endgeneration %}{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}",
)
CHAT = [
    {"role": "user", "content": "What is 2 + 2?"},
    {"role": "assistant", "content": "It is four.\n"},
    {"role": "user", "content": "Say <|im_end|> and <|im_start|>assistant"},
    {"role": "assistant", "content": "No."},
]
RECORDS = [
    {"messages": CHAT},
    {"conversations": [{"from": "human", "value": "Hello there"}, {"from": "gpt", "value": "Hello to you"}]},
    {"prompt": "def f(x):", "completion": "    return x"},
    {"prompt": [{"role": "user", "content": "One?"}], "completion": [{"role": "assistant", "content": "Two."}]},
    {"instruction": "Which fox?", "context": "The quick brown fox.", "response": "The quick one.", "category": "closed_qa"},
    {"instruction": "Name a dog.", "input": "", "output": "Lazy."},
    {"system": "Be brief.", "messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tokenizer with the special tokens of a chat, and its settings beside it."""
    folder = tmp_path_factory.mktemp("chat")
    texts = [json.dumps(record) for record in RECORDS] * 3
    train_tokenizer(texts, 320, folder / "tokenizer.json", special_tokens=("<|im_start|>", "<|im_end|>"))
    settings = {"chat_template": CHATML, "eos_token": "<|im_end|>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture
def prepared(folder, write_lines, spec_for):
    """Return a function that prepares records as conversations and returns the manifest."""

    def prepare(records=RECORDS, *, template: str = "tokenizer", learn: str = "answers", how: HowToPrepare | None = None, **more):
        template = str(folder / "tokenizer.json") if template == "tokenizer" else template
        os.utime(path := write_lines(records), (10**9, 10**9))  # the same records are the same file
        spec = spec_for(path, conversations=Conversations(template=template, learn=learn), **more)
        return prepare_corpus(
            "chat", spec, load_tokenizer(folder / "tokenizer.json", "<|endoftext|>"), how or HowToPrepare(max_bad_share=0.5)
        )

    return prepare


def bits_of(manifest: CorpusManifest) -> np.ndarray:
    return np.unpackbits(np.fromfile(loss_mask_path(manifest.prefix), np.uint8), bitorder="little")[: manifest.num_tokens].astype(bool)


def documents_of(manifest: CorpusManifest) -> list[tuple[list[int], np.ndarray]]:
    reader, bits = IndexedReader(manifest.prefix), bits_of(manifest)
    ends = np.cumsum(reader.document_lengths)
    return [(reader.document(i).tolist(), bits[ends[i] - reader.document_lengths[i] : ends[i]]) for i in range(len(reader))]


def learned_text(folder, ids, bits) -> str:
    return load_tokenizer(folder / "tokenizer.json").decode(np.asarray(ids)[bits])


def test_every_form_is_read_and_its_answers_alone_are_learned(prepared, folder):
    manifest = prepared(template="plain")
    learned = [learned_text(folder, ids, bits) for ids, bits in documents_of(manifest)]
    ended = "<|endoftext|>"
    assert learned == [
        f"It is four.\nNo.{ended}", f"Hello to you{ended}", f"    return x{ended}", f"Two.{ended}", f"The quick one.{ended}", f"Lazy.{ended}",
        f"Because.{ended}",
    ]  # fmt: skip
    whole = load_tokenizer(folder / "tokenizer.json").decode(documents_of(manifest)[4][0])
    assert whole == f"User:\nWhich fox?\n\nThe quick brown fox.\n\nAssistant:\nThe quick one.{ended}"
    assert manifest.learned_tokens == bits_of(manifest).sum() < manifest.num_tokens


@pytest.mark.parametrize("template", [CHATML, GENERATION], ids=["placed by marks", "generation blocks"])
def test_ids_and_mask_are_those_of_transformers_own_template(prepared, folder, tmp_path, template):
    from transformers import PreTrainedTokenizerFast

    (tmp_path / "chat_template.jinja").write_text(template)
    honest = [message | {"content": message["content"].replace("<|", "< |").strip()} for message in CHAT]
    ((ids, bits),) = documents_of(prepared([{"messages": honest}], template=str(tmp_path / "chat_template.jinja")))
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), chat_template=GENERATION)
    expected = theirs.apply_chat_template(honest, return_dict=True, return_assistant_tokens_mask=True)
    assert ids[:-1] == expected["input_ids"]
    assert bits[:-1].tolist() == [bool(m) for m in expected["assistant_masks"]]
    assert not bits[-1], "the template ended the turn, and wrote a line end that nobody answers"


def test_special_tokens_in_what_people_say_are_text_and_end_no_turn(prepared, folder):
    ids, _ = documents_of(prepared([{"messages": CHAT}]))[0]
    start, end = (load_tokenizer(folder / "tokenizer.json").token_id(name) for name in ("<|im_start|>", "<|im_end|>"))
    assert (ids.count(start), ids.count(end)) == (4, 4)


def test_masks_follow_their_documents_when_shuffled_held_out_removed_and_divided(prepared, folder, monkeypatch):
    from codemix_megatron.corpus import parts

    records = [{"prompt": f"number {i}", "completion": f"answer {i * i}"} for i in range(60)]
    plain = prepared(records, prefix="plain/chat")
    expected = {tuple(ids): bits.tolist() for ids, bits in documents_of(plain)}
    monkeypatch.setattr(parts, "PART_BYTES", 400)
    how = HowToPrepare(held_out_share=0.2, seed=3, workers=1)
    shuffled = prepared(records, prefix="shuffled/chat", shuffle=True, how=how)
    found = documents_of(shuffled)
    assert [tuple(ids) for ids, _ in found] != list(expected) and shuffled.train_documents < 60
    assert {tuple(ids): bits.tolist() for ids, bits in found} == expected
    assert shuffled.learned_tokens == sum(bits.sum() for _, bits in found[: shuffled.train_documents])
    removed = remove_documents(shuffled.prefix, [0, 7, 30], f"{shuffled.prefix}-less")
    assert [ids for ids, _ in documents_of(removed)] == [ids for i, (ids, _) in enumerate(found) if i not in (0, 7, 30)]
    assert all(bits.tolist() == expected[tuple(ids)] for ids, bits in documents_of(removed))
    for manifest in (plain, shuffled, removed):
        assert not check_corpus(manifest.prefix).differences


def test_a_damaged_mask_is_named_and_a_cut_or_missing_one_refused(prepared):
    manifest = prepared()
    path = loss_mask_path(manifest.prefix)
    data = np.fromfile(path, np.uint8)
    (data ^ np.uint8(4)).tofile(path)
    assert any("loss_mask.bin: sha256" in difference for difference in check_corpus(manifest.prefix).differences)
    data[:-1].tofile(path)
    with pytest.raises(CorpusError, match=rf"loss_mask.bin: {len(data) - 1} bytes, its manifest promises {len(data)}"):
        CorpusManifest.read(manifest.prefix)


def test_personal_data_is_masked_inside_the_turn_it_stands_in(prepared, folder):
    records = [{"prompt": "my address is jane.doe@gmail.com", "completion": "write to john.roe@gmail.com then"}]
    ((ids, bits),) = documents_of(prepared(records, template="plain", filters=FilterSpec(personal_data=("email",))))
    assert learned_text(folder, ids, bits) == "write to <EMAIL> then<|endoftext|>"


def test_what_is_no_conversation_is_left_out_with_its_reason(prepared, write_lines):
    bad = [
        {"text": "no turns"}, {"messages": []}, {"messages": [{"role": "user"}]}, {"messages": ["x"]}, {"prompt": "x", "completion": None},
        {"messages": [{"role": "user", "content": "\x020\x03"}, {"role": "assistant", "content": "a"}]},
        {"messages": [{"role": "user", "content": [{"type": "image"}]}]}, {"messages": [{"role": "user", "content": "only asked"}]},
    ]  # fmt: skip
    manifest = prepared(RECORDS + bad, how=HowToPrepare(max_bad_share=0.6))
    assert manifest.num_documents == len(RECORDS) and sum(manifest.dropped.values()) == len(bad)
    assert manifest.dropped["a conversation without an answer"] == 1
    assert any("none of messages; conversations; prompt and completion" in reason for reason in manifest.dropped)


@pytest.mark.parametrize(
    "template, found",
    [
        ("{{ messages[0].content.upper() }}{{ messages[1].content }}", "changes what messages say"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "fails on it"),
        ("{{ raise_exception('never') }}", "never"),
        ("{{ messages.append(1) }}{{ messages[1].content }}", "fails on it"),
    ],
)
def test_templates_that_rewrite_refuse_or_reach_out_give_no_document(prepared, tmp_path, template, found):
    (tmp_path / "t.jinja").write_text(template)
    with pytest.raises(CorpusError, match=found):
        prepared([{"prompt": "ask", "completion": "answer"}], template=str(tmp_path / "t.jinja"))


def test_another_template_prepares_again_and_the_mask_of_before_goes_with_it(prepared, tmp_path, folder):
    first = prepared(template="plain")
    assert prepared(template="plain").created_at == first.created_at
    again = prepared(template="tokenizer")
    assert again.bin_sha256 != first.bin_sha256 and again.loss_mask_sha256 != first.loss_mask_sha256
    everything = prepared(template="tokenizer", learn="everything")
    assert everything.bin_sha256 == again.bin_sha256 and everything.learned_tokens == everything.num_tokens


def test_the_end_that_the_settings_of_a_chat_model_name_is_refused_with_what_to_do(folder, write_lines, spec_for):
    """Its eos_token ends turns; documents of conversations need another end, which the recipe names."""
    spec = spec_for(write_lines([{"messages": [*CHAT, *CHAT]}]), conversations=Conversations(template=str(folder / "tokenizer.json")))
    with pytest.raises(CorpusError, match="writes the token that ends documents .* name another in tokenizer.end_of_document"):
        prepare_corpus("chat", spec, load_tokenizer(folder / "tokenizer.json"), HowToPrepare())


def test_a_template_that_ends_documents_inside_a_conversation_is_refused(prepared, tmp_path):
    (tmp_path / "t.jinja").write_text("{% for m in messages %}{{ m.content + '<|endoftext|>\\n' }}{% endfor %}")
    with pytest.raises(CorpusError, match="the token that ends documents"):
        prepared([{"messages": CHAT}], template=str(tmp_path / "t.jinja"))


def test_a_missing_template_is_named(folder, prepared, tmp_path):
    with pytest.raises(CorpusError, match="no chat template in .*nothing.jinja"):
        prepared(template=str(tmp_path / "nothing.jinja"))
