"""The promise of a study: killed at any moment and given again, it comes to the same, and nothing is trained twice."""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fashion_lightning.reports.comparison import contents
from fashion_lightning.storage.run_folders import Run

pytestmark = pytest.mark.slow

VARIANTS = ["--variant", "sgd=--model.optimizer SGD --model.optimizer.lr 0.1", "--seeds", "2"]
SEARCH = ["--search", "model.optimizer.lr=0.001..0.1:log", "--search", "data.batch_size=10,20", "--trials", "3"]
TIMES = ("fit_seconds",)


def start(folder: Path, args: list[str], **options) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "fashion_lightning.study", "--name", "s", *args]
    with open(folder / "out", "ab") as out, open(folder / "err", "ab") as err:
        return subprocess.Popen(command, cwd=folder, stdout=out, stderr=err, env=os.environ, **options)


def finish(folder: Path, args: list[str]) -> None:
    assert start(folder, args).wait(timeout=300) == 0, (folder / "err").read_text()


def processes(folder: Path) -> list[int]:
    """Those that work in the folder, of which the study is one."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if (path / "cwd").resolve() == folder.resolve() and (path / "cmdline").read_bytes():
                found += {int(path.name)} - {os.getpid()}
        except OSError:
            continue
    return found


def trained(folder: Path) -> int:
    """Epochs of all cells."""
    return sum(len(path.read_text().splitlines()) - 1 for path in folder.glob("studies/s/cells/*/*/*/*/metrics.csv"))


def table(path: Path) -> list[dict[str, str]]:
    """Without times."""
    return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(path.read_text().splitlines())]


def result(folder: Path) -> dict[str, object]:
    """Everything that a study came to, but for times."""
    study = folder / "studies" / "s"
    runs = sorted(study.glob("cells/*/seed_*/lightning_logs/version_*"))
    found = {str(run.relative_to(study)): contents(Run(run)) for run in runs}
    return {**found, **{name: table(study / name) for name in ("cells.csv", "comparison.csv")}}


@pytest.mark.parametrize("what", [VARIANTS, [*SEARCH, "--seeds", "1"]], ids=["variants", "search"])
def test_killed_at_random_it_comes_to_the_same(what, tiny_args, tmp_path):
    args = [*tiny_args, "--trainer.max_epochs", "40", *what]
    finish(tmp_path / "whole", [*args, "--workers", "2"])
    expected, rng, kills = result(tmp_path / "whole"), random.Random(1), 0
    folder = tmp_path / "killed"
    for attempt in range(40):
        study = start(folder, [*args, "--workers", str(1 + attempt % 3)])
        epochs = trained(folder) + rng.randint(5, 40)
        while study.poll() is None and trained(folder) < epochs:
            time.sleep(0.02)
        if study.poll() is None:
            children = [pid for pid in processes(folder) if pid != study.pid]
            if children and rng.random() < 0.5:
                os.kill(rng.choice(children), signal.SIGKILL)
                time.sleep(rng.uniform(0, 1))
            study.kill()
            kills += 1
        if study.wait() == 0:
            break
    assert (study.returncode, kills > 2) == (0, True), (folder / "err").read_text()
    assert result(folder) == expected
    logs = [path.read_text() for path in folder.glob("studies/s/cells/*/*/log.txt")]
    assert any("resume      after step" in log for log in logs)
    for log in logs:  # no cell is trained to its end twice
        assert log.count("trained in ") <= 1 + log.count("resume      nothing")


def test_no_child_outlives_its_study(tiny_args, tmp_path):
    args = [*tiny_args, "--trainer.max_epochs", "1000", *VARIANTS, "--workers", "2"]
    study = start(tmp_path, args)
    while len(list(tmp_path.glob("studies/s/cells/*/*/lightning_logs/version_0/checkpoints/last.ckpt"))) < 2:
        assert study.poll() is None
        time.sleep(0.1)
    children = [pid for pid in processes(tmp_path) if pid != study.pid]
    study.kill()
    study.wait()
    time.sleep(2)
    assert len(children) == 2
    assert processes(tmp_path) == []


def test_ctrl_c_saves_and_says_how_to_go_on(tiny_args, tmp_path):
    args = [*tiny_args, "--trainer.max_epochs", "1000", *VARIANTS, "--workers", "2"]
    study = start(tmp_path, args, start_new_session=True)
    while len(list(tmp_path.glob("studies/s/cells/*/*/lightning_logs/version_0/checkpoints/last.ckpt"))) < 2:
        assert study.poll() is None
        time.sleep(0.1)
    os.killpg(study.pid, signal.SIGINT)
    assert study.wait(timeout=30) == 130
    assert processes(tmp_path) == []
    [line] = (tmp_path / "err").read_text().splitlines()
    assert line.startswith(
        "stopped by SIGINT; cells in training are saved up to their last checkpoints; to resume: python -m"
    )
    logs = [path.read_text().splitlines()[-1] for path in tmp_path.glob("studies/s/cells/*/*/log.txt")]
    assert len(logs) == 2
    assert all("stopped by SIGTERM after step" in log and "checkpoint saved" in log for log in logs)


def test_a_second_study_of_the_name_is_told_who_has_it(tiny_args, tmp_path):
    args = [*tiny_args, "--trainer.max_epochs", "1000", *VARIANTS]
    study = start(tmp_path, args)
    while not list(tmp_path.glob("studies/s/cells/*/*/log.txt")):
        time.sleep(0.1)
    second = start(tmp_path, args)
    assert second.wait(timeout=60) == 2
    assert f"studies/s is in use by the study with process id {study.pid}: wait" in (tmp_path / "err").read_text()
    study.terminate()
    assert study.wait(timeout=60) == 143
