"""Every change to megatron-core finds what it replaces, or is refused by its name before anything is replaced."""

import inspect
import json
import re
import subprocess
import sys

import pytest
import torch
from many_layouts import train
from patience import PATIENCE_SECONDS
from tiny_run import REPOSITORY, clean_environment

from codemix_megatron.errors import LaunchError
from codemix_megatron.megatron import installing, sites
from codemix_megatron.megatron.changes import CHANGES
from codemix_megatron.megatron.installing import install_changes
from codemix_megatron.megatron.sites import CudaNames, Replaced, Unwrapped

ON_CUDA_ALONE = ("with Transformer Engine", "on CUDA without FusedAdam")
PACKAGE = REPOSITORY / "codemix_megatron"

# In a process of its own, with nothing installed: break each site in turn, ask for the changes, put it back.
PROGRAM = """
import inspect, json
from codemix_megatron.errors import LaunchError
from codemix_megatron.megatron import installing
from codemix_megatron.megatron.changes import CHANGES
from codemix_megatron.megatron.importing import import_megatron
from codemix_megatron.megatron.sites import Mark, Replaced, owner_of

import_megatron()
found = {}

def refusal():
    try:
        installing.install_changes("cpu", {})
    except LaunchError as fault:
        return str(fault)

def broken(owner, name, value):
    before = inspect.getattr_static(owner, name)
    if value is None:
        delattr(owner, name)
    else:
        setattr(owner, name, value)
    try:
        return refusal()
    finally:
        setattr(owner, name, before)

def otherwise(self, something_else=None):
    return something_else

for change in CHANGES:
    if change.when in ("with Transformer Engine", "on CUDA without FusedAdam"):
        continue
    for site in change.sites:
        owner, name = owner_of(site.target)
        if not hasattr(owner, name) or owner.__name__ == "Tensor":
            continue  # brought by apex alone; torch's own
        key = f"{change.name}|{site.path}" + (f"|{site.name}" if isinstance(site, Mark) else "")
        found[key] = {"gone": broken(owner, name, None), "another": broken(owner, name, otherwise)}
        if isinstance(site, Replaced) and site.read_by:
            found[key]["unread"] = broken(*owner_of(site.read_by), otherwise)
assert not installing.installed, "something was replaced before all was checked"
print(json.dumps(found))
"""


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process that has changed nothing yet."""
    words = [sys.executable, "-W", "ignore", "-c", program]
    return subprocess.run(
        words, cwd=REPOSITORY, env={**clean_environment(), **environment}, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )


@pytest.fixture(scope="module")
def refusals():
    """What is said when each site is gone, is another function, or is read no more."""
    if torch.cuda.is_available():
        pytest.skip("on a machine with CUDA not all changes apply")
    done = run(PROGRAM)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_every_site_is_refused_by_name_when_it_is_gone_or_another(refusals):
    assert len(refusals) >= 40
    for key, said in refusals.items():
        change, path, *_ = key.split("|")
        assert said["gone"] and f"{change}: {path} is no longer there" in said["gone"], key
        assert said["another"] and re.search(f"{change}: {re.escape(path)} (is|no longer)", said["another"]), key
        assert "Install megatron-core" in said["gone"]


def test_a_name_that_nobody_reads_any_more_is_refused(refusals):
    unread = {key: said["unread"] for key, said in refusals.items() if "unread" in said}
    assert len(unread) >= 10
    for key, said in unread.items():
        assert said and f"no longer reads {key.split('|')[1].rpartition('.')[2]}" in said, key


def test_all_sites_are_replaced_and_name_no_cuda_device_any_more():
    install_changes("cpu", {})
    for change in installing.active_changes():
        for site in change.sites:
            there = sites.found(site.target)
            if isinstance(site, Replaced) and site.replacement is not None:
                wanted = sites.found(site.replacement) if isinstance(site.replacement, str) else site.replacement
                assert there is wanted, site.path
            if isinstance(site, CudaNames):
                assert 'no longer names "cuda"' in (site.fault() or ""), site.path
            if isinstance(site, Unwrapped):
                assert inspect.unwrap(there) is there, site.path  # type: ignore[arg-type]


def test_what_replaces_a_function_takes_its_arguments():
    """By name and by position: every parameter of the replaced function has one at the same position, optional where it was."""
    for change in CHANGES:
        for site in change.sites:
            if not isinstance(site, Replaced) or not isinstance(site.replacement, str) or not site.expected[0].startswith("("):
                continue
            ours = inspect.signature(sites.found(site.replacement)).parameters  # type: ignore[arg-type]
            for expected in site.expected:
                theirs = [part.partition("=") for part in expected.strip("()").split(", ") if part]
                assert len(ours) == len(theirs), site.path
                for (name, _, default), own in zip(theirs, ours.values(), strict=True):
                    assert bool(default) == (own.default is not inspect.Parameter.empty), f"{site.path}: {name}"
                    if default:
                        assert own.name == name and repr(own.default) == default, f"{site.path}: {name}"


def test_installing_again_changes_nothing():
    install_changes("cpu", {})
    before = {site.target: sites.found(site.target) for change in CHANGES for site in change.sites}
    install_changes("cpu", {})
    assert all(sites.found(target) == there for target, there in before.items())


def test_nested_code_and_tuples_are_replaced(monkeypatch):
    import types

    module = types.ModuleType("fake_megatron")

    def outer():
        def inner(kind):
            return kind in ("torch.cuda.FloatTensor", "other"), "cuda"

        return inner("torch.FloatTensor")

    module.outer = outer
    monkeypatch.setitem(sys.modules, "fake_megatron", module)
    CudaNames("fake_megatron:outer").apply()
    assert outer() == (True, "cpu")


def test_no_other_room_replaces_anything_of_megatron():
    """The table is the only one: nothing outside this room sets attributes of megatron-core's modules and classes."""
    private = re.compile(r"^\s*(?:megatron|parallel_state|layers|rope_utils|DistributedOptimizer|torch\.cuda|torch\.Tensor)(?:\.\w+)+ = ")
    for path in PACKAGE.rglob("*.py"):
        if "megatron" not in path.relative_to(PACKAGE).parts:
            assert not [line for line in path.read_text().splitlines() if private.match(line)], path


