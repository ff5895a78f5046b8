"""How many processes of this machine pay."""

import os


def available() -> int:
    """Cores that this process may use: a container or a batch system may grant fewer than there are."""
    if hasattr(os, "sched_getaffinity"):  # macOS has none
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_one() -> None:
    """Makes this process, where it has not yet run TensorFlow, compute on one core.

    A worker is one core; and on more, sums are added up in another order, so that floats differ in their last digits.
    """
    for variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
