"""Added tokens spelled out in a document are text unless asked for; what begins and ends a document. Judge: the library `tokenizers`."""

import json

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, processors

from codemix_megatron.cli.main import main
from codemix_megatron.corpus import encoder_choice
from codemix_megatron.corpus.indexed import IndexedReader
from codemix_megatron.corpus.prepare import HowToPrepare, prepare_corpus
from codemix_megatron.corpus.tokenizers import SpecialTokens, load_tokenizer, recipe_tokenizer
from codemix_megatron.corpus.wanted_tokenizer import say_end
from codemix_megatron.errors import CorpusError
from codemix_megatron.recipe.schema import Tokenizer as Wanted

TEXTS = [f"the quick <tool_call>fox {i}</tool_call> <|fim_prefix|>    jumps" for i in range(40)]


@pytest.fixture
def qwen_like(tmp_path, tokenizer_path):
    """A tokenizer.json with added tokens that are not special, as Qwen's, and one of white space, as GPT-NeoX's."""
    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    tokenizer.add_tokens([AddedToken(name, normalized=False) for name in ("<tool_call>", "</tool_call>", "<|fim_prefix|>", "    ")])
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def ids_of(manifest) -> list[list[int]]:
    reader = IndexedReader(manifest.prefix)
    return [reader.document(i).tolist() for i in range(reader.num_documents)]


def library_ids(path, kept: tuple[str, ...], texts=TEXTS) -> list[list[int]]:
    """Return the ids of the library with only some of the added tokens in its file."""
    plain = json.loads(path.read_text())
    plain["added_tokens"] = [token for token in plain["added_tokens"] if token["content"] in kept]
    tokenizer = Tokenizer.from_str(json.dumps(plain))
    names = {token["id"]: token["content"] for token in json.loads(path.read_text())["added_tokens"]}
    numbers = {tokenizer.token_to_id(content): number for number, content in names.items() if content in kept}
    return [[numbers.get(i, i) for i in tokenizer.encode(text, add_special_tokens=False).ids] for text in texts]


@pytest.mark.parametrize("is_fast", [True, False])
@pytest.mark.parametrize("asked", [(), ("<tool_call>", "</tool_call>")])
def test_added_tokens_are_text_but_for_those_asked_for_and_white_space(qwen_like, write_lines, spec_for, monkeypatch, is_fast, asked):
    monkeypatch.setattr(encoder_choice, "SMALLEST_FOR_FAST_BYTES", 0 if is_fast else 1 << 40)
    tokenizer = load_tokenizer(qwen_like, special=SpecialTokens(in_documents=asked))
    manifest = prepare_corpus("x", spec_for(write_lines([{"text": text} for text in TEXTS])), tokenizer, HowToPrepare())
    assert manifest.encoder.library.startswith("fastokens" if is_fast else "tokenizers")
    assert [ids[:-1] for ids in ids_of(manifest)] == library_ids(qwen_like, ("    ", *asked))
    assert manifest.tokenizer.tokens_in_documents == list(asked)
    assert [tokenizer.decode(ids[:-1]) for ids in ids_of(manifest)] == TEXTS


def test_made_tokenizers_of_qwens_kind_keep_text_text(shared_data):
    tokenizer = load_tokenizer(shared_data / "tokenizers/made/qwen.json")
    ids = tokenizer.encode_batch(["a<tool_call>b<|fim_prefix|>c<|file_sep|>"])[0]
    assert max(ids) < 4000 and tokenizer.decode(ids) == "a<tool_call>b<|fim_prefix|>c<|file_sep|>"


def test_other_tokens_in_documents_are_another_corpus(qwen_like, write_lines, spec_for):
    spec, said = spec_for(write_lines([{"text": text} for text in TEXTS])), []
    prepare_corpus("x", spec, load_tokenizer(qwen_like), HowToPrepare())
    for special in (SpecialTokens(in_documents=("<tool_call>",)), SpecialTokens(beginning_of_document="<s>")):
        prepare_corpus("x", spec, load_tokenizer(qwen_like, special=special), HowToPrepare(say=said.append))
    assert said == ["x: preparing again, it was made with another tokenizer"] * 2


