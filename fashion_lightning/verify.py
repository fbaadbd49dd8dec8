"""`python -m fashion_lightning.verify`: whether what the README promises holds on this machine."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fashion_lightning import usage
from fashion_lightning.checkpoints import BEST, LOGS
from fashion_lightning.errors import UserError, reported

SHORT = ["--trainer.max_epochs", "2", "--trainer.limit_train_batches", "40"]
SHORT += ["--inspect.figures", "false", "--inspect.graph", "false", "--inspect.pr_curves", "false"]
TWO = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
TIMEOUT_SECONDS = 300


class VerificationError(UserError):
    """A promise could not be tried, or does not hold."""

    status = 1


def main(args: list[str] | None = None) -> dict[str, list[str]]:
    """Returns promise to what differs although it should not; exit 1 if anything does."""
    usage.answer("verify", args)
    args = sys.argv[1:] if args is None else args
    start = time.monotonic()
    with reported(), tempfile.TemporaryDirectory(prefix="fashion_lightning-verify-") as folder:
        with contextlib.ExitStack() as fits:
            found, compared = _try(Path(folder), args, fits)
        table = Table("promise", "", "", box=None, pad_edge=False, show_header=False)
        for promise, differs in found.items():
            table.add_row(promise, "differs" if differs else "holds", ", ".join(differs or compared[promise]))
        Console(width=None if sys.stdout.isatty() else 10_000, markup=False, highlight=False).print(table)
        print(f"in {time.monotonic() - start:.0f} s")
        if any(found.values()):
            raise VerificationError("not every promise holds on this machine")
    return found


def _try(root: Path, args: list[str], fits: contextlib.ExitStack) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """What differs by promise, and what was compared. Four fits: alone, again, killed and resumed, on two processes."""
    print("trains four times for some seconds, in real processes")
    alone, again, killed = (_fit(root / name, args, fits) for name in ("alone", "again", "killed"))
    _kill(killed, root / "killed" / LOGS / "version_0" / "checkpoints" / BEST)
    _finish(alone, again)
    shutil.copytree(root / "alone", root / "two")  # a finished run, which two processes only evaluate
    resumed, two = _fit(root / "killed", args, fits), _fit(root / "two", [*args, *TWO], fits)
    from fashion_lightning import comparison  # seconds of imports, while the others work

    _finish(resumed, two)
    alone, again, killed, two = (
        comparison.contents(root / name / LOGS / "version_0") for name in ("alone", "again", "killed", "two")
    )

    def counts(run: dict) -> dict[str, tuple[float, int]]:
        splits = {split: run["results.json"][split] for split in ("train", "val", "test")}
        return {split: (values["accuracy"], values["images"]) for split, values in splits.items()}

    pairs = {
        "two runs are one": (alone, again),
        "killed and resumed, a run is one never killed": (alone, killed),
        "two processes count as one does": (counts(alone), counts(two)),
    }
    found = {promise: comparison.different(*pair) for promise, pair in pairs.items()}
    return found, {promise: list(pair[0]) for promise, pair in pairs.items()}


def _fit(root: Path, args: list[str], fits: contextlib.ExitStack) -> subprocess.Popen:
    """Begins a fit, which ends with `fits` at the latest."""
    command = [sys.executable, "-m", "fashion_lightning.fit", *SHORT, *args, "--resume"]
    command += ["--trainer.default_root_dir", str(root)]
    # Several at once would wait for each other's waiting threads.
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
    fits.enter_context(process)  # waits for it, and closes its pipe
    fits.callback(process.kill)
    return process


def _finish(*processes: subprocess.Popen) -> None:
    for process in processes:
        error = process.communicate(timeout=TIMEOUT_SECONDS)[1].strip()
        if process.returncode:
            raise VerificationError(f"a fit ended with exit {process.returncode}: {error.removeprefix('error: ')}")


def _kill(process: subprocess.Popen, best: Path) -> None:
    """Kills the fit in the middle of its training, once it has saved the best of its first epoch."""
    while not best.is_file():
        if process.poll() is not None:
            _finish(process)
            raise VerificationError("the fit was done before it could be killed")
        time.sleep(0.01)
    process.kill()
    process.communicate()


if __name__ == "__main__":
    main()
