"""Documents rewritten for infilling while they are read: nothing moves, nothing is lost but the suffix's end, and resumes need no state."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from tiny_run import REPOSITORY
from token_ids import Ids

from codemix_megatron.corpus.prepare import HowToPrepare, prepare_corpus
from codemix_megatron.corpus.tokenizers import SENTINEL_FAMILIES, load_tokenizer, train_tokenizer
from codemix_megatron.errors import CorpusError, RecipeError
from codemix_megatron.mixture.fill_in_the_middle import MiddleFiller, Sentinels, arranged, documents_of, middle_filler
from codemix_megatron.mixture.packing import PackedReader
from codemix_megatron.mixture.recipe_reader import recipe_reader
from codemix_megatron.mixture.sequence_reader import SequenceReader, num_windows
from codemix_megatron.readers.repositories import FILE_SEPARATOR
from codemix_megatron.recipe.reading import build_recipe
from codemix_megatron.recipe.schema import CorpusSpec, FillInTheMiddle, Sequences

LENGTH = 256
PREFIX, MIDDLE, SUFFIX = SENTINEL_FAMILIES[0]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A corpus of 120 documents of two languages, some not ASCII, and its tokenizer with the sentinels."""
    folder = tmp_path_factory.mktemp("middle")
    draw = random.Random(0)
    words = [
        "def",
        "return",
        "value",
        "index",
        "for",
        "in",
        "range",
        "print",
        "größe",
        "λ",
        "x",
        "y",
        "+",
        "-",
        "=",
        "(",
        ")",
        ":",
        "10",
        "π\n",
    ]
    texts = [" ".join(draw.choices(words, k=draw.randrange(20, 200))) + f" # {i}" for i in range(120)]
    rows = [{"text": text, "lang": ["python", "rust"][i % 2]} for i, text in enumerate(texts)]
    (folder / "code.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train_tokenizer(texts, 400, folder / "tokenizer.json", special_tokens=SENTINEL_FAMILIES[0])
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    spec = CorpusSpec(kind="code", documents=(str(folder / "code.jsonl"),), prefix=str(folder / "code"))
    return prepare_corpus("code", spec, tokenizer, HowToPrepare(held_out_share=0.1)), tokenizer


def reader_of(made, kind=SequenceReader, *, seed: int = 3, **spec):
    manifest, tokenizer = made
    filler = MiddleFiller(seed, {"code": manifest}, [FillInTheMiddle(**spec)], tokenizer)
    return kind([manifest], LENGTH, filler)


def rows_of(reader, sequences, epoch: int = 0):
    sequences = np.asarray(sequences)
    return reader.read(np.zeros_like(sequences), sequences, np.full_like(sequences, epoch))


def all_rows(made, kind=SequenceReader, epoch: int = 0, **spec):
    """Return (plain rows, rewritten rows, tokenizer) of a whole epoch."""
    manifest, tokenizer = made
    plain = kind([manifest], LENGTH)
    count = plain.packings[0].num_sequences if kind is PackedReader else num_windows(manifest.train_tokens, LENGTH)
    return rows_of(plain, range(count)), rows_of(reader_of(made, kind, **spec), range(count), epoch), tokenizer


def documents(plain, rewritten, tokenizer):
    """Yield (ids before, ids after) of every document of every row."""
    for before, after in zip(plain, rewritten, strict=True):
        for begin, end in documents_of(before, tokenizer.end_of_document_id):
            yield before[begin:end], after[begin:end]


@pytest.mark.parametrize("kind", [SequenceReader, PackedReader])
@pytest.mark.parametrize(("cut", "spm_share"), [("character", 0.0), ("character", 1.0), ("token", 0.5)])
def test_prefix_middle_and_suffix_make_up_the_document_less_the_suffixs_end(made, kind, cut, spm_share):
    plain, rewritten, tokenizer = all_rows(made, kind, rate=1.0, cut=cut, spm_share=spm_share)
    pre, mid, suf = (tokenizer.token_id(name) for name in SENTINEL_FAMILIES[0])
    changed = inside = 0
    for before, after in documents(plain, rewritten, tokenizer):
        if np.array_equal(before, after):
            continue
        changed += 1
        positions = [np.flatnonzero(after == token).tolist() for token in (pre, suf, mid)]
        assert [len(each) for each in positions] == [1, 1, 1] and positions[0] == [0]
        (_, (at_suffix,), (at_middle,)) = positions
        is_spm = at_suffix == 1
        if is_spm:
            suffix, rest = after[2:at_middle], after[at_middle + 1 :]
        else:
            suffix, rest = after[at_suffix + 1 : at_middle], np.concatenate([after[1:at_suffix], after[at_middle + 1 :]])
        whole, found = tokenizer.decode(before), tokenizer.decode(rest) + tokenizer.decode(suffix)
        assert whole.rstrip("\ufffd").startswith(found.rstrip("\ufffd")), (whole, found)
        assert len(found) > 0.7 * len(whole) or len(before) < 48
        inside += cut == "character" and not np.array_equal(np.sort(before)[: len(rest)], np.sort(rest))
    total = sum(1 for _ in documents(plain, rewritten, tokenizer))
    assert changed > 0.8 * total
    assert cut == "token" or inside, "cuts fall inside tokens too"
    if spm_share in (0.0, 1.0):
        assert is_spm == bool(spm_share) or at_middle == 2


@pytest.mark.parametrize("kind", [SequenceReader, PackedReader])
def test_documents_keep_their_positions_so_that_counts_by_position_stay_true(made, kind):
    plain, rewritten, tokenizer = all_rows(made, kind, rate=1.0)
    assert (plain != rewritten).any(axis=1).all() and plain.dtype == rewritten.dtype
    end = tokenizer.end_of_document_id
    assert np.array_equal(plain == end, rewritten == end) and np.array_equal(plain.astype(int) == -1, rewritten.astype(int) == -1)
    sentinel = [tokenizer.token_id(name) for name in SENTINEL_FAMILIES[0]]
    assert not np.isin(plain, sentinel).any() and np.isin(rewritten, sentinel).any()


def test_rewriting_is_a_function_of_seed_epoch_and_sequence_alone(made):
    whole = rows_of(reader_of(made), range(12))
    again = reader_of(made)
    for batch in ([7], [3, 11, 0], range(12)):
        assert np.array_equal(rows_of(again, batch), whole[list(batch)])
    assert not np.array_equal(rows_of(again, range(12), epoch=1), whole)
    assert not np.array_equal(rows_of(reader_of(made, seed=4), range(12)), whole)


def test_rate_is_the_share_of_documents_and_of_each_language(made, measured):
    manifest, tokenizer = made
    languages = np.load(f"{manifest.prefix}.languages.npy")
    for kind in (SequenceReader, PackedReader):
        counted = np.zeros((2, 2))
        for epoch in range(6):
            plain, rewritten, _ = all_rows(made, kind, epoch, rate=0.5, languages={"Python": 0.0})
            reader = kind([manifest], LENGTH)
            from codemix_megatron.corpus.indexed import IndexedReader

            starts = np.cumsum(IndexedReader(manifest.prefix).document_lengths)
            for number, (before, after) in enumerate(zip(plain, rewritten, strict=True)):
                begins, tokens = reader.pieces(0, number)
                for begin, end in documents_of(before, tokenizer.end_of_document_id):
                    piece = np.searchsorted(begins, begin, side="right") - 1
                    document = np.searchsorted(starts, tokens[piece] + begin - begins[piece], side="right")
                    name = list(manifest.languages)[languages[document]] if document < len(languages) else "python"
                    if end - begin > 40:
                        counted[int(name == "rust")] += [1, not np.array_equal(before[begin:end], after[begin:end])]
        assert counted[0, 1] == 0, "a rate of 0 leaves a language alone"
        share = counted[1, 1] / counted[1, 0]
        measured(f"fill in the middle at rate 0.5, {kind.__name__}: {share:.2f} of {int(counted[1, 0])} documents rewritten")
        assert 0.38 < share < 0.58


def test_rate_of_zero_changes_nothing_and_held_out_rows_are_never_rewritten(made):
    plain, rewritten, _ = all_rows(made, rate=0.0)
    assert np.array_equal(plain, rewritten)
    manifest, _ = made
    assert np.array_equal(reader_of(made, rate=1.0).held_out(0, 3), SequenceReader([manifest], LENGTH).held_out(0, 3))


def test_tokenizer_without_sentinels_is_an_error_that_names_them(made, tmp_path):
    manifest, _ = made
    train_tokenizer(["some words of text " * 9], 300, tmp_path / "tokenizer.json")
    bare = load_tokenizer(tmp_path / "tokenizer.json")
    with pytest.raises(
        CorpusError, match=r"corpora.code.fill_in_the_middle: .*tokenizer.json has none of <fim_prefix>, <fim_middle>, <fim_suffix>;"
    ):
        MiddleFiller(1, {"code": manifest}, [FillInTheMiddle()], bare)
    with pytest.raises(CorpusError, match="has no token <MID>; name its tokens in `sentinels`"):
        MiddleFiller(1, {"code": manifest}, [FillInTheMiddle(sentinels=("a", "<MID>", "b"))], bare)


def test_sentencepiece_model_has_to_cut_between_tokens(made):
    path = REPOSITORY.parent / "shared" / "data" / "tokenizers" / "mistral" / "tokenizer.model"
    if not path.is_file():
        pytest.skip(f"no tokenizer at {path}")
    manifest, tokenizer = made[0], load_tokenizer(path)
    sentinels = ("<0x00>", "<0x01>", "<0x02>")
    with pytest.raises(CorpusError, match=r"fill_in_the_middle.cut: .* set cut: token"):
        MiddleFiller(1, {"code": manifest}, [FillInTheMiddle(sentinels=sentinels)], tokenizer)
    filler = MiddleFiller(1, {"code": manifest}, [FillInTheMiddle(sentinels=sentinels, cut="token", rate=1.0)], tokenizer)
    ids = tokenizer.encode_batch(["def f(a, b):\n    return a + b  # the sum of both\n" * 8])[0].astype(np.int32)
    rows = ids[None].copy()
    filler.rewrite(rows, np.zeros(1, int), np.zeros(1, int), np.zeros(1, int), None)
    assert (rows != ids).any() and rows[0, 0] == tokenizer.token_id("<0x00>") and (rows[0] == tokenizer.token_id("<0x01>")).sum() == 1


def test_language_rates_need_the_languages_of_documents(made):
    manifest, tokenizer = made
    with pytest.raises(CorpusError, match=r"fill_in_the_middle.languages: .*gone.languages.npy is missing"):
        MiddleFiller(1, {"code": replace(manifest, prefix=f"{manifest.prefix}-gone")}, [FillInTheMiddle(languages={"go": 1.0})], tokenizer)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"rate": 1.5}, "fill_in_the_middle.rate: found 1.5, allowed are 0 to 1"),
        ({"languages": {"python": 2}}, "fill_in_the_middle.languages.python: found 2.0, allowed are 0 to 1"),
        ({"languages": ["python"]}, "fill_in_the_middle.languages: found a list of 1, needs a mapping"),
        ({"sentinels": ["a", "b"]}, "fill_in_the_middle.sentinels: found a, b; needs three names"),
        ({"cut": "word"}, "fill_in_the_middle.cut: found 'word', allowed are character, token"),
    ],
)
def test_faults_of_the_block_name_their_key(tmp_path, block, message):
    from tiny_run import RECIPE

    corpora = {**RECIPE["corpora"], "snippets": {**RECIPE["corpora"]["snippets"], "fill_in_the_middle": block}}
    with pytest.raises(RecipeError, match=message):
        build_recipe({**RECIPE, "corpora": corpora}, directory=tmp_path)


