"""How long a fit takes, side by side, on the real data: each contestant in turn, as its users run it, in a terminal.

Command: python -m benchmarks.fit_speed [--runs N] [--epochs N] [--data_dir DIR]
Prints a row a contestant: medians over the runs, and ratios to the notebook's loop. With tcmalloc installed (on
Debian: libtcmalloc-minimal4) our fits are measured with it, too.
"""

import argparse
import ctypes
import statistics
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.measuring import matrix_product_gflops, measure, where_and_with_what

NOTEBOOK, IDIOMATIC, BARE, DEFAULT = "notebook's loop", "idiomatic Lightning", "bare loop", "default fit"
MODULES = {
    NOTEBOOK: ["benchmarks.notebook"],
    IDIOMATIC: ["benchmarks.idiomatic"],
    BARE: ["benchmarks.bare"],
    DEFAULT: ["fashion_lightning.fit"],
    "default fit, bf16-mixed": ["fashion_lightning.fit", "--trainer.precision", "bf16-mixed"],
}
OURS = [name for name in MODULES if MODULES[name][0].startswith("fashion_lightning")]
WORKERS = (0, 1, 2, 4)
TCMALLOC = "libtcmalloc_minimal.so.4"
WIDTH = 120  # characters of the table


def main(runs: int, epochs: int, data_dir: str) -> None:
    def command(name: str, epochs: int, workers: int) -> list[str]:
        module, *own = MODULES[name]
        flags = ("--data_dir", "--epochs")
        if name in OURS:
            flags = ("--data.data_dir", "--trainer.max_epochs")
        elif name == IDIOMATIC:
            own = ["--workers", str(workers)]
        return [module, *own, flags[0], str(Path(data_dir).resolve()), flags[1], str(epochs)]

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    seconds = {}
    for workers in WORKERS:
        seconds[workers] = measure(command(IDIOMATIC, 1, workers))["fit_seconds"]
        say(f"{IDIOMATIC}, {workers} workers: {seconds[workers]:.1f} s an epoch")
    workers = min(seconds, key=lambda count: seconds[count])

    contestants: dict[str, tuple[list[str], dict[str, str]]]
    contestants = {name: (command(name, epochs, workers), {}) for name in MODULES}
    if _can_load(TCMALLOC):
        contestants |= {f"{name}, tcmalloc": (contestants[name][0], {"LD_PRELOAD": TCMALLOC}) for name in OURS}
    measured: dict[str, list[dict]] = {name: [] for name in contestants}
    peaks = []
    for run in range(runs):
        peaks.append(matrix_product_gflops())
        for name, (arguments, environment) in contestants.items():
            measured[name].append(measure(arguments, environment))
            say(f"run {run + 1}/{runs}  {name:32} {measured[name][-1]['fit_seconds']:6.1f} s")

    def median(name: str, what: str) -> float:
        return statistics.median(result[what] for result in measured[name])

    images, steps = measured[DEFAULT][0]["train"]["images"] * epochs, measured[DEFAULT][0]["steps"]
    table = Table("", "fit", "range", "ratio", "images/s", "process", "ratio", "peak", "ratio", "test", box=None)
    for name, results in measured.items():
        fits = [result["fit_seconds"] for result in results]
        keys = ("fit_seconds", "process_seconds", "peak_bytes")
        ratios = {key: median(name, key) / median(NOTEBOOK, key) for key in keys}
        tested = [result["test"] for result in results]
        accuracies = [test["accuracy"] if isinstance(test, dict) else test for test in tested]
        table.add_row(
            name,
            f"{median(name, 'fit_seconds'):.1f} s",
            f"{min(fits):.1f}-{max(fits):.1f}",
            f"{ratios['fit_seconds']:.2f}",
            f"{images / median(name, 'fit_seconds'):,.0f}",
            f"{median(name, 'process_seconds'):.1f} s",
            f"{ratios['process_seconds']:.2f}",
            f"{median(name, 'peak_bytes') / 1e6:,.0f} MB",
            f"{ratios['peak_bytes']:.2f}",
            f"{statistics.median(accuracies):.2%}",
        )
    Console(width=WIDTH).print(table)
    validation = median(BARE, "validation_seconds")
    floor, ours = ((median(name, "fit_seconds") - validation) / steps for name in (BARE, DEFAULT))
    flops, peak = median(BARE, "step_flop") / floor / 1e9, statistics.median(peaks)
    print(f"step        {DEFAULT} {ours * 1e3:.2f} ms, {BARE} {floor * 1e3:.2f} ms: {ours / floor:.2f} times")
    print(f"arithmetic  {BARE} {flops:.0f} GFLOP/s, {flops / peak:.0%} of a matrix product's {peak:.0f}")
    print(f"on          {where_and_with_what()}")
    print(f"with        {IDIOMATIC}: {workers} workers, the best of {WORKERS}; medians of {runs}")


def _can_load(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--data_dir", default="data")
    main(**vars(parser.parse_args()))
