"""A worker process of a local job: Beam's, but quiet, on one core, and gone when its launcher is.

Beam's own local worker reports each step on the terminal, and outlives a killed launcher.
"""

import logging
import os
import sys
import threading
import time

from stat_tf import command

# In the environment of workers: a file that is there as long as their job goes on.
RUNNING = "STAT_TF_JOB_RUNNING"


def leave_with(launcher: int, running: str = "") -> None:
    """Ends this process when the one that started it has ended, or when the file `running` is gone."""
    while os.getppid() == launcher and (not running or os.path.exists(running)):
        time.sleep(1)
    os._exit(1)


def end_all() -> bool:
    """Lets the workers of this process's job end within a second or so; returns whether they were to go on before."""
    try:
        os.remove(os.environ[RUNNING])
    except (KeyError, FileNotFoundError):
        return False
    return True


def main() -> None:
    """Works for the launcher that the environment names, as `apache_beam.runners.worker.sdk_worker_main` does."""
    threading.Thread(target=leave_with, args=[os.getppid(), os.environ.get(RUNNING, "")], daemon=True).start()
    logging.getLogger().addHandler(logging.NullHandler())  # errors reach the launcher, which prints them
    for variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    from apache_beam.runners.worker import sdk_worker_main

    # Beam prints there, with a traceback, each error that it hands to the launcher too, and that the launcher is gone.
    sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    with command.clean_end():
        sdk_worker_main.main(sys.argv)


if __name__ == "__main__":
    main()
