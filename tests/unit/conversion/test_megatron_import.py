"""Megatron-LM's checkpoints: what its arguments become, ranks cut by hand, and files that name what they should not."""

import argparse
import enum
import io
import pickle
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from family_models import make_model, weights_of
from patience import PATIENCE_SECONDS

from codemix_megatron.checkpoint.foreign_pickle import load_foreign
from codemix_megatron.cli.main import main
from codemix_megatron.conversion.export import ExportOptions, export_run
from codemix_megatron.conversion.megatron_model_block import model_of_arguments
from codemix_megatron.errors import ConversionError
from codemix_megatron.records.run_folder import RunFolder

SOUND = {
    "num_layers": 4, "hidden_size": 64, "num_attention_heads": 4, "group_query_attention": True, "num_query_groups": 2,
    "ffn_hidden_size": 96, "kv_channels": 16, "seq_length": 128, "swiglu": True, "normalization": "RMSNorm", "norm_epsilon": 1e-6,
    "position_embedding_type": "rope", "rotary_base": 10000, "rotary_percent": 1.0, "add_bias_linear": False,
    "untie_embeddings_and_output_weights": True, "padded_vocab_size": 272, "make_vocab_size_divisible_by": 8,
    "tensor_model_parallel_size": 2,
}  # fmt: skip


def rank_states(weights: dict) -> dict[tuple[int, int], dict]:
    """Cut a Hugging Face Llama into Megatron's ranks, tensor 2 x pipeline 2, written here from Megatron's layout: 2 groups of 2 heads of 16."""
    states = {}
    for tensor in range(2):
        for stage in range(2):
            state = {}
            for local in range(2):
                theirs, ours = f"model.layers.{2 * stage + local}.", f"decoder.layers.{local}."
                query, key, value = (weights[f"{theirs}self_attn.{x}_proj.weight"] for x in "qkv")
                group = [query[32 * tensor : 32 * tensor + 32], key[16 * tensor : 16 * tensor + 16], value[16 * tensor : 16 * tensor + 16]]
                state[f"{ours}self_attention.linear_qkv.weight"] = torch.cat(group)
                state[f"{ours}self_attention.linear_proj.weight"] = weights[f"{theirs}self_attn.o_proj.weight"][
                    :, 32 * tensor : 32 * tensor + 32
                ]
                gate_up = [weights[f"{theirs}mlp.{x}_proj.weight"][48 * tensor : 48 * tensor + 48] for x in ("gate", "up")]
                state[f"{ours}mlp.linear_fc1.weight"] = torch.cat(gate_up)
                state[f"{ours}mlp.linear_fc2.weight"] = weights[f"{theirs}mlp.down_proj.weight"][:, 48 * tensor : 48 * tensor + 48]
                state[f"{ours}self_attention.linear_qkv.layer_norm_weight"] = weights[f"{theirs}input_layernorm.weight"]
                state[f"{ours}mlp.linear_fc1.layer_norm_weight"] = weights[f"{theirs}post_attention_layernorm.weight"]
                state[f"{ours}self_attention.linear_qkv._extra_state"] = io.BytesIO(b"")
            padding = torch.zeros(272 - 259, 64)
            if stage == 0:
                state["embedding.word_embeddings.weight"] = torch.cat([weights["model.embed_tokens.weight"], padding])[136 * tensor :][:136]
            else:
                state["output_layer.weight"] = torch.cat([weights["lm_head.weight"], padding])[136 * tensor :][:136]
                state["decoder.final_layernorm.weight"] = weights["model.norm.weight"]
            states[tensor, stage] = {name: t.clone() if isinstance(t, torch.Tensor) else None for name, t in state.items()}
    return states


@pytest.fixture
def legacy(tmp_path):
    """An old checkpoint of four ranks, saved with the names of Transformer Engine's layers."""
    make_model("llama", tmp_path / "theirs", num_key_value_heads=2)
    folder = tmp_path / "megatron" / "iter_0000030"
    for (tensor, stage), state in rank_states(weights_of(tmp_path / "theirs")).items():
        (folder / f"mp_rank_{tensor:02d}_{stage:03d}").mkdir(parents=True)
        whole = {
            "args": argparse.Namespace(**SOUND, exit_signal=signal.SIGTERM),
            "iteration": 30,
            "checkpoint_version": 3.0,
            "model": state,
        }
        torch.save(whole, folder / f"mp_rank_{tensor:02d}_{stage:03d}" / "model_optim_rng.pt")
    (tmp_path / "megatron" / "latest_checkpointed_iteration.txt").write_text("30\n")
    return tmp_path


