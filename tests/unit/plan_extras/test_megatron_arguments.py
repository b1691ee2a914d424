"""`codemix plan --megatron-args`: what plain Megatron-LM is told."""

import shlex

import pytest

from codemix_megatron.cli.main import main
from codemix_megatron.errors import RecipeError
from codemix_megatron.plan.megatron_arguments import megatron_arguments
from codemix_megatron.plan.plan import make_plan
from codemix_megatron.recipe.reading import read_recipe
from codemix_megatron.records.manifest import CorpusManifest, TokenizerMetadata


def manifest(recipe, name: str, train_documents: int, num_documents: int, kind: str = "huggingface") -> CorpusManifest:
    """Return a manifest as `codemix prepare` would write it, without its files."""
    path = "/tokens here/tokenizer.json" if kind == "huggingface" else "/tokens/bpe.model"
    counts = {"documents": num_documents, "tokens": num_documents * 1000, "bytes": num_documents * 4000}
    trained = {"documents": train_documents, "tokens": train_documents * 1000, "bytes": train_documents * 4000}
    return CorpusManifest(
        name=name,
        kind="text",
        prefix=recipe.corpora[name].prefix,
        dtype="uint16",
        **{f"num_{key}": value for key, value in counts.items()},
        **{f"train_{key}": value for key, value in trained.items()},
        held_out_share=0.01,
        tokenizer=TokenizerMetadata(type=kind, path=path, sha256="0", vocab_size=5000, end_of_document_id=0),
        bin_sha256=name,
        idx_sha256=name,
        documents=[],
        input_fingerprint="",
    )


def arguments_of(path, *overrides, documents=((990, 1000), (490, 500)), phase=None, kind="huggingface"):
    """Return (flag -> values, notes, the printed text)."""
    recipe = read_recipe(path, overrides)
    corpora = {n: manifest(recipe, n, *counts, kind=kind) for n, counts in zip(("prose", "web"), documents, strict=True)}
    made = megatron_arguments(recipe, make_plan(recipe, corpora), corpora, phase)
    text = made.as_shell()
    words = shlex.split("".join(line for line in text.splitlines(True) if not line.startswith("#")).replace("\\\n", " "))
    flags, flag = {}, None
    for word in words[words.index("pretrain_gpt.py") + 1 :]:
        if word.startswith("--"):
            flag = word
            assert flag not in flags
        flags.setdefault(flag, [])
        flags[flag] += [] if word == flag else [word]
    return flags, made.notes, text


def split_documents(split: str, count: int) -> int:
    """Return how many documents Megatron trains on (megatron.core.datasets.blended_megatron_dataset_builder)."""
    parts = [float(part) for part in split.split(",")]
    return round(parts[0] / sum(parts) * count)


def test_shape_batch_and_schedule_are_the_recipes(small_recipe):
    flags, _, _ = arguments_of(small_recipe, "model.tie_embeddings=false", "model.precision=bf16")
    expected = {
        "--num-layers": "4",
        "--num-query-groups": "2",
        "--ffn-hidden-size": "192",
        "--seq-length": "64",
        "--max-position-embeddings": "64",
        "--rotary-base": "20000",
        "--norm-epsilon": "1e-05",
        "--tensor-model-parallel-size": "2",
        "--make-vocab-size-divisible-by": "64",
        "--train-samples": "1000",
        "--lr-warmup-samples": "80",
        "--lr-decay-style": "cosine",
        "--adam-beta2": "0.95",
        "--tokenizer-model": "/tokens here",
    }
    assert {flag: flags[flag] for flag in expected} == {flag: [value] for flag, value in expected.items()}
    for switch in ("--swiglu", "--group-query-attention", "--disable-bias-linear", "--untie-embeddings-and-output-weights", "--bf16"):
        assert flags[switch] == []
    assert "--untie-embeddings-and-output-weights" not in arguments_of(small_recipe)[0]


def test_blend_holds_whole_sequences_and_no_source_of_none(small_recipe):
    flags, notes, _ = arguments_of(small_recipe)
    prefixes = [str(small_recipe.parent / "corpora" / name) for name in ("prose", "web")]
    assert flags["--data-path"] == ["750", prefixes[0], "250", prefixes[1]]
    assert any("RESHUFFLES" in note for note in notes)
    later, notes, _ = arguments_of(small_recipe, phase="last")
    assert later["--data-path"] == ["248", prefixes[0]]
    decay = {flag: later[flag] for flag in ("--lr-decay-style", "--lr-wsd-decay-style", "--lr-wsd-decay-samples")}
    assert list(decay.values()) == [["WSD"], ["linear"], ["128"]]
    assert any("--load" in note for note in notes)


