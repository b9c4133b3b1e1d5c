"""What a child that opens foreign bytes may do: compute on memory it has, read the files it was given, write one pipe.

Resource limits everywhere; on x86-64 Linux a seccomp filter with a list of allowed system calls, all others failing
with EPERM. So code that a broken file smuggles into a decoder finds no socket, no file, no process (T7, T8).
source  assurance 6.2
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import signal
import struct

ADDRESS_SPACE = 2 << 30
OPEN_FILES = 32
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _FILTER_MODE = 1, 22, 38, 2
_AUDIT_ARCH_X86_64 = 0xC000003E
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
_PROT_EXEC = 4

# Numbers of x86-64, by <asm/unistd_64.h>.
_ALLOWED = {
    "read": 0,
    "write": 1,
    "close": 3,
    "fstat": 5,
    "lseek": 8,
    "munmap": 11,
    "brk": 12,
    "rt_sigaction": 13,
    "rt_sigprocmask": 14,
    "rt_sigreturn": 15,
    "pread64": 17,
    "sched_yield": 24,
    "mremap": 25,
    "madvise": 28,
    "getpid": 39,
    "exit": 60,
    "sigaltstack": 131,
    "gettid": 186,
    "futex": 202,
    "sched_getaffinity": 204,
    "clock_gettime": 228,
    "exit_group": 231,
    "getrandom": 318,
}
_MMAP, _MPROTECT, _TGKILL = 9, 10, 234


class _Instructions(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def confine(cpu_seconds: int, address_space: int = ADDRESS_SPACE) -> None:
    """Give up every right that decoding does not need; there is no way back. raises OSError when the kernel refuses."""
    limit(cpu_seconds, address_space)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if platform.machine() == "x86_64":  # elsewhere the limits and the user of the process must do
        program = _program(os.getpid())
        code = ctypes.create_string_buffer(program, len(program))
        filter_ = _Instructions(len(program) // 8, ctypes.addressof(code))
        _prctl(_PR_SET_SECCOMP, _FILTER_MODE, ctypes.byref(filter_))


def limit(cpu_seconds: int, address_space: int = ADDRESS_SPACE, file_bytes: int = 0) -> None:
    """Bounds on time and memory, and an end with the parent: all that a library which opens files of its own can bear."""
    for what, most in (
        (resource.RLIMIT_AS, address_space),
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _program(pid: int) -> bytes:
    def step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
        return struct.pack("=HBBL", code, if_true, if_false, value)

    def argument(index: int) -> int:
        return 16 + 8 * index  # low half, little endian

    steps = [
        step(_LOAD, _ARCHITECTURE),
        step(_EQUAL, _AUDIT_ARCH_X86_64, 1, 0),
        step(_RETURN, _KILL),
        step(_LOAD, _NUMBER),
        step(_AT_LEAST, 0x40000000, 0, 1),  # the x32 numbers
        step(_RETURN, _KILL),
    ]
    for number in _ALLOWED.values():
        steps += [step(_EQUAL, number, 0, 1), step(_RETURN, _ALLOW)]
    for number in (_MMAP, _MPROTECT):  # memory yes, new code no
        steps += [
            step(_EQUAL, number, 0, 4),
            step(_LOAD, argument(2)),
            step(_ANY_BIT, _PROT_EXEC, 1, 0),
            step(_RETURN, _ALLOW),
            step(_RETURN, _REFUSE),
        ]
    steps += [  # abort() signals itself, and may signal nobody else
        step(_EQUAL, _TGKILL, 0, 3),
        step(_LOAD, argument(0)),
        step(_EQUAL, pid, 0, 1),
        step(_RETURN, _ALLOW),
        step(_RETURN, _REFUSE),
    ]
    return b"".join(steps)


def _prctl(option: int, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    padded = [a if not isinstance(a, int) else ctypes.c_ulong(a) for a in arguments]
    padded += [ctypes.c_ulong(0)] * (4 - len(padded))
    if libc.prctl(option, *padded) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl {option}: {os.strerror(number)}")
