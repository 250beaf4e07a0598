"""What the C library does with memory that is freed; standard library only."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed() -> None:
    """Let this process keep what it frees, for whatever comes next; on glibc only.

    Networks take and free the same large buffers over and over. The C library would give each back
    to the system, and every new one is paid for in page faults: 105,000 in a compact training step,
    over a quarter of its CPU time. The process holds its peak from then on, with some 6 % more for
    gaps.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(M_MMAP_MAX, 0)  # no buffer has a mapping of its own, which `free` would undo,
        mallopt(M_TRIM_THRESHOLD, -1)  # and the heap never shrinks
