"""The commands that give a program namespaces of its own: bubblewrap, or util-linux's unshare with a few mounts.

Both show the same: system and interpreter read-only, a /proc of the sandbox's processes, five devices, two folders in memory.
"""

import os
from pathlib import Path

from codemix_megatron.sandbox.interpreter import Interpreter
from codemix_megatron.sandbox.outcome import Limits

__all__ = ["SCRATCH", "bubblewrap", "unshare"]

SYSTEM_FOLDERS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
SCRATCH = "/tmp"
ENVIRONMENT = {"HOME": SCRATCH, "TMPDIR": SCRATCH, "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0",
               "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}  # fmt: skip
RIGHTS_TO_CHANGE_USER = ("setuid", "setgid", "chown")


def bubblewrap(interpreter: Interpreter, limits: Limits, *, is_root: bool) -> list[str]:
    """Return the words before the program; root needs no user namespace and keeps the rights to become somebody else inside."""
    words = ["bwrap", "--die-with-parent", "--new-session", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts",
             "--unshare-cgroup-try", "--cap-drop", "ALL"]  # fmt: skip
    if is_root:
        words += [word for right in RIGHTS_TO_CHANGE_USER for word in ("--cap-add", f"CAP_{right.upper()}")]
    else:
        words += ["--unshare-user"]
    words += ["--ro-bind", "/usr", "/usr"]
    for folder in SYSTEM_FOLDERS:
        if os.path.islink(folder):
            words += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            words += ["--ro-bind", folder, folder]
    words += ["--perms", "0755", "--dir", "/etc"]  # bubblewrap would make it for its owner alone, as it would the parents below
    for path in SYSTEM_FILES:
        words += ["--ro-bind-try", path, path]
    words += ["--proc", "/proc", "--dev", "/dev"]
    for folder in ("/dev/shm", SCRATCH):
        words += ["--perms", "1777", "--size", str(limits.scratch_bytes), "--tmpfs", folder]
    for path in interpreter.paths:  # after the folders in memory: an interpreter under /tmp would be hidden by them
        for parent in reversed(Path(path).parents[:-1]):
            words += ["--perms", "0755", "--dir", str(parent)] if str(parent) != SCRATCH else []
        words += ["--ro-bind", path, path]
    words += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", SCRATCH, "--clearenv"]
    return words + [word for name, value in ENVIRONMENT.items() for word in ("--setenv", name, value)] + ["--"]


# Runs as the first process of new namespaces; stays as the one that reaps. /sys is hidden anyway, so its mount point is used.
MOUNTS = """
set -e
scratch_bytes=$1; rights=$2; read_only=$3; shift 3
mount -t tmpfs -o mode=0755,size=1m codemix /sys
cd /sys
mkdir -p proc tmp dev/shm old
for folder in tmp dev/shm; do mount -t tmpfs -o "mode=1777,nosuid,nodev,size=$scratch_bytes" codemix $folder; done
show() { if [ -d "$1" ]; then mkdir -p ".$1"; else mkdir -p ".${1%/*}"; : > ".$1"; fi; mount --bind "$1" ".$1"; }
for path in $read_only; do
  if [ -h "$path" ]; then cp -P "$path" ".$path"; else show "$path"; mount -o remount,bind,ro ".$path"; fi
done
for name in null zero full random urandom; do show /dev/$name; done
ln -s /proc/self/fd dev/fd
mount -t proc -o nosuid,nodev,noexec proc proc
pivot_root . old
umount -l old
rmdir old
mount -o remount,bind,ro /
cd /tmp
setpriv --no-new-privs --inh-caps=-all --bounding-set="$rights" -- env -i "$@"
exit $?
"""


def unshare(interpreter: Interpreter, limits: Limits, *, is_root: bool) -> list[str]:
    """Return the words before the program, where bubblewrap is missing; paths of the interpreter must not hold blanks."""
    seen = [path for path in ("/usr", *SYSTEM_FOLDERS, *SYSTEM_FILES, *interpreter.paths) if os.path.lexists(path)]
    rights = ",".join(["-all", *(f"+{right}" for right in RIGHTS_TO_CHANGE_USER)]) if is_root else "-all"
    return [
        "setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--net", "--pid", "--ipc", "--uts", "--cgroup", "--fork", "--kill-child",
        *(() if is_root else ("--map-root-user",)), "sh", "-c", MOUNTS, "sandbox", str(limits.scratch_bytes), rights, " ".join(seen),
        *(f"{name}={value}" for name, value in ENVIRONMENT.items()),
    ]  # fmt: skip
