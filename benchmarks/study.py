"""The time of a study beside that of the same fits typed one after the other.

Command: python -m benchmarks.study [--runs N] [--seeds N] [--data_dir DIR]
Two variants of `configs/fast.yaml`. `study, 2 workers` is compared with `fits typed`, which have all cores each and
evaluate the test set too, and `study, 1 worker` with `its cells typed`, the same processes without a study.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.measuring import ROOT, where_and_with_what
from fashion_lightning.command_line.build_study import FIRST, LAST
from fashion_lightning.jobs import child_process

VARIANTS = {"baseline": [], "smoothing": ["--model.label_smoothing", "0"]}
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def seconds_of(commands: list[list[str]], variables: dict[str, str]) -> float:
    """Of `python -m command` of each, one after the other, in an empty folder. Raises WorkError if one fails."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        for command in commands:
            process = child_process.start(command, {"PYTHONPATH": str(ROOT), **variables}, Path(folder))
            output, _ = process.communicate()
            child_process.check(" ".join(command), process.returncode, output)
        return time.perf_counter() - start


def contestants(seeds: int, data_dir: str) -> dict[str, tuple[list[list[str]], dict[str, str]]]:
    common = ["--config", str(ROOT / "configs" / "fast.yaml"), "--data.data_dir", data_dir]
    fit, cells = ["fashion_lightning.fit", *common], [(own, seed) for seed in range(seeds) for own in VARIANTS.values()]
    typed = [[*fit, *own, "--seed_everything", str(seed)] for own, seed in cells]
    variant = "smoothing=" + " ".join(VARIANTS["smoothing"])
    study = ["fashion_lightning.study", "--name", "speed", "--seeds", str(seeds), "--variant", variant, *common]
    return {
        "fits typed": (typed, {}),
        "study, 2 workers": ([[*study, "--workers", "2"]], {}),
        "its cells typed": ([["fashion_lightning.fit", *FIRST, *words[1:], *LAST] for words in typed], ONE_THREAD),
        "study, 1 worker": ([[*study, "--workers", "1"]], {}),
    }


def main(runs: int, seeds: int, data_dir: str) -> None:
    found = contestants(seeds, str(Path(data_dir).resolve()))
    seconds: dict[str, list[float]] = {name: [] for name in found}
    print(where_and_with_what(), flush=True)
    for _ in range(runs):
        for name, (commands, variables) in found.items():
            seconds[name].append(seconds_of(commands, variables))
            print(f"{name:18}{seconds[name][-1]:8.1f} s", flush=True)
    for study, other in (("study, 2 workers", "fits typed"), ("study, 1 worker", "its cells typed")):
        ratios = [a / b for a, b in zip(seconds[study], seconds[other], strict=True)]
        every = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        print(f"{study} / {other}: median {statistics.median(ratios):.3f} of {every}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data_dir", default="data")
    main(**vars(parser.parse_args()))
