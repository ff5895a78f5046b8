"""A worker process of a local job: Beam's, but quiet, on one core, and gone when its launcher is.

Beam's own local worker reports each step on the terminal, and outlives a killed launcher.
"""

import logging
import os
import sys
import threading
import time

from stat_tf import command


def _leave_with(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(1)
    os._exit(1)


def main() -> None:
    """Works for the launcher that the environment names, as `apache_beam.runners.worker.sdk_worker_main` does."""
    threading.Thread(target=_leave_with, args=[os.getppid()], daemon=True).start()
    logging.getLogger().addHandler(logging.NullHandler())  # errors reach the launcher, which prints them
    for variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    from apache_beam.runners.worker import sdk_worker_main

    with command.clean_end():
        sdk_worker_main.main(sys.argv)


if __name__ == "__main__":
    main()
