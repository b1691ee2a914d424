"""What a cluster wants to know of a job, read from a YAML file: partition, devices per node, container, environment."""

import re
from dataclasses import dataclass, replace
from typing import Literal

from codemix_megatron.launch.settings_file import read_settings
from codemix_megatron.launch.variables import read_variables, secret_variables
from codemix_megatron.plugins import plugin_file
from codemix_megatron.recipe.fields import option
from codemix_megatron.redaction import names_secret, secret_in

__all__ = ["MEMORY", "Apptainer", "Container", "Resources", "Site", "read_site"]

LEAST_SAVE_SECONDS = 60  # Slurm's own clock for such signals: they come up to a minute off
MEMORY = re.compile(r"(\d+)([KMGT]?)")
MOUNT = re.compile(r"[^:\s]+:[^:\s]+(:[^:\s]+)?")
ASSIGNED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(?!['\"]?[$/])[^\s]")  # but for paths and other variables
BIND = re.compile(r"[^:\s,]+(:[^:\s,]+){0,2}")


@dataclass(frozen=True)
class Container:
    """The image that srun starts each rank in, through the pyxis plug-in and enroot."""

    image: str = option("path of a .sqsh file, or an image such as nvcr.io#nvidia/pytorch:25.10-py3")
    mounts: tuple[str, ...] = option(
        "host paths seen inside, SOURCE:DESTINATION[:FLAGS]; recipe, corpora and runs have to be among them", ()
    )
    workdir: str | None = option("working directory inside", None)
    writable: bool = option("let programs inside write to the image's own files (lost at the end)", False)
    mount_home: bool = option("see the home directory inside", False)


@dataclass(frozen=True)
class Apptainer:
    """The image that each rank runs in by Apptainer (Singularity), which needs no plug-in of Slurm's."""

    image: str = option("path of a .sif file or a sandbox folder, or an address such as docker://nvcr.io/nvidia/pytorch:25.10-py3")
    binds: tuple[str, ...] = option(
        "host paths seen inside, SOURCE[:DESTINATION[:FLAGS]]; recipe, corpora and runs have to be among them", ()
    )
    workdir: str | None = option("working directory inside", None)
    writable: bool = option("let programs inside write to the image's own files (in memory, lost at the end)", False)
    mount_home: bool = option("see the home directory inside", False)
    program: str = option("command that runs images", "apptainer")
    options: tuple[str, ...] = option("further options of `apptainer exec`, such as --rocm", ())


@dataclass(frozen=True)
class Resources:
    """What one kind of job asks for otherwise than the site's other jobs; what is left out is the site's."""

    partition: str | None = option("partition to submit to", None)
    account: str | None = option("account that is charged", None)
    qos: str | None = option("quality of service", None)
    cpus_per_rank: int | None = option("cores for each task or rank", None)
    memory_per_node: str | None = option("memory to ask for, as sbatch --mem takes it", None)
    memory_per_rank: str | None = option("memory for each task or rank, such as 16G", None)
    time_limit_hours: float | None = option("hours a job may take before it is queued again", None)
    gpus_per_node: int | None = option("GPUs of a node; 0 asks for none", None)
    gpu_type: str | None = option("kind of GPU", None)
    sbatch: tuple[str, ...] | None = option("further options of sbatch, in the place of the site's", None)


@dataclass(frozen=True)
class Site:
    """One cluster, or one part of it."""

    partition: str | None = option("partition to submit to (default: the cluster's)", None)
    account: str | None = option("account that is charged", None)
    qos: str | None = option("quality of service", None)
    nodes: int | None = option("nodes of a training job (default: the fewest that hold the recipe's layout)", None)
    spare_nodes: int = option("nodes a training job may have in addition: a start that failed is started again on them, in the same job", 0)
    gpus_per_node: int = option("GPUs to ask for on each node; 0 asks for none", 0)
    gpu_type: str | None = option("kind of GPU to ask for, as the cluster names it: h100, a100", None)
    gpu_bind: str | None = option(
        "which GPUs each rank sees, as srun --gpu-bind takes it: closest, single:1 (default: all of its node)", None
    )
    ranks_per_node: int | None = option("ranks on each node (default: one per GPU, or one)", None)
    cpus_per_rank: int | None = option("cores for each rank", None)
    memory_per_node: str | None = option("memory to ask for, as sbatch --mem takes it: 64G, or 0 for all", None)
    memory_per_rank: str | None = option("memory for each rank, such as 64G, in the place of memory_per_node", None)
    time_limit_hours: float | None = option(
        "hours a job may take before it saves, leaves and is queued again (default: the partition's)", None
    )
    save_seconds: int = option("seconds before the limit at which a job begins to save and leave", 300)
    max_starts_without_progress: int = option("starts in a row that may end without a new checkpoint before the job is given up", 3)
    exclude: tuple[str, ...] = option("nodes never to run on", ())
    exclude_bad_nodes: bool = option("leave out, on the next start, a node on which a rank failed first", True)
    modules: tuple[str, ...] = option("environment modules to load", ())
    environment: dict[str, str] = option("environment variables to set", factory=dict, reader=read_variables)
    network_interface: str | None = option("interface for NCCL and gloo, such as ib0 or eth0", None)
    setup: tuple[str, ...] = option("lines of bash before anything else, such as source /opt/conda/bin/activate mine", ())
    stage_directory: str = option(
        "folder on a disk of each node's own, where `codemix launch --stage` unpacks the ranks' environment", "/tmp"
    )
    python: str | None = option("interpreter of the ranks (default: that of codemix launch; python in a container)", None)
    batch_python: str | None = option(
        "interpreter of the batch script itself, outside of any container (default: that of codemix launch)", None
    )
    sbatch: tuple[str, ...] = option("further options of sbatch, such as --reservation=mine", ())
    srun: tuple[str, ...] = option("further options of srun, such as --mpi=none", ())
    container: Container | None = option("container to run ranks in, by pyxis", None)
    apptainer: Apptainer | None = option("container to run ranks in, by Apptainer", None)
    prepare: Resources | None = option("what jobs that prepare corpora ask for otherwise, such as a partition without GPUs", None)
    evaluate: Resources | None = option("what jobs that score ask for otherwise (and export, where there is no block of its own)", None)
    export: Resources | None = option(
        "what jobs that export ask for otherwise; with it exports have a job of their own, without a GPU", None
    )
    study_run: Resources | None = option("what training jobs of a study ask for otherwise", None)

    @property
    def ranks_on_a_node(self) -> int:
        """Ranks that one node gets."""
        return self.ranks_per_node or self.gpus_per_node or 1

    @property
    def is_contained(self) -> bool:
        """Whether ranks run inside an image."""
        return bool(self.container or self.apptainer)

    def for_kind(self, kind: Literal["prepare", "evaluate", "export", "study_run"]) -> "Site":
        """Return the site as one kind of job sees it."""
        own: Resources | None = getattr(self, kind)
        chosen = {name: value for name, value in vars(own).items() if value is not None} if own else {}
        return replace(self, **chosen)


def read_site(path) -> Site:
    """Read a site file, or that of a plugin by its name; raises RecipeError with all its faults at once."""
    return read_settings(
        Site, plugin_file("sites", str(path)) or path, site_faults, "; give the path of a site file, such as slurm/sites/cpu.yaml"
    )


def site_faults(site: Site) -> list[str]:
    """Return one line per fault of values that have the right type."""
    faults = [*count_faults(site), *word_faults(site), *container_faults(site.container), *apptainer_faults(site), *secret_faults(site)]
    for kind in ("prepare", "evaluate", "export", "study_run"):
        if getattr(site, kind):
            seen = site.for_kind(kind)
            faults += [f"{kind}.{fault}" for fault in [*count_faults(seen), *word_faults(seen)] if fault not in faults]
    return faults


def count_faults(site: Site) -> list[str]:
    """Return faults of numbers."""
    names = ("nodes", "ranks_per_node", "cpus_per_rank", "max_starts_without_progress")
    counts = ((name, getattr(site, name)) for name in names)
    faults = [f"{name}: found {count}, must be at least 1" for name, count in counts if count is not None and count < 1]
    if site.spare_nodes < 0:
        faults.append(f"spare_nodes: found {site.spare_nodes}, must be at least 0")
    if site.gpus_per_node < 0:
        faults.append(f"gpus_per_node: found {site.gpus_per_node}, must be at least 0")
    elif 0 < site.gpus_per_node < site.ranks_on_a_node:
        faults.append(f"ranks_per_node: {site.ranks_per_node} ranks do not fit on {site.gpus_per_node} GPUs; each rank needs its own")
    hours = site.time_limit_hours
    if hours is not None and hours <= 0:
        faults.append(f"time_limit_hours: found {hours:g}, must be above 0")
    elif site.save_seconds < LEAST_SAVE_SECONDS or (hours is not None and site.save_seconds > hours * 3600 / 2):
        half = "" if hours is None else f" and at most half the limit of {hours:g} hours"
        faults.append(f"save_seconds: found {site.save_seconds}, must be at least {LEAST_SAVE_SECONDS}{half}")
    return faults


def word_faults(site: Site) -> list[str]:
    """Return faults of texts that become words of the script."""
    faults = []
    if not site.stage_directory.startswith("/") or any(c.isspace() for c in site.stage_directory):
        faults.append(f"stage_directory: found {site.stage_directory!r}, must be an absolute path without blanks")
    for name in ("partition", "account", "qos", "memory_per_node", "memory_per_rank", "network_interface", "gpu_type", "gpu_bind"):
        text = getattr(site, name)
        if text is not None and (not text or any(c.isspace() for c in text)):
            faults.append(f"{name}: found {text!r}, must be one word")
    if site.memory_per_rank and not MEMORY.fullmatch(site.memory_per_rank):
        faults.append(f"memory_per_rank: found {site.memory_per_rank!r}, must be a number with K, M, G or T, such as 64G")
    for name in ("modules", "exclude"):
        faults += [f"{name}[{i}]: found {word!r}, must be one word" for i, word in enumerate(getattr(site, name)) if len(word.split()) != 1]
    for name in ("sbatch", "srun"):
        for i, word in enumerate(getattr(site, name)):
            if not word.startswith("-") or "\n" in word:
                faults.append(f"{name}[{i}]: found {word!r}, must be one option that begins with -")
    return faults


def container_faults(container: Container | None) -> list[str]:
    """Return faults of the container."""
    mounts = container.mounts if container else ()
    return [
        f"container.mounts[{i}]: found {mount!r}, must be SOURCE:DESTINATION[:FLAGS]"
        for i, mount in enumerate(mounts)
        if not MOUNT.fullmatch(mount)
    ]


def apptainer_faults(site: Site) -> list[str]:
    """Return faults of Apptainer's block."""
    own = site.apptainer
    if own is None:
        return []
    faults = ["container and apptainer: give one of them; ranks run in one image"] if site.container else []
    faults += [
        f"apptainer.{name}: found {word!r}, must be one word"
        for name, word in (("image", own.image), ("program", own.program))
        if len(word.split()) != 1 or word.startswith("-")
    ]
    faults += [
        f"apptainer.binds[{i}]: found {bind!r}, must be SOURCE[:DESTINATION[:FLAGS]]"
        for i, bind in enumerate(own.binds)
        if not BIND.fullmatch(bind)
    ]
    return faults + [
        f"apptainer.options[{i}]: found {option!r}, must be one option that begins with -"
        for i, option in enumerate(own.options)
        if not option.startswith("-") or "\n" in option
    ]


def secret_faults(site: Site) -> list[str]:
    """Return faults of values that are secrets: scripts hold them, and stay in every run's folder."""
    advice = "would be written into the script of every run; export it where you call codemix launch, and jobs have it too"
    faults = [f"environment.{name}: is a secret, which {advice}" for name in secret_variables(site.environment)]
    for key in ("setup", "sbatch", "srun"):
        for i, line in enumerate(getattr(site, key)):
            if secret_in(line) or any(names_secret(name) for name in ASSIGNED.findall(line)):
                faults.append(f"{key}[{i}]: holds a secret, which {advice}")
    return faults