def test_every_entry_says_why_and_names_are_used_once():
    assert len({change.name for change in CHANGES}) == len(CHANGES)
    assert all(change.why and change.upstream for change in CHANGES)
    assert {change.needs for change in CHANGES} - {""} <= {change.name for change in CHANGES}


def test_an_entry_can_be_left_out_and_takes_along_what_needs_it(monkeypatch):
    monkeypatch.setenv("CODEMIX_WITHOUT", "weight gradients, rotary positions")
    wanted = {change.name for change in CHANGES if installing.applies(change, "cpu", {})}
    on_cpu = {change.name for change in CHANGES if change.when not in ON_CUDA_ALONE}
    assert on_cpu - wanted == {"weight gradients", "rotary positions", "embedding gradients"}


def test_an_unknown_entry_is_refused_with_those_there_are(monkeypatch):
    monkeypatch.setenv("CODEMIX_WITHOUT", "rotary")
    with pytest.raises(LaunchError, match="no change called rotary; there are .*rotary positions"):
        install_changes("cpu", {})


def test_on_cuda_with_a_fused_adam_nothing_of_cpu_or_adam_is_changed():
    on_cuda = {change.name for change in CHANGES if installing.applies(change, "cuda", {"transformer_engine": True})}
    others = ("on CPU", "without FusedAdam", "on CUDA without FusedAdam")
    assert not on_cuda & {change.name for change in CHANGES if change.when in others}
    assert installing.applies(next(c for c in CHANGES if c.name == "Adam"), "cuda", {})


ALONE = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "LOCAL_WORLD_SIZE": "1"}
MODELS = ({}, {"tie_embeddings": False, "block": "parallel"})
LOSSES = f"""
import json
from many_layouts import train
print(json.dumps([train({{"steps": 3, "model": model}})["losses"] for model in {MODELS}]))
"""
OPTIONAL = ",".join(change.name for change in CHANGES if not change.is_needed)


@pytest.mark.distributed
def test_losses_without_all_that_can_be_left_out_are_the_same_to_rounding(monkeypatch):
    """With all of them in this process, without them in one of its own: some are made while megatron-core is imported."""
    done = run(LOSSES, CODEMIX_WITHOUT=OPTIONAL, PYTHONPATH=f"{REPOSITORY}:{REPOSITORY / 'tests'}", **ALONE)
    assert done.returncode == 0, done.stderr[-3000:]
    without = json.loads(done.stdout.splitlines()[-1])
    for name, value in ALONE.items():
        monkeypatch.setenv(name, value)
    losses = [train({"steps": 3, "model": model})["losses"] for model in MODELS]
    for ours, theirs in zip(losses, without, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
    assert losses != without, "leaving them out made no difference at all: the switch does nothing"


def test_norm_of_all_gradients_is_that_of_megatron_core():
    from megatron.core.utils import local_multi_tensor_l2_norm

    from codemix_megatron.megatron.gradient_norm import norm_of_all

    draw = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=draw) for shape in ((3, 4), (7,), (2, 2, 2))]
    theirs, _ = local_multi_tensor_l2_norm(0, None, [tensors], False)
    ours, _ = norm_of_all(0, torch.zeros(1), [tensors], False)
    assert ours.shape == (1,)
    torch.testing.assert_close(ours[0], torch.cat([t.flatten() for t in tensors]).double().norm().float())
    torch.testing.assert_close(ours.flatten(), theirs.flatten().cpu())
