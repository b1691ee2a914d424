"""A real Slurm cluster on this machine for as long as the tests run: munge, a controller and several slurmd.

Where the kernel lets us, every node has its own network, process ids and host name, so that a node can lose its power (nothing says
goodbye to its peers); else nodes share this machine and are killed process by process. What the cluster starts dies with the tests,
however they end: each of its processes asks the kernel for that.
"""

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from patience import PATIENCE_SECONDS
from tiny_run import clean_environment

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client")
CONTROLLER = "10.77.0.1"
NODE_MARK = "NODE_OF_TESTS"  # in the environment of a node's daemons, where nodes share this machine
CONFIGURATION = """
ClusterName=tests
SlurmctldHost={controller}({address})
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,ttl=60,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/ended_jobs.txt
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,bf_interval=1,sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerNode=1000
SlurmdParameters=config_overrides
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=10
KillWait=5
MinJobAge=3600
OverTimeLimit=0
JobRequeue=1
MessageTimeout=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
UnkillableStepTimeout=20
"""
PARTITIONS = """
PartitionName=train Nodes=ALL Default=YES DefaultTime=10 State=UP PriorityTier=10
PartitionName=spare Nodes=ALL DefaultTime=10 State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=30
PartitionName=short Nodes=ALL MaxTime=60 DefaultTime=10 State=UP PriorityTier=10
"""


def why_not() -> str | None:
    """Say why no cluster can be started here, or return None; installs Debian's packages where they are missing and may be."""
    if os.geteuid():
        return "a Slurm of one's own needs root"
    if missing() and shutil.which("apt-get"):
        words = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES]
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["apt-get", "update", "-qq"], words):
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_SECONDS)
    return f"{', '.join(missing())} not found; apt-get install {' '.join(PACKAGES)}" if missing() else None


def missing() -> list[str]:
    """Return the programs that are not here."""
    return [program for program in PROGRAMS if not shutil.which(program)]


