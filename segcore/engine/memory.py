"""Memory of a process that computes on the CPU."""

from __future__ import annotations

import ctypes
import os
import platform

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # mallopt's names of its parameters
KEPT = 1 << 30  # bytes
LARGEST = 32 << 20  # bytes of the largest block that glibc can be told to keep


def keep_freed_memory() -> bool:
    """Freed tensors' memory is used again instead of being fetched anew; False where it cannot be.

    glibc hands free memory back to the system as soon as there is some, and soon gets it again as
    fresh pages, which the system clears and maps one by one. Up to 1 GB stays with the process.
    For our own programs: what the user of a library wants of his process is his affair. Does
    nothing where the environment says something of malloc, or where the C library is another one.
    """
    if not _is_left_to_us():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(MMAP_THRESHOLD, LARGEST)) and bool(mallopt(TRIM_THRESHOLD, KEPT))


def return_freed_memory() -> bool:
    """Memory that is free goes back to the system after all; False where there was none, or as
    for `keep_freed_memory`.

    For rare moments of long runs: what was kept between two of them lies in pieces among what is
    in use, and grows by those that fit nowhere.
    """
    return _is_left_to_us() and bool(ctypes.CDLL(None).malloc_trim(0))


def _is_left_to_us() -> bool:
    chosen = any(name.startswith("MALLOC_") for name in os.environ)
    return not chosen and platform.libc_ver()[0] == "glibc"
