"""A command from start to end: help, settings, objects, job; errors, warnings and the exit of the process."""

import atexit
import contextlib
import errno
import gc
import importlib.metadata
import importlib.util
import io
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from fashion_lightning.command_line.messages import explain
from fashion_lightning.errors import OF_SETTINGS, UserError, WorkError, reported

FLAGS = """\
  --ckpt_path best|last|run:N|PATH   the checkpoint: of the newest run, of run N, or a file
  --data.data_dir FOLDER             where the four files of Fashion-MNIST are, or are downloaded to
  --trainer.accelerator auto|cpu|gpu|mps
  --trainer.default_root_dir FOLDER  what holds lightning_logs and studies, if not the current folder
  --config FILE                      settings from a YAML file; of files and flags, the last one wins
  --print_config                     prints all settings as YAML and stops
  --help_all, --version              every flag with its default; the version"""
# Those of them that a command does not look at.
NOT_OF = {"study": "--ckpt_path", "export": "--trainer.accelerator", "demo": "--data.data_dir"}
# What a command needs beside the dependencies of all, by extras of the same name.
EXTRAS = {"study": ("optuna",), "export": ("onnx", "onnxscript", "onnxruntime")}
# Warnings of a correct run, each with the reason why it is harmless.
HARMLESS = {
    r".*LeafSpec.* is deprecated": "Lightning 2.6 uses what torch 2.10 deprecated",
    r"(?s).*(By default only one Jsonargparse|deprecated\s+in\s+v4\.)": "and what jsonargparse 4 deprecated",
    r".*does not have many workers": "a batch is one index operation, which workers would only slow down",
    r"The number of training batches .* is smaller than the logging interval": "means are logged every epoch",
    r"It is recommended to use `self.log": "the logged values are counted over all processes",
    r"Total length of `list` across ranks is zero": "nothing is validated if all images are trained on",
    r".*your dataloader is not resumable": "it starts with the batch given by the restored counters",
}


def answer_help(page: str, args: list[str] | None) -> None:
    """Prints `page` or the version and exits, if that is all that `args` (default: the command line) ask for."""
    args = sys.argv[1:] if args is None else args
    if {"-h", "--help"} & set(args):
        print(page.rstrip())
    elif "--version" in args:
        print(f"fashion_lightning {importlib.metadata.version('fashion_lightning')}")
    else:
        return
    raise SystemExit(0)


def run(job: str, page: str, args: list[str] | None) -> Any:
    """The result of the job of this name, done as `args` (default: the command line) say."""
    flags = [line for line in FLAGS.splitlines() if job not in NOT_OF or NOT_OF[job] not in line]
    answer_help("\n".join([page.rstrip(), *flags]), args)
    with reported():
        _check_extra(job)
        from lightning_fabric.utilities.exceptions import MisconfigurationException

        from fashion_lightning.command_line import build, processes, settings  # seconds that `--help` does not wait

        make: Callable[[settings.Settings], Any] = _study() if job == "study" else getattr(build, job)
        with contextlib.ExitStack() as threads:
            with _output():
                try:
                    resolved = settings.resolve(job, args)
                    threads.enter_context(processes.one_thread_before_a_fork(resolved.config.trainer.strategy))
                    prepared = make(resolved)
                except UserError:
                    raise
                except (MisconfigurationException, *OF_SETTINGS) as error:  # until here
                    raise UserError(explain(str(error))) from error
            return processes.run(_work, prepared) if hasattr(prepared, "trainer") else _work(prepared)


def _check_extra(job: str) -> None:
    missing = [name for name in EXTRAS.get(job, ()) if not importlib.util.find_spec(name)]
    if missing:
        raise UserError(f"{job} needs {' and '.join(missing)}: pip install -e '.[{job}]'")


def _study() -> Callable[[Any], Any]:
    from fashion_lightning.command_line import build_study  # which needs an extra

    return build_study.study


def _work(job: Any) -> Any:
    """Its result, with its errors and warnings reported."""
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    from fashion_lightning.jobs.fit import Fit

    with reported(), _output():
        try:
            return job.run()
        except MisconfigurationException as error:
            raise UserError(explain(str(error))) from error
        except Exception as error:
            if not _is_of_full_disk(error):
                raise
            remedy = "use --resume" if isinstance(job, Fit) else "try again"
            raise WorkError(f"{os.strerror(errno.ENOSPC)}: free some space, then {remedy}") from error


@contextlib.contextmanager
def _output() -> Iterator[None]:
    """Prints line by line, warnings in one line each, and of Lightning's information a profiler's report alone."""
    import logging  # `--help` does not wait for it

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a log then shows each epoch at once, and keeps it after a kill
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("pytorch_lightning.profilers").setLevel(logging.INFO)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # a CUDA toolkit without a GPU is no problem
    with warnings.catch_warnings():
        for message in HARMLESS:
            warnings.filterwarnings("ignore", message)
        warnings.showwarning = lambda message, *_, **__: print("warning:", *str(message).split(), file=sys.stderr)
        yield


def _is_of_full_disk(error: BaseException | None) -> bool:
    """Whether that is the cause, which TensorBoard's thread and Lightning wrap in other errors."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return error is not None and _is_of_full_disk(error.__cause__ or error.__context__)


def run_process(main: Callable[[], Any]) -> None:
    """Does `main` and exits with its status, without delays by torch. Raises what `main` raises but SystemExit."""
    # Imports make a million objects that stay; searching them for garbage again and again costs a tenth of the time.
    gc.set_threshold(100_000)
    status = 0
    try:
        main()
    except SystemExit as end:
        if not isinstance(end.code, int):
            raise
        status = end.code
    threading._shutdown()  # type: ignore[attr-defined]  # as Python: ends idle thread pools, waits for other threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    # Destroying all modules would take 1.7 s and 115 MB; the system frees their memory anyway.
    os._exit(status)
