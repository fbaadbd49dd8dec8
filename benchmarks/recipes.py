"""Recipes over seeds, each as a study of one variant: the README's table of results.

Command: python -m benchmarks.recipes configs/*.yaml [--seeds N] [--out DIR] [--data_dir DIR] [--workers N]
The studies are in `--out`, where interrupted ones are resumed. The notebook's loop is measured before and after each.
For times that are compared with the notebook's, leave `--workers` at 1. Rows are printed, and kept in recipes.csv.
"""

import argparse
import csv
import json
import statistics
from datetime import date
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.measuring import ROOT, measure, where_and_with_what
from fashion_lightning import study, test
from fashion_lightning.classifier import AT_TEST
from fashion_lightning.jobs.study import cells_of
from fashion_lightning.storage.run_folders import Run
from fashion_lightning.storage.study_folders import STUDIES, StudyFolder

TABLE = ROOT / "benchmarks" / "recipes.csv"
SEEDS = {"fast": 10, "budget": 5}  # of the others three


def measured_notebook(path: Path, data_dir: str) -> float:
    """Seconds of the notebook's fit, measured now if they are not in `path` yet."""
    if not path.is_file():
        path.write_text(json.dumps(measure(["benchmarks.notebook", "--data_dir", data_dir])))
    return json.loads(path.read_text())["fit_seconds"]


def main(configs: list[Path], seeds: int | None, out: Path, data_dir: str, workers: int) -> None:
    data_dir, folder = str(Path(data_dir).resolve()), out.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    before = measured_notebook(folder / f"notebook_before_{configs[0].stem}.json", data_dir)
    for config in configs:
        runs = trained(config, seeds or SEEDS.get(config.stem, 3), folder, data_dir, workers)
        after = measured_notebook(folder / f"notebook_after_{config.stem}.json", data_dir)
        row = summarize(config.stem, runs, statistics.mean([before, after]))
        keep(row)
        print(render(row), flush=True)
        before = after


def trained(config: Path, seeds: int, folder: Path, data_dir: str, workers: int) -> list[dict[str, Any]]:
    """Results of the runs, with those of the test set by the images alone."""
    flags = ["--config", str(config.resolve()), "--data.data_dir", data_dir, "--trainer.default_root_dir", str(folder)]
    flags += ["--name", config.stem, "--seeds", str(seeds), "--workers", str(workers), "--test_winner"]
    study.main([*flags, "--threads", str(torch.get_num_threads() // workers)])
    place = StudyFolder(folder / STUDIES / config.stem)
    definition = place.read()
    found = [place.run(cell) for cell in cells_of(definition)] if definition else []
    return [{**json.loads(run.results.read_text()), "test_one_view": of_one_view(run, data_dir)} for run in found]


def keep(row: dict[str, Any]) -> None:
    """In recipes.csv, in place of an earlier one."""
    rows = list(csv.DictReader(TABLE.read_text().splitlines())) if TABLE.is_file() else []
    with open(TABLE, "w", newline="") as stream:
        table = csv.DictWriter(stream, list(row), lineterminator="\n")
        table.writeheader()
        table.writerows([*(other for other in rows if other["recipe"] != row["recipe"]), row])


def of_one_view(run: Run, data_dir: str) -> dict[str, float]:
    """The test set evaluated without mirrored and shifted images."""
    model = yaml.safe_load(run.config.read_text())["model"]
    if not any(model[name] for name in AT_TEST):
        return json.loads(run.results.read_text())["test"]
    flags = [f"--model.{name}=false" for name in AT_TEST]
    flags += ["--inspect.figures", "false", "--data.data_dir", data_dir]
    return test.main(["--ckpt_path", str(run.best), *flags])["test"]


def summarize(name: str, runs: list[dict[str, Any]], notebook_seconds: float) -> dict[str, Any]:
    """The row: accuracies in percent, times in seconds."""

    def accuracies(split: str) -> list[float]:
        return [100 * run[split]["accuracy"] for run in runs]

    seconds = statistics.median(run["fit_seconds"] for run in runs)
    return {
        "recipe": name,
        "test_mean": f"{statistics.mean(accuracies('test')):.2f}",
        "test_std": f"{statistics.stdev(accuracies('test')):.2f}",
        "test_one_view_mean": f"{statistics.mean(accuracies('test_one_view')):.2f}",
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
        row["test_one_view_mean"],
        f"{int(row['parameters']):,}",
        f"{int(row['train_images']):,}",
        f"{row['fit_seconds']} s",
        f"1/{1 / float(row['ratio']):.1f}" if float(row["ratio"]) < 1 else f"{float(row['ratio']):.1f}",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--out", type=Path, default=Path("recipes"))
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--workers", type=int, default=1)
    main(**vars(parser.parse_args()))