def die_with_parent() -> None:
    """Have the kernel kill this process when the tests' process dies."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


@dataclass
class Cluster:
    """Nodes node1 to nodeN, partitions train and spare (whose jobs train's push aside)."""

    folder: Path
    num_nodes: int = 3
    cpus: int = 4
    isolated: bool = True
    holder: subprocess.Popen | None = None  # keeps the controller's network
    daemons: list[subprocess.Popen] = field(default_factory=list)
    nodes: dict[str, subprocess.Popen] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The nodes' names."""
        return [f"node{i}" for i in range(1, self.num_nodes + 1)]

    def start(self) -> None:
        """Start everything and wait until all nodes are idle."""
        for name in ("munge", "state", "spool", "log", "disk", "disks"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        self.isolated = self.isolated and self.hold_network()
        self.configure()
        self.start_munge()
        self.spawn("slurmctld", ["slurmctld", "-D", "-c", "-f", str(self.configuration)])
        for name in self.names:
            self.start_node(name)
        self.wait_for_nodes(self.num_nodes)

    @property
    def configuration(self) -> Path:
        """slurm.conf."""
        return self.folder / "slurm.conf"

    @property
    def disk(self) -> Path:
        """Where each node has a disk of its own; one for all where nodes are not isolated."""
        return self.folder / "disk"

    def hold_network(self) -> bool:
        """Give the controller a network of its own with a bridge; return False where the kernel refuses."""
        words = ["unshare", "--net", "--uts", "--mount", "sh", "-c", "hostname ctl && echo ready && exec sleep 100000"]
        try:
            self.holder = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent, text=True)
            if self.holder.stdout.readline() != "ready\n":
                return False
            inside = f"ip link set lo up && ip link add br0 type bridge && ip addr add {CONTROLLER}/24 dev br0 && ip link set br0 up"
            return self.run("sh", "-c", inside).returncode == 0
        except OSError:
            return False

    def configure(self) -> None:
        """Write slurm.conf, and hosts files for nodes with a network of their own."""
        controller, address = ("ctl", CONTROLLER) if self.isolated else (socket.gethostname(), "127.0.0.1")
        ports = iter(free_ports(1 + self.num_nodes))
        text = CONFIGURATION.format(folder=self.folder, controller=controller, address=address, port=next(ports))
        hosts = dict.fromkeys(("ctl", *self.names), "127.0.0.1 localhost\n")
        addresses = {"ctl": CONTROLLER, **{name: f"10.77.0.{10 + i}" for i, name in enumerate(self.names, 1)}}
        for i, name in enumerate(self.names, 1):
            node_address = (
                f"NodeAddr=10.77.0.{10 + i} Port=6818"
                if self.isolated
                else f"NodeHostname={controller} NodeAddr=127.0.0.1 Port={next(ports)}"
            )
            text += f"NodeName={name} {node_address} CPUs={self.cpus} RealMemory=16000 State=UNKNOWN\n"
        self.configuration.write_text(text + PARTITIONS)
        for here, text in hosts.items():  # a node's own name is 127.0.1.1 there, as Debian's installer writes it
            lines = (f"{'127.0.1.1' if name == here != 'ctl' else address} {name}\n" for name, address in addresses.items())
            (self.folder / f"hosts-{here}").write_text(text + "".join(lines))
        (self.folder / "nsswitch.conf").write_text("hosts: files\npasswd: files\ngroup: files\n")
        if self.isolated:
            self.run("sh", "-c", self.own_names("ctl")).check_returncode()

    def own_names(self, here: str) -> str:
        """Return the shell commands that make the nodes' names known in the mount namespace of a node."""
        return f"mount --bind {self.folder}/hosts-{here} /etc/hosts && mount --bind {self.folder}/nsswitch.conf /etc/nsswitch.conf"

    def start_munge(self) -> None:
        """Start munged with a key of its own."""
        folder = self.folder / "munge"
        (folder / "key").write_bytes(secrets.token_bytes(1024))
        (folder / "key").chmod(0o400)
        folder.chmod(0o755)
        named = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        self.spawn("munged", ["munged", "--foreground", "--force", *(f"--{option}={folder}/{name}" for option, name in named.items())])

    def spawn(self, name: str, words: list[str]) -> None:
        """Start a daemon where the controller lives."""
        self.daemons.append(self.popen(name, [*self.entry(), *words]))

    def popen(self, name: str, words: list[str], **options) -> subprocess.Popen:
        """Start a process that ends with the tests; its output goes to log/NAME."""
        with open(self.folder / "log" / name, "ab") as log:
            environment = {**clean_environment(), "SLURM_CONF": str(self.configuration)}
            given = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT, **options}
            return subprocess.Popen(words, env=environment, preexec_fn=die_with_parent, start_new_session=True, **given)

    def entry(self) -> list[str]:
        """Return the words that run a command in the controller's network."""
        return ["nsenter", f"--target={self.holder.pid}", "--net", "--uts", "--mount"] if self.holder and self.isolated else []

    def start_node(self, name: str) -> None:
        """Start a node, or give one its power back."""
        for kind in ("spool", "disks"):
            (self.folder / kind / name).mkdir(exist_ok=True)
        slurmd = f"exec slurmd -D -N {name} -f {self.configuration}"
        if not self.isolated:
            self.nodes[name] = self.popen(name, ["sh", "-c", f"export {NODE_MARK}={name}; {slurmd}"])
            return
        own_disk = f"mount --bind {self.folder}/disks/{name} {self.disk}"
        inside = f"hostname {name} && {self.own_names(name)} && {own_disk} && read go && {slurmd}"
        words = ["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", inside]
        node = self.nodes[name] = self.popen(name, words, stdin=subprocess.PIPE)
        self.connect(name, node.pid)
        node.stdin.write(b"go\n")
        node.stdin.close()

    def connect(self, name: str, pid: int) -> None:
        """Plug a node into the bridge, once it has a network of its own."""
        ours, number = os.readlink("/proc/self/ns/net"), name.removeprefix("node")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while os.readlink(f"/proc/{pid}/ns/net") == ours:
            assert time.monotonic() < deadline, f"{name} got no network of its own"
            time.sleep(0.005)
        script = f"ip link add {name} type veth peer name eth0 netns {pid} && ip link set {name} master br0 up"
        done = self.run("sh", "-c", script)
        assert done.returncode == 0, done.stderr
        script = f"ip link set lo up && ip addr add 10.77.0.{10 + int(number)}/24 dev eth0 && ip link set eth0 up"
        subprocess.run(["nsenter", f"--target={pid}", "--net", "sh", "-c", script], check=True, timeout=PATIENCE_SECONDS)

    def lose_power(self, name: str) -> None:
        """End everything on a node at once, without a word to anybody."""
        node = self.nodes.pop(name)
        if self.isolated:
            self.run("ip", "link", "set", name, "down")
            self.run("ip", "link", "del", name)
        node.kill()
        node.wait()
        if not self.isolated:
            self.kill_strays(f"{NODE_MARK}={name}")  # slurmstepd first, which would tell of its tasks' end
            self.kill_strays(f"SLURMD_NODENAME={name}")

    def cut_off(self, name: str) -> None:
        """Unplug a node's network; it goes on computing and sees the disk."""
        self.run("ip", "link", "set", name, "down").check_returncode()

    def reconnect(self, name: str) -> None:
        """Plug it in again."""
        self.run("ip", "link", "set", name, "up").check_returncode()

    def run(self, *words, cwd=None, timeout: float = 60) -> subprocess.CompletedProcess:
        """Run a command on the login node, which is the controller's."""
        environment = {**clean_environment(), "SLURM_CONF": str(self.configuration)}
        there = ["env", f"--chdir={cwd}"] if cwd else []  # nsenter forgets the directory
        command = [*self.entry(), *there, *map(str, words)]
        return subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)

    def wait_for_nodes(self, count: int) -> None:
        """Wait until so many nodes are idle."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(self.idle_nodes()) < count:
            assert time.monotonic() < deadline, f"not {count} idle nodes: {self.run('sinfo', '-N', '-o', '%N %T %E').stdout}"
            time.sleep(0.2)

    def idle_nodes(self) -> set[str]:
        """Return the nodes that could take a job now."""
        return set(self.run("sinfo", "-h", "-N", "-t", "idle", "-p", "train", "-o", "%N").stdout.split())

    def fields(self, job: str) -> dict[str, str]:
        """Return what the controller says of a job."""
        shown = self.run("scontrol", "-o", "show", "job", job).stdout.splitlines()[:1]
        return dict(word.split("=", 1) for line in shown for word in line.split() if "=" in word)

    def wait_for_job(self, job: str, *states: str) -> dict[str, str]:
        """Wait until a job is in one of the states (default: it has ended) and return its fields."""
        wanted, deadline = states or ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"), time.monotonic() + PATIENCE_SECONDS
        while (fields := self.fields(job)).get("JobState") not in wanted:
            assert time.monotonic() < deadline, (
                f"job {job} is {fields.get('JobState')}, not {' or '.join(wanted)}, after {PATIENCE_SECONDS} s"
            )
            time.sleep(0.3)
        return fields

    def stop(self) -> None:
        """Cancel what runs, then end every process of the cluster, also those it lost sight of."""
        with contextlib.suppress(subprocess.TimeoutExpired, OSError):
            jobs = self.run("squeue", "-h", "-o", "%A", timeout=5).stdout.split()
            if jobs:
                self.run("scancel", "--quiet", "--full", *set(jobs), timeout=5)
                deadline = time.monotonic() + 6
                while self.run("squeue", "-h", timeout=5).stdout.strip() and time.monotonic() < deadline:
                    time.sleep(0.1)
        processes = [*self.nodes.values(), *reversed(self.daemons), *([self.holder] if self.holder else [])]
        for process in processes:
            process.kill()
        for process in processes:
            process.wait(10)
        self.kill_strays()

    def kill_strays(self, *marks: str) -> None:
        """Kill processes that this cluster started (and whose environment holds the marks) and that are left."""
        wanted = [f"SLURM_CONF={self.configuration}", *marks]
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and set(wanted) <= set((entry / "environ").read_bytes().decode(errors="replace").split("\0")):
                    os.kill(int(entry.name), signal.SIGKILL)


def free_ports(count: int) -> list[int]:
    """Return ports nobody listens on."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
