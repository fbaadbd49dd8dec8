"""`python -m fashion_lightning.jobs.tied MODULE ARGUMENT ...`: as `python -m MODULE ARGUMENT ...`, until stdin ends.

Stdin is a pipe of the process that started this one. The system closes it when that process ends, however it ends.
Then SIGTERM ends this one too: a fit saves a checkpoint first.
"""

import os
import runpy
import signal
import sys
import threading


def _end_with_stdin() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    sys.argv = sys.argv[1:]
    # Also in place of `__main__`, whose name the processes of a data-parallel run are started by.
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