def run_import(folder, source="megatron") -> int:
    """Import by the command."""
    return main(
        ["import", "--from", "megatron", str(folder / source), str(folder / "run"), "--tokenizer", str(folder / "theirs/tokenizer.json")]
    )


def test_ranks_cut_by_hand_come_together_bit_for_bit(legacy, capsys):
    assert run_import(legacy) == 0
    assert "imported iteration 30" in capsys.readouterr().out
    after = weights_of(export_run(RunFolder(legacy / "run"), output=legacy / "out", options=ExportOptions(parity=False)).folder)
    before = weights_of(legacy / "theirs")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def test_a_missing_rank_and_a_tracker_that_leads_nowhere_are_named(legacy, capsys):
    (legacy / "megatron" / "latest_checkpointed_iteration.txt").write_text("31")
    assert run_import(legacy) == 2
    assert "names '31', which is not there (iter_0000030); give an iter_* folder" in capsys.readouterr().err
    (legacy / "megatron/iter_0000030/mp_rank_01_000").rename(legacy / "elsewhere")
    assert run_import(legacy, "megatron/iter_0000030") == 2
    assert "mp_rank_01_000 is missing" in capsys.readouterr().err
    assert not (legacy / "run" / "checkpoints").exists()


def test_weights_that_do_not_fit_the_arguments_are_named(legacy, capsys):
    path = legacy / "megatron/iter_0000030/mp_rank_00_000/model_optim_rng.pt"
    state = torch.load(path, weights_only=False)
    state["model"]["decoder.layers.0.mlp.surprise.weight"] = torch.ones(2)
    del state["model"]["decoder.layers.1.mlp.linear_fc2.weight"]
    torch.save(state, path)
    assert run_import(legacy) == 2
    assert "decoder.layers.mlp.surprise.weight: unknown tensor" in capsys.readouterr().err
    del state["model"]["decoder.layers.0.mlp.surprise.weight"]
    torch.save(state, path)
    assert run_import(legacy) == 2
    assert "mlp.linear_fc2.weight of layer 1 is missing" in capsys.readouterr().err
    assert not (legacy / "run" / "checkpoints" / "step-0").exists()


def test_one_command_of_the_tools_makes_a_hugging_face_folder_of_it(legacy):
    words = ["--model-type", "GPT", "--loader", "core", "--saver", "hf", "--load-dir", legacy / "megatron", "--save-dir", legacy / "out",
             "--tokenizer-model", legacy / "theirs/tokenizer.json", "--no-parity"]  # fmt: skip
    script = Path(__file__).parents[3] / "tools" / "convert_checkpoint.py"
    done = subprocess.run([sys.executable, str(script), *map(str, words)], capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr
    before, after = weights_of(legacy / "theirs"), weights_of(legacy / "out")
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"num_experts": 8}, "num_experts 8; only None can be converted"),
        ({"add_bias_linear": True}, "add_bias_linear True; only False can be converted"),
        ({"swiglu": False}, "swiglu False; only True"),
        ({"squared_relu": True}, "squared_relu True"),
        ({"position_embedding_type": "learned_absolute"}, "position_embedding_type 'learned_absolute'; only 'rope'"),
        ({"normalization": "LayerNorm"}, "normalization 'LayerNorm'; only 'RMSNorm'"),
        ({"rotary_percent": 0.5}, "rotary_percent 0.5"),
        ({"multi_latent_attention": True}, "multi_latent_attention True"),
        ({"mtp_num_layers": 1}, "mtp_num_layers 1"),
        ({"hidden_size": None}, "hidden_size is missing"),
    ],
)
def test_what_no_model_here_computes_is_refused_with_the_name_of_the_argument(said, words):
    with pytest.raises(ConversionError, match=words):
        model_of_arguments({**SOUND, **said}, "there")


def test_arguments_that_old_checkpoints_lack_have_the_defaults_of_megatron_lm():
    lacking = {name: value for name, value in SOUND.items() if name not in ("swiglu", "normalization", "add_bias_linear")}
    with pytest.raises(ConversionError, match=r"3 faults\n  swiglu False.*\n  normalization 'LayerNorm'.*\n  add_bias_linear True"):
        model_of_arguments(lacking, "there")


