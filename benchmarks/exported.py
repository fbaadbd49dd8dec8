"""The exported network beside PyTorch, and how long `export` and `demo` take.

Command: python -m benchmarks.exported [--runs N] [--ckpt_path best|last|run:N|PATH]
Of the network in a run: milliseconds of a call with 1 and with 256 images, uint8 to probabilities, by PyTorch and by
ONNX Runtime in turn, medians. Then seconds from the command to the file and to the page, beside those of two imports.
"""

import argparse
import logging
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.measuring import where_and_with_what
from fashion_lightning.command_line import build, settings
from fashion_lightning.jobs.export import INPUT, OUTPUT, Probabilities, onnxruntime

BATCHES = {1: 200, 256: 10}  # images to calls that are timed together
REPEATS = 15
IMPORTS = [sys.executable, "-c", "import torch, pytorch_lightning"]


def milliseconds(call: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    return 1000 * (time.perf_counter() - start) / count


def compare_calls(module: Probabilities, file: Path) -> None:
    print("images  threads  PyTorch     ONNX Runtime  ratio  images/s by ONNX Runtime")
    for threads in sorted({1, torch.get_num_threads()}):
        torch.set_num_threads(threads)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        for images, count in BATCHES.items():
            batch = torch.randint(256, (images, 28, 28), dtype=torch.uint8)
            calls = {"torch": partial(module, batch), "onnx": partial(session.run, [OUTPUT], {INPUT: batch.numpy()})}
            times: dict[str, list[float]] = {name: [] for name in calls}
            with torch.inference_mode():
                for _ in range(REPEATS + 1):
                    for name, call in calls.items():
                        times[name].append(milliseconds(call, count))
            by_torch, by_onnx = (statistics.median(own[1:]) for own in times.values())  # the first is slower
            line = f"{images:6}  {threads:7}  {by_torch:8.3f} ms  {by_onnx:9.3f} ms  {by_torch / by_onnx:5.2f}"
            print(f"{line}  {1000 * images / by_onnx:,.0f}")


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def seconds_to_page(flags: list[str]) -> float:
    """From the command until the page is there."""
    start = time.perf_counter()
    command = [sys.executable, "-u", "-m", "fashion_lightning.demo", "--port", "0", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        address = next(m[0] for line in process.stdout if (m := re.search(r"http://[\d.]+:\d+", line)))
        with urllib.request.urlopen(address) as page:
            page.read()
        found = time.perf_counter() - start
        process.kill()
    return found


def main(runs: int, ckpt_path: str) -> None:
    flags = ["--ckpt_path", ckpt_path]
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    print(where_and_with_what(("torch", "pytorch-lightning", "onnxruntime")))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.onnx")
        export = [sys.executable, "-m", "fashion_lightning.export", str(file), "--overwrite", *flags]
        times: dict[str, list[float]] = {"import torch, pytorch_lightning": [], "export": [], "demo, to its page": []}
        for _ in range(runs):
            for own, found in zip(
                times.values(), (seconds(IMPORTS), seconds(export), seconds_to_page(flags)), strict=True
            ):
                own.append(found)
        job = build.export(settings.resolve("export", [str(file), "--overwrite", *flags]))
        job.start.load_into(job.model)
        compare_calls(Probabilities(job.model, 1.0), file)
    for name, own in times.items():
        print(f"{name}: median {statistics.median(own):.1f} s of {', '.join(f'{found:.1f}' for found in own)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--ckpt_path", default="best")
    main(**vars(parser.parse_args()))
