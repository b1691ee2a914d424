"""A seccomp filter: what the kernel refuses to a sandboxed program whatever namespaces it lives in.

Namespaces hide files, processes and the network. What they leave open is closed here: making new
namespaces (in which tmpfs has no limit), memory that no resource limit counts (memfd, System V), sockets of
families that network namespaces do not hold (vsock), tracing, and the kernel's favourite attack surfaces.
"""

import platform
import struct

from codemix_megatron.errors import SandboxError

__all__ = ["seccomp_filter"]

# name -> number on x86_64, on aarch64
REFUSED = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97), "setns": (308, 268),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264),
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "pidfd_getfd": (438, 438), "process_madvise": (440, 440), "kcmp": (312, 272),
    "kexec_load": (246, 104), "init_module": (175, 105), "finit_module": (313, 273), "swapon": (167, 224), "reboot": (169, 142),
}  # fmt: skip
CLONE, CLONE3, SOCKET = (56, 220), (435, 435), (41, 198)
NEW_NAMESPACES = 0x7E020000  # CLONE_NEWUSER, NEWNS, NEWPID, NEWNET, NEWIPC, NEWUTS, NEWCGROUP
FAMILIES = (1, 2, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK: network namespaces hold them
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
X32 = 0x40000000

# seccomp_data: number, architecture, instruction pointer (8 bytes), arguments (8 bytes each)
NUMBER, ARCHITECTURE, ARGUMENT = 0, 4, 16
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, ENOSYS, EAFNOSUPPORT = 0x00050001, 0x00050026, 0x00050061


def seccomp_filter(machine: str | None = None) -> bytes:
    """Return the filter as the kernel's `struct sock_filter` array; raises SandboxError on another architecture."""
    machine = machine or platform.machine()
    if machine not in MACHINES:
        raise SandboxError(f"no system call filter for {machine} processors, only for {' and '.join(MACHINES)}")
    column, architecture = MACHINES[machine]
    lines = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, architecture), (RETURN, 0, 0, KILL), (LOAD, 0, 0, NUMBER)]
    lines += refused_if(AT_LEAST, X32, EPERM)
    for numbers in REFUSED.values():
        lines += refused_if(EQUAL, numbers[column], EPERM)
    lines += refused_if(EQUAL, CLONE3[column], ENOSYS)  # its flags lie behind a pointer; the C library falls back to clone
    lines += [(EQUAL, 0, 4, CLONE[column]), (LOAD, 0, 0, ARGUMENT), *refused_if(ANY_BIT, NEW_NAMESPACES, EPERM), (RETURN, 0, 0, ALLOW)]
    lines += [(EQUAL, 0, 2 + len(FAMILIES), SOCKET[column]), (LOAD, 0, 0, ARGUMENT)]
    lines += [(EQUAL, len(FAMILIES) - i, 0, family) for i, family in enumerate(FAMILIES)]
    lines += [(RETURN, 0, 0, EAFNOSUPPORT), (RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("HBBI", *line) for line in lines)


def refused_if(test: int, value: int, answer: int) -> list[tuple[int, int, int, int]]:
    """Return the two instructions that give `answer` where the test holds."""
    return [(test, 0, 1, value), (RETURN, 0, 0, answer)]
