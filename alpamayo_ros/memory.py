"""Memory that is freed and soon wanted again, as pictures and a model's activations are."""

from __future__ import annotations

import ctypes

# The options of mallopt(3), by its names.
M_ARENA_MAX, M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -8, -1, -2, -3
MIB = 1 << 20
NODE_BYTES, MODEL_BYTES = 256 * MIB, 1024 * MIB


def keep_freed_memory(most_bytes: int) -> None:
    """Have glibc keep up to `most_bytes` of what is freed, in one pool, instead of returning it.

    A 1080p frame is 1500 pages, which the kernel zeroes whenever memory is asked for anew: with
    four cameras at 30 Hz this takes page faults from 69 to 61 thousand a second at worst, from 44
    to 22 at best; a training step on a CPU takes three quarters of its time. To be called before
    there are other threads, which would have pools of their own. Does nothing with another C
    library.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(M_ARENA_MAX, 1)
    mallopt(M_MMAP_THRESHOLD, 32 * MIB)  # the most that it takes; a 4K rgb8 frame has 25 MB
    mallopt(M_TRIM_THRESHOLD, most_bytes)
    mallopt(M_TOP_PAD, 32 * MIB)
