"""How much memory this process may use."""

import contextlib
import os
import resource
from pathlib import Path

# Limits of a container: cgroup 2, then 1.
_CGROUP_FILES = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def memory_bytes() -> int:
    """Return the bytes of memory that this process may use: those of the machine, or a limit."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _CGROUP_FILES:
        with contextlib.suppress(OSError, ValueError):  # "max" is no limit
            limits.append(int(file.read_text()))
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    return min([*limits, soft] if soft != resource.RLIM_INFINITY else limits)
