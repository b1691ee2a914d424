"""What is written for Megatron-LM's --load: a release that comes back bit for bit, arguments that say the model, refusals by key."""

import argparse
import shutil
from dataclasses import replace

import pytest
import torch
from family_models import carry, make_model, weights_of

from codemix_megatron.checkpoint.torch_dist import ShardReader, ShardWriter
from codemix_megatron.cli.main import main
from codemix_megatron.conversion.megatron_model_block import model_of_arguments
from codemix_megatron.conversion.megatron_namespace import namespace_of_model
from codemix_megatron.errors import ConversionError
from codemix_megatron.recipe.schema import Model, RopeScaling

LLAMA = Model(num_layers=4, hidden_size=64, num_attention_heads=4, sequence_length=128, num_query_groups=2, ffn_hidden_size=96)
STRETCHED = RopeScaling(kind="llama3", factor=8.0, low_frequency_factor=1.0, high_frequency_factor=4.0, original_sequence_length=8192)


@pytest.fixture
def run(tmp_path):
    """A run that holds a small Qwen 3."""
    make_model("qwen3", tmp_path / "theirs")
    carry(tmp_path / "theirs", tmp_path / "run", parity=False)
    return tmp_path


def test_a_release_comes_back_with_the_same_bits(run, capsys):
    """megatron-core's own loading compares every tensor while it is written; its own release is judged by tests/parity/test_megatron_lm.py."""
    assert main(["export", str(run / "run"), str(run / "out"), "--to", "megatron"]) == 0
    said = capsys.readouterr().out
    assert "megatron-core loads the same 35 tensors from both; Adam's state is not carried" in said and f"--load {run / 'out'} " in said
    assert (run / "out/latest_checkpointed_iteration.txt").read_text() == "release"
    common = torch.load(run / "out/release/common.pt", weights_only=False)
    assert isinstance(common["args"], argparse.Namespace) and common["args"].qk_layernorm and common["args"].padded_vocab_size == 260
    words = ["import", "--from", "megatron", str(run / "out"), str(run / "back"), "--tokenizer", str(run / "out/tokenizer/tokenizer.json")]
    assert main(words) == 0 and "Adam's state is not carried" in capsys.readouterr().out
    assert main(["export", str(run / "back"), str(run / "again"), "--no-parity"]) == 0
    before, after = weights_of(run / "theirs"), weights_of(run / "again")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_arguments_among_the_tensors_are_read_and_run_nothing(run, tmp_path, capsys):
    """Since megatron-core 0.19 there is no common.pt; what stood there is an object of the checkpoint."""
    assert main(["export", str(run / "run"), str(run / "out"), "--to", "megatron", "--no-parity"]) == 0
    common = torch.load(run / "out/release/common.pt", weights_only=False)
    trap = tmp_path / "trap"
    for number, (state, words) in enumerate({"good": (common, None), "bad": ({"args": Trap(trap)}, "which no checkpoint")}.values()):
        folder, reader = run / f"of 0.19, {number}", ShardReader(run / "out/release")
        folder.mkdir()
        with ShardWriter(folder) as writer:
            for name, stored in reader.tensors.items():
                writer.add(name, stored.shape, (0,) * len(stored.shape), reader.read(name))
            writer.add_object("common_state/shard_0_1", [state])
            writer.finish()
        (folder / "common.pt").unlink()
        tokenizer, back = str(run / "out/tokenizer/tokenizer.json"), run / f"back {number}"
        capsys.readouterr()
        assert main(["import", "--from", "megatron", str(folder), str(back), "--tokenizer", tokenizer]) == (2 if words else 0)
        assert words is None or words in capsys.readouterr().err
    assert not trap.exists() and (run / "back 0/checkpoints/step-0/card.json").is_file()


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_folder_that_is_something_else_and_a_damaged_checkpoint_are_refused(run, capsys):
    assert main(["export", str(run / "run"), "--to", "megatron"]) == 2 and "needs OUT" in capsys.readouterr().err
    assert main(["export", str(run / "run"), str(run / "theirs"), "--to", "megatron"]) == 2
    assert "there and not a checkpoint of Megatron-LM" in capsys.readouterr().err and (run / "theirs/config.json").is_file()
    shard = run / "run/checkpoints/step-0/__0_0.distcp"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert main(["export", str(run / "run"), str(run / "out"), "--to", "megatron"]) == 2
    assert "__0_0.distcp" in capsys.readouterr().err and not (run / "out").exists() and not list(run.glob(".out*"))


@pytest.mark.parametrize(
    "model",
    [
        LLAMA,
        replace(LLAMA, qkv_bias=True, tie_embeddings=False, rope_base=1e6, precision="bf16"),
        replace(LLAMA, qk_norm=True, head_dim=32, rope_scaling=STRETCHED, normalization_epsilon=1e-6),
        replace(
            LLAMA, rope_scaling=RopeScaling(kind="linear", factor=2.0), sliding_window=16, full_attention_interval=4, no_rope_interval=2
        ),
    ],
)
def test_arguments_say_the_model(model):
    said = vars(namespace_of_model(model, 272, "there", "0.19"))
    assert said["padded_vocab_size"] == 272 and said["no_save_optim"] and said["no_save_rng"]
    back = Model.from_plain(model_of_arguments(said, "there", "keep"))
    assert replace(back, head_dim=model.head_dim, vocab_padding_multiple=128) == model


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"block": "parallel"}, "model.block 'parallel'"),
        ({"normalization": "layernorm"}, "normalization 'LayerNorm'"),
        ({"logit_scale": 0.5, "residual_multiplier": 0.2}, r"2 of its keys\n  model.logit_scale 0.5\n  model.residual_multiplier 0.2"),
        ({"norm_position": "after", "qk_norm": True, "qk_norm_width": "all"}, "model.norm_position 'after'\n  model.qk_norm_width 'all'"),
        ({"rope_base": 10000.5}, "model.rope_base 10000.5"),
        ({"rope_scaling": RopeScaling(kind="linear", factor=2.5)}, "model.rope_scaling"),
        ({"rope_scaling": replace(STRETCHED, original_sequence_length=4096)}, "model.rope_scaling"),
        ({"rope_scaling": replace(STRETCHED, factor=32.0)}, "factor 32; Megatron-LM's own GPT model takes 8 whatever"),
        ({"rope_scaling": RopeScaling(kind="linear", factor=2.0)}, "model.rope_scaling linear; .* say --megatron-lm 0.19 where"),
        ({"rope_scaling": RopeScaling(kind="yarn", factor=2.0, original_sequence_length=64)}, "model.rope_scaling"),
    ],
)
def test_what_megatron_lm_has_no_argument_for_is_refused_by_key(changes, words):
    with pytest.raises(ConversionError, match=words):
        namespace_of_model(replace(LLAMA, **changes), 272, "there")


def test_a_failed_export_leaves_the_one_before(run):
    assert main(["export", str(run / "run"), str(run / "out"), "--to", "megatron", "--no-parity"]) == 0
    shutil.rmtree(run / "run/checkpoints/step-0")
    assert main(["export", str(run / "run"), str(run / "out"), "--to", "megatron", "--no-parity"]) == 2
    assert (run / "out/release/.metadata").is_file()
