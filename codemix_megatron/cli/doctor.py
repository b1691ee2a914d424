"""codemix doctor: what this machine has, and whether it works."""

import argparse
import importlib.metadata
import importlib.util
import os
import shutil

from codemix_megatron.cli import doctor_machine
from codemix_megatron.cli.json_output import add_json_option, print_json
from codemix_megatron.cores import available_cores
from codemix_megatron.errors import CodemixError, SandboxError
from codemix_megatron.plugins import GROUPS, PluginError, find_plugin, plugins_of

__all__ = ["add_arguments", "run"]

EPILOG = """examples:
  codemix doctor
  codemix doctor --json             for a script or a bug report
  codemix doctor --site site.yaml   a job of some minutes on two nodes of a cluster: do they train together, and how fast?
  codemix doctor --recipe-keys      every key of a recipe with its default and meaning
  codemix doctor --plugins          what installed packages add: readers, filters, observers, families, suites, sites
  codemix doctor --mixtures         mixtures that others have published, as a recipe can name them"""

PACKAGES: tuple[str, ...] = (
    "torch",
    "megatron-core",
    "transformer-engine",
    "numpy",
    "sentencepiece",
    "tokenizers",
    "transformers",
    "safetensors",
)
PACKAGES += ("lm-eval", "wandb", "tensorboard", "matplotlib", "rich")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--site", metavar="FILE", help="try a site file: train a toy on two nodes as a Slurm job, say what came of it")
    parser.add_argument("--wait", type=float, default=900, metavar="SECONDS", help="with --site: longest wait for the job (default: 900)")
    parser.add_argument("--recipe-keys", action="store_true", help="print every key a recipe may have")
    parser.add_argument("--plugins", action="store_true", help="list what installed packages add, and try to load each")
    parser.add_argument("--mixtures", action="store_true", help="list published mixtures, each with its source")
    add_json_option(parser, "what was found")


def run(arguments) -> int:
    """Print what is there; exit 1 when something that training needs does not work."""
    from codemix_megatron.cli.consoles import Console

    console = Console(soft_wrap=True, highlight=False)
    if arguments.recipe_keys:
        print_recipe_keys(console)
        return 0
    if arguments.plugins:
        return print_plugins(console)
    if arguments.mixtures:
        print_mixtures(console)
        return 0
    if arguments.site:
        from codemix_megatron.cli.doctor_site import try_site

        return try_site(arguments.site, arguments.wait, lambda text: console.print(text, markup=False))
    found = []
    for name in PROBES:
        found.append(examine(name))
        if not arguments.json:
            console.print(f"{name:<22} {'ok' if found[-1]['works'] else 'FAILS':<6} {found[-1]['found']}", markup=False)
    if arguments.json:
        print_json(found)
    return 0 if all(entry["works"] for entry in found) else 1


def examine(name: str) -> dict:
    """Return whether one part of the machine works, and what was found."""
    try:
        return {"name": name, "works": True, "found": PROBES[name]()}
    except (CodemixError, RuntimeError) as fault:  # torch raises the second for a device, its driver or NCCL
        return {"name": name, "works": False, "found": str(fault)}


def versions() -> str:
    """Return the versions of what is installed."""
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{package} absent")
    return ", ".join(found)


