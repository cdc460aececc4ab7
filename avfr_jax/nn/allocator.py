"""Keep large buffers between calls, for computation on a CPU.

glibc hands every buffer above 32 MB (and many above 128 kB) back to the operating system when it is freed, so that each
call of a network faults its memory in afresh, page by page; that can cost as much as the arithmetic. The settings below
keep freed memory in the process. They are those of the environment variables `MALLOC_MMAP_MAX_=0`,
`MALLOC_TRIM_THRESHOLD_` and `MALLOC_TOP_PAD_`, set from inside, so that no program need be started anew.
"""

import ctypes
import os
import platform

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
_TOP_PAD = 512 * 2**20
_ENVIRONMENT = ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES", "LD_PRELOAD")


def keep_freed_memory() -> bool:
    """Set glibc to keep freed memory in this process; best called before the first computation.

    A process that has computed something large keeps that much memory until it ends, which suits a program that calls
    networks and not a library: nothing in this package calls it but the command-line programs and the benchmarks.
    Nothing happens without glibc, or where the user chose an allocator or its settings through the environment.

    Returns:
      Whether the settings were made.
    """
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _ENVIRONMENT):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, _TOP_PAD))
    done = [mallopt(key, value) == 1 for key, value in settings]
    return all(done)