def test_documents_of_a_row_are_what_stands_between_ends_padding_and_separators():
    row = np.array([5, 6, 0, 0, 7, 8, 9, 3, 9, -1, -1], dtype=np.int32)
    assert documents_of(row, 0) == [(0, 2), (4, 9)]
    assert documents_of(row, 0, 3) == [(0, 2), (4, 7), (8, 9)]
    assert documents_of(row[4:7], 0) == [(0, 3)] and documents_of(row[9:], 0) == []


SENTINELS = Sentinels(prefix=901, middle=902, suffix=903)


@pytest.mark.parametrize(
    ("length", "psm", "spm"),
    [
        (11, [901, 1, 2, 903, 6, 7, 8, 9, 902, 3, 4], [901, 903, 6, 7, 8, 9, 902, 1, 2, 3, 4]),
        (10, [901, 1, 2, 903, 6, 7, 8, 902, 3, 4], [901, 903, 6, 7, 8, 902, 1, 2, 3, 4]),
        (7, [901, 1, 2, 903, 902, 3, 4], [901, 903, 902, 1, 2, 3, 4]),
        (6, None, None),  # more would have to go than the suffix has
        (12, None, None),  # there is nothing to fill the position with
    ],
)
def test_pieces_are_arranged_at_the_documents_length(length, psm, spm):
    for is_spm, wanted in ((False, psm), (True, spm)):
        found = arranged([1, 2], [3, 4], [6, 7, 8, 9], SENTINELS, is_spm, length)
        assert found is None if wanted is None else (found.tolist(), found.dtype) == (wanted, np.dtype(np.int64))