def machine() -> str:
    """Return cores, memory and free disk here."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{available_cores()} cores, {memory:.0f} GiB memory, {shutil.disk_usage('.').free / 2**30:.0f} GiB free on this disk"


def devices() -> str:
    """Return the CUDA devices torch sees."""
    import torch

    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return f"CUDA: {', '.join(names)}" if names else "no CUDA device; ranks run on CPU over gloo"


def engines() -> str:
    """Return which fused engines would be used, part by part."""
    from codemix_megatron.parallel.device import active_engines, transformer_engine_fault

    if fault := transformer_engine_fault():
        raise CodemixError(fault)
    return ", ".join(f"{name} {'present' if there else 'absent'}" for name, there in active_engines().items())


def kernels() -> str:
    """Return what a training step computes with here, and what makes it slower than it could be."""
    from codemix_megatron.parallel.device import active_kernels, choose_device, slow_paths
    from codemix_megatron.parallel.fusions import fusion_lines

    device = choose_device("auto")
    parts = "; ".join(f"{part}: {kernel}" for part, kernel in active_kernels(device).items())
    slow = [f"\n  slower than it could be: {line}" for line in slow_paths(device)]
    return "".join([f"on {device.type}: {parts}", *slow, *(f"\n  {line}" for line in fusion_lines())])


def megatron_changes() -> str:
    """Make the changes to megatron-core that apply here, which raises when this version does not match them, and list them all."""
    from codemix_megatron.megatron.installing import active_changes, change_lines, install_changes
    from codemix_megatron.parallel.device import active_engines, choose_device

    device = choose_device("auto").type
    install_changes(device, active_engines())
    active = active_changes()
    what = f"{len(active)} changes at {sum(len(change.sites) for change in active)} sites fit megatron-core"
    return "".join([f"{what} {importlib.metadata.version('megatron-core')} on {device}", *(f"\n  {line}" for line in change_lines())])


def one_step() -> str:
    """Train a toy model for two steps on one rank of the device that runs take, through the code that trains everything."""
    import torch

    from codemix_megatron.conversion.parity import model_recipe
    from codemix_megatron.parallel.ranks import one_rank
    from codemix_megatron.recipe.schema import LearningRate, Model, Phase
    from codemix_megatron.records.manifest import TokenizerMetadata
    from codemix_megatron.train.batches import Batch
    from codemix_megatron.train.engine import Engine

    recipe = model_recipe(Model(num_layers=1, hidden_size=32, num_attention_heads=2, sequence_length=16))
    phase = Phase(name="probe", tokens=16, mixture={}, learning_rate=LearningRate(peak=0.01))
    recipe = type(recipe)(**{**vars(recipe), "phases": (phase,)})
    tokenizer = TokenizerMetadata(type="none", path="", sha256="", vocab_size=128, end_of_document_id=0)
    with one_rank() as ranks:
        batch = Batch((torch.arange(17)[None] % 7).to(ranks.device), torch.zeros(1, dtype=torch.int64, device=ranks.device))
        engine = Engine(recipe, tokenizer, 1, ranks)
        losses = [engine.train_step(batch, 0.01, False).losses.mean for _ in range(2)]
    if not losses[1] < losses[0]:
        raise CodemixError(f"two steps on one batch gave losses {losses[0]:.4f} and {losses[1]:.4f}; the second should be lower")
    over = "NCCL" if ranks.device.type == "cuda" else "gloo"
    return f"two steps of a toy model on {ranks.device.type}, reduced over {over}: loss {losses[0]:.4f}, then {losses[1]:.4f}"


def sandbox() -> str:
    """Say what keeps programs apart here; nothing else than running them needs it."""
    from codemix_megatron.sandbox.control_groups import find_hierarchies
    from codemix_megatron.sandbox.running import find_sandbox

    try:
        groups = ", ".join(f"{h.controller} (version {h.version})" for h in find_hierarchies())
        return f"{find_sandbox().description}; control groups: {groups or 'none, so memory is looked at every 50 ms'}"
    except SandboxError as fault:
        return f"none, so `codemix verify` and programs in evaluations refuse to run: {fault}"


PROBES = {
    "versions": versions,
    "machine": machine,
    "devices": devices,
    "engines": engines,
    "kernels": kernels,
    "megatron-core": megatron_changes,
    "training": one_step,
    "drivers": doctor_machine.drivers,
    "names and network": doctor_machine.names,
    "limits": doctor_machine.limits,
    "disk": doctor_machine.disk,
    "clock": doctor_machine.clock,
    "slurm": doctor_machine.slurm,
    "sandbox": sandbox,
}


def print_plugins(console) -> int:
    """Print the plugins of each group and whether they load; exit 1 where one does not."""
    failed = 0
    for group, meaning in GROUPS.items():
        console.print(f"{group}: {meaning}", markup=False)
        for plugin in plugins_of(group):
            try:
                find_plugin(group, plugin.name)  # which two packages may both have
                plugin.load()
                verdict = "ok"
            except PluginError as fault:
                verdict, failed = f"FAILS  {fault}", failed + 1
            console.print(f"  {plugin.name:<20} {plugin.made_by:<24} {plugin.value:<40} {verdict}", markup=False)
    return 1 if failed else 0


def print_mixtures(console) -> None:
    """Print published mixtures; a source once for all that it has."""
    from codemix_megatron.recipe.published import PUBLISHED

    before = None
    for name, published in sorted(PUBLISHED.items(), key=lambda item: (item[1].source, item[0])):
        if published.source != before:
            console.print(f"\n{published.source}", markup=False)
            before = published.source
        shares = ", ".join(f"{domain} {100 * share:.3g} %" for domain, share in published.shares.items())
        console.print(f"  {name:<42} {published.tokens:>5}  {shares}", markup=False)


def print_recipe_keys(console) -> None:
    """Print each block of the recipe with its keys, from the dataclasses themselves."""
    from rich.table import Table

    from codemix_megatron.recipe.keys import recipe_blocks

    for block in recipe_blocks():
        table = Table(title=block.path or "recipe", title_justify="left")
        table.add_column("key", no_wrap=True)
        for heading in ("default", "value", "meaning"):
            table.add_column(heading)
        for key in block.keys:
            table.add_row(key.name, key.default, key.value, key.meaning)
        console.print(table, markup=False)