@pytest.mark.parametrize(
    ("special", "message"),
    [
        (SpecialTokens(in_documents=("<tool_cal>",)), "no added token '<tool_cal>'; did you mean <tool_call>?"),
        (SpecialTokens(in_documents=("<|endoftext|>",)), "a literal '<|endoftext|>' in a document would end it"),
        (SpecialTokens(beginning_of_document="<bos>"), "no token '<bos>' in its vocabulary; set tokenizer.beginning_of_document"),
        (SpecialTokens(beginning_of_document="x"), "a literal 'x' in a document would begin it"),
    ],
)
def test_wrong_wishes_are_named(qwen_like, special, message):
    with pytest.raises(CorpusError) as caught:
        load_tokenizer(qwen_like, special=special)
    assert message in str(caught.value)


def test_documents_begin_with_the_token_asked_for(qwen_like, write_lines, spec_for, capsys):
    tokenizer = recipe_tokenizer(Wanted(path=str(qwen_like), beginning_of_document="<s>"))
    spec = spec_for(write_lines([{"text": text} for text in [*TEXTS, "a long document " * 300, "<s> spelled out"]]))
    manifest = prepare_corpus("x", spec, tokenizer, HowToPrepare(held_out_share=0.1))
    judge = Tokenizer.from_file(tokenizer.metadata.path)
    judge.encode_special_tokens = True
    judge.post_processor = processors.TemplateProcessing(
        single="<s> $A <|endoftext|>", special_tokens=[("<s>", judge.token_to_id("<s>")), ("<|endoftext|>", 0)]
    )
    found = sorted(ids for ids in ids_of(manifest) if len(ids) < 400 and tokenizer.decode(ids).count("tool") == 0)
    assert found == [judge.encode("<s> spelled out").ids]
    reader = IndexedReader(manifest.prefix)
    starts = np.concatenate([[0], np.cumsum(reader.document_lengths)[:-1]])
    stream = np.asarray(reader.tokens(0, reader.num_tokens))
    assert np.array_equal(np.flatnonzero(stream == manifest.tokenizer.beginning_of_document_id), starts)
    assert main(["verify-corpus", manifest.prefix]) == 0
    assert main(["inspect", manifest.prefix, "--samples", "50"]) == 0
    assert "begins them" in (out := capsys.readouterr().out) and "<s>the" not in out and "<s> spelled out" in out


def test_a_document_without_its_beginning_is_named(qwen_like, write_lines, spec_for, capsys):
    tokenizer = load_tokenizer(qwen_like, special=SpecialTokens(beginning_of_document="<s>"))
    manifest = prepare_corpus("x", spec_for(write_lines([{"text": text} for text in TEXTS])), tokenizer, HowToPrepare())
    reader = IndexedReader(manifest.prefix)
    with open(f"{manifest.prefix}.bin", "r+b") as handle:
        handle.seek(int(reader.sequence_offsets[7]))
        handle.write(np.array([5, manifest.tokenizer.beginning_of_document_id], np.uint16).tobytes())
    assert main(["verify-corpus", manifest.prefix]) == 1
    out = capsys.readouterr().out
    assert "1 documents without a beginning-of-document id" in out and "document 7: begins with 5" in out
    assert "1 beginning-of-document ids inside documents" in out


def test_infilling_leaves_the_beginning_where_it_is(tmp_path, write_lines, spec_for):
    from codemix_megatron.corpus.tokenizers import SENTINEL_FAMILIES, train_tokenizer
    from codemix_megatron.mixture.fill_in_the_middle import MiddleFiller, documents_of
    from codemix_megatron.mixture.sequence_reader import SequenceReader
    from codemix_megatron.recipe.schema import FillInTheMiddle

    texts = [f"value {i} of the range " * 20 for i in range(60)]
    train_tokenizer(texts, 320, tmp_path / "t.json", special_tokens=["<s>", *SENTINEL_FAMILIES[0]])
    tokenizer = load_tokenizer(tmp_path / "t.json", special=SpecialTokens(beginning_of_document="<s>"))
    manifest = prepare_corpus("code", spec_for(write_lines([{"text": text} for text in texts])), tokenizer, HowToPrepare())
    filler = MiddleFiller(1, {"code": manifest}, [FillInTheMiddle(rate=1.0)], tokenizer)
    plain, rewritten = (
        reader.read(np.zeros(8, int), np.arange(8), np.zeros(8, int))
        for reader in (SequenceReader([manifest], 256), SequenceReader([manifest], 256, filler))
    )
    begin, prefix = tokenizer.metadata.beginning_of_document_id, tokenizer.token_id(SENTINEL_FAMILIES[0][0])
    assert np.array_equal(plain == begin, rewritten == begin) and (rewritten == prefix).any()
    for row in rewritten:
        for first, last in documents_of(row, tokenizer.end_of_document_id):
            inner = row[first:last]
            assert (inner[1:] != begin).all()
            assert prefix not in inner or int(np.argmax(inner == prefix)) == int(inner[0] == begin)


