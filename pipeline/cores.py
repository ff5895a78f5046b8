"""How many processes of this machine pay."""

import os


def available() -> int:
    """Cores that this process may use: a container or a batch system may grant fewer than there are."""
    if hasattr(os, "sched_getaffinity"):  # macOS has none
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
