"""How long a fit takes, side by side: the notebook's loop and ours as users run it, in turn, on the real data.

Command: python -m benchmarks.fit_speed [--runs N] [--epochs N] [--data_dir DIR]
Prints a row a contestant: medians over the runs, ranges, and ratios to the notebook's loop.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
NOTEBOOK = "notebook"
CONTESTANTS = {
    NOTEBOOK: ["benchmarks.notebook", "--data_dir", "{data}", "--epochs", "{epochs}"],
    "default fit": ["fashion_lightning.fit", "--data.data_dir", "{data}", "--trainer.max_epochs", "{epochs}"],
}


def measure(command: list[str], root: Path) -> dict[str, float]:
    """Seconds of the fit (training and validation) and of the whole process, and the test accuracy it reached."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", *command], cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    process = time.perf_counter() - start
    written = sorted(root.glob("lightning_logs/*/results.json"))
    results = json.loads(written[-1].read_text() if written else done.stdout.splitlines()[-1])
    test = results["test"]["accuracy"] if written else results["test"]
    return {"fit": results["fit_seconds"], "process": process, "test": test}


def main(runs: int, epochs: int, data_dir: str) -> None:
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
    for run in range(runs):
        for name, command in CONTESTANTS.items():
            filled = [part.format(data=Path(data_dir).resolve(), epochs=epochs) for part in command]
            with tempfile.TemporaryDirectory() as folder:
                (Path(folder) / "benchmarks").symlink_to(ROOT / "benchmarks")
                measured[name].append(measure(filled, Path(folder)))
            print(f"run {run + 1}/{runs}  {name:12} {measured[name][-1]['fit']:6.1f} s", file=sys.stderr)

    def median(name: str, what: str) -> float:
        return statistics.median(run[what] for run in measured[name])

    table = Table("", "fit", "range", "ratio", "process", "ratio", "test accuracy", box=None)
    for name, all_runs in measured.items():
        fits = [run["fit"] for run in all_runs]
        table.add_row(
            name,
            f"{median(name, 'fit'):.1f} s",
            f"{min(fits):.1f}-{max(fits):.1f}",
            f"{median(name, 'fit') / median(NOTEBOOK, 'fit'):.2f}",
            f"{median(name, 'process'):.1f} s",
            f"{median(name, 'process') / median(NOTEBOOK, 'process'):.2f}",
            f"{median(name, 'test'):.2%}",
        )
    Console().print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--data_dir", default="data")
    main(**vars(parser.parse_args()))