def rewrite_all(rows: np.ndarray, tokenizer: Ids, spm_share: float) -> None:
    """Rewrite every document of the rows of one corpus that is long enough."""
    spec = FillInTheMiddle(rate=1.0, spm_share=spm_share, cut="token", sentinels=("<p>", "<m>", "<s>"))
    nothing = np.zeros(len(rows), int)
    MiddleFiller(5, {"code": None}, [spec], tokenizer).rewrite(rows, nothing, np.arange(len(rows)), nothing, None)


def test_the_id_that_documents_begin_with_stays_the_first_of_each():
    document = [1, *range(2, 42), 0]
    rows = np.tile(np.array([*document, *document, *range(50, 90)], dtype=np.int32), (5, 1))
    plain = rows.copy()
    rewrite_all(rows, Ids(beginning_of_document_id=1), spm_share=0.0)
    assert (rows == 901).sum() == 5 * 3, "all three of each row"
    assert (rows[:, [0, 42]] == 1).all() and (rows[:, [1, 43, 84]] == 901).all(), "one that begins in another row has none to keep"
    assert ((plain == 0) == (rows == 0)).all() and ((plain == 1) == (rows == 1)).all()


def test_files_of_a_repository_are_rewritten_one_by_one():
    rows = np.array([[*range(10, 40), 3, *range(40, 70), 3, *range(70, 76), 0]], dtype=np.int32)
    plain = rows.copy()
    rewrite_all(rows, Ids(beginning_of_document_id=1, **{FILE_SEPARATOR: 3}), spm_share=0.0)
    assert np.flatnonzero(rows[0] == 901).tolist() == [0, 31], "the third file is too short"
    assert ((plain == 3) == (rows == 3)).all() and rows[0, 62:].tolist() == plain[0, 62:].tolist()


