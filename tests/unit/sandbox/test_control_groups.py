"""Control groups: found on every kind of machine, and where they are there the kernel holds what a look every 50 ms would miss."""

import os
from pathlib import Path

import pytest

from codemix_megatron.errors import SandboxError
from codemix_megatron.sandbox import control_groups, running
from codemix_megatron.sandbox.control_groups import ControlGroup, Hierarchy, find_hierarchies, hierarchy_of, may_make_groups
from codemix_megatron.sandbox.outcome import Limits, Status
from codemix_megatron.sandbox.running import find_sandbox

V1 = """30 24 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
31 24 0:27 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
32 24 0:28 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
V2 = "35 24 0:30 {root} {mounted} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


@pytest.mark.parametrize(
    ("own", "memory", "pids"),
    [
        ("5:pids:/\n4:memory:/here\n0::/\n", "/sys/fs/cgroup/memory/here", "/sys/fs/cgroup/pids"),
        ("5:cpu,pids:/a/b\n0::/\n", None, "/sys/fs/cgroup/pids/a/b"),
        ("", None, None),
    ],
)
def test_groups_of_version_1_are_found_by_their_controller(own, memory, pids):
    found = {name: hierarchy_of(name, V1, own) for name in ("memory", "pids")}
    wanted = {"memory": memory, "pids": pids}
    assert found == {name: path and Hierarchy(name, Path(path), 1) for name, path in wanted.items()}


@pytest.mark.parametrize(
    ("root", "own", "below"),
    [
        ("/", "/user.slice/a.scope", "user.slice/a.scope"),
        ("/docker/x", "/docker/x", "."),
        ("/", "/a.scope/codemix-main", "a.scope"),
        ("/docker/x", "/docker/y", None),
    ],
)
def test_groups_of_version_2_are_found_below_what_is_mounted(tmp_path, root, own, below):
    folder = tmp_path / (below or ".")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cgroup.controllers").write_text("cpu memory pids\n")
    found = hierarchy_of("memory", V2.format(root=root, mounted=tmp_path), f"0::{own}\n")
    assert found == (None if below is None else Hierarchy("memory", folder, 2))
    (folder / "cgroup.controllers").write_text("cpu pids\n")
    assert hierarchy_of("memory", V2.format(root=root, mounted=tmp_path), f"0::{own}\n") is None


@pytest.mark.parametrize("is_marked", [True, False])
def test_only_a_folder_that_was_delegated_is_rearranged(tmp_path, monkeypatch, is_marked):
    (tmp_path / "cgroup.subtree_control").write_text("")
    (tmp_path / "cgroup.procs").write_text("71\n")
    monkeypatch.setattr(control_groups, "is_marked", lambda folder: is_marked)
    may_make_groups(Hierarchy("memory", tmp_path, 2))
    moved = tmp_path / control_groups.MAIN / "cgroup.procs"
    assert (moved.read_text() if moved.exists() else None) == ("71" if is_marked else None)
    assert (tmp_path / "cgroup.subtree_control").read_text() == ("+memory +pids" if is_marked else "")


def test_limits_are_written_as_version_2_has_them(tmp_path, monkeypatch):
    monkeypatch.setattr(control_groups, "REMOVE_SECONDS", 0)
    limits = Limits(memory_bytes=1 << 30, processes=5, scratch_bytes=1 << 20)
    group = ControlGroup(limits, tuple(Hierarchy(name, tmp_path, 2) for name in ("memory", "pids")))
    (folder,) = tmp_path.iterdir()
    written = {path.name: path.read_text() for path in folder.iterdir()}
    assert written == {"memory.max": str((1 << 30) + (2 << 20)), "memory.swap.max": "0", "pids.max": str(5 + control_groups.HOLDERS)}
    (folder / "memory.events").write_text("low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n")
    assert group.ran_out_of_memory()
    group.remove()  # what the kernel does not let go of is left, and nothing fails


needs_groups = pytest.mark.skipif(len(find_hierarchies()) < 2, reason="no control groups of memory and processes can be made here")


@pytest.fixture
def unseen(monkeypatch):
    """A sandbox whose programs nobody looks at while they run."""
    monkeypatch.setattr(running.Watch, "limit_passed", lambda self, now: None)
    try:
        return find_sandbox()
    except SandboxError as fault:
        pytest.skip(str(fault))


SHARED = """
import os, mmap, time
for _ in range(6):
    if not os.fork():
        block = mmap.mmap(-1, 40 << 20)
        block.write(b'x' * (40 << 20))
        time.sleep(60)
        os._exit(0)
os.wait()  # the others sleep on
"""
SOCKETS = """
import socket
kept = []
for _ in range(110):
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    kept += [a, b]
    for s in (a, b):
        s.setblocking(False)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 30)
        try:
            while True: s.send(b'x' * 60000)
        except OSError: pass
"""


@needs_groups
@pytest.mark.parametrize("program", [SHARED, SOCKETS], ids=["processes", "sockets"])
def test_memory_of_all_processes_is_held_by_the_kernel(unseen, program):
    outcome = unseen.run(program, Limits(seconds=30, memory_bytes=128 << 20, scratch_bytes=1 << 20))
    assert outcome.status == Status.MEMORY and "more than 128 MiB together, and the kernel ended one" in outcome.message


@needs_groups
def test_number_of_processes_is_held_by_the_kernel(unseen, monkeypatch):
    monkeypatch.setattr(type(unseen), "resources", lambda self, limits: {"RLIMIT_CPU": limits.whole_cpu_seconds})
    program = "import os, time\nfor _ in range(40):\n    if not os.fork():\n        time.sleep(60); os._exit(0)\n"
    outcome = unseen.run(program, Limits(seconds=30, processes=5))
    assert outcome.status == Status.PROCESSES, outcome


@needs_groups
def test_group_is_gone_with_its_program():
    find_sandbox().run("print(1)", Limits())
    for hierarchy in find_hierarchies():
        assert not list(hierarchy.folder.glob(f"{control_groups.OURS}{os.getpid()}-*"))


@needs_groups
def test_what_a_killed_process_left_is_removed():
    hierarchy = find_hierarchies()[0]
    left = hierarchy.folder / f"{control_groups.OURS}999999999-3"
    left.mkdir()
    assert may_make_groups(hierarchy) and not left.exists()