def test_arguments_become_the_keys_of_the_model_block():
    given = {**SOUND, "use_rope_scaling": True, "rope_scaling_factor": 32.0, "rotary_base": 500000, "window_size": (127, 0),
             "add_qkv_bias": True, "qk_layernorm": True, "kv_channels": 32, "bf16": True, "group_query_attention": False,
             "num_query_groups": 1}  # fmt: skip
    model = model_of_arguments(given, "there", "keep")
    scaling = {
        "kind": "llama3",
        "factor": 32.0,
        "low_frequency_factor": 1.0,
        "high_frequency_factor": 4.0,
        "original_sequence_length": 8192,
    }
    expected = {"rope_scaling": scaling, "rope_base": 500000.0, "sliding_window": 128, "qkv_bias": True, "qk_norm": True, "head_dim": 32,
                "precision": "bf16", "num_query_groups": 4, "tie_embeddings": False}  # fmt: skip
    assert {key: model[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("said", "kept", "words"),
    [
        (
            {"use_rope_scaling": True, "rope_scaling_factor": 32.0},
            32.0,
            "rope_scaling_factor 32.0: Megatron-LM's own GPT model takes 8 whatever it says; say --unused-arguments keep",
        ),
        (
            {"rotary_seq_len_interpolation_factor": 2},
            2.0,
            "rotary_seq_len_interpolation_factor 2: Megatron-LM before 0.19 does not give it",
        ),
    ],
)
def test_what_megatron_lm_reads_and_computes_without_is_asked_about(said, kept, words):
    """tests/parity/test_megatron_lm.py has Megatron-LM itself show it."""
    with pytest.raises(ConversionError, match=words):
        model_of_arguments({**SOUND, **said}, "there")
    assert model_of_arguments({**SOUND, **said}, "there", "keep")["rope_scaling"]["factor"] == kept
    dropped = model_of_arguments({**SOUND, **said}, "there", "drop")["rope_scaling"]
    assert dropped["factor"] == 8.0 if "use_rope_scaling" in said else dropped is None


class Trap:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        import os

        return os.system, ("touch /tmp/trapped",)


class Backend(enum.Enum):
    """Stands for an enumeration of Megatron's."""

    auto = 1


def test_a_stranger_s_file_runs_none_of_their_code(tmp_path):
    torch.save({"args": argparse.Namespace(x=Trap())}, tmp_path / "common.pt")
    with pytest.raises(ConversionError, match=r"it names (posix|os).system, which no checkpoint of Megatron-LM needs"):
        load_foreign(tmp_path / "common.pt")
    for text in (b"", b"not a file of torch", pickle.dumps([1])):
        (tmp_path / "common.pt").write_bytes(text)
        with pytest.raises(ConversionError, match=r"common.pt"):
            load_foreign(tmp_path / "common.pt")


def test_enumerations_of_megatron_s_own_are_read_without_its_classes(tmp_path, monkeypatch):
    """However this version of Python pickles their members, and whether or not the class is installed here."""
    Backend.__module__ = "megatron.core.of_another_version"
    module = types.ModuleType(Backend.__module__)
    module.Backend = Backend
    monkeypatch.setitem(sys.modules, Backend.__module__, module)
    torch.save({"args": argparse.Namespace(backend=Backend.auto, dtype=torch.bfloat16, exit_signal=signal.SIGTERM)}, tmp_path / "common.pt")
    monkeypatch.delitem(sys.modules, Backend.__module__)
    found = load_foreign(tmp_path / "common.pt")["args"]
    assert found.dtype == torch.bfloat16 and found.exit_signal == signal.SIGTERM and type(found.backend).__name__ == "Backend"


class PathOfPython313:
    """Pickles as a path does on Python 3.13."""

    def __reduce__(self):
        return type(self), ("runs/mine",)


def test_paths_are_read_whatever_version_of_python_pickled_them(tmp_path, monkeypatch):
    PathOfPython313.__module__, PathOfPython313.__qualname__, PathOfPython313.__name__ = "pathlib._local", "PosixPath", "PosixPath"
    module = types.ModuleType("pathlib._local")
    module.PosixPath = PathOfPython313
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "pathlib._local", module)
        torch.save({"args": argparse.Namespace(save=PathOfPython313())}, tmp_path / "common.pt")
    assert load_foreign(tmp_path / "common.pt")["args"].save == Path("runs/mine")


def test_a_tokenizer_is_asked_for_and_must_fit(legacy, capsys):
    assert main(["import", "--from", "megatron", str(legacy / "megatron"), str(legacy / "run")]) == 2
    assert "--tokenizer: needed with --from megatron" in capsys.readouterr().err
    path = legacy / "megatron/iter_0000030/mp_rank_00_000/model_optim_rng.pt"
    state = torch.load(path, weights_only=False)
    state["args"].padded_vocab_size = 128
    torch.save(state, path)
    assert run_import(legacy) == 2
    assert "an embedding of 128 rows (padded_vocab_size), the tokenizer" in capsys.readouterr().err
