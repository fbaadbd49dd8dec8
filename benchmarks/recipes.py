"""A recipe over seeds, through the command line that users type: a row of the README's table of results.

Command: python -m benchmarks.recipes configs/fast.yaml [--seeds N] [--out DIR] [--data_dir DIR]
Each seed has a folder in `--out`, where an interrupted run is resumed and a finished one is not repeated. The
notebook's loop is measured before the first and after the last one. The row is printed, and kept in recipes.csv.
"""

import argparse
import csv
import json
import statistics
import sys
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from benchmarks.measuring import ROOT, measure, where_and_with_what
from fashion_lightning import test
from fashion_lightning.storage.run_folders import runs

TABLE = ROOT / "benchmarks" / "recipes.csv"


def measured_notebook(path: Path, data_dir: str) -> float:
    """Seconds of the notebook's fit, measured now if they are not in `path` yet."""
    if not path.is_file():
        path.write_text(json.dumps(measure(["benchmarks.notebook", "--data_dir", data_dir])))
    return json.loads(path.read_text())["fit_seconds"]


def fitted(config: Path, seed: int, folder: Path, data_dir: str) -> dict[str, Any]:
    """What `results.json` says of a seed, which is trained now if it was not yet; and `test_unmirrored`."""
    folder.mkdir(exist_ok=True)
    flags = ["--config", str(config.resolve()), "--seed_everything", str(seed), "--data.data_dir", data_dir]
    finished = [run for run in runs(folder) if run.results.is_file()]
    results = json.loads(finished[0].results.read_text()) if finished else None
    results = results or measure(["fashion_lightning.fit", *flags, "--resume"], folder=folder)
    if not yaml.safe_load(config.read_text())["model"].get("mirror_at_test"):
        return {**results, "test_unmirrored": results["test"]}
    checkpoint = ["--ckpt_path", str(folder / results["checkpoint"])]
    unmirrored = ["--model.mirror_at_test", "false", "--inspect.figures", "false"]
    splits = test.main([*checkpoint, *unmirrored, "--data.data_dir", data_dir])
    return {**results, "test_unmirrored": splits["test"]}


def main(config: Path, seeds: int, out: Path, data_dir: str) -> None:
    data_dir, folder = str(Path(data_dir).resolve()), out.resolve() / config.stem
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / config.name
    if settings.is_file() and yaml.safe_load(settings.read_text()) != yaml.safe_load(config.read_text()):
        raise SystemExit(f"error: {folder} has runs with other settings than {config} has now: choose another --out")
    settings.write_text(config.read_text())

    notebook = [measured_notebook(folder / "notebook_before.json", data_dir)]
    runs = []
    for seed in range(seeds):
        runs.append(fitted(config, seed, folder / f"seed_{seed}", data_dir))
        print(f"seed {seed}: test {runs[-1]['test']['accuracy']:.2%}, {runs[-1]['fit_seconds']:.1f} s", file=sys.stderr)
    notebook.append(measured_notebook(folder / "notebook_after.json", data_dir))

    row = summarize(config.stem, runs, statistics.mean(notebook))
    rows = list(csv.DictReader(TABLE.read_text().splitlines())) if TABLE.is_file() else []
    with open(TABLE, "w", newline="") as stream:
        table = csv.DictWriter(stream, list(row))
        table.writeheader()
        table.writerows([*(other for other in rows if other["recipe"] != row["recipe"]), row])
    print(render(row))


def summarize(name: str, runs: list[dict[str, Any]], notebook_seconds: float) -> dict[str, Any]:
    """The row: accuracies in percent, times in seconds."""

    def accuracies(split: str) -> list[float]:
        return [100 * run[split]["accuracy"] for run in runs]

    seconds = statistics.median(run["fit_seconds"] for run in runs)
    return {
        "recipe": name,
        "test_mean": f"{statistics.mean(accuracies('test')):.2f}",
        "test_std": f"{statistics.stdev(accuracies('test')):.2f}",
        "test_unmirrored_mean": f"{statistics.mean(accuracies('test_unmirrored')):.2f}",
        "val_mean": f"{statistics.mean(accuracies('val')):.2f}" if "val" in runs[0] else "",
        "n": str(len(runs)),
        "parameters": str(runs[0]["parameters"]),
        "train_images": str(runs[0]["train"]["images"]),
        "fit_seconds": f"{seconds:.1f}",
        "notebook_seconds": f"{notebook_seconds:.1f}",
        "ratio": f"{seconds / notebook_seconds:.3f}",
        "machine": where_and_with_what(),
        "git_commit": " ".join(sorted({run["git_commit"] for run in runs})),
        "date": date.today().isoformat(),
    }


def render(row: dict[str, str]) -> str:
    """The row of the README's table."""
    cells = (
        f"`configs/{row['recipe']}.yaml`",
        f"{row['test_mean']} ± {row['test_std']} ({row['n']})",
        row["test_unmirrored_mean"],
        f"{int(row['parameters']):,}",
        f"{int(row['train_images']):,}",
        f"{row['fit_seconds']} s",
        f"1/{1 / float(row['ratio']):.1f}" if float(row["ratio"]) < 1 else f"{float(row['ratio']):.1f}",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("recipes"))
    parser.add_argument("--data_dir", default="data")
    main(**vars(parser.parse_args()))
