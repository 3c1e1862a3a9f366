"""The system calls that a called function is refused, as a classic BPF program for seccomp.

A refused call returns EPERM, so that Python reports it as a PermissionError; `clone3` returns ENOSYS, after which
the C library tries `clone`, which can be looked at. Programs stack: bubblewrap loads `SESSION`, and each call adds
`CALL` to it. Numbers are the kernel's (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h).


"""

from __future__ import annotations

import errno
import platform
import struct

# name: (x86_64, aarch64); None where the architecture has no such call.
_NUMBERS: dict[str, tuple[int | None, int | None]] = {
    "accept": (43, 202), "accept4": (288, 242), "add_key": (248, 217), "bind": (49, 200), "bpf": (321, 280),
    "chroot": (161, 51), "clone": (56, 220), "connect": (42, 203), "execve": (59, 221), "execveat": (322, 281),
    "fork": (57, None), "fsopen": (430, 430), "init_module": (175, 105), "io_uring_setup": (425, 425),
    "kcmp": (312, 272), "kexec_load": (246, 104), "keyctl": (250, 219), "kill": (62, 129), "listen": (50, 201),
    "memfd_create": (319, 279), "mount": (165, 40), "mount_setattr": (442, 442), "move_mount": (429, 429),
    "msgget": (68, 186), "open_by_handle_at": (304, 265), "open_tree": (428, 428), "perf_event_open": (298, 241),
    "personality": (135, 92), "pidfd_getfd": (438, 438), "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424), "pivot_root": (155, 41), "prlimit64": (302, 261),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "ptrace": (101, 117), "reboot": (169, 142),
    "request_key": (249, 218), "rt_sigqueueinfo": (129, 138), "sched_setaffinity": (203, 122), "semget": (64, 190),
    "setns": (308, 268), "setpriority": (141, 140), "setrlimit": (160, 164), "shmget": (29, 194),
    "socket": (41, 198), "swapon": (167, 224), "syslog": (103, 116), "tgkill": (234, 131), "tkill": (200, 130),
    "umount2": (166, 39), "unshare": (272, 97), "userfaultfd": (323, 282), "vfork": (58, None),
    "vmsplice": (278, 75),
}  # fmt: skip
_CLONE3 = 435
_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
_X32 = 0x40000000

# What nothing within the walls needs, the modules' own top level included.
SESSION = (
    "accept", "accept4", "add_key", "bind", "bpf", "chroot", "connect", "fsopen", "init_module", "io_uring_setup",
    "kcmp", "kexec_load", "keyctl", "listen", "mount", "mount_setattr", "move_mount", "msgget", "open_by_handle_at",
    "open_tree", "perf_event_open", "personality", "pidfd_getfd", "pivot_root", "process_vm_readv",
    "process_vm_writev", "ptrace", "reboot", "request_key", "semget", "setns", "shmget", "socket", "swapon",
    "syslog", "umount2", "unshare", "userfaultfd", "vmsplice",
)  # fmt: skip
# What a called function is refused beyond that: other processes, threads, signals to others, looser limits.
CALL = (
    "clone", "execve", "execveat", "fork", "kill", "memfd_create", "pidfd_open", "pidfd_send_signal", "prlimit64",
    "rt_sigqueueinfo", "sched_setaffinity", "setpriority", "setrlimit", "tgkill", "tkill", "vfork",
)  # fmt: skip

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000


def program(names: tuple[str, ...]) -> bytes | None:
    """The filter that refuses `names`, as an array of `struct sock_filter`; None on an unknown architecture."""
    if platform.machine() not in _ARCHITECTURES:
        return None
    audit, column = _ARCHITECTURES[platform.machine()]
    numbers = sorted(n for name in names if (n := _NUMBERS[name][column]) is not None)
    refuse, lines = [*numbers], []
    # The distance of each jump counts instructions between it and its target, and fits one byte.
    lines += [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, audit), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    lines += [(_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
    if "clone" in names:
        lines += [(_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    lines += [(_EQUAL, len(refuse) - i, 0, number) for i, number in enumerate(refuse)]
    lines += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)