@pytest.mark.parametrize(
    "documents", [((990, 1000), (495, 500)), ((990, 1000), (497, 501)), ((6, 7), (999_983, 1_000_003)), ((1, 3), (2, 3))]
)
def test_split_trains_on_no_held_out_document(small_recipe, documents):
    flags, notes, _ = arguments_of(small_recipe, "corpora.prose.max_epochs=1e6", "corpora.web.max_epochs=1e6", documents=documents)
    (split,) = flags["--split"]
    assert "e" not in split
    trained = [split_documents(split, count) for _, count in documents]
    assert all(got <= ours for got, (ours, _) in zip(trained, documents, strict=True))
    assert any(got == ours for got, (ours, _) in zip(trained, documents, strict=True))
    is_exact = all(got == ours for got, (ours, _) in zip(trained, documents, strict=True))
    assert any("exactly our held-out" in note for note in notes) == is_exact
    assert any("left out besides" in note for note in notes) == (not is_exact)


def test_without_held_out_documents_there_is_no_validation(small_recipe):
    flags, _, _ = arguments_of(small_recipe, documents=((1000, 1000), (500, 500)))
    assert flags["--split"] == ["1,0,0"] and flags["--eval-iters"] == ["0"]


def test_layout_and_sentencepiece(small_recipe):
    overrides = ["parallel.pipeline=2", "parallel.virtual_pipeline=2", "parallel.sequence_parallel=true", "parallel.recompute=full"]
    flags, _, text = arguments_of(small_recipe, *overrides, kind="sentencepiece")
    assert flags["--num-layers-per-virtual-pipeline-stage"] == ["1"] and flags["--sequence-parallel"] == []
    assert flags["--recompute-granularity"] == ["full"] and flags["--recompute-num-layers"] == ["1"]
    assert flags["--tokenizer-type"] == ["GPTSentencePieceTokenizer"] and flags["--tokenizer-model"] == ["/tokens/bpe.model"]
    assert "torchrun --nproc-per-node 4 pretrain_gpt.py" in text


def test_unknown_phase_is_refused(small_recipe):
    with pytest.raises(RecipeError, match="--phase: no phase 'middle'; phases are first, last"):
        arguments_of(small_recipe, phase="middle")


def test_command_prints_a_script_and_nothing_else(small_recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["plan", str(small_recipe), "--assume-tokens", "prose=1M,web=1M", "--assume-vocab", "5K"]
    assert main([*words, "--megatron-args"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# ") and "ASSUMED" in out and "--split 0.99,0.01,0" in out
    assert not (tmp_path / "plan.json").exists()
    assert main([*words, "--phase", "last"]) == 2
    assert "add that" in capsys.readouterr().err


STRETCHED = (
    "model.rope_scaling={kind: llama3, factor: %d, low_frequency_factor: 1, high_frequency_factor: 4, original_sequence_length: 8192}"
)


@pytest.mark.parametrize(
    ("override", "flag", "values", "note"),
    [
        ("model.sliding_window=16", "--window-size", ["15,0"], None),
        ("model.rope_scaling={kind: linear, factor: 2}", "--rotary-seq-len-interpolation-factor", ["2"], "before 0.19 reads"),
        ("model.rope_scaling={kind: linear, factor: 2.5}", "--rotary-seq-len-interpolation-factor", None, "the recipe says 2.5: ANOTHER"),
        (STRETCHED % 8, "--use-rope-scaling", [], None),
        (STRETCHED % 32, "--use-rope-scaling", [], "the recipe says factor 32: ANOTHER MODEL"),
    ],
)
def test_positions_are_said_by_flags_and_what_flags_cannot_say_stands_above(small_recipe, override, flag, values, note):
    flags, notes, _ = arguments_of(small_recipe, override)
    assert flags.get(flag) == values
    assert [note in n for n in notes if "ANOTHER MODEL" in n].count(True) == 1 if note else not any("ANOTHER" in n for n in notes)
