"""How an epoch's time and memory grow with images, threads, processes and neighbours; by the same command line.

Command: python -m benchmarks.scaling [--runs N] [--data_dir DIR]
More images than there are come by repetition. Prints medians over the runs, taken in turn; of two fits at once, the
time of the slower one.
"""

import argparse
import multiprocessing
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.measuring import measure, where_and_with_what
from benchmarks.notebook import write_idx
from fashion_lightning.data import files

IMAGES = (10_000, 30_000, 60_000, 120_000, 240_000, 480_000)
PROCESSES = {
    "1 process of 1 thread": (["--trainer.devices", "1"], 1),
    "1 process of 2 threads": (["--trainer.devices", "1"], 2),
    "2 processes of 1 thread": (["--trainer.devices", "2", "--trainer.strategy", "ddp"], 1),
}
NEIGHBOURS = {  # variables of the environment, on which it depends how two fits share the cores
    "in turns, the default": {},
    "without turns": {"KMP_BLOCKTIME": "200"},  # read by another OpenMP than PyTorch's, and by fits
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "OMP_NUM_THREADS=1": {"OMP_NUM_THREADS": "1"},
}


def write_repeated(data_dir: str, count: int, folder: Path) -> None:
    """The four files with the first `count` training images, repeated as needed, and the test images."""
    folder.mkdir()
    for name, tensor in files.load(data_dir).items():
        if name.startswith("train"):
            tensor = tensor[torch.arange(count) % len(tensor)]
        write_idx(folder / name, tensor)


def main(runs: int, data_dir: str) -> None:
    def fit(name: str, folder: str | Path, flags: list[str], environment: dict[str, str]) -> dict[str, Any]:
        data = ["--data.data_dir", str(Path(folder).resolve()), "--data.verify", "false"]
        epoch = ["--trainer.accelerator", "cpu", "--trainer.max_epochs", "1"]
        result = measure(["fashion_lightning.fit", *data, *epoch, *flags], environment)
        print(f"{name}: {result['fit_seconds']:.1f} s", file=sys.stderr, flush=True)
        return result

    by_images: dict[int, list[dict[str, Any]]] = {count: [] for count in IMAGES}
    by_processes: dict[str, list[dict[str, Any]]] = {name: [] for name in PROCESSES}
    alone: dict[str, list[dict[str, Any]]] = {name: [] for name in NEIGHBOURS}
    at_once: dict[str, list[dict[str, Any]]] = {name: [] for name in NEIGHBOURS}
    for _ in range(runs):
        for count, results in by_images.items():
            with tempfile.TemporaryDirectory() as folder:
                arguments = (data_dir, count, data := Path(folder) / "data")
                # In a process of its own: the peak of a child begins with the memory of its parent.
                writer = multiprocessing.get_context("spawn").Process(target=write_repeated, args=arguments)
                writer.start()
                writer.join()
                results.append(fit(f"{count:,} images", data, [], {}))
        for name, (flags, threads) in PROCESSES.items():
            by_processes[name].append(fit(name, data_dir, flags, {"OMP_NUM_THREADS": str(threads)}))
        for name, variables in NEIGHBOURS.items():
            alone[name].append(fit(f"{name}, alone", data_dir, [], variables))
            with ThreadPoolExecutor() as pool:
                both = [pool.submit(fit, f"{name}, two at once", data_dir, [], variables) for _ in range(2)]
                at_once[name].append(max((one.result() for one in both), key=lambda result: result["fit_seconds"]))

    def median(results: list[dict[str, Any]], key: str) -> float:
        return statistics.median(result[key] for result in results)

    table = Table("images", "an epoch", "a 1,000 images", "peak", box=None)
    for count, results in by_images.items():
        seconds = median(results, "fit_seconds")
        per_thousand = f"{seconds / count * 1e6:.0f} ms"
        table.add_row(f"{count:,}", f"{seconds:.1f} s", per_thousand, f"{median(results, 'peak_bytes') / 1e6:,.0f} MB")
    Console().print(table)
    table = Table("60,000 images", "an epoch", "peak of a process", box=None)
    for name, results in by_processes.items():
        table.add_row(name, f"{median(results, 'fit_seconds'):.1f} s", f"{median(results, 'peak_bytes') / 1e6:,.0f} MB")
    Console().print(table)
    table = Table("60,000 images", "alone", "two at once", box=None)
    for name in NEIGHBOURS:
        table.add_row(name, *(f"{median(results[name], 'fit_seconds'):.1f} s" for results in (alone, at_once)))
    Console().print(table)
    print(f"on {where_and_with_what()}; medians of {runs}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--data_dir", default="data")
    main(**vars(parser.parse_args()))