def test_only_documents_long_enough_are_rewritten_and_by_themselves():
    for length, is_rewritten in ((14, False), (15, False), (16, True), (40, True)):
        rows = np.array([[*range(10, 10 + length), 0, *range(200, 208)]], dtype=np.int32)
        rewrite_all(rows, Ids(beginning_of_document_id=1), spm_share=1.0)
        assert (rows[0, :2].tolist() == [901, 903]) == is_rewritten and rows[0, length:].tolist() == [0, *range(200, 208)]


def test_corpora_that_do_not_ask_for_it_are_left_alone_and_another_tokenizer_is_refused(made, tmp_path):
    manifest, tokenizer = made
    from tiny_run import RECIPE

    def recipe_of(path, **corpus):
        corpora = {name: {**spec, **corpus} for name, spec in RECIPE["corpora"].items()}
        return build_recipe({**RECIPE, "tokenizer": {"path": str(path)}, "corpora": corpora}, directory=tmp_path)

    manifests = {"prose": manifest, "snippets": manifest}
    path = tokenizer.metadata.path
    assert middle_filler(recipe_of(path), manifests) is None
    filler = middle_filler(recipe_of(path, fill_in_the_middle={"rate": 0.3}), manifests)
    assert [spec.rate for spec in filler.specs] == [0.3, 0.3] and filler.seed == RECIPE["seed"]
    assert filler.sentinels == [Sentinels(*(tokenizer.token_id(name) for name in (PREFIX, MIDDLE, SUFFIX)))] * 2
    for packing, kind in (("concatenate", SequenceReader), ("best_fit", PackedReader)):
        recipe = replace(recipe_of(path, fill_in_the_middle={"rate": 0.3}), sequences=Sequences(packing=packing))
        reader = recipe_reader(recipe, manifests)
        assert type(reader) is kind and isinstance(reader.rewriter, MiddleFiller) and reader.sequence_length == 64
        assert recipe_reader(recipe, manifests, rewrites=False).rewriter is None
    train_tokenizer(["other words of text " * 9], 300, tmp_path / "other.json", special_tokens=SENTINEL_FAMILIES[0])
    with pytest.raises(CorpusError) as caught:
        middle_filler(recipe_of(tmp_path / "other.json", fill_in_the_middle={"rate": 0.3}), manifests)
    assert str(caught.value) == (
        f"corpora.prose.fill_in_the_middle: {tmp_path / 'other.json'} is not the tokenizer the corpus was prepared with"
    )
