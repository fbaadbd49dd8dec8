"""Whether runs are equal, resume to the same bits and evaluate alike on this machine, tried in real processes."""

import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fashion_lightning.errors import WorkError
from fashion_lightning.jobs import child_process
from fashion_lightning.storage.run_folders import LOGS, Run

SHORT = ["--trainer.max_epochs", "2", "--trainer.limit_train_batches", "40"]
SHORT += ["--inspect.figures", "false", "--inspect.graph", "false", "--inspect.pr_curves", "false"]
# On the CPU both times: the last bits of an accelerator differ, and with them images that are nearly a tie.
ONE_PROCESS = ["--trainer.accelerator", "cpu", "--trainer.devices", "1", "--trainer.strategy", "auto"]
TWO_PROCESSES = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
TIMEOUT_SECONDS = 300


def verify(flags: Sequence[str]) -> dict[str, tuple[list[str], list[str]]]:
    """Promise to the names of what was compared, and of what differs. Raises WorkError if fit with `flags` fails."""
    with tempfile.TemporaryDirectory(prefix="fashion_lightning-verify-") as root, contextlib.ExitStack() as processes:
        names = ("first", "second", "killed", "one", "two")
        runs = {name: Run(Path(root) / name / LOGS / "version_0") for name in names}

        def fit(name: str, *more: str, **variables: str) -> subprocess.Popen[bytes]:
            place = ["--resume", "--trainer.default_root_dir", str(Path(root) / name)]
            process = child_process.start(["fashion_lightning.fit", *SHORT, *flags, *more, *place], variables)
            processes.enter_context(process)  # closes its pipe and waits
            processes.callback(process.kill)
            return process

        first, second, interrupted = fit("first"), fit("second"), fit("killed")
        while not runs["killed"].best.is_file() and interrupted.poll() is None:  # the best of its first epoch
            time.sleep(0.01)
        interrupted.kill()
        if interrupted.wait() >= 0:
            _wait(interrupted)
            raise WorkError("a fit ended before it could be killed")
        _wait(first, second)
        for name in ("one", "two"):  # all is trained; without results, a run is evaluated once more
            shutil.copytree(Path(root) / "first", Path(root) / name)
            runs[name].results.unlink()
        # Several processes of one fit take no turns: threads that wait for each other leave the cores to the others.
        two = fit("two", *TWO_PROCESSES, OMP_WAIT_POLICY="PASSIVE")
        resumed, *evaluated = fit("killed"), fit("one", *ONE_PROCESS), two
        from fashion_lightning.reports.comparison import contents, different  # seconds, while the processes work

        _wait(resumed, *evaluated)
        found = {name: contents(run) for name, run in runs.items()}
    pairs = {
        "two runs are equal to the bit": (found["first"], found["second"]),
        "a killed run resumes to the same bits": (found["first"], found["killed"]),
        "two processes evaluate like one": (_counts(found["one"]), _counts(found["two"])),
    }
    return {promise: (list(one), different(one, other)) for promise, (one, other) in pairs.items()}


def _wait(*processes: subprocess.Popen[bytes]) -> None:
    for process in processes:
        output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
        child_process.check("a fit", process.returncode, output)


def _counts(contents: dict[str, Any]) -> dict[str, tuple[float, int]]:
    results = contents["results.json"]
    return {split: (results[split]["accuracy"], results[split]["images"]) for split in ("train", "val", "test")}
