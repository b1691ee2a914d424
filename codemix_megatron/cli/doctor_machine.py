"""What of this machine large runs depend on: limits, shared memory, disk, clock, names and addresses, InfiniBand, driver, Slurm."""

import ctypes
import os
import resource
import shutil
import socket
import tempfile
import time
from pathlib import Path

from codemix_megatron.errors import LaunchError

__all__ = ["clock", "disk", "drivers", "limits", "names", "slurm"]

SPEED_BYTES = 32 << 20
UNSYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)
TIMEX_BYTES = 512  # more than a struct timex has
SHARED_MEMORY_PER_RANK = 1 << 30  # what data loaders and NCCL are well served with


def limits() -> str:
    """Return limits of open files and locked memory, and the size of shared memory."""
    files, locked = (resource.getrlimit(kind) for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_MEMLOCK))
    shown = [f"open files {number(files[0])}, at most {number(files[1])} (ranks raise it; one is needed for each rank of a run)"]
    shown.append(f"locked memory {number(locked[1])} bytes" + ("" if locked[1] < 0 else "; InfiniBand wants it unlimited"))
    if os.path.isdir("/dev/shm"):
        size = shutil.disk_usage("/dev/shm").total
        small = "" if size >= SHARED_MEMORY_PER_RANK else "; small: NCCL and gloo may fail (docker --shm-size, --ipc=host)"
        shown.append(f"/dev/shm {size / 2**30:.1f} GiB{small}")
    return ", ".join(shown)


def number(value: int) -> str:
    """Return a limit in words."""
    return "unlimited" if value == resource.RLIM_INFINITY else str(value)


def disk() -> str:
    """Return the kind of file system here, and how fast it writes a file that is on disk afterwards and reads it."""
    kind = file_system(Path.cwd())
    try:
        with tempfile.NamedTemporaryFile(dir=".", prefix=".codemix-doctor-") as handle:
            began = time.perf_counter()
            handle.write(os.urandom(1 << 20) * (SPEED_BYTES >> 20))
            handle.flush()
            os.fsync(handle.fileno())
            written = time.perf_counter()
            handle.seek(0)
            while handle.read(1 << 20):
                pass
            read = time.perf_counter()
    except OSError as fault:
        return f"{kind}; cannot be written here ({(fault.strerror or str(fault)).lower()})"
    rates = SPEED_BYTES / (written - began) / 1e6, SPEED_BYTES / (read - written) / 1e6
    return f"{kind}; {SPEED_BYTES >> 20} MiB written and synced at {rates[0]:.0f} MB/s, read (from memory, mostly) at {rates[1]:.0f} MB/s"


def file_system(path: Path) -> str:
    """Return the kind of file system a path is on, and whether other machines may see it."""
    best, kind = "", "unknown file system"
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return kind
    for line in lines:
        fields, _, rest = line.partition(" - ")
        point = fields.split()[4]
        if path.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, rest.split()[0]
    shared = kind.startswith(("nfs", "lustre", "gpfs", "beegfs", "ceph", "wekafs", "fuse", "afs", "9p", "virtiofs"))
    return f"{kind} at {best}" + (", of a network" if shared else ", of this machine alone")


def clock() -> str:
    """Say whether the kernel takes the clock for synchronised: logs and failures of many nodes are put in order by it."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(TIMEX_BYTES))
    except (OSError, AttributeError):
        return "not known on this system"
    return "not synchronised; run chrony or ntp" if state in (UNSYNCHRONISED, -1) else "synchronised"


def names() -> str:
    """Return this machine's name, what it resolves to, its interfaces, and InfiniBand devices."""
    from codemix_megatron.parallel.addresses import addresses_here, in_words, resolved

    host, there = socket.gethostname(), addresses_here()
    found = [address for address in resolved(host) if address in there.values()]
    to = ", ".join(found) if found else "a loopback or nothing (ranks then take the interface that leads to the main rank)"
    return f"{host} -> {to}; interfaces {in_words(there)}; InfiniBand: {infiniband()}"


def infiniband(root: Path = Path("/sys/class/infiniband")) -> str:
    """Return the InfiniBand (or RoCE) ports with state and rate."""
    ports = sorted(root.glob("*/ports/*")) if root.is_dir() else []
    found = []
    for port in ports:
        try:
            state, rate = ((port / name).read_text().strip().partition(": ") for name in ("state", "rate"))
        except OSError:
            continue
        found.append(f"{port.parts[-3]} port {port.name} {(state[2] or state[0]).lower()}, {rate[0]}")
    return "; ".join(found) or "none"


def drivers() -> str:
    """Return the versions of driver, CUDA and NCCL, and which GPUs reach each other's memory."""
    import torch

    if not torch.cuda.is_available():
        built = torch.version.cuda
        return f"torch is built for {'CUDA ' + built if built else 'CPU'}; no GPU is seen"
    count = torch.cuda.device_count()
    apart = [
        f"{one}-{other}" for one in range(count) for other in range(one + 1, count) if not torch.cuda.can_device_access_peer(one, other)
    ]
    peers = "all reach each other's memory" if not apart else f"no peer access between {', '.join(apart)}"
    nccl = ".".join(map(str, torch.cuda.nccl.version())) if torch.distributed.is_nccl_available() else "absent"
    return f"driver {driver_version()}, CUDA {torch.version.cuda}, NCCL {nccl}; {count} GPUs" + (f", {peers}" if count > 1 else "")


def driver_version(path: Path = Path("/proc/driver/nvidia/version")) -> str:
    """Return the version of NVIDIA's kernel driver."""
    try:
        words = path.read_text().split()
    except OSError:
        return "unknown"
    return next((word for word in words if word[:1].isdigit() and "." in word), "unknown")


def slurm() -> str:
    """Return Slurm's version, limits of partitions, and what becomes of jobs."""
    from codemix_megatron.launch.slurm.survey import ask_cluster

    if not shutil.which("sbatch"):
        return "no sbatch; local launches only"
    try:
        cluster = ask_cluster()
    except LaunchError as fault:
        return f"sbatch found, but Slurm does not answer: {str(fault)[:120]}"
    settings = cluster.settings
    requeue = "may be queued again" if settings.get("JobRequeue") != "0" else "are not queued again by default (another one is submitted)"
    keeps = settings.get("AccountingStorageType", "")
    accounting = "no accounting (sacct knows nothing)" if keeps.endswith("none") else f"accounting {keeps}"
    partitions = "".join(f"\n  {partition.describe()}" for partition in cluster.partitions)
    return f"version {settings.get('SLURM_VERSION', '?')}; jobs {requeue}; {accounting}{partitions}"