@pytest.fixture
def chat_like(qwen_like):
    """A tokenizer whose settings name the end of a turn as the end of text, as those of instruction-tuned models do."""
    tokenizer = Tokenizer.from_file(str(qwen_like))
    tokenizer.add_special_tokens(["<|im_end|>"])
    tokenizer.save(str(qwen_like))
    qwen_like.with_name("tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    return qwen_like


def test_documents_end_alike_in_prepare_in_megatrons_tool_and_in_transformers(chat_like, tmp_path, write_lines, spec_for, capsys):
    """The eos_token of tokenizer_config.json. Judge: transformers, which Megatron reads tokenizers with."""
    from transformers import PreTrainedTokenizerFast

    from codemix_megatron.corpus.megatron_tool import main as tool

    wanted, said = Wanted(path=str(chat_like)), []
    say_end(recipe_tokenizer(wanted), wanted, said.append)
    assert len(said) == 1 and "documents end with <|im_end|>" in said[0] and "tokenizer.end_of_document: '<|endoftext|>'" in said[0]
    path, theirs = write_lines([{"text": text} for text in TEXTS]), PreTrainedTokenizerFast.from_pretrained(chat_like.parent)
    flags = ["--tokenizer-type", "HuggingFaceTokenizer", "--tokenizer-model", chat_like.parent, "--append-eod"]
    assert tool(list(map(str, ["--input", path, "--output-prefix", tmp_path / "tool", *flags]))) == 0
    prepared = ids_of(prepare_corpus("x", spec_for(path), recipe_tokenizer(wanted), HowToPrepare()))
    reader = IndexedReader(tmp_path / "tool_text_document")
    assert {ids[-1] for ids in [*prepared, *(reader.document(i).tolist() for i in range(len(reader)))]} == {theirs.eos_token_id}
    asked = Wanted(path=str(chat_like), end_of_document="<s>")
    say_end(recipe_tokenizer(asked), asked, said.append)
    assert len(said) == 1 and recipe_tokenizer(asked).end_of_document_id == theirs.convert_tokens_to_ids("<s>")


def test_an_end_in_the_settings_that_the_vocabulary_lacks_is_named(qwen_like, tmp_path):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|eot_id|>"}))
    with pytest.raises(CorpusError, match=r"name '<\|eot_id\|>' as eos_token, which its vocabulary lacks; correct eos_token there"):
        load_tokenizer(qwen_like)
    assert load_tokenizer(qwen_like, "<|endoftext|>").end_of_document_id == 0


@pytest.fixture
def unigram(tmp_path):
    """A unigram tokenizer.json whose vocabulary holds its special tokens, as T5's and those of multilingual models do."""
    from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer, tokenizer.decoder = normalizers.NFKC(), decoders.Metaspace()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator([f"the quick brown fox {i} jumps </s> over <pad> lazy/dogs x{i}" for i in range(300)], trainer)
    tokenizer.save(str(tmp_path / "unigram.json"))
    return tmp_path / "unigram.json"


def test_special_tokens_of_a_unigram_model_spelled_out_are_text(unigram, write_lines, spec_for):
    tokenizer, library = load_tokenizer(unigram), Tokenizer.from_file(str(unigram))
    library.encode_special_tokens = True
    plain, spelled = "the quick brown fox 7 jumps over lazy/dogs", "a fox</s>x </s></s> <pad><unk> jumps"
    assert library.token_to_id("</s>") in library.encode(spelled).ids, "the library finds them whatever it is told"
    assert tokenizer.encode_batch([plain])[0].tolist() == library.encode(plain).ids
    ids = tokenizer.encode_batch([spelled])[0]
    assert tokenizer.decode(ids) == spelled and not set(ids.tolist()) & {0, 1, 2}
    manifest = prepare_corpus("x", spec_for(write_lines([{"text": f"{spelled} {i}"} for i in range(10)])), tokenizer, HowToPrepare())
    assert [row.count(1) for row in ids_of(manifest)] == [1] * 10
    assert main(["verify-corpus", manifest.prefix]) == 0
