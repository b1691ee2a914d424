"""What differs between versions of megatron-core stands in the table, each entry for the versions that have it."""

import subprocess
import sys

import pytest
import torch
from packaging.specifiers import SpecifierSet
from patience import PATIENCE_SECONDS
from tiny_run import REPOSITORY, clean_environment

from codemix_megatron.megatron import change
from codemix_megatron.megatron.changes import CHANGES, EVERY_CHANGE
from codemix_megatron.megatron.sites import Replaced

VERSIONS = ("0.16.1", "0.17.1", "0.18.2", "0.19.2", "0.19.2+373485f")


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_has_its_own_entries_and_one_replacement_for_a_place(monkeypatch, version):
    monkeypatch.setattr(change, "megatron_version", lambda: version.partition("+")[0])
    here = change.changes_here(EVERY_CHANGE)
    names = {entry.name for entry in here}
    assert ("hybrid model" in names) == version.startswith("0.19")
    assert ("kernels at import" in names) == (version > "0.18")
    replaced = [site.target for entry in here if entry.when == "always" for site in entry.sites if isinstance(site, Replaced)]
    assert len(replaced) == len(set(replaced))
    assert sum(target.endswith("_apply_rotary_pos_emb_bshd") for target in replaced) == 1


def test_versions_are_specifiers_and_the_installed_one_is_in_the_range_of_setup():
    for entry in EVERY_CHANGE:
        assert all(SpecifierSet(versions) or not versions for versions in (entry.versions, *(site.versions for site in entry.sites)))
    declared = next(line for line in (REPOSITORY / "setup.py").read_text().splitlines() if '"megatron-core' in line)
    taken = SpecifierSet(declared.strip().strip('",').removeprefix("megatron-core"))
    assert all(version in taken for version in (*change.SUPPORTED_MEGATRON, "0.17.1", "0.18.2")) and "0.20.0" not in taken
    assert change.megatron_version() in change.SUPPORTED_MEGATRON
    assert {entry.name for entry in CHANGES} <= {entry.name for entry in EVERY_CHANGE}


def test_a_site_of_the_other_versions_signature_is_refused():
    """The entry for 0.19 applied to what 0.16 has, and the other way round: by name, with both ways of writing it."""
    for entry in EVERY_CHANGE:
        for site in entry.sites:
            if site.target.endswith("_apply_rotary_pos_emb_bshd") and not change.is_here(site.versions):
                assert "_apply_rotary_pos_emb_bshd is (t, freqs," in (site.fault() or "")
                return
    pytest.fail("no entry for another version")


def test_rotation_of_both_signatures_is_one(monkeypatch):
    from codemix_megatron.megatron import rotation

    channels, angles = torch.randn(4, 1, 2, 6), torch.randn(4, 1, 1, 6)
    assert torch.equal(rotation.rotate_since_19(channels, angles, mla_rotary_interleaved=False), rotation.rotate(channels, angles))
    monkeypatch.setattr(rotation, "megatrons_own", lambda *given: given)
    assert rotation.rotate_since_19(channels, angles, multi_latent_attention=True)[2:] == (False, False, 1.0, True)
    assert rotation.rotate_since_19(channels, angles, mla_rotary_interleaved=True)[2:] == (False, True, 1.0)


KERNEL = """
import codemix_megatron
from megatron.core.transformer.moe.ops.paged_stash import some_kernel
some_kernel()
"""


def test_kernels_without_triton_can_be_imported_and_say_what_is_missing_when_called(tmp_path):
    """A tree as 0.19's: its own modules without kernels come from the files, those that import triton are stood in for."""
    import importlib.util

    if importlib.util.find_spec("triton"):
        pytest.skip("triton is installed: its kernels are there")
    ops = tmp_path / "megatron/core/transformer/moe/ops"
    ops.mkdir(parents=True)
    for folder in (ops, *list(ops.parents)[:3]):
        (folder / "__init__.py").touch()
    (ops / "paged_stash.py").write_text('"""Kernels."""\n\nimport triton\nimport triton.language as tl\n')
    env = {**clean_environment(), "PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}
    done = subprocess.run([sys.executable, "-c", KERNEL], env=env, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert "some_kernel is a kernel of triton, which is not installed here" in done.stderr, done.stderr


def test_common_state_is_written_for_earlier_versions_where_it_is_an_object(tmp_path):
    from megatron.core.dist_checkpointing.mapping import ShardedObject

    from codemix_megatron.checkpoint.writing import write_common

    write_common({}, tmp_path)
    assert not list(tmp_path.iterdir())
    content = {"step": 3, "groups": [{"lr": 0.1}]}
    write_common({"common_state": ShardedObject("common_state", content, (1,), (0,))}, tmp_path)
    assert torch.load(tmp_path / "common.pt", weights_only=True) == content


def test_norms_over_all_heads_are_asked_for_only_while_layers_are_built():
    from types import SimpleNamespace

    from codemix_megatron.model.build import wide_norms_asked_for

    config, model = SimpleNamespace(qk_layernorm=False), SimpleNamespace(qk_norm=True)
    with wide_norms_asked_for(config, model):  # type: ignore[arg-type]
        assert config.qk_layernorm is True
    assert config.qk_layernorm is False


def test_messages_of_every_start_are_hidden_and_all_others_kept(caplog):
    import logging

    from codemix_megatron.megatron.upstream_warnings import LOGGED, hide_upstream_warnings

    hide_upstream_warnings()
    hide_upstream_warnings()  # as every command does; one function is one filter
    for name, beginning in LOGGED.items():
        logging.getLogger(name).warning(f"{beginning} and so on")
        logging.getLogger(name).warning("Overwriting old incomplete / corrupted checkpoint...")
        assert len([f for f in logging.getLogger(name).filters if getattr(f, "__name__", "") == "is_worth_reading"]) == 1
    assert [record.getMessage() for record in caplog.records] == ["Overwriting old incomplete / corrupted checkpoint..."] * 2
